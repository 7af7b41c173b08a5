package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"tunnelcast/internal/charon"
	"tunnelcast/internal/ddns"
	"tunnelcast/internal/file"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/lease"
	"tunnelcast/internal/swanctl"
)

const (
	// dnsTimeout is for one update or transfer; nobody waits for sync.
	dnsTimeout = 10 * time.Second
	// charonTimeout is for one answer of charon, which keeps us waiting while a
	// hook of any client does it.
	charonTimeout = 30 * time.Second
	// rounds is how often the zones may change under our hands in one run.
	rounds = 4
	// roundPause is doubled from round to round. A server that answers from a copy
	// of the zone (inline-signing, a secondary) shows what changed a moment later.
	roundPause = 100 * time.Millisecond
)

// sync makes the zones hold exactly the live clients. One runs at a time.
func (g *gateway) sync(ctx context.Context, dryRun bool) error {
	if !dryRun {
		g.env.Metrics.Begin(g.Metrics, metrics...)
	}
	waitCtx, cancel := context.WithTimeout(ctx, charonTimeout)
	defer cancel()
	unlock, err := g.dir.lock(waitCtx, "sync.lock", file.Exclusive)
	if err != nil {
		return err
	}
	for n := range rounds {
		err = g.round(ctx, dryRun)
		if !errors.Is(err, ddns.ErrPrerequisite) || n == rounds-1 {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(roundPause << n):
		}
	}
	unlock()
	// Another run is to follow at once when there are pokes again. In a storm of
	// clients it can do for many of them what it would do for a few.
	if pokes, _ := g.dir.pokes(); len(pokes) > 0 && !dryRun {
		select {
		case <-ctx.Done():
		case <-time.After(g.breath):
		}
	}
	return err
}

// round looks and acts once: the zones and charon, both at the same time; charon
// again if anything is to be removed; then the hooks that came meanwhile (see
// runDir). So a name is removed only if charon did not hold it after it was seen
// in the zone, and no hook has asked for it since.
//
// What is not done is in the error, which wraps hook.ErrSome if it holds up
// nothing else.
func (g *gateway) round(ctx context.Context, dryRun bool) error {
	rules := g.rules
	var failed error
	if rules.Known, failed = g.state.load(); failed != nil {
		failed = fmt.Errorf("%w: %w", hook.ErrSome, failed)
	}
	damaged := errors.Is(failed, errDamaged)
	err := g.takeClaims(ctx, rules.Known, dryRun)
	if errors.Is(err, hook.ErrSome) {
		failed, err = also(failed, err), nil
	}
	if err != nil {
		return err
	}
	server, err := g.server()
	if err != nil {
		return err
	}
	var live []lease.Lease
	var pools poolsOf
	var liveErr error
	var list sync.WaitGroup
	liveCtx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	list.Go(func() { live, pools, liveErr = g.live(liveCtx) })
	view, unread, err := g.readZones(ctx, server)
	if err != nil {
		giveUp()
	}
	list.Wait()
	if err = cmp.Or(err, liveErr); err != nil {
		return err
	}
	failed = also(failed, unread)
	zones := view.zones
	if len(rules.Pools) == 0 {
		rules.Pools = pools.Pools
		rules.AnyAddress = pools.none
	}
	rules.LeftOut = g.leftOut(live)
	known := rules.Known
	look := rules.Look(live, zones)
	if g.Sync.Force {
		rules.Known = maps.Clone(known)
		maps.Copy(rules.Known, look.Take(ownAddresses()))
		look = rules.Look(live, zones)
	}
	changes, refused := look.Plan(nil)

	// The first list may be older than the zone. And charon goes through its table
	// while it changes: an IKE_SA that is being rekeyed may have left the place
	// that is still to come for one that has been passed. It will not do so twice,
	// and one that is younger than the first list has its hook's poke as well.
	if slices.ContainsFunc(changes, func(c lease.Change) bool { return len(c.Remove) > 0 }) {
		again, _, err := g.live(ctx)
		if err != nil {
			return err
		}
		if missed := missing(live, again); len(missed) > 0 {
			live = append(live, missed...)
			rules.LeftOut = g.leftOut(live)
			look = rules.Look(live, zones)
			changes, refused = look.Plan(nil)
		}
	}
	var renew []lease.Change
	renewed := g.dir.renewed(g.ttl())
	if !renewed {
		renew = look.Renew(view.otherTTL)
	}
	if dryRun {
		g.printPlan(append(changes, renew...), refused, look.Kept())
		return failed
	}
	if err := g.dir.remember(pools.Pools, pools.known, live); err != nil {
		return err
	}
	g.env.Metrics.Set(clients, float64(len(live)))
	g.sayUnnamed(refused)
	g.sayKept(look.Kept())
	if rules.AnyAddress && g.dir.daily("no-pools", g.env.Now()) {
		g.env.Log.Warn("charon has no pools and none are set (key pools): names are given to whatever address a client has, "+
			"and only what is remembered of them is removed", poolsUnknown, "count", len(live))
	}
	if damaged {
		known = nil
	}
	known, err = g.keep(known, look.Remember())
	failed = also(failed, err)
	if len(changes)+len(renew) > 0 {
		zones, err = g.carryOut(ctx, server, look, live, zones, changes, renew)
		if err != nil && !errors.Is(err, hook.ErrSome) {
			return err
		}
		failed = also(failed, err)
		known, err = g.keep(known, rules.Look(live, zones).Remember())
		failed = also(failed, err)
	}
	g.env.Metrics.Set(names, float64(held(known, zones[rules.Zone])))
	if failed == nil && !renewed {
		failed = g.dir.setRenewed(g.ttl())
	}
	return failed
}

