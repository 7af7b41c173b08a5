package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"tunnelcast/internal/charon"
	"tunnelcast/internal/ddns"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/lease"
	"tunnelcast/internal/swanctl"
	"tunnelcast/internal/units"
)

// check prints in a line per thing whether this host is ready. The only change
// that it makes is a name, lease.CheckLabel, which it adds and removes again.
func (h *host) check(ctx context.Context) error {
	c := hook.NewChecks(h.env.Stdout)
	charonCtx, cancel := context.WithTimeout(ctx, charonTimeout)
	leases, pools, charonErr := h.askCharon(charonCtx)
	cancel()
	h.checkZones(ctx, c, leases, h.knownPools(pools))
	h.checkCharon(ctx, c, leases, pools, charonErr)
	h.checkLine(c)
	h.checkMemory(ctx, c)
	h.checkSessions(ctx, c)
	for _, unit := range []string{"tunnelcast-sync.path", "tunnelcast-sync.timer"} {
		h.checkUnit(ctx, c, unit)
	}
	c.CheckMetrics(h.Metrics)
	return c.Err()
}

// knownPools returns the pools in the settings, otherwise those of charon,
// otherwise those that the last sync learned.
func (h *host) knownPools(pools lease.Pools) lease.Pools {
	if len(h.rules.Pools) > 0 {
		return h.rules.Pools
	}
	if len(pools) == 0 {
		pools, _, _ = h.dir.Pools() // without them an address for examples is tried
	}
	return pools
}

func (h *host) checkZones(ctx context.Context, c *hook.Checks, leases []lease.Lease, pools lease.Pools) {
	server, err := h.dnsServer()
	c.Say("key "+h.Key, err, h.keyRemedy(err))
	if err != nil {
		return
	}
	used := map[netip.Addr]bool{}
	for _, l := range leases {
		for _, addr := range l.Addresses {
			used[addr] = true
		}
	}
	for _, zone := range append([]string{h.rules.Zone}, h.rules.Reverse...) {
		zoneCtx, cancel := context.WithTimeout(ctx, dnsTimeout)
		serial, err := server.Serial(zoneCtx, zone)
		what := fmt.Sprintf("zone %s at %s", zone, h.Server)
		if err == nil {
			what += fmt.Sprintf(", serial %d", serial)
		}
		c.Say(what, err, h.zoneRemedy(err))
		if err != nil {
			cancel()
			continue
		}
		rrs, transferErr := server.Transfer(zoneCtx, zone)
		cancel()
		for _, rr := range rrs {
			used[rr.Addr] = true
		}
		view := h.checkUpdate(ctx, c, server, zone, pools, used)
		c.Say(fmt.Sprintf("transfer of zone %s, %d records", zone, len(rrs)), transferErr,
			h.transferRemedy(transferErr, server))
		for _, v := range view {
			if v.unknown {
				c.Unknown(v.what, v.remedy)
				continue
			}
			c.Say(v.what, v.err, v.remedy)
		}
	}
}

func (h *host) keyRemedy(err error) string {
	switch {
	case errors.Is(err, os.ErrPermission):
		return "run it as root"
	case errors.Is(err, os.ErrNotExist) && filepath.Base(h.Key) != "session.key":
		return "the key `key` in /etc/tunnelcast/updown.toml; tsig-keygen NAME makes a key"
	}
	return ""
}

// zoneRemedy returns the remedy for a question about the zone that failed.
func (h *host) zoneRemedy(err error) string {
	_, port, _ := net.SplitHostPort(h.Server)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, ddns.ErrNoReply):
		return fmt.Sprintf("systemctl start named; where it runs, ss -lntup sport = :%s shows its addresses: "+
			"listen-on in named.conf, the key server in /etc/tunnelcast/updown.toml", port)
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "the key server in /etc/tunnelcast/updown.toml"
	case errors.Is(err, ddns.ErrBadKey), errors.Is(err, ddns.ErrBadSig):
		return h.sameKey()
	case errors.Is(err, ddns.ErrBadTime):
		return "timedatectl"
	case errors.Is(err, ddns.ErrNotReady):
		return "named-checkconf -zj; journalctl -u named"
	}
	return "named-checkconf -zj; the keys zone and server in /etc/tunnelcast/updown.toml"
}

