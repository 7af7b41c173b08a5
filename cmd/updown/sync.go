package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"tunnelcast/internal/ddns"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/lease"
	"tunnelcast/internal/rundir"
)

const (
	// dnsTimeout is the limit for one update or transfer. No client waits for sync.
	dnsTimeout = 10 * time.Second
	// charonTimeout is the limit for one reply of charon, which delays the reply
	// while a client's hook delays charon.
	charonTimeout = 30 * time.Second
	// maxRounds limits how often one run starts over because a zone changed
	// concurrently.
	maxRounds = 4
	// roundPause doubles from round to round. A server that answers from a copy of
	// the zone (inline-signing, a secondary) shows a change a moment later.
	roundPause = 100 * time.Millisecond
)

// sync makes the zones hold exactly the live clients. Only one sync runs at a time.
func (h *host) sync(ctx context.Context, flags syncFlags) error {
	if !flags.DryRun {
		h.env.Metrics.Begin(h.Metrics, metrics...)
	}
	waitCtx, cancel := context.WithTimeout(ctx, charonTimeout)
	defer cancel()
	unlock, err := h.dir.LockSync(waitCtx)
	if err != nil {
		return err
	}
	for n := range maxRounds {
		err = h.round(ctx, flags)
		if !errors.Is(err, ddns.ErrPrerequisite) || n == maxRounds-1 {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(roundPause << n):
		}
	}
	// If charon did not tell the round who is connected, do not ask again.
	if !errors.As(err, new(notProven)) {
		err = combine(err, h.followSessions(ctx, flags.DryRun))
		if !flags.DryRun {
			err = combine(err, h.updatePage(ctx))
		}
	}
	unlock()
	if !flags.DryRun {
		h.pauseInBurst(ctx)
	}
	return err
}

// pauseInBurst waits if there are new requests already: systemd starts the next run at
// once, and that run can serve a whole burst of clients. charon logs clients in more
// slowly while it lists them, so the pause lasts up to arrivalPauses times as long if
// nobody has left: the hooks have added the names of those who came.
func (h *host) pauseInBurst(ctx context.Context) {
	const arrivalPauses = 4
	for n := range arrivalPauses {
		requests, _ := h.dir.Requests()
		if len(requests) == 0 || n > 0 && rundir.SomeoneLeft(requests) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(h.burstPause):
		}
	}
}

// round compares the zones with charon once and changes the zones. It reads the
// zones and asks charon at the same time; asks charon again if anything is to be
// removed; then reads which hooks were called in between (see package rundir). A
// name is therefore removed only if charon did not hold it after it was seen in the
// zone, and no hook has asked for it since.
//
// The error reports what was not done. It wraps hook.ErrSome if all else was.
func (h *host) round(ctx context.Context, flags syncFlags) error {
	rules := h.rules
	var failed error
	if rules.Known, failed = h.memory.Load(); failed != nil {
		failed = fmt.Errorf("%w: %w", hook.ErrSome, failed)
	}
	damaged := errors.Is(failed, rundir.ErrDamaged)
	err := h.takeRegistrations(ctx, rules.Known, flags.DryRun)
	if errors.Is(err, hook.ErrSome) {
		failed, err = combine(failed, err), nil
	}
	if err != nil {
		return err
	}
	server, err := h.dnsServer()
	if err != nil {
		return err
	}
	var live []lease.Lease
	var pools poolsOf
	var liveErr error
	var list sync.WaitGroup
	liveCtx, stop := context.WithCancel(ctx)
	defer stop()
	list.Go(func() { live, pools, liveErr = h.live(liveCtx) })
	view, unread, err := h.readZones(ctx, server)
	if err != nil {
		stop()
	}
	list.Wait()
	if err = cmp.Or(err, liveErr); err != nil {
		return err
	}
	failed = combine(failed, unread)
	zones := view.zones
	if len(rules.Pools) == 0 {
		rules.Pools = pools.Pools
		rules.AnyAddress = pools.none
	}
	rules.LeftOut = h.leftOut(live)
	known := rules.Known
	look := rules.Look(live, zones)
	if flags.Force {
		rules.Known = maps.Clone(known)
		maps.Copy(rules.Known, look.Take(ownAddresses()))
		look = rules.Look(live, zones)
	}
	changes, refused := look.Plan(nil)

	// The first list may be older than the zone. Also, charon lists its table while
	// the table changes: an IKE_SA that is being rekeyed may have moved from a place
	// not yet listed to one already listed. That does not happen twice to one IKE_SA,
	// and for one that is newer than the first list there is also a hook's request.
	if slices.ContainsFunc(changes, func(c lease.Change) bool { return len(c.Remove) > 0 }) {
		again, _, err := h.live(ctx)
		if err != nil {
			return err
		}
		if missed := missing(live, again); len(missed) > 0 {
			live = append(live, missed...)
			rules.LeftOut = h.leftOut(live)
			look = rules.Look(live, zones)
			changes, refused = look.Plan(nil)
		}
	}
	var renew []lease.Change
	renewed := h.dir.HasTTL(h.nameTTL())
	if !renewed {
		renew = look.Renew(view.otherTTL)
	}
	if flags.DryRun {
		kept := look.Kept()
		if flags.Force {
			kept = nil
		}
		h.printPlan(append(changes, renew...), refused, kept)
		return failed
	}
	if err := h.dir.Remember(pools.Pools, pools.known, live); err != nil {
		return err
	}
	h.env.Metrics.Set(metricClients, float64(len(live)))
	h.logUnnamed(refused)
	h.logKept(look.Kept())
	if rules.AnyAddress && h.dir.Daily("no-pools", h.env.Now()) {
		h.env.Log.Warn("charon has no pools and none are set (key pools): clients get names whatever their addresses "+
			"are, and only names that this gateway remembers are removed", poolsUnknown, "count", len(live))
	}
	if damaged {
		known = nil
	}
	known, err = h.save(known, look.Remember())
	failed = combine(failed, err)
	if len(changes)+len(renew) > 0 {
		zones, err = h.carryOut(ctx, server, look, live, zones, changes, renew)
		if err != nil && !errors.Is(err, hook.ErrSome) {
			return err
		}
		failed = combine(failed, err)
		known, err = h.save(known, rules.Look(live, zones).Remember())
		failed = combine(failed, err)
	}
	h.env.Metrics.Set(metricNames, float64(countNames(known, zones[rules.Zone])))
	if failed == nil && !renewed {
		failed = h.dir.SetTTL(h.nameTTL())
	}
	return failed
}