// carryOut changes the zones, but for what hooks are at work on, and returns
// them as they are then. An error that wraps hook.ErrSome names what was refused.
func (g *gateway) carryOut(ctx context.Context, server *ddns.Server, look *lease.Look, live []lease.Lease,
	zones map[string][]lease.RR, changes, renew []lease.Change) (map[string][]lease.RR, error) {
	unlock, err := g.hooksLock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	busy, err := g.dir.claims(g.rules.Zone)
	if err != nil {
		return nil, err
	}
	if len(busy) > 0 {
		changes, _ = look.Plan(busy)
	}
	var done []lease.Change
	var refused []ddns.Refused
	var failed error
	for _, change := range append(changes, renew...) {
		did, no, err := server.UpdateEach(ctx, change, g.ttl(), dnsTimeout, true)
		g.tell(did)
		done = append(done, did)
		switch {
		case err == nil:
		case change.Zone == g.rules.Zone || ctx.Err() != nil || errors.Is(err, ddns.ErrNoReply):
			return nil, err
		default: // a reverse zone that takes no updates does not hold up the others
			failed = also(failed, fmt.Errorf("%w: %w", hook.ErrSome, err))
		}
		refused = append(refused, no...)
	}
	return lease.Done(zones, done), also(g.sayRefused(refused, live), failed)
}

// takeClaims adds to what is known as ours what hooks have claimed, and takes the
// pokes, in this order. An error that wraps hook.ErrSome says that the disk does
// not have it; this run knows it all the same.
func (g *gateway) takeClaims(ctx context.Context, known map[lease.RR]bool, dryRun bool) error {
	var stateErr error
	if !dryRun {
		stateErr = g.state.make()
	}
	added, err := g.state.added()
	stateErr = cmp.Or(stateErr, err)
	pokes, err := g.dir.pokes()
	if err != nil {
		return err
	}
	before := len(known)
	maps.Copy(known, claimsOf(added, g.rules.Zone))
	maps.Copy(known, claimsOf(pokes, g.rules.Zone))
	if dryRun {
		return nil
	}
	if stateErr == nil && len(known) > before {
		stateErr = g.state.save(known)
	}
	if stateErr == nil {
		stateErr = g.state.forget(added)
	}
	unlock, err := g.hooksLock(ctx)
	if err != nil {
		return err
	}
	err = g.dir.take(pokes)
	unlock()
	if err == nil && stateErr != nil {
		err = fmt.Errorf("%w: the names that are this gateway's: %w", hook.ErrSome, stateErr)
	}
	return err
}

// keep remembers what is to be remembered, if that is anything new. known is nil
// if what there is on disk is to be replaced.
func (g *gateway) keep(known, want map[lease.RR]bool) (map[lease.RR]bool, error) {
	if known != nil && maps.Equal(known, want) {
		return known, nil
	}
	if err := g.state.save(want); err != nil {
		return want, fmt.Errorf("%w: the names that are this gateway's: %w", hook.ErrSome, err)
	}
	return want, nil
}

// leftOut returns the connections that some of the clients have and whose clients
// get no names, and why.
func (g *gateway) leftOut(live []lease.Lease) map[string]string {
	without := map[string]string{}
	if len(g.Connections) > 0 {
		for _, l := range live {
			if !slices.Contains(g.Connections, l.Connection) {
				without[l.Connection] = fmt.Sprintf("%s is not in the setting connections", l.Connection)
			}
		}
		return without
	}
	// What cannot be read, or comes from elsewhere than swanctl.conf, says nothing.
	conf, err := swanctl.Read(g.SwanctlDir)
	if err != nil {
		return nil
	}
	children := conf.Children()
	for _, child := range children {
		without[child.Connection] = fmt.Sprintf(
			"%s has no updown line in swanctl.conf and is not in the setting connections", child.Connection)
	}
	for _, child := range children {
		if child.Updown != "" {
			delete(without, child.Connection)
		}
	}
	return without
}

