package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"tunnelcast/internal/ddns"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/lease"
)

// ownTime is what starting and ending take, on a slow host.
const ownTime = 30 * time.Millisecond

// hook does what one call of charon asks for.
func (g *gateway) hook(ctx context.Context) error {
	// charon counts the process's own start and end as well.
	ctx, cancel := context.WithTimeout(ctx, g.Timeout-min(ownTime, g.Timeout/2))
	defer cancel()
	call, err := lease.ReadCall(g.env.Getenv)
	switch {
	case call.Verb == lease.Other:
		return nil
	case call.Verb == lease.Down:
		return g.dir.down()
	case err != nil:
		return err
	case call.Identity == "":
		return errors.New("charon gave no identity: neither PLUTO_XAUTH_ID nor PLUTO_PEER_ID is set")
	case len(call.Addresses) == 0:
		return nil // no virtual IP, no name
	}
	name, err := g.rules.Name(call.Identity)
	if err != nil {
		return hook.With(fmt.Errorf("%w: %w", errNoName, err), "identity", call.Identity)
	}
	return hook.With(g.up(ctx, call, name), "identity", call.Identity, "name", name)
}

var (
	errNoName = errors.New("no name for a client")
	errNoPool = errors.New("no address of it is in the gateway's pools")
)

func (g *gateway) up(ctx context.Context, call lease.Call, name string) error {
	rules, known, err := g.hookRules(call)
	if err != nil {
		return err
	}
	var want []lease.RR
	for _, addr := range call.Addresses {
		if !rules.Pools.Contains(addr) {
			g.env.Log.Warn("address is in none of the gateway's pools", outsidePools, "identity", call.Identity, "name", name, "address", addr)
			continue
		}
		want = append(want, lease.Address(name, addr))
	}
	if len(want) == 0 {
		return fmt.Errorf("no name for %q: %w", call.Identity, errNoPool)
	}

	own := claim{Identity: call.Identity, SA: call.SA}
	before, claimed := g.dir.claimed(want[0])
	if claimed && own.SA != "" && before.SA == own.SA && g.env.Now().Sub(before.GaveUp) < g.Timeout {
		// The same connect, for its next pair of selectors: charon has been held
		// once for it.
		return fmt.Errorf("no name for %q yet: the DNS server did not answer a moment ago; sync will add %s", call.Identity, name)
	}
	unlock, err := g.dir.lock(ctx, "hooks.lock", syscall.LOCK_SH)
	if err == nil {
		defer unlock()
		err = g.dir.claim(own, want)
	}
	if err != nil {
		// The name is worth more than the guard against a sync at this moment.
		g.env.Log.Warn("sync does not know of this client", notClaimed, "identity", call.Identity, "cause", err)
	}

	server, err := g.server()
	if err != nil {
		return err
	}
	added, err := g.register(ctx, server, rules, call.Identity, name, want)
	switch {
	case errors.Is(err, lease.ErrHeld) && !known:
		return fmt.Errorf("no name for %q yet: no sync has run since boot, so the pools are not known; sync will tell: %w", call.Identity, err)
	case errors.Is(err, lease.ErrHeld):
		return fmt.Errorf("no name for %q: %w", call.Identity, err)
	case err != nil:
		if ctx.Err() != nil {
			own.GaveUp = g.env.Now()
			err = errors.Join(err, g.dir.claim(own, want))
		}
		return fmt.Errorf("no name for %q yet: %w", call.Identity, err)
	}
	for _, rr := range added {
		g.env.Log.Info("name added", nameAdded, "identity", call.Identity, "name", name, "address", rr.Addr)
	}
	return nil
}

// hookRules returns the rules with the pools that the settings or the last sync
// have. Before any sync has run nobody has told which addresses are the
// gateway's; then the client's own are taken to be, since charon gave them, and
// known is false: every other address counts as somebody else's, so the client
// gets a name that nobody uses, or has to wait for sync.
func (g *gateway) hookRules(call lease.Call) (rules lease.Rules, known bool, err error) {
	rules = g.rules
	if len(rules.Pools) == 0 {
		if rules.Pools, err = g.dir.pools(); err != nil {
			return rules, false, err
		}
	}
	if len(rules.Pools) > 0 {
		return rules, true, nil
	}
	for _, addr := range call.Addresses {
		rules.Pools = append(rules.Pools, lease.Range{First: addr, Last: addr})
	}
	return rules, false, nil
}

// maxRaces is how often a name may change between the question and the update,
// by other devices of the same client, before that is left to sync.
const maxRaces = 5

// register adds the wanted addresses to the name and returns those that were
// missing. The first try expects what is ordinary, a name that is not in use, so
// that it takes one message; the repeats of a connect find that it is, and ask.
func (g *gateway) register(ctx context.Context, server *ddns.Server, rules lease.Rules, identity, name string, want []lease.RR) ([]lease.RR, error) {
	seen := lease.Owner{Name: name}
	for range maxRaces {
		change, err := rules.Join(rules.Zone, seen, want...)
		if err == nil {
			err = g.firstHolder(identity, seen, want)
		}
		if err != nil {
			return nil, err
		}
		if change.Empty() {
			return nil, nil
		}
		err = server.Update(ctx, change, g.ttl())
		if err == nil {
			g.point(ctx, server, rules, change.Add)
			return change.Add, nil
		}
		if !errors.Is(err, ddns.ErrPrerequisite) {
			return nil, err
		}
		if seen, err = server.Lookup(ctx, name); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%s changes all the time", name)
}

// firstHolder refuses a name whose other addresses are another identity's that
// folds to the same label. An address that somebody with a name of his own holds
// by now is a leftover.
func (g *gateway) firstHolder(identity string, seen lease.Owner, want []lease.RR) error {
	for _, rr := range seen.Holds {
		if slices.Contains(want, rr) {
			continue
		}
		holder := g.dir.holder(rr)
		if name, err := g.rules.Name(holder); err == nil && name == seen.Name && !lease.SameIdentity(holder, identity) {
			return fmt.Errorf("%w: %s is %q", lease.ErrHeld, seen.Name, holder)
		}
	}
	return nil
}

// point adds PTRs where there are none. One that is there is the last holder's,
// or somebody's: sync tells.
func (g *gateway) point(ctx context.Context, server *ddns.Server, rules lease.Rules, rrs []lease.RR) {
	for _, rr := range rrs {
		zone, ptr, ok := rules.Pointer(rr.Addr, rr.Owner)
		if !ok {
			continue
		}
		change, err := rules.Join(zone, lease.Owner{Name: ptr.Owner}, ptr)
		if err == nil {
			err = server.Update(ctx, change, g.ttl())
		}
		if err != nil && !errors.Is(err, ddns.ErrPrerequisite) {
			g.env.Log.Warn("no PTR yet", noPTR, "name", rr.Owner, "address", rr.Addr, "cause", err)
		}
	}
}
