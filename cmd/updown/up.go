package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"tunnelcast/internal/ddns"
	"tunnelcast/internal/file"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/lease"
	"tunnelcast/internal/swanctl"
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
	if out, err := g.leavesOut(call.Child); out || err != nil {
		return err
	}
	rules, known, err := g.hookRules()
	if err != nil {
		return err
	}
	var want []lease.RR
	for _, addr := range call.Addresses {
		if !rules.AnyAddress && !rules.Pools.Contains(addr) {
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
	unlock, err := g.dir.lock(ctx, "hooks.lock", file.Shared)
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
	remembered := make(chan error, 1)
	go func() { remembered <- g.state.add(want) }()
	added, err := g.register(ctx, server, rules, call.Identity, name, want)
	select {
	case <-remembered: // sync remembers by the claim, and says if it cannot
	case <-ctx.Done():
	}
	for _, rr := range added {
		g.env.Log.Info("name added", nameAdded, "identity", call.Identity, "name", name, "address", rr.Addr)
	}
	switch {
	case errors.Is(err, lease.ErrHeld) && !known:
		return fmt.Errorf("no name for %q yet: no sync has run since boot, so the pools are not known; sync will tell: %w", call.Identity, err)
	case errors.Is(err, lease.ErrHeld):
		return fmt.Errorf("no name for %q: %w", call.Identity, err)
	case len(added) > 0 && err != nil:
		return fmt.Errorf("not all of the addresses of %q: %w", call.Identity, err)
	case err != nil:
		if ctx.Err() != nil {
			own.GaveUp = g.env.Now()
			err = errors.Join(err, g.dir.claim(own, want))
		}
		return fmt.Errorf("no name for %q yet: %w", call.Identity, err)
	}
	return nil
}

// leavesOut reports whether the setting connections leaves out the connection that
// a child belongs to. charon tells a hook the child's name alone.
func (g *gateway) leavesOut(child string) (bool, error) {
	if len(g.Connections) == 0 {
		return false, nil
	}
	conf, err := swanctl.Read(g.SwanctlDir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // sync knows the connection
	}
	if err != nil {
		return false, err
	}
	out := false
	for _, c := range conf.Children() {
		if c.Name == child {
			if slices.Contains(g.Connections, c.Connection) {
				return false, nil
			}
			out = true
		}
	}
	return out, nil
}

// hookRules returns the rules with the pools that the settings or the last sync
// have. Before any sync has run nobody has told which addresses are the
// gateway's, and where there are no pools nobody can; then the client's own are
// taken to be, since charon gave them. Other addresses count as somebody else's
// unless they are remembered. known is false in the first case.
func (g *gateway) hookRules() (rules lease.Rules, known bool, err error) {
	rules = g.rules
	if len(rules.Pools) > 0 {
		return rules, true, nil
	}
	if rules.Pools, known, err = g.dir.pools(); err != nil {
		return rules, false, err
	}
	rules.AnyAddress = len(rules.Pools) == 0
	return rules, known, nil
}

// racePause is doubled from try to try. A server that answers from a copy of the
// zone shows what has changed a moment later.
const racePause = 10 * time.Millisecond

// register adds the wanted addresses to the name and returns those that were
// missing, beside an error those that were added. The first try expects what is
// ordinary, a name that is not in use, so that it takes one message; the second
// the repeat of a connect, whose addresses are there. Then it asks, and again
// after a pause if the name changes meanwhile by other devices of the client.
func (g *gateway) register(ctx context.Context, server *ddns.Server, rules lease.Rules, identity, name string, want []lease.RR) ([]lease.RR, error) {
	seen := lease.Owner{Name: name}
	for n := 0; ; n++ {
		change, err := rules.Join(rules.Zone, seen, want...)
		if err == nil {
			err = g.firstHolder(identity, seen, want)
		}
		if err == nil && seen.InUse && !change.Empty() {
			err = g.notADHCPServers(ctx, server, name)
		}
		if stale, confirmErr := g.stale(ctx, server, err, seen); stale || confirmErr != nil {
			if confirmErr != nil {
				return nil, confirmErr
			}
			if seen, err = g.lookUp(ctx, server, &rules, n, name, want); err != nil {
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
		done, refused, err := server.UpdateEach(ctx, change, g.ttl(), 0, false)
		g.point(ctx, server, rules, done.Add)
		switch {
		case err != nil:
			return done.Add, err
		case len(refused) == 0:
			return done.Add, nil
		case !errors.Is(refused[0].Err, ddns.ErrPrerequisite):
			return done.Add, fmt.Errorf("%s: %w", text(refused[0].RR), refused[0].Err)
		}
		if seen, err = g.lookUp(ctx, server, &rules, n, name, want); err != nil {
			return nil, err
		}
	}
}

// lookUp asks what stands at a name and which of it is known, after a pause if
// this is not the first time.
func (g *gateway) lookUp(ctx context.Context, server *ddns.Server, rules *lease.Rules, n int, name string, want []lease.RR) (lease.Owner, error) {
	if n > 0 {
		select {
		case <-ctx.Done():
			return lease.Owner{}, fmt.Errorf("%s changes all the time: %w", name, context.Cause(ctx))
		case <-time.After(racePause << n):
		}
	}
	seen, err := server.Lookup(ctx, name)
	rules.Known = g.known(seen.Holds, want)
	return seen, err
}

// stale reports whether the answer by which a name seems to be somebody else's is
// older than the zone. In such an answer a new name may look like the wildcard.
func (g *gateway) stale(ctx context.Context, server *ddns.Server, err error, seen lease.Owner) (bool, error) {
	notAddress := func(rr lease.RR) bool { return !rr.Addr.IsValid() }
	if !errors.Is(err, lease.ErrHeld) || len(seen.Holds) == 0 || slices.ContainsFunc(seen.Holds, notAddress) {
		return false, nil
	}
	is, err := server.Confirm(ctx, g.rules.Zone, seen)
	return err == nil && !is, err
}

// notADHCPServers refuses a name that a DHCP server keeps (RFC 4701).
func (g *gateway) notADHCPServers(ctx context.Context, server *ddns.Server, name string) error {
	has, err := server.Has(ctx, name, "DHCID")
	if err == nil && has {
		err = fmt.Errorf("%w: %s has a DHCID, so a DHCP server keeps it", lease.ErrHeld, name)
	}
	return err
}

// known returns those of the addresses of a name that are this gateway's, as far
// as the last sync and the hooks since then know.
func (g *gateway) known(holds, want []lease.RR) map[lease.RR]bool {
	known := map[lease.RR]bool{}
	var remembered map[lease.RR]bool
	for _, rr := range holds {
		if !rr.Addr.IsValid() {
			continue
		}
		if slices.Contains(want, rr) || g.heldAs(rr) || g.state.has(rr) {
			known[rr] = true
			continue
		}
		if remembered == nil {
			remembered, _ = g.state.load() // sync says if it cannot be read
		}
		known[rr] = remembered[rr]
	}
	return known
}

// heldAs reports whether a client holds the address under this name.
func (g *gateway) heldAs(rr lease.RR) bool {
	holder := g.dir.holder(rr)
	if holder == "" {
		return false
	}
	name, err := g.rules.Name(holder)
	return err == nil && name == rr.Owner
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
		if err == nil {
			g.sayPointers("PTR added", pointerAdded, change.Add)
		}
		if err != nil && !errors.Is(err, ddns.ErrPrerequisite) {
			g.env.Log.Warn("no PTR yet", noPTR, "name", rr.Owner, "address", rr.Addr, "cause", err)
		}
	}
}