// also returns both errors, in one line.
func also(err, more error) error {
	if err == nil || more == nil {
		return cmp.Or(err, more)
	}
	return fmt.Errorf("%w; %w", err, more)
}

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

// printPlan prints what a run would do, for a dry run.
func (g *gateway) printPlan(changes []lease.Change, refused []lease.Refusal, kept []lease.RR) {
	for _, change := range changes {
		fmt.Fprint(g.env.Stdout, ddns.Text(change, g.ttl()))
	}
	for _, r := range refused {
		fmt.Fprintf(g.env.Stdout, "; no name for %q: %v\n", r.Lease.Identity, r.Err)
	}
	if g.Sync.Force {
		return
	}
	for _, rr := range kept {
		fmt.Fprintf(g.env.Stdout, "; kept, since this gateway did not add it: %s\n", text(rr))
	}
}

// text writes an address or a pointer as a zone file has it.
func text(rr lease.RR) string {
	if rr.Type == "PTR" {
		return rr.Owner + " PTR " + rr.Target
	}
	return rr.Owner + " " + rr.Type + " " + rr.Addr.String()
}

// some lists a few and counts the rest.
func some(items []string) string {
	const few = 10
	if len(items) <= few {
		return strings.Join(items, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(items[:few], ", "), len(items)-few)
}

// sayKept names, once a day, what stands inside the pools and is not ours.
func (g *gateway) sayKept(kept []lease.RR) {
	if len(kept) == 0 || !g.dir.daily("kept", g.env.Now()) {
		return
	}
	texts := make([]string, len(kept))
	for i, rr := range kept {
		texts[i] = text(rr)
	}
	g.env.Log.Warn(fmt.Sprintf("%d names inside the pools are not this gateway's and stay: %s; "+
		"if they are left over from another program, tunnelcast-updown sync --force removes them",
		len(kept), some(texts)), namesKept, "count", len(kept))
}

// sayRefused logs what a server would not do, with the client it is for, and
// returns it as one error.
func (g *gateway) sayRefused(refused []ddns.Refused, live []lease.Lease) error {
	if len(refused) == 0 {
		return nil
	}
	identities := map[string]string{}
	for _, l := range live {
		if name, err := g.rules.Name(l.Identity); err == nil {
			identities[name] = l.Identity
		}
	}
	var texts []string
	var cause, race error // the first of each
	for _, r := range refused {
		name := r.RR.Owner
		if r.RR.Type == "PTR" {
			name = r.RR.Target
		}
		what := text(r.RR)
		if identity, ok := identities[name]; ok {
			what += fmt.Sprintf(" of %q", identity)
		}
		texts = append(texts, what)
		if errors.Is(r.Err, ddns.ErrPrerequisite) {
			race = cmp.Or(race, r.Err)
		} else {
			cause = cmp.Or(cause, r.Err)
			g.env.Log.Warn("name refused by the DNS server", nameRefused, "identity", identities[name], "name", name,
				"address", r.RR.Addr, "server", g.Server, "cause", r.Err)
		}
	}
	if cause != nil && race != nil {
		cause = fmt.Errorf("%w; %w", cause, race)
	}
	return fmt.Errorf("%w: %s: %w", hook.ErrSome, some(texts), cmp.Or(cause, race))
}

// tell logs and counts what was done.
func (g *gateway) tell(did lease.Change) {
	g.env.Metrics.Add(added, g.say("name added", nameAdded, did.Add))
	g.env.Metrics.Add(removed, g.say("name removed", nameRemoved, did.Remove))
	g.sayPointers("PTR added", pointerAdded, did.Add)
	g.sayPointers("PTR removed", pointerRemoved, did.Remove)
	if n := len(did.Renew); n > 0 {
		g.env.Log.Info("names have the new TTL", ttlChanged, "zone", did.Zone, "count", n)
	}
}

func (g *gateway) sayPointers(message string, event slog.Attr, rrs []lease.RR) {
	for _, rr := range rrs {
		if rr.Type == "PTR" {
			g.env.Log.Info(message, event, "pointer", rr.Owner, "name", rr.Target)
		}
	}
}

// missing returns the leases of b that a has not.
func missing(a, b []lease.Lease) (missed []lease.Lease) {
	of := make(map[string][][]netip.Addr, len(a)) // addresses by identity
	for _, l := range a {
		of[l.Identity] = append(of[l.Identity], l.Addresses)
	}
	for _, l := range b {
		if !slices.ContainsFunc(of[l.Identity], func(have []netip.Addr) bool { return slices.Equal(have, l.Addresses) }) {
			missed = append(missed, l)
		}
	}
	return missed
}

// say returns how many it had to tell of.
func (g *gateway) say(message string, event slog.Attr, rrs []lease.RR) (n float64) {
	for _, rr := range rrs {
		if rr.Type == "PTR" {
			continue // its A or AAAA is said
		}
		g.env.Log.Info(message, event, "name", rr.Owner, "address", rr.Addr)
		n++
	}
	return n
}

// hooksLock keeps hooks out; it waits for those at work.
func (g *gateway) hooksLock(ctx context.Context) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, charonTimeout)
	defer cancel()
	return g.dir.lock(ctx, "hooks.lock", file.Exclusive)
}

