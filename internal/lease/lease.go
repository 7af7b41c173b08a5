// Package lease decides which names the VPN's clients have. A lease is an
// identity and the virtual IPs that charon gave it; a zone is a projection of
// the live leases, and only addresses inside the gateway's own pools are ours to
// add to it or to remove from it.
//
// The package takes and gives plain values: who is connected and what stands in
// the zones is asked elsewhere, and so is the update sent.
package lease

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Lease is a client that charon holds an IKE_SA for.
type Lease struct {
	Identity    string // as charon prints it: raw, up to 511 bytes, chosen by the peer
	Addresses   []netip.Addr
	Established time.Time // zero if charon does not say
	Remote      string    // the client's outer address
	Connection  string
}

// Verb is what happened, as far as a name is concerned.
type Verb int

// Anything that charon may call a hook for besides up and down is Other.
const (
	Other Verb = iota
	Up
	Down
)

// Call is one call of the hook by charon.
type Call struct {
	Verb      Verb
	Identity  string
	Addresses []netip.Addr // all virtual IPs, of both families, in every call
	SA        string       // charon's number of the IKE_SA; equal in all calls of one connect
}

// ReadCall reads the PLUTO_* variables of strongSwan's updown plugin
// (src/libcharon/plugins/updown/updown_listener.c). PLUTO_PEER_CLIENT is not
// among them: it is one traffic selector and may be the client's own LAN.
func ReadCall(getenv func(string) string) (Call, error) {
	c := Call{Identity: getenv("PLUTO_XAUTH_ID"), SA: getenv("PLUTO_UNIQUEID")}
	if c.Identity == "" {
		c.Identity = getenv("PLUTO_PEER_ID")
	}
	switch getenv("PLUTO_VERB") {
	case "up-host", "up-client", "up-host-v6", "up-client-v6":
		c.Verb = Up
	case "down-host", "down-client", "down-host-v6", "down-client-v6":
		c.Verb = Down
	}
	for _, family := range []string{"PLUTO_PEER_SOURCEIP4_", "PLUTO_PEER_SOURCEIP6_"} {
		// charon numbers them from 1 and sets at most 127 variables.
		for n := 1; n < 128; n++ {
			variable := fmt.Sprint(family, n)
			text := getenv(variable)
			if text == "" {
				break
			}
			addr, err := netip.ParseAddr(text)
			if err != nil || addr.Zone() != "" {
				return c, fmt.Errorf("read %s: %q is no address", variable, text)
			}
			c.Addresses = append(c.Addresses, addr.Unmap())
		}
	}
	return c, nil
}

// maxIdentity is where charon cuts an identity (BUF_LEN in
// src/libstrongswan/utils/identification.c). What is that long may be the
// beginning of another one.
const maxIdentity = 511

// Label turns an identity into a DNS label: of a DN the CN, without the realm
// after "@" and the domain before "\", lower-cased. What is left must be one
// label of RFC 1123 section 2.1: 1 to 63 letters, digits and hyphens, with no
// hyphen at either end. Anything else is refused, never mended: a mended name
// could be somebody else's.
func Label(identity string) (string, error) {
	if len(identity) >= maxIdentity {
		return "", fmt.Errorf("identity of %d bytes: charon may have cut it", len(identity))
	}
	// charon prints "?" for a byte that cannot be printed (chunk_printable in
	// src/libstrongswan/utils/chunk.c), so two people may look like this one. A
	// distinguished name is a CA's word, and its O may have an umlaut.
	if strings.Contains(identity, "?") && !strings.Contains(identity, "=") {
		return "", fmt.Errorf("identity %q: not all of it can be printed", identity)
	}
	name := identity
	if strings.Contains(name, "=") {
		cn, err := commonName(name)
		if err != nil {
			return "", fmt.Errorf("identity %q: %w", identity, err)
		}
		name = cn
	}
	// The outermost pair only: what holds a second one is no user name.
	if i := strings.LastIndexByte(name, '@'); i >= 0 {
		name = name[:i]
	}
	if i := strings.IndexByte(name, '\\'); i >= 0 {
		name = name[i+1:]
	}
	label := lower(name)
	if !isLabel(label) {
		return "", fmt.Errorf("identity %q: %q is not one DNS label", identity, name)
	}
	return label, nil
}

