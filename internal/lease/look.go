package lease

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// Refusal is a live client that gets no name, and the reason.
type Refusal struct {
	Lease Lease
	Addr  netip.Addr // the only address without a name; zero: all of them
	Err   error
}

// A Look compares the live leases with the content of the zones, by the zones' names.
// A zone that is missing from the map is not changed.
type Look struct {
	rules   Rules // with what live clients hold
	zones   map[string][]RR
	at      map[string][]RR // the forward zone, by owner names
	wanted  []RR            // the addresses that should exist there, sorted
	refused []Refusal
}

// Look compares live leases with zones.
func (r Rules) Look(live []Lease, zones map[string][]RR) *Look {
	l := &Look{rules: r.knowing(live), zones: zones, at: byOwner(zones[r.Zone])}
	l.wanted, l.refused = l.rules.wanted(live, l.at)
	return l
}

// Plan returns the plan of a new Look.
func (r Rules) Plan(live []Lease, zones map[string][]RR, busy map[RR]bool) ([]Change, []Refusal) {
	return r.Look(live, zones).Plan(busy)
}

// Plan returns the changes to the zones, in the order forward, reverse, and the
// clients that get no name. An address that is neither known nor live stays, also
// inside the pools.
//
// busy has the addresses under names that a hook is working on, or has been since the
// zones were read. They are neither added nor removed.
//
// Of two identities with one label one keeps it; see keeper.
func (l *Look) Plan(busy map[RR]bool) ([]Change, []Refusal) {
	r := l.rules
	var changes []Change
	if _, ok := l.zones[r.Zone]; ok {
		isBusy := func(rr RR) bool { return busy[rr] }
		changes = append(changes, r.difference(r.Zone, l.zones[r.Zone], l.at, l.wanted, isBusy))
	}
	busyOwner := map[string]bool{}
	for rr := range busy {
		if _, ptr, ok := r.Pointer(rr.Addr, rr.Owner); ok {
			busyOwner[ptr.Owner] = true
		}
	}
	for _, zone := range r.Reverse {
		rrs, ok := l.zones[zone]
		if !ok {
			continue
		}
		isBusy := func(rr RR) bool { return busyOwner[rr.Owner] }
		change := r.difference(zone, rrs, byOwner(rrs), r.pointers(zone, l.wanted), isBusy)
		change.Add = slices.DeleteFunc(change.Add, func(ptr RR) bool {
			addr, _ := r.pointerAddr(ptr.Owner)
			if r.adopts(Address(ptr.Target, addr), l.at[ptr.Target]) {
				return false
			}
			// A name that stays someone else's gets no PTR.
			change.Seen = slices.DeleteFunc(change.Seen, func(o Owner) bool { return o.Name == ptr.Owner })
			return true
		})
		changes = append(changes, change)
	}
	return slices.DeleteFunc(changes, Change.Empty), l.refused
}

// pointers returns the wanted PTRs of a reverse zone, sorted.
func (r Rules) pointers(zone string, wanted []RR) (pointers []RR) {
	for _, rr := range wanted {
		if in, ptr, ok := r.Pointer(rr.Addr, rr.Owner); ok && in == zone {
			pointers = append(pointers, ptr)
		}
	}
	slices.SortFunc(pointers, compareRR)
	return pointers
}

// wanted returns the addresses that should exist in the forward zone, sorted and each
// once, and the clients without a name. The rules are those of knowing.
func (r Rules) wanted(live []Lease, at map[string][]RR) (wanted []RR, refused []Refusal) {
	byName := make(map[string][]Lease, len(live))
	for i, l := range live {
		name, err := r.nameOf(l)
		if err != nil {
			refused = append(refused, Refusal{Lease: l, Err: err})
			continue
		}
		byName[name] = appendAt(byName[name], live, i)
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		leases := byName[name]
		first := keeper(leases, name, at[name])
		held := r.held(at[name])
		for _, l := range leases {
			if !SameIdentity(l.Identity, first.Identity) {
				err := fmt.Errorf("%w: %s is %q", ErrHeld, name, first.Identity)
				refused = append(refused, Refusal{Lease: l, Err: err})
				continue
			}
			for _, addr := range l.Addresses {
				rr := Address(name, addr)
				switch {
				case !r.mayHave(addr) && !r.Known[rr]:
					err := fmt.Errorf("address %s is in none of the gateway's pools", addr)
					refused = append(refused, Refusal{l, addr, err})
				case held != nil && !slices.Contains(at[name], rr):
					refused = append(refused, Refusal{l, addr, held})
				default:
					wanted = append(wanted, rr)
				}
			}
		}
	}
	slices.SortFunc(wanted, compareRR)
	return slices.Compact(wanted), refused
}

// difference returns the change after which a zone has the wanted RRs, which are sorted.
func (r Rules) difference(zone string, rrs []RR, at map[string][]RR, wanted []RR, busy func(RR) bool) Change {
	change := Change{Zone: zone}
	for _, rr := range rrs {
		if _, is := slices.BinarySearchFunc(wanted, rr, compareRR); is || !r.ours(rr) || busy(rr) {
			continue
		}
		if !slices.ContainsFunc(at[rr.Owner], func(rr RR) bool { return rr.Type == "DHCID" }) {
			change.Remove = append(change.Remove, rr)
		}
	}
	for _, rr := range wanted {
		if slices.Contains(at[rr.Owner], rr) || busy(rr) || r.held(at[rr.Owner]) != nil {
			continue
		}
		change.Add = append(change.Add, rr)
		if n := len(change.Seen); n == 0 || change.Seen[n-1].Name != rr.Owner {
			change.Seen = append(change.Seen, Owner{Name: rr.Owner, InUse: len(at[rr.Owner]) > 0, Holds: at[rr.Owner]})
		}
	}
	slices.SortFunc(change.Remove, compareRR)
	return change
}

// Renew returns the changes for RRs that are wanted and exist with another TTL. It
// leaves out names that are someone else's.
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
				change.Seen = append(change.Seen, Owner{Name: rr.Owner, InUse: true, Holds: at[rr.Owner]})
			}
		}
		if !change.Empty() {
			changes = append(changes, change)
		}
	}
	return changes
}

func byOwner(rrs []RR) map[string][]RR {
	at := make(map[string][]RR, len(rrs))
	for i, rr := range rrs {
		at[rr.Owner] = appendAt(at[rr.Owner], rrs, i)
	}
	return at
}

// appendAt appends all[i]. A slice with one element, by far the most frequent, shares
// memory with all.
func appendAt[T any](have, all []T, i int) []T {
	if len(have) == 0 {
		return all[i : i+1 : i+1]
	}
	return append(have, all[i])
}