func (h *host) sameKey() string {
	if filepath.Base(h.Key) == "session.key" {
		return "this is the session key of another named: systemctl restart named, " +
			"or a key of tsig-keygen for another host's server"
	}
	return fmt.Sprintf("the key statement of %s must be in the server's named.conf too; rndc reconfig", h.Key)
}

func (h *host) transferRemedy(err error, server *ddns.Server) string {
	_, port, _ := net.SplitHostPort(h.Server)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, ddns.ErrNoReply), errors.Is(err, syscall.EHOSTUNREACH):
		return fmt.Sprintf("TCP port %s of the server must be open, besides UDP: a firewall, "+
			"or another program that forwards UDP only", port)
	case !errors.Is(err, ddns.ErrRefused):
		return "named-checkconf -zj; journalctl -u named"
	case server.Key == nil:
		return "allow-transfer in the zone's statement in named.conf"
	}
	key := strings.TrimSuffix(server.Key.Name, ".")
	return fmt.Sprintf("allow-transfer { key %s; }; in the zone's statement in named.conf", key)
}

// checkTTL is the TTL of the name that check adds. A resolver may be asked for it.
const checkTTL = time.Second

// result is a line of check that is printed later.
type result struct {
	what    string
	err     error
	remedy  string
	unknown bool // this host cannot find out
}

// checkUpdate adds to the zone the RRs that a client with an address of the pools
// would get there, one at a time, and removes them again: named writes its journal
// only for a change, and a policy may grant one type and not another. It returns
// the results of checkView for each of them.
func (h *host) checkUpdate(ctx context.Context, c *hook.Checks, server *ddns.Server, zone string,
	pools lease.Pools, used map[netip.Addr]bool) (view []result) {
	var rrs []lease.RR
	owner := lease.CheckLabel + "." + h.rules.Zone
	types := "A and AAAA"
	switch {
	case zone != h.rules.Zone:
		types = "PTR"
		in := func(addr netip.Addr) bool { of, _, ok := h.rules.Pointer(addr, owner); return ok && of == zone }
		addr, ok := sample(pools, used, in)
		if !ok && len(pools) > 0 {
			c.Say("update of zone "+zone, fmt.Errorf("no address of the pools %v has its PTR in this zone", pools),
				"the key reverse-zones in /etc/tunnelcast/updown.toml, such as 0.0.10.in-addr.arpa for 10.0.0.0/24")
			return nil
		}
		if ok {
			_, ptr, _ := h.rules.Pointer(addr, owner)
			rrs = append(rrs, ptr)
		}
	default:
		for _, is := range []func(netip.Addr) bool{netip.Addr.Is4, netip.Addr.Is6} {
			if addr, ok := sample(pools, used, is); ok {
				rrs = append(rrs, lease.Address(owner, addr))
			}
		}
		if len(rrs) == 0 { // the pools are not known
			rrs = append(rrs, lease.Address(owner, netip.MustParseAddr("192.0.2.1")))
		}
		if len(rrs) == 1 {
			types = rrs[0].Type
		}
	}
	for _, rr := range rrs {
		look := func() { view = append(view, h.checkView(ctx, pools, rr)...) }
		if zone != h.rules.Zone {
			look = func() {}
		}
		if err := h.addForAMoment(ctx, server, zone, rr, look); err != nil {
			remedy, err := h.updateFault(ctx, err, server, zone, rr)
			c.Say("update of zone "+zone, err, remedy)
			return view
		}
	}
	c.Say(fmt.Sprintf("update of zone %s, %s", zone, types), nil, "")
	return view
}

