package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"tunnelcast/internal/ddns"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/lease"
	"tunnelcast/internal/rundir"
	"tunnelcast/internal/swanctl"
)

// startupMargin is subtracted from the timeout: process start and exit on a slow
// host.
const startupMargin = 30 * time.Millisecond

// hook does what one call of charon asks for.
func (h *host) hook(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, h.Timeout-min(startupMargin, h.Timeout/2))
	defer cancel()
	call, err := lease.ReadCall(h.env.Getenv)
	switch {
	case call.Verb == lease.Other:
		return nil
	case call.Verb == lease.Down:
		return h.dir.RequestSync()
	case err != nil:
		return err
	case call.Identity == "":
		return errors.New("charon passed no identity: neither PLUTO_XAUTH_ID nor PLUTO_PEER_ID is set")
	case len(call.Addresses) == 0:
		return nil // no virtual IP, no name
	}
	name, err := h.rules.Name(call.Identity)
	if err != nil {
		return hook.With(fmt.Errorf("no name for a client: %w", err), identityRefused, "identity", call.Identity)
	}
	return hook.With(h.up(ctx, call, name), "identity", call.Identity, "name", name)
}

// up registers the call for sync, adds the client's addresses to its name and logs
// what it added.
func (h *host) up(ctx context.Context, call lease.Call, name string) error {
	if out, err := h.leavesOut(call.Child); out || err != nil {
		return err
	}
	rules, known, err := h.hookRules()
	if err != nil {
		return err
	}
	var want []lease.RR
	for _, addr := range call.Addresses {
		if !rules.AnyAddress && !rules.Pools.Contains(addr) {
			h.env.Log.Warn("address is in none of the gateway's pools", outsidePools,
				"identity", call.Identity, "name", name, "address", addr)
			continue
		}
		want = append(want, lease.Address(name, addr))
	}
	if len(want) == 0 {
		return hook.With(fmt.Errorf("no name for %q: none of its addresses is in the gateway's pools",
			call.Identity), noPool)
	}

	own := rundir.Registration{Identity: call.Identity, SA: call.SA}
	before, registered := h.dir.Registration(want[0])
	if registered && own.SA != "" && before.SA == own.SA && h.env.Now().Sub(before.TimedOut) < h.Timeout {
		// charon calls once per traffic selector pair. We already timed out for this
		// IKE_SA; do not block charon again.
		return fmt.Errorf("no name for %q yet: the DNS server did not answer a moment ago; sync will add %s",
			call.Identity, name)
	}
	unlock, err := h.dir.LockHook(ctx)
	if err == nil {
		defer unlock()
		err = h.dir.Register(own, want)
	}
	if err != nil {
		// Continue: adding the name matters more than guarding it against a concurrent
		// sync.
		h.env.Log.Warn("client not registered for sync", notRegistered, "identity", call.Identity, "cause", err)
	}

	server, err := h.dnsServer()
	if err != nil {
		return err
	}
	remembered := make(chan error, 1)
	go func() { remembered <- h.memory.Add(want) }()
	added, err := h.addAddresses(ctx, server, rules, call.Identity, name, want)
	select {
	case <-remembered: // sync also saves what is registered, and reports if it cannot
	case <-ctx.Done():
	}
	for _, rr := range added {
		h.env.Log.Info("name added", nameAdded, "identity", call.Identity, "name", name, "address", rr.Addr)
	}
	switch {
	case errors.Is(err, lease.ErrHeld) && !known:
		return hook.With(fmt.Errorf("no name for %q yet: no sync has run since boot, so the pools are not known; "+
			"sync will log the result: %w", call.Identity, err), nameHeld)
	case errors.Is(err, lease.ErrHeld):
		return hook.With(fmt.Errorf("no name for %q: %w", call.Identity, err), nameHeld)
	case len(added) > 0 && err != nil:
		return withDNSEvent(fmt.Errorf("some addresses of %q were not added: %w", call.Identity, err))
	case err != nil:
		if ctx.Err() != nil {
			own.TimedOut = h.env.Now()
			err = errors.Join(err, h.dir.Register(own, want))
		}
		return withDNSEvent(fmt.Errorf("no name for %q yet: %w", call.Identity, err))
	}
	return nil
}

// leavesOut reports whether the setting connections leaves out the connection of a
// child. charon passes only the child's name to a hook.
func (h *host) leavesOut(child string) (bool, error) {
	if len(h.Connections) == 0 {
		return false, nil
	}
	conf, err := swanctl.Read(h.SwanctlDir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // sync knows the connection
	}
	if err != nil {
		return false, err
	}
	out := false
	for _, c := range conf.Children() {
		if c.Name == child {
			if slices.Contains(h.Connections, c.Connection) {
				return false, nil
			}
			out = true
		}
	}
	return out, nil
}

// hookRules returns the rules with the pools in the settings, otherwise those that
// the last sync saved. known is false if there are neither. Without known pools, or
// if charon has none, the client's own addresses count as the gateway's, because
// charon assigned them; other addresses count as foreign unless they are remembered.
func (h *host) hookRules() (rules lease.Rules, known bool, err error) {
	rules = h.rules
	if len(rules.Pools) > 0 {
		return rules, true, nil
	}
	if rules.Pools, known, err = h.dir.Pools(); err != nil {
		return rules, false, err
	}
	rules.AnyAddress = len(rules.Pools) == 0
	return rules, known, nil
}

