package lease

import (
	"net/netip"
	"slices"
	"strings"
)

// Remember returns what is to be remembered as ours: the known addresses that
// still stand somewhere, with their pointers, and those that live clients are to
// have. An address is not made ours by a live client that happens to hold it if
// it stood beside something that is no address, such as a DHCID or a TXT.
//
// A zone that is missing from the map may hold anything, and so may another
// forward zone that the settings named before.
func (l *Look) Remember() map[RR]bool {
	r := l.rules
	_, read := l.zones[r.Zone]
	keep := make(map[RR]bool, len(l.wanted))
	for _, rr := range l.wanted {
		if r.adopts(rr, l.at[rr.Owner]) {
			keep[rr] = true
		}
	}
	var pointers map[RR]bool
	for rr := range r.Known {
		if keep[rr] {
			continue
		}
		if pointers == nil {
			pointers = r.pointing(l.zones)
		}
		zone, _, hasPointer := r.Pointer(rr.Addr, rr.Owner)
		_, reverseRead := l.zones[zone]
		if !read || !strings.HasSuffix(rr.Owner, "."+r.Zone) || slices.Contains(l.at[rr.Owner], rr) ||
			hasPointer && !reverseRead || pointers[rr] {
			keep[rr] = true
		}
	}
	return keep
}

// adopts reports whether a wanted address is ours from now on. at is what stands at
// its name.
func (r Rules) adopts(rr RR, at []RR) bool {
	return r.Known[rr] || !slices.Contains(at, rr) || onlyAddresses(at)
}

// pointing returns the addresses under names that the PTRs of the reverse zones
// name.
func (r Rules) pointing(zones map[string][]RR) map[RR]bool {
	pointing := map[RR]bool{}
	for _, zone := range r.Reverse {
		for _, rr := range zones[zone] {
			if addr, ok := r.pointerAddr(rr.Owner); ok && rr.Type == "PTR" {
				pointing[Address(rr.Target, addr)] = true
			}
		}
	}
	return pointing
}

func onlyAddresses(rrs []RR) bool {
	return !slices.ContainsFunc(rrs, func(rr RR) bool { return rr.Type != "A" && rr.Type != "AAAA" })
}

// Kept returns what stands inside the pools and is somebody else's, so that it
// stays: addresses under names that a client may have, pointers to such names,
// and pointers of any kind where a live client's is wanted.
func (l *Look) Kept() (kept []RR) {
	r := l.rules
	for _, rr := range l.zones[r.Zone] {
		if rr.Addr.IsValid() && !r.ours(rr) && r.Pools.Contains(rr.Addr) && r.isName(rr.Owner) {
			kept = append(kept, rr)
		}
	}
	if len(r.Reverse) == 0 {
		return kept
	}
	inUse := map[string]bool{}
	for _, rr := range l.wanted {
		if _, ptr, ok := r.Pointer(rr.Addr, rr.Owner); ok {
			inUse[ptr.Owner] = true
		}
	}
	for _, zone := range r.Reverse {
		for _, rr := range l.zones[zone] {
			addr, ok := r.pointerAddr(rr.Owner)
			if rr.Type == "PTR" && ok && !r.ours(rr) && (inUse[rr.Owner] || r.Pools.Contains(addr) && r.isName(rr.Target)) {
				kept = append(kept, rr)
			}
		}
	}
	return kept
}

// Take returns what sync --force removes of the kept names: names that have only
// addresses inside the pools, none of them an address of this host, and pointers
// whose names do not exist or are removed as well. It returns them as additions to
// Known.
func (l *Look) Take(own func(netip.Addr) bool) map[RR]bool {
	r, at, kept := l.rules, l.at, l.Kept()
	take := map[RR]bool{}
	for _, rr := range kept {
		foreign := func(rr RR) bool { return !r.Pools.Contains(rr.Addr) || own(rr.Addr) }
		if rr.Addr.IsValid() && onlyAddresses(at[rr.Owner]) && !slices.ContainsFunc(at[rr.Owner], foreign) {
			take[rr] = true
		}
	}
	for _, rr := range kept {
		addr, ok := r.pointerAddr(rr.Owner)
		if !ok || rr.Type != "PTR" || !r.isName(rr.Target) || !r.Pools.Contains(addr) {
			continue
		}
		if is := Address(rr.Target, addr); !slices.Contains(at[rr.Target], is) {
			take[is] = true
		}
	}
	return take
}

// Renew returns what to send for the RRs that stand as they are wanted, but with
// another TTL. Those of a name that is somebody else's stay as they are.
func (l *Look) Renew(other map[string][]RR) (changes []Change) {
	r := l.rules
	for _, zone := range append([]string{r.Zone}, r.Reverse...) {
		want, at := l.wanted, l.at
		if zone != r.Zone {
			want, at = r.pointers(zone, l.wanted), byOwner(l.zones[zone])
		}
		change := Change{Zone: zone}
		for _, rr := range other[zone] {
			if _, is := slices.BinarySearchFunc(want, rr, compareRR); is && r.held(at[rr.Owner]) == nil {
				change.Renew = append(change.Renew, rr)
			}
		}
		slices.SortFunc(change.Renew, compareRR)
		for _, rr := range change.Renew {
			if n := len(change.Seen); n == 0 || change.Seen[n-1].Name != rr.Owner {
				change.Seen = append(change.Seen, Owner{rr.Owner, true, at[rr.Owner]})
			}
		}
		if !change.Empty() {
			changes = append(changes, change)
		}
	}
	return changes
}

// Done returns the zones as they are once the changes are made.
func Done(zones map[string][]RR, changes []Change) map[string][]RR {
	after := map[string][]RR{}
	for zone, rrs := range zones {
		after[zone] = rrs
	}
	for _, change := range changes {
		gone := map[RR]bool{}
		for _, rr := range change.Remove {
			gone[rr] = true
		}
		var rrs []RR
		for _, rr := range after[change.Zone] {
			if !gone[rr] {
				rrs = append(rrs, rr)
			}
		}
		after[change.Zone] = append(rrs, change.Add...)
	}
	return after
}