// view is what stands in the zones, by their names.
type view struct {
	zones    map[string][]lease.RR
	otherTTL map[string][]lease.RR // those with another TTL than they ought to have
}

// readZones returns the zones. A reverse zone that cannot be read is left alone;
// failed then says so and wraps hook.ErrSome.
func (g *gateway) readZones(ctx context.Context, server *ddns.Server) (v view, failed, err error) {
	v = view{map[string][]lease.RR{}, map[string][]lease.RR{}}
	for i, zone := range append([]string{g.rules.Zone}, g.rules.Reverse...) {
		zoneCtx, cancel := context.WithTimeout(ctx, dnsTimeout)
		rrs, other, err := server.TransferTTL(zoneCtx, zone, g.ttl())
		cancel()
		switch {
		case err == nil:
			v.zones[zone], v.otherTTL[zone] = rrs, other
		case i == 0:
			return view{}, nil, err
		default:
			failed = also(failed, fmt.Errorf("%w: %w", hook.ErrSome, err))
		}
	}
	return v, failed, nil
}

// poolsOf are charon's pools.
type poolsOf struct {
	lease.Pools
	known bool // by what charon said now
	none  bool // addresses come from elsewhere
}

// live returns charon's leases and pools. Without charon there are none, but
// only if systemd is sure that it does not run; the pools are then the last ones
// known. They are also while charon has none yet, because it has just started.
// If it has clients and no pools, their addresses come from elsewhere.
func (g *gateway) live(ctx context.Context) (leases []lease.Lease, pools poolsOf, err error) {
	ctx, cancel := context.WithTimeout(ctx, charonTimeout)
	defer cancel()
	settled := g.env.Now().Add(g.settle)
	for {
		leases, pools.Pools, err = g.askCharon(ctx)
		pools.known = err == nil && len(pools.Pools)+len(leases) > 0
		switch {
		case errors.Is(err, charon.ErrNotRunning):
			err = g.stopped(ctx, err)
		case err != nil: // it ended while it answered, perhaps: the next call tells
			err = unsure{err, true}
		}
		if err == nil && !pools.known {
			var asked bool
			pools.Pools, asked, err = g.dir.pools()
			pools.none = asked && len(pools.Pools) == 0
		}
		pools.none = pools.none || pools.known && len(pools.Pools) == 0
		// charon on its way up or down, as after a crash, will be heard or be
		// gone in a moment.
		var u unsure
		if !errors.As(err, &u) || !u.again || g.env.Now().After(settled) {
			return leases, pools, err
		}
		select {
		case <-ctx.Done():
			return nil, poolsOf{}, err
		case <-time.After(settlePause):
		}
	}
}

const settlePause = 100 * time.Millisecond

var errNoEvidence = errors.New("nothing is removed without evidence")

// unsure is why it is not known who is connected.
type unsure struct {
	error
	again bool // it may be in a moment
}

func (u unsure) Error() string   { return errNoEvidence.Error() + ": " + u.error.Error() }
func (u unsure) Unwrap() []error { return []error{errNoEvidence, u.error} }

// stopped returns nil if systemd is sure that charon, of which nothing is heard,
// does not run.
func (g *gateway) stopped(ctx context.Context, silence error) error {
	state, err := g.askUnit(ctx, g.Unit)
	switch {
	case err != nil:
		return unsure{fmt.Errorf("%w, and %w", silence, err), false}
	case state.Load == "not-found":
		return unsure{fmt.Errorf("%w, and there is no %s (key unit)", silence, g.Unit), false}
	case !state.Stopped():
		return unsure{fmt.Errorf("%w, but %s is %s", silence, g.Unit, state.Active), true}
	}
	return nil
}
