package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"tunnelcast/internal/charon"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/lease"
	"tunnelcast/internal/swanctl"
	"tunnelcast/internal/units"
)

// check prints one line for each thing that this host needs. The only change that it
// makes is a name, lease.CheckLabel, which it adds and removes again.
func (h *host) check(ctx context.Context) error {
	c := hook.NewChecks(h.env.Stdout)
	h.checkLinks(ctx, c)
	if len(h.LinkSections.sections) > 0 && !h.isSetUp() { // this host is for links alone
		return c.Err()
	}
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
		pools, _, _ = h.dir.Pools() // without them an address for documentation is used
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

// checkLine checks whether a connection has the line by which charon calls the hook.
func (h *host) checkLine(c *hook.Checks) {
	file := filepath.Join(h.SwanctlDir, "swanctl.conf")
	conf, err := swanctl.Read(h.SwanctlDir)
	var lines []calledBy
	if err == nil {
		for _, child := range conf.Children() {
			what := fmt.Sprintf("child %s of connection %s", child.Name, child.Connection)
			lines = append(lines, calledBy{what, child.Updown})
		}
	}
	var called, others []string
	for _, line := range append(lines, ipsecLines(h.ipsecConf())...) {
		program, _, _ := strings.Cut(line.command, " ")
		real, linkErr := filepath.EvalSymlinks(program)
		switch {
		case program == "":
		case linkErr != nil:
			others = append(others, fmt.Sprintf("%s calls %v", line.what, linkErr))
		case filepath.Base(real) != "tunnelcast-updown":
			others = append(others, fmt.Sprintf("%s calls %s", line.what, real))
		default:
			called = append(called, line.what)
		}
	}
	what := "updown line in " + file
	switch {
	case err != nil:
	case len(called) > 0:
		if strings.HasPrefix(called[0], "conn ") { // of ipsec.conf, and no line in swanctl.conf
			what = "updown line"
		}
		what += ", " + strings.Join(called, ", ")
	case len(others) > 0:
		err = errors.New(strings.Join(others, ", "))
	default:
		err = errors.New("no child of a connection has one")
	}
	c.Say(what, err, "`updown = /etc/swanctl/script/updown.sh iptables` in the child's section; `swanctl --load-conns`")
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
		c.Say("pools", errors.New("charon has none"),
			"pools in swanctl.conf, or the key pools if addresses come from elsewhere")
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
		return "the key vici in /etc/tunnelcast/updown.toml; `systemctl status " + h.Unit + "`"
	case state.Active == "active" && h.Unit != starterUnit:
		return fmt.Sprintf("%s runs: the key vici in /etc/tunnelcast/updown.toml must be its socket, "+
			"charon.plugins.vici.socket in strongswan.conf", h.Unit)
	}
	if starter, err := h.askUnit(ctx, starterUnit); err == nil && starter.Active == "active" {
		return fmt.Sprintf("%s runs: its charon needs the vici plugin of the package strongswan-swanctl, "+
			"and the key unit must name it", starterUnit)
	}
	return "`systemctl start " + h.Unit + "`"
}
