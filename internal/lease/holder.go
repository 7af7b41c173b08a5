package lease

import (
	"cmp"
	"fmt"
	"slices"
)

// Two identities may fold to one label, such as alice and alice@example.org. Both
// decisions about who keeps the label are in this file: that of sync, which knows
// every live client, and that of the hook, which knows what the last sync knew.

// keeper returns the lease that keeps a name which several leases have: the one
// with an address that is at the name, otherwise the one with the oldest IKE_SA.
func keeper(leases []Lease, name string, at []RR) Lease {
	return slices.MinFunc(leases, func(a, b Lease) int {
		return cmp.Or(
			-cmp.Compare(countAt(a, name, at), countAt(b, name, at)),
			byAge(a, b),
			cmp.Compare(a.Identity, b.Identity))
	})
}

// countAt returns 1 if an address of the lease is at the name, otherwise 0.
func countAt(l Lease, name string, at []RR) int {
	for _, addr := range l.Addresses {
		if slices.Contains(at, Address(name, addr)) {
			return 1
		}
	}
	return 0
}

// byAge orders the older lease first and one without an age last.
func byAge(a, b Lease) int {
	if a.Established.IsZero() != b.Established.IsZero() {
		if a.Established.IsZero() {
			return 1
		}
		return -1
	}
	return a.Established.Compare(b.Established)
}

// CheckHolder returns an error that wraps ErrHeld if a name that a hook is to add
// belongs to another identity: if one of the addresses at the name, except the
// wanted ones, is held by another identity that has this name. holder returns the
// identity that holds an address, or "" if that is not known. An address whose
// holder has another name by now is left over and does not count.
func (r Rules) CheckHolder(identity string, seen Owner, want []RR, holder func(RR) string) error {
	for _, rr := range seen.Holds {
		if slices.Contains(want, rr) {
			continue
		}
		other := holder(rr)
		if r.HasName(other, seen.Name) && !SameIdentity(other, identity) {
			return fmt.Errorf("%w: %s is %q", ErrHeld, seen.Name, other)
		}
	}
	return nil
}

// HasName reports whether an identity has the name.
func (r Rules) HasName(identity, name string) bool {
	has, err := r.Name(identity)
	return err == nil && has == name
}