// updateFault returns the remedy for a refused update and its cause. It sends the
// server further updates, which change nothing, to distinguish the causes.
func (h *host) updateFault(ctx context.Context, err error, server *ddns.Server, zone string,
	rr lease.RR) (remedy string, cause error) {
	ctx, cancel := context.WithTimeout(ctx, dnsTimeout)
	defer cancel()
	switch {
	case errors.Is(err, ddns.ErrBadKey), errors.Is(err, ddns.ErrBadSig), errors.Is(err, ddns.ErrBadTime),
		errors.Is(err, ddns.ErrNoReply):
		return h.zoneRemedy(err), err
	case errors.Is(err, ddns.ErrNotAuth):
		return "the keys zone and server in /etc/tunnelcast/updown.toml", err
	case !errors.Is(err, ddns.ErrRefused):
		return "journalctl -u named; named must be able to write the directory of the zone's file: " +
			"/var/lib/bind in Debian", err
	case !server.Primary(ctx, zone):
		return "the key server in /etc/tunnelcast/updown.toml must name the zone's primary",
			fmt.Errorf("%w: %s is a secondary of the zone", ddns.ErrRefused, h.Server)
	case server.Key == nil:
		return "allow-update { 127.0.0.1; }; in the zone's statement in named.conf", err
	}
	types := "A AAAA"
	if rr.Type == "PTR" {
		types = "PTR"
	}
	key := strings.TrimSuffix(server.Key.Name, ".")
	// named applies the update-policy to each RR, so it accepts an update without
	// any. A zone that is frozen, or has no grant for this key at all, refuses that too.
	empty := lease.Change{Zone: zone, Seen: []lease.Owner{{Name: zone, InUse: true}}}
	switch policy := server.Update(ctx, empty, checkTTL); {
	case !errors.Is(policy, ddns.ErrRefused) && strings.Contains(rr.Owner+rr.Target, "_"):
		return fmt.Sprintf("check-names ignore; in the zone's statement in named.conf, "+
			"and grant %s zonesub %s; in its update-policy", key, types), err
	case !errors.Is(policy, ddns.ErrRefused):
		return fmt.Sprintf("grant %s zonesub %s; in the zone's update-policy in named.conf", key, types),
			fmt.Errorf("%w: the zone's update-policy does not let the key %s change %s %s",
				ddns.ErrRefused, server.Key.Name, rr.Owner, rr.Type)
	case key == "local-ddns":
		return "update-policy local; in the zone's statement in named.conf", err
	}
	return fmt.Sprintf("update-policy { grant %s zonesub %s; }; in the zone's statement in named.conf", key, types), err
}

// addForAMoment adds the RR to a zone, calls during, and removes the RR, also if ctx
// ends in between. If an interrupted check has left RRs at the name, it removes
// them first.
func (h *host) addForAMoment(ctx context.Context, server *ddns.Server, zone string, rr lease.RR,
	during func()) (err error) {
	remove := func(rrs ...lease.RR) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dnsTimeout)
		defer cancel()
		return server.Update(ctx, lease.Change{Zone: zone, Remove: rrs}, checkTTL)
	}
	add := func() error {
		ctx, cancel := context.WithTimeout(ctx, dnsTimeout)
		defer cancel()
		change := lease.Change{Zone: zone, Seen: []lease.Owner{{Name: rr.Owner}}, Add: []lease.RR{rr}}
		return server.Update(ctx, change, checkTTL)
	}
	err = add()
	if errors.Is(err, ddns.ErrPrerequisite) {
		left, lookErr := server.Lookup(ctx, rr.Owner)
		leftovers := slices.DeleteFunc(left.Holds, func(rr lease.RR) bool { return !rr.Addr.IsValid() })
		if rr.Type == "PTR" {
			leftovers = []lease.RR{rr}
		}
		if err = cmp.Or(lookErr, remove(leftovers...)); err == nil {
			err = add()
		}
		if rr.Type == "PTR" && errors.Is(err, ddns.ErrPrerequisite) {
			// Every address is in use and has its pointer. The removal was accepted.
			return nil
		}
	}
	if err == nil {
		during()
	}
	if err == nil || errors.Is(err, ddns.ErrNoReply) { // it may be carried out later
		if left := remove(rr); left != nil {
			return fmt.Errorf("%s %s may be left in the zone: %w", rr.Owner, rr.Type, left)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", rr.Type, err)
	}
	return nil
}

// maxSample is the largest number of addresses of one pool that sample looks at.
const maxSample = 1 << 17

