package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"tunnelcast/internal/ddns"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/lease"
)

// checkTTL is the TTL of the name that check adds. A resolver may be asked for it.
const checkTTL = time.Second

// result is a line of check that is printed later.
type result struct {
	what    string
	err     error
	remedy  string
	unknown bool // this host cannot find out
}

// checkUpdate adds to the zone the RRs that a client with an address in the pools would
// get there, one at a time, and removes them again: named writes its journal only for
// a change, and a policy may grant one type and not another. It returns the results of
// checkView for each RR.
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

// addForAMoment adds the RR to a zone, calls during, and removes the RR, also if ctx
// ends in between. RRs at the name that an interrupted check has left are removed
// first.
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
			// All addresses are in use and have pointers. The removal was accepted.
			return nil
		}
	}
	if err == nil {
		during()
	}
	if err == nil || errors.Is(err, ddns.ErrNoReply) { // the server may carry it out later
		if left := remove(rr); left != nil {
			return fmt.Errorf("%s %s may be left in the zone: %w", rr.Owner, rr.Type, left)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", rr.Type, err)
	}
	return nil
}

// maxSample is the largest number of addresses of one pool that sample tries.
const maxSample = 1 << 17

// sample returns an address in the pools for which is returns true, if possible one that
// is not used.
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
