package lease

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Rules decide which names and addresses are this gateway's.
type Rules struct {
	Zone     string   // fully qualified, lower case
	Reverse  []string // in the same form
	Pools    Pools
	Reserved []string // labels that no client gets, besides alwaysReserved
	Names    Names    // labels of certain identities
	Mend     bool     // see label

	// Known are the addresses under names that this gateway added. It may remove these and
	// those that a live client holds.
	Known map[RR]bool
	// AnyAddress is set if the pools are not known (RADIUS, DHCP): every address that
	// charon assigned to a client may be added.
	AnyAddress bool
	// LeftOut has the connections whose clients get no names, each with the reason.
	LeftOut map[string]string

	live map[RR]bool // see knowing
}

// Name returns the owner name for an identity.
func (r Rules) Name(identity string) (string, error) {
	label, err := r.label(identity)
	if err != nil {
		return "", err
	}
	if r.reserved(label) {
		return "", fmt.Errorf("identity %q: the name %s is reserved", identity, label)
	}
	name := label + "." + r.Zone
	if len(name) > 254 { // 253 and the last dot
		return "", fmt.Errorf("identity %q: the name would be longer than 253 octets", identity)
	}
	return name, nil
}

// CheckLabel is a name that exists in the zone for a moment while a host is checked.
const CheckLabel = "tunnelcast-check"

// alwaysReserved are names that hosts trust without configuration: the zone's server,
// the proxy that browsers look for (WPAD), the IPv6 router that Windows looks for (RFC
// 5214 section 8.3.2) and the host itself (RFC 6761 section 6.3). updown check uses
// CheckLabel.
var alwaysReserved = []string{"ns", "wpad", "isatap", "localhost", CheckLabel}

func (r Rules) reserved(label string) bool {
	return slices.Contains(alwaysReserved, label) ||
		slices.ContainsFunc(r.Reserved, func(s string) bool { return lower(s) == label })
}

// isName reports whether name is one that a client may have.
func (r Rules) isName(name string) bool {
	label, ok := strings.CutSuffix(name, "."+r.Zone)
	return ok && isLabel(label) && !r.reserved(label)
}

// mayHave reports whether a client may have the address according to the pools.
func (r Rules) mayHave(addr netip.Addr) bool { return r.AnyAddress || r.Pools.Contains(addr) }

// addable reports whether we may add an RR: the address of a client's name, inside
// the pools, or the pointer from such an address to such a name.
func (r Rules) addable(rr RR) bool {
	switch rr.Type {
	case "A", "AAAA":
		return r.isName(rr.Owner) && (r.mayHave(rr.Addr) || r.Known[rr])
	case "PTR":
		addr, ok := r.pointerAddr(rr.Owner)
		return ok && r.addable(Address(rr.Target, addr))
	}
	return false
}

// ours reports whether we may remove an RR: a known address under a name, or the
// pointer from such an address to that name.
func (r Rules) ours(rr RR) bool {
	switch rr.Type {
	case "A", "AAAA":
		return r.Known[rr] || r.live[rr]
	case "PTR":
		addr, ok := r.pointerAddr(rr.Owner)
		return ok && r.ours(Address(rr.Target, addr))
	}
	return false
}

// knowing returns the rules with the addresses that live clients hold.
func (r Rules) knowing(live []Lease) Rules {
	r.live = make(map[RR]bool, len(live))
	for _, l := range live {
		name, err := r.nameOf(l)
		if err != nil {
			continue
		}
		for _, addr := range l.Addresses {
			if rr := Address(name, addr); r.mayHave(addr) || r.Known[rr] {
				r.live[rr] = true
			}
		}
	}
	return r
}

// ErrLeftOut is wrapped by the refusal of a client whose connection gets no names.
var ErrLeftOut = errors.New("its connection gets no names")

// nameOf returns the owner name for a live client.
func (r Rules) nameOf(l Lease) (string, error) {
	if why, is := r.LeftOut[l.Connection]; is {
		return "", fmt.Errorf("%w: %s", ErrLeftOut, why)
	}
	return r.Name(l.Identity)
}

// ErrHeld is wrapped by errors about a name that belongs to someone else.
var ErrHeld = errors.New("the name belongs to someone else")

// held returns an error if the RRs at an owner name make it someone else's: an alias,
// a delegation, a DHCP server's mark (RFC 4701), or an address or a pointer that is
// not ours.
func (r Rules) held(rrs []RR) error {
	for _, rr := range rrs {
		switch rr.Type {
		case "CNAME", "DNAME", "NS", "SOA":
			return fmt.Errorf("%w: %s has a %s", ErrHeld, rr.Owner, rr.Type)
		case "DHCID":
			return fmt.Errorf("%w: %s has a DHCID, so a DHCP server manages it", ErrHeld, rr.Owner)
		case "A", "AAAA":
			if r.ours(rr) {
				continue
			}
			if r.mayHave(rr.Addr) {
				return fmt.Errorf("%w: %s has the address %s, which this gateway did not add "+
					"(`tunnelcast-updown sync --force` removes it)", ErrHeld, rr.Owner, rr.Addr)
			}
			return fmt.Errorf("%w: %s has the address %s, which is in none of the gateway's pools",
				ErrHeld, rr.Owner, rr.Addr)
		case "PTR":
			if !r.ours(rr) {
				return fmt.Errorf("%w: %s points to %s", ErrHeld, rr.Owner, rr.Target)
			}
		}
	}
	return nil
}

// Join returns the change that adds the wanted RRs, all of one owner name, to what is
// seen there. The change is empty if they exist. The error wraps ErrHeld if the name
// is someone else's. Join also refuses reserved names and addresses outside the
// pools, whether or not the caller has checked that.
func (r Rules) Join(zone string, seen Owner, want ...RR) (Change, error) {
	change := Change{Zone: zone, Seen: []Owner{seen}}
	for _, rr := range want {
		if rr.Owner != seen.Name || !r.addable(rr) {
			return Change{}, fmt.Errorf("%s %s is not ours to add", rr.Owner, rr.Type)
		}
		if !slices.Contains(seen.Holds, rr) && !slices.Contains(change.Add, rr) {
			change.Add = append(change.Add, rr)
		}
	}
	if err := r.held(seen.Holds); err != nil {
		return Change{}, err
	}
	return change, nil
}