// sample returns an address of the pools for which is returns true, an unused one
// if there is one.
func sample(pools lease.Pools, used map[netip.Addr]bool, is func(netip.Addr) bool) (addr netip.Addr, ok bool) {
	for _, r := range pools {
		next := r.Last
		for range maxSample {
			if is(next) && !used[next] {
				return next, true
			}
			if is(next) {
				addr, ok = next, true
			}
			if next == r.First {
				break
			}
			next = next.Prev()
		}
	}
	return addr, ok
}

// checkView looks up the RR that was just added as a client does: unsigned, at the
// DNS servers in the pools of swanctl.conf, or if there are none at the server in
// the settings, from an address of this host in the pool's network if it has one.
// A named with views may answer that question from another zone than the one that
// the update changed.
func (h *host) checkView(ctx context.Context, pools lease.Pools, rr lease.RR) (lines []result) {
	host, port, _ := net.SplitHostPort(h.Server)
	var asked []*ddns.Server
	var nameservers []netip.Addr
	if conf, err := swanctl.Read(h.SwanctlDir); err == nil { // checkLine reports an unreadable file
		nameservers = conf.Nameservers()
	}
	for _, addr := range nameservers {
		s := &ddns.Server{Addr: net.JoinHostPort(addr.String(), h.clientPort)}
		if addr.String() == host {
			s.Addr = net.JoinHostPort(host, port)
		}
		asked = append(asked, s)
	}
	if len(asked) == 0 {
		own := &ddns.Server{Addr: h.Server}
		if addr, err := netip.ParseAddr(host); err == nil {
			own.From = beside(pools, addr)
		}
		asked = append(asked, own)
	}
	for _, s := range asked {
		askCtx, cancel := context.WithTimeout(ctx, viewTimeout)
		seen, err := s.Lookup(askCtx, rr.Owner)
		there := err == nil && slices.Contains(seen.Holds, rr)
		later := err == nil && !there && s.Addr != h.Server && !isOwn(s.Addr) && s.Knows(askCtx, h.rules.Zone)
		cancel()
		line := result{what: fmt.Sprintf("what clients see of zone %s at %s, %s", h.rules.Zone, s.Addr, rr.Type)}
		if s.From.IsValid() {
			line.what += " asked for from " + s.From.String()
		}
		switch {
		case there:
		case later:
			line.unknown = true
			line.what += ": it has the zone, and new names later, as a secondary or a cache does"
		case errors.Is(err, ddns.ErrRefused) && len(nameservers) == 0 && !s.From.IsValid():
			// allow-query may accept the clients and not this host.
			line.unknown = true
			line.what = fmt.Sprintf("what clients see of zone %s: %v", h.rules.Zone, err)
		case err != nil:
			line.err = err
		default:
			line.err = errors.New("a name that was just added is not there")
		}
		line.remedy = "clients may be in another view of named than updates: match-clients in named.conf"
		switch {
		case line.unknown:
			line.remedy = fmt.Sprintf("on a client: dig SOA %s", h.rules.Zone)
		case len(nameservers) > 0 && (errors.Is(err, ddns.ErrNoReply) || errors.Is(err, syscall.ECONNREFUSED)):
			line.remedy = "listen-on in named.conf, or dns in the pool's section in swanctl.conf"
		case len(nameservers) > 0:
			line.remedy += ", or dns in the pool's section in swanctl.conf names another server"
		}
		lines = append(lines, line)
	}
	return lines
}

// isOwn tells whether an address with a port is one of this host.
func isOwn(hostPort string) bool {
	addrPort, err := netip.ParseAddrPort(hostPort)
	return err == nil && ownAddresses()(addrPort.Addr())
}

// viewTimeout is the deadline of one question of checkView.
const viewTimeout = 3 * time.Second

// ownAddresses returns a function that reports whether an address is this host's.
func ownAddresses() func(netip.Addr) bool {
	interfaces, err := net.InterfaceAddrs()
	return func(addr netip.Addr) bool {
		return err != nil || slices.ContainsFunc(interfaces, func(a net.Addr) bool {
			prefix, err := netip.ParsePrefix(a.String())
			return err == nil && prefix.Addr().Unmap() == addr
		})
	}
}

