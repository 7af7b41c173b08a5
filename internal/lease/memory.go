package lease

import (
	"net/netip"
	"slices"
	"strings"
)

// Remember returns which addresses to remember as this gateway's: the known ones that
// still exist, or whose pointers do, and those that live clients should have. An
// address that was there before does not become ours because a live client holds it,
// if something that is not an address, such as a DHCID or a TXT, is at its name.
//
// A zone that is missing from the map may contain anything, and so may a forward zone
// that the settings named before.
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

// adopts reports whether a wanted address becomes ours. at is what exists at its name.
func (r Rules) adopts(rr RR, at []RR) bool {
	return r.Known[rr] || !slices.Contains(at, rr) || onlyAddresses(at)
}

// pointing returns the addresses under names that the PTRs in the reverse zones stand
// for.
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

// Kept returns what is inside the pools and someone else's, so that it stays:
// addresses under names that a client may have, pointers to such names, and pointers
// of any kind where a live client's pointer is wanted.
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
			wanted := inUse[rr.Owner] || r.Pools.Contains(addr) && r.isName(rr.Target)
			if rr.Type == "PTR" && ok && !r.ours(rr) && wanted {
				kept = append(kept, rr)
			}
		}
	}
	return kept
}

// Take returns which of the kept names sync --force removes: names with addresses
// inside the pools only, none of them an address of this host, and pointers whose
// names do not exist or are removed, too. It returns them as additions to Known.
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