// racePause doubles from try to try. A server that answers from a copy of the zone
// shows a change a moment later.
const racePause = 10 * time.Millisecond

// addAddresses adds the wanted addresses to the name and returns those that it
// added, also beside an error. The first try assumes that the name does not exist,
// so that the ordinary connect takes one message. If that is wrong it looks the name
// up and tries again, after a pause if other devices of the client change the name
// at the same time.
func (h *host) addAddresses(ctx context.Context, server *ddns.Server, rules lease.Rules,
	identity, name string, want []lease.RR) ([]lease.RR, error) {
	seen := lease.Owner{Name: name}
	for n := 0; ; n++ {
		change, err := rules.Join(rules.Zone, seen, want...)
		if err == nil {
			err = h.rules.CheckHolder(identity, seen, want, h.dir.Holder)
		}
		if err == nil && seen.InUse && !change.Empty() {
			err = h.checkDHCID(ctx, server, name)
		}
		if stale, confirmErr := h.stale(ctx, server, err, seen); stale || confirmErr != nil {
			if confirmErr != nil {
				return nil, confirmErr
			}
			if seen, err = h.lookUp(ctx, server, &rules, n, name, want); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		if change.Empty() {
			return nil, nil
		}
		done, refused, err := server.UpdateEach(ctx, change, h.nameTTL(), 0, false)
		h.addPTRs(ctx, server, rules, done.Add)
		switch {
		case err != nil:
			return done.Add, err
		case len(refused) == 0:
			return done.Add, nil
		case !errors.Is(refused[0].Err, ddns.ErrPrerequisite):
			return done.Add, fmt.Errorf("%s: %w", text(refused[0].RR), refused[0].Err)
		}
		if seen, err = h.lookUp(ctx, server, &rules, n, name, want); err != nil {
			return nil, err
		}
	}
}

// lookUp returns what exists at a name and stores in rules which of it is known as
// this gateway's. It pauses first unless n is 0.
func (h *host) lookUp(ctx context.Context, server *ddns.Server, rules *lease.Rules,
	n int, name string, want []lease.RR) (lease.Owner, error) {
	if n > 0 {
		select {
		case <-ctx.Done():
			return lease.Owner{}, fmt.Errorf("%s keeps changing: %w", name, context.Cause(ctx))
		case <-time.After(racePause << n):
		}
	}
	seen, err := server.Lookup(ctx, name)
	rules.Known = h.known(seen.Holds, want)
	return seen, err
}

// stale reports whether the reply that makes a name seem to be someone else's is
// older than the zone. In such a reply a new name may look like the wildcard.
func (h *host) stale(ctx context.Context, server *ddns.Server, err error, seen lease.Owner) (bool, error) {
	notAddress := func(rr lease.RR) bool { return !rr.Addr.IsValid() }
	if !errors.Is(err, lease.ErrHeld) || len(seen.Holds) == 0 || slices.ContainsFunc(seen.Holds, notAddress) {
		return false, nil
	}
	is, err := server.Confirm(ctx, h.rules.Zone, seen)
	return err == nil && !is, err
}

// checkDHCID returns an error if a DHCP server manages the name (RFC 4701).
func (h *host) checkDHCID(ctx context.Context, server *ddns.Server, name string) error {
	has, err := server.Has(ctx, name, "DHCID")
	if err == nil && has {
		err = fmt.Errorf("%w: %s has a DHCID, so a DHCP server manages it", lease.ErrHeld, name)
	}
	return err
}

// known returns which of the addresses at a name are this gateway's according to the
// last sync and the hooks called since.
func (h *host) known(holds, want []lease.RR) map[lease.RR]bool {
	known := map[lease.RR]bool{}
	var remembered map[lease.RR]bool
	for _, rr := range holds {
		if !rr.Addr.IsValid() {
			continue
		}
		if slices.Contains(want, rr) || h.rules.HasName(h.dir.Holder(rr), rr.Owner) || h.memory.Has(rr) {
			known[rr] = true
			continue
		}
		if remembered == nil {
			remembered, _ = h.memory.Load() // sync reports an error
		}
		known[rr] = remembered[rr]
	}
	return known
}

// addPTRs adds missing PTR records. It leaves existing ones alone: only sync can tell
// whether they are stale.
func (h *host) addPTRs(ctx context.Context, server *ddns.Server, rules lease.Rules, rrs []lease.RR) {
	for _, rr := range rrs {
		zone, ptr, ok := rules.Pointer(rr.Addr, rr.Owner)
		if !ok {
			continue
		}
		change, err := rules.Join(zone, lease.Owner{Name: ptr.Owner}, ptr)
		if err == nil {
			err = server.Update(ctx, change, h.nameTTL())
		}
		if err == nil {
			h.logPointers("PTR added", pointerAdded, change.Add)
		}
		if err != nil && !errors.Is(err, ddns.ErrPrerequisite) {
			h.env.Log.Warn("no PTR yet", noPTR, "name", rr.Owner, "address", rr.Addr, "cause", err)
		}
	}
}