// beside returns an address of this host in the network of a pool, of the same
// family as server. It is likely to match the same view as the clients.
func beside(pools lease.Pools, server netip.Addr) netip.Addr {
	local, _ := net.InterfaceAddrs()
	for _, r := range pools {
		bits := 24
		if r.First.Is6() {
			bits = 64
		}
		network, _ := r.First.Prefix(bits)
		for _, l := range local {
			prefix, err := netip.ParsePrefix(l.String())
			if addr := prefix.Addr().Unmap(); err == nil && network.Contains(addr) && addr.BitLen() == server.BitLen() {
				return addr
			}
		}
	}
	return netip.Addr{}
}

// checkLine looks for the line by which charon calls the hook.
func (h *host) checkLine(c *hook.Checks) {
	file := filepath.Join(h.SwanctlDir, "swanctl.conf")
	conf, err := swanctl.Read(h.SwanctlDir)
	var children []swanctl.Child
	if err == nil {
		children = conf.Children()
	}
	var called, others []string
	for _, child := range children {
		program, _, _ := strings.Cut(child.Updown, " ")
		what := fmt.Sprintf("child %s of connection %s", child.Name, child.Connection)
		real, linkErr := filepath.EvalSymlinks(program)
		switch {
		case program == "":
		case linkErr != nil:
			others = append(others, fmt.Sprintf("%s calls %v", what, linkErr))
		case filepath.Base(real) != "tunnelcast-updown":
			others = append(others, fmt.Sprintf("%s calls %s", what, real))
		default:
			called = append(called, what)
		}
	}
	what := "updown line in " + file
	switch {
	case err != nil:
	case len(called) > 0:
		what += ", " + strings.Join(called, ", ")
	case len(others) > 0:
		err = errors.New(strings.Join(others, ", "))
	default:
		err = errors.New("no child of a connection has one")
	}
	c.Say(what, err, "updown = /etc/swanctl/script/updown.sh iptables in the child's section; swanctl --load-conns")
}

func (h *host) checkCharon(ctx context.Context, c *hook.Checks, leases []lease.Lease, pools lease.Pools, err error) {
	state, unitErr := h.askUnit(ctx, h.Unit)
	what := "charon at " + h.Vici
	if err == nil {
		what += fmt.Sprintf(", %d clients", len(leases))
	}
	c.Say(what, err, h.charonRemedy(ctx, err, state))
	switch {
	case len(h.rules.Pools) > 0:
		c.Say(fmt.Sprintf("pools %v, from the settings", h.rules.Pools), nil, "")
	case err == nil && len(pools) == 0:
		c.Say("pools", errors.New("charon has none"), "pools in swanctl.conf, or the key pools if addresses come from elsewhere")
	case err == nil:
		c.Say(fmt.Sprintf("pools %v, from charon", pools), nil, "")
	}
	if unitErr == nil && state.Load == "not-found" {
		unitErr = os.ErrNotExist
	}
	c.Say("unit "+h.Unit, unitErr, "the key unit names charon's unit")
}

// starterUnit is Debian's unit of a charon that reads ipsec.conf.
const starterUnit = "strongswan-starter.service"

func (h *host) charonRemedy(ctx context.Context, err error, state units.State) string {
	switch {
	case errors.Is(err, os.ErrPermission):
		return "run it as root"
	case !errors.Is(err, charon.ErrNotRunning):
		return "the key vici in /etc/tunnelcast/updown.toml; systemctl status " + h.Unit
	case state.Active == "active" && h.Unit != starterUnit:
		return fmt.Sprintf("%s runs: the key vici in /etc/tunnelcast/updown.toml must be its socket, "+
			"charon.plugins.vici.socket in strongswan.conf", h.Unit)
	}
	if starter, err := h.askUnit(ctx, starterUnit); err == nil && starter.Active == "active" {
		return fmt.Sprintf("%s runs: its charon needs the vici plugin of the package strongswan-swanctl, "+
			"and the key unit must name it", starterUnit)
	}
	return "systemctl start " + h.Unit
}