// carryOut changes the zones, except for names that hooks are working on, and
// returns the zones as they are afterwards. An error that wraps hook.ErrSome names
// what the server refused.
func (h *host) carryOut(ctx context.Context, server *ddns.Server, look *lease.Look, live []lease.Lease,
	zones map[string][]lease.RR, changes, renew []lease.Change) (map[string][]lease.RR, error) {
	unlock, err := h.lockOutHooks(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	busy, err := h.dir.Registered(h.rules.Zone)
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
		did, no, err := server.UpdateEach(ctx, change, h.nameTTL(), h.syncTimeout, true)
		h.logChange(did)
		done = append(done, did)
		err = withDNSEvent(err)
		switch {
		case err == nil:
		case change.Zone == h.rules.Zone || ctx.Err() != nil || errors.Is(err, ddns.ErrNoReply):
			return nil, err
		default: // a reverse zone that takes no updates does not delay the others
			failed = combine(failed, fmt.Errorf("%w: %w", hook.ErrSome, err))
		}
		refused = append(refused, no...)
	}
	return lease.Done(zones, done), combine(h.logRefused(refused, live), failed)
}

// takeRegistrations adds the addresses that hooks have registered to those known as
// this gateway's, saves these, and then clears the requests. An error that wraps
// hook.ErrSome means that they are not on disk; this run knows them all the same.
func (h *host) takeRegistrations(ctx context.Context, known map[lease.RR]bool, dryRun bool) error {
	var memoryErr error
	if !dryRun {
		memoryErr = h.memory.Create()
	}
	added, err := h.memory.Added()
	memoryErr = cmp.Or(memoryErr, err)
	requests, err := h.dir.Requests()
	if err != nil {
		return err
	}
	before := len(known)
	maps.Copy(known, rundir.Addresses(added, h.rules.Zone))
	maps.Copy(known, rundir.Addresses(requests, h.rules.Zone))
	if dryRun {
		return nil
	}
	if memoryErr == nil && len(known) > before {
		memoryErr = h.memory.Save(known)
	}
	if memoryErr == nil {
		memoryErr = h.memory.Forget(added)
	}
	unlock, err := h.lockOutHooks(ctx)
	if err != nil {
		return err
	}
	err = h.dir.Clear(requests)
	unlock()
	if err == nil && memoryErr != nil {
		err = fmt.Errorf("%w: the memory of names that are this gateway's: %w", hook.ErrSome, memoryErr)
	}
	return err
}

// save saves which addresses are this gateway's, if they changed. known is what the
// file has, or nil if the file is to be replaced in any case.
func (h *host) save(known, want map[lease.RR]bool) (map[lease.RR]bool, error) {
	if known != nil && maps.Equal(known, want) {
		return known, nil
	}
	if err := h.memory.Save(want); err != nil {
		return want, fmt.Errorf("%w: the memory of names that are this gateway's: %w", hook.ErrSome, err)
	}
	return want, nil
}

// combine returns both errors as one, in one line.
func combine(err, more error) error {
	if err == nil || more == nil {
		return cmp.Or(err, more)
	}
	return fmt.Errorf("%w; %w", err, more)
}

// lockOutHooks waits for hooks that are at work and delays others until unlock.
func (h *host) lockOutHooks(ctx context.Context) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, charonTimeout)
	defer cancel()
	return h.dir.LockOutHooks(ctx)
}

// view is the content of the zones, by their names.
type view struct {
	zones    map[string][]lease.RR
	otherTTL map[string][]lease.RR // those whose TTL is not the one in the settings
}

// readZones returns the zones. If a reverse zone cannot be read, it is left out and
// failed, which wraps hook.ErrSome, reports why.
func (h *host) readZones(ctx context.Context, server *ddns.Server) (v view, failed, err error) {
	v = view{map[string][]lease.RR{}, map[string][]lease.RR{}}
	for i, zone := range append([]string{h.rules.Zone}, h.rules.Reverse...) {
		zoneCtx, cancel := context.WithTimeout(ctx, h.syncTimeout)
		rrs, other, err := server.TransferTTL(zoneCtx, zone, h.nameTTL())
		cancel()
		err = withDNSEvent(err)
		switch {
		case err == nil:
			v.zones[zone], v.otherTTL[zone] = rrs, other
		case i == 0:
			return view{}, nil, err
		default:
			failed = combine(failed, fmt.Errorf("%w: %w", hook.ErrSome, err))
		}
	}
	return v, failed, nil
}
