package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"tunnelcast/internal/charon"
	"tunnelcast/internal/ddns"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/lease"
)

const (
	// dnsTimeout is for one update or transfer; nobody waits for sync.
	dnsTimeout = 10 * time.Second
	// charonTimeout is for one answer of charon, which keeps us waiting while a
	// hook of any client does it.
	charonTimeout = 30 * time.Second
	// rounds is how often the zones may change under our hands in one run.
	rounds = 3
)

// sync makes the zones hold exactly the live clients. One runs at a time.
func (g *gateway) sync(ctx context.Context, dryRun bool) error {
	if !dryRun {
		g.env.Metrics.Begin(g.Metrics, metrics...)
	}
	waitCtx, cancel := context.WithTimeout(ctx, charonTimeout)
	defer cancel()
	unlock, err := g.dir.lock(waitCtx, "sync.lock", syscall.LOCK_EX)
	if err != nil {
		return err
	}
	for range rounds {
		err = g.round(ctx, dryRun)
		if !errors.Is(err, ddns.ErrPrerequisite) {
			break
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
func (g *gateway) round(ctx context.Context, dryRun bool) error {
	if !dryRun { // first of all, see runDir
		unlock, err := g.hooksLock(ctx)
		if err != nil {
			return err
		}
		err = g.dir.take()
		unlock()
		if err != nil {
			return err
		}
	}
	server, err := g.server()
	if err != nil {
		return err
	}
	var live []lease.Lease
	var pools lease.Pools
	var liveErr error
	var list sync.WaitGroup
	liveCtx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	list.Go(func() { live, pools, liveErr = g.live(liveCtx) })
	zones, failed, err := g.readZones(ctx, server)
	if err != nil {
		giveUp()
	}
	list.Wait()
	if err = cmp.Or(err, liveErr); err != nil {
		return err
	}
	rules := g.rules
	if len(rules.Pools) == 0 {
		rules.Pools = pools
	}
	changes, refused := rules.Plan(live, zones, nil)

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
			changes, refused = rules.Plan(live, zones, nil)
		}
	}
	if dryRun {
		for _, change := range changes {
			fmt.Fprint(g.env.Stdout, ddns.Text(change, g.ttl()))
		}
		for _, r := range refused {
			fmt.Fprintf(g.env.Stdout, "; no name for %q: %v\n", r.Lease.Identity, r.Err)
		}
		return failed
	}
	if err := g.dir.remember(pools, live); err != nil {
		return err
	}
	g.env.Metrics.Set(clients, float64(len(live)))
	g.env.Metrics.Set(names, float64(held(rules, zones, nil)))
	if len(changes) == 0 {
		return failed
	}

	unlock, err := g.hooksLock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	busy, err := g.dir.claims(rules.Zone)
	if err != nil {
		return err
	}
	if len(busy) > 0 {
		changes, _ = rules.Plan(live, zones, busy)
	}
	for _, change := range changes {
		updateCtx, cancel := context.WithTimeout(ctx, dnsTimeout)
		err := server.Update(updateCtx, change, g.ttl())
		cancel()
		if err != nil {
			return err
		}
		g.env.Metrics.Add(added, g.say("name added", nameAdded, change.Add))
		g.env.Metrics.Add(removed, g.say("name removed", nameRemoved, change.Remove))
	}
	g.env.Metrics.Set(names, float64(held(rules, zones, changes)))
	return failed
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
	return g.dir.lock(ctx, "hooks.lock", syscall.LOCK_EX)
}

// readZones returns the zones by name. A reverse zone that cannot be read is
// left alone; failed then says so and wraps hook.ErrSome.
func (g *gateway) readZones(ctx context.Context, server *ddns.Server) (zones map[string][]lease.RR, failed, err error) {
	zones = map[string][]lease.RR{}
	for i, zone := range append([]string{g.rules.Zone}, g.rules.Reverse...) {
		zoneCtx, cancel := context.WithTimeout(ctx, dnsTimeout)
		rrs, err := server.Transfer(zoneCtx, zone)
		cancel()
		switch {
		case err == nil:
			zones[zone] = rrs
		case i == 0:
			return nil, nil, err
		default:
			failed = fmt.Errorf("%w: %w", hook.ErrSome, err)
		}
	}
	return zones, failed, nil
}

// live returns charon's leases and pools. Without charon there are none, but
// only if systemd is sure that it does not run; the pools are then the last ones
// known. They are also while charon has none yet, because it has just started.
func (g *gateway) live(ctx context.Context) ([]lease.Lease, lease.Pools, error) {
	ctx, cancel := context.WithTimeout(ctx, charonTimeout)
	defer cancel()
	settled := g.env.Now().Add(g.settle)
	for {
		leases, pools, err := g.askCharon(ctx)
		switch {
		case errors.Is(err, charon.ErrNotRunning):
			err = g.stopped(ctx, err)
		case err != nil: // it ended while it answered, perhaps: the next call tells
			err = unsure{err, true}
		}
		if err == nil && len(pools) == 0 {
			pools, err = g.dir.pools()
		}
		// charon on its way up or down, as after a crash, will be heard or be
		// gone in a moment.
		var u unsure
		if !errors.As(err, &u) || !u.again || g.env.Now().After(settled) {
			return leases, pools, err
		}
		select {
		case <-ctx.Done():
			return nil, nil, err
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
