package lease

import (
	"fmt"
	"maps"
	"slices"
)

// Names are the labels that the settings assign to certain identities.
type Names struct {
	labels map[string]string // by IdentityKey
	owners map[string]string // identity by label
}

// ParseNames reads a table of labels by identity. It returns an error if two
// identities have one label, since a name belongs to one client.
func ParseNames(table map[string]string) (Names, error) {
	names := Names{map[string]string{}, map[string]string{}}
	for _, identity := range slices.Sorted(maps.Keys(table)) {
		label := lower(table[identity])
		_, twice := names.labels[IdentityKey(identity)]
		owner, taken := names.owners[label]
		switch {
		case identity == "":
			return Names{}, fmt.Errorf("the name %q has no identity", label)
		case !isLabel(label):
			return Names{}, fmt.Errorf("the name %q of identity %q is not one DNS label", label, identity)
		case twice:
			return Names{}, fmt.Errorf("identity %q is listed twice: charon ignores the case of its letters", identity)
		case taken:
			return Names{}, fmt.Errorf("the name %q is listed for both %q and %q", label, owner, identity)
		}
		names.labels[IdentityKey(identity)] = label
		names.owners[label] = identity
	}
	return names, nil
}

// CheckNames returns an error if Names has a label that is reserved.
func (r Rules) CheckNames() error {
	for _, label := range slices.Sorted(maps.Keys(r.Names.owners)) {
		if r.reserved(label) {
			return fmt.Errorf("the name %q of identity %q is reserved", label, r.Names.owners[label])
		}
	}
	return nil
}