// commonName returns the only CN of a distinguished name in charon's notation,
// "C=CH, O=x, CN=alice". charon escapes nothing, so a value that holds a
// separator shows as a part without "=" or as a second CN, and is refused.
func commonName(dn string) (string, error) {
	var names []string
	for part := range strings.SplitSeq(dn, ", ") {
		key, value, ok := strings.Cut(part, "=")
		if !ok || key == "" || value == "" {
			return "", fmt.Errorf("not a distinguished name")
		}
		if strings.EqualFold(key, "CN") {
			names = append(names, value)
		}
	}
	if len(names) != 1 {
		return "", fmt.Errorf("%d common names where one is needed", len(names))
	}
	return names[0], nil
}

// lower folds ASCII only: Unicode would turn the Kelvin sign into a "k".
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + ('a' - 'A')
		}
	}
	return string(b)
}

func isLabel(s string) bool {
	if len(s) < 1 || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// SameIdentity tells whether two identities are one to charon. It compares names
// and e-mail addresses without regard to case (equals_strcasecmp in
// src/libstrongswan/utils/identification.c) and opaque ones exactly, which is
// what it makes of a string with a colon and no "@", and of one with a "=" that
// is no distinguished name (identification_create_from_string there). In real
// distinguished names case counts in some strings and in others not; here in all.
func SameIdentity(a, b string) bool {
	if strings.Contains(a, "=") || strings.Contains(a, ":") && !strings.Contains(a, "@") {
		return a == b
	}
	return lower(a) == lower(b)
}

// Range is a run of addresses, both ends included.
type Range struct{ First, Last netip.Addr }

// String gives the notation that ParsePools reads.
func (r Range) String() string { return r.First.String() + "-" + r.Last.String() }

// Pools are the addresses that the gateway gives to its clients.
type Pools []Range

// ParsePools reads addresses, CIDR prefixes and ranges "first-last", the
// notations of swanctl.conf's pools.
func ParsePools(texts []string) (Pools, error) {
	var pools Pools
	for _, text := range texts {
		r, err := parseRange(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("pool %q: %w", text, err)
		}
		pools = append(pools, r)
	}
	return pools, nil
}

func parseRange(text string) (Range, error) {
	if first, last, ok := strings.Cut(text, "-"); ok {
		a, err := parseAddr(first)
		if err != nil {
			return Range{}, err
		}
		b, err := parseAddr(last)
		if err != nil {
			return Range{}, err
		}
		if a.BitLen() != b.BitLen() || b.Less(a) {
			return Range{}, fmt.Errorf("the last address is not behind the first")
		}
		return Range{a, b}, nil
	}
	if !strings.Contains(text, "/") {
		a, err := parseAddr(text)
		return Range{a, a}, err
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return Range{}, err
	}
	prefix = prefix.Masked()
	last := prefix.Addr().AsSlice()
	for bit := prefix.Bits(); bit < len(last)*8; bit++ {
		last[bit/8] |= 0x80 >> (bit % 8)
	}
	end, _ := netip.AddrFromSlice(last)
	return Range{prefix.Addr(), end}, nil
}

func parseAddr(text string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(strings.TrimSpace(text))
	if err == nil && addr.Zone() != "" {
		err = fmt.Errorf("an address with a scope is local to one link")
	}
	return addr, err
}

// Contains tells whether addr lies in one of the pools.
func (p Pools) Contains(addr netip.Addr) bool {
	return slices.ContainsFunc(p, func(r Range) bool {
		return addr.BitLen() == r.First.BitLen() && !addr.Less(r.First) && !r.Last.Less(addr)
	})
}

// Strings gives the pools in the notation that ParsePools reads.
func (p Pools) Strings() []string {
	texts := make([]string, len(p))
	for i, r := range p {
		texts[i] = r.String()
	}
	return texts
}
