// Package lease decides which names the VPN's clients have. A lease is an
// identity and the virtual IPs that charon gave it; a zone is a projection of
// the live leases, and only addresses inside the gateway's own pools are ours to
// add to it or to remove from it.
//
// The package takes and gives plain values: who is connected and what stands in
// the zones is asked elsewhere, and so is the update sent.
package lease

import (
	"cmp"
	"fmt"
	"maps"
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
	Child     string       // the name of the CHILD_SA's configuration
}

// ReadCall reads the PLUTO_* variables of strongSwan's updown plugin
// (src/libcharon/plugins/updown/updown_listener.c). PLUTO_PEER_CLIENT is not
// among them: it is one traffic selector and may be the client's own LAN.
func ReadCall(getenv func(string) string) (Call, error) {
	c := Call{
		// charon has either the EAP or the XAuth identity in PLUTO_XAUTH_ID.
		Identity: Identity(getenv("PLUTO_XAUTH_ID"), "", getenv("PLUTO_PEER_ID")),
		SA:       getenv("PLUTO_UNIQUEID"),
		Child:    getenv("PLUTO_CONNECTION"),
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

// Identity returns the identity that a client is known by: the one that it proved
// by EAP, otherwise by XAuth, otherwise that of its IKE_SA. Each may be "". The
// hook and sync must agree on it, so nothing else decides this.
func Identity(eap, xauth, ike string) string { return cmp.Or(eap, xauth, ike) }

// maxIdentity is where charon cuts an identity (BUF_LEN in
// src/libstrongswan/utils/identification.c). What is that long may be the
// beginning of another one.
const maxIdentity = 511

// Names are the labels that the settings give to certain identities.
type Names struct {
	labels map[string]string // by IdentityKey
	owners map[string]string // identity by label
}

// ParseNames reads a table of identity to label. Two identities cannot have one
// label, since a name belongs to one client.
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

// label returns the DNS label of an identity: the one that Names lists for it,
// otherwise the identity, or a DN's CN, without the realm after "@", the domain
// before "\" and the zone's own name at the end, lower-cased. The rest must be one
// label of RFC 1123 section 2.1: 1 to 63 letters, digits and hyphens, with no
// hyphen at either end. Anything else is refused, because a name that was
// changed until it fits could be somebody else's. With Mend each run of other
// characters becomes one hyphen before that.
func (r Rules) label(identity string) (string, error) {
	if len(identity) >= maxIdentity {
		return "", fmt.Errorf("identity of %d bytes: charon may have cut it", len(identity))
	}
	if label, ok := r.Names.labels[IdentityKey(identity)]; ok {
		return label, nil
	}
	// charon prints "?" for a byte that cannot be printed (chunk_printable in
	// src/libstrongswan/utils/chunk.c), so two people may look like this one. A
	// distinguished name is a CA's word, and its O may have an umlaut.
	if strings.Contains(identity, "?") && !strings.Contains(identity, "=") {
		return "", fmt.Errorf("identity %q: not all of it can be printed (%s)", identity, namesHint)
	}
	if _, err := netip.ParseAddr(identity); err == nil {
		return "", fmt.Errorf("identity %q: it is an IP address and not a user's name "+
			"(eap_id = %%any in the connection's remote section)", identity)
	}
	name := identity
	if strings.Contains(name, "=") {
		cn, err := commonName(name)
		if err != nil {
			return "", fmt.Errorf("identity %q: %w (%s)", identity, err, namesHint)
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
	if inZone, ok := strings.CutSuffix(strings.TrimSuffix(label, "."), "."+strings.TrimSuffix(r.Zone, ".")); ok {
		label = inZone
	}
	hint := namesHint
	if r.Mend && !strings.Contains(label, "?") {
		label = mended(label)
	} else if !r.Mend {
		hint += ", mend = true"
	}
	if !isLabel(label) {
		return "", fmt.Errorf("identity %q: %q is not one DNS label (%s)", identity, label, hint)
	}
	if owner, ok := r.Names.owners[label]; ok {
		return "", fmt.Errorf("identity %q: the name %s is listed for %q ([names] in updown.toml)", identity, label, owner)
	}
	return label, nil
}

const namesHint = "[names] in updown.toml gives an identity its name"

// mended returns the lower-case name with one hyphen in place of each run of
// characters that a label cannot have. It does not cut such a run off at an end:
// "jos\u00e9" would become "jos", which may be somebody else's name.
func mended(name string) string {
	var b strings.Builder
	inRun := false
	for _, c := range name {
		other := (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-'
		switch {
		case !other:
			b.WriteRune(c)
		case !inRun:
			b.WriteByte('-')
		}
		inRun = other
	}
	return b.String()
}

// commonName returns the only CN of a distinguished name in charon's notation,
// "C=CH, O=x, CN=alice". charon escapes nothing, so a value that holds a
// separator shows as a part without "=" or as a second CN, and is refused.
func commonName(dn string) (string, error) {
	var names []string
	for part := range strings.SplitSeq(dn, ", ") {
		key, value, ok := strings.Cut(part, "=")
		if !ok {
			return "", fmt.Errorf("%q is not a part of a distinguished name: charon does not escape a comma inside a value", part)
		}
		if key == "" || value == "" {
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
func SameIdentity(a, b string) bool { return IdentityKey(a) == IdentityKey(b) }

// IdentityKey returns a form of an identity that equal ones, as SameIdentity has it, share.
func IdentityKey(identity string) string {
	if strings.Contains(identity, "=") || strings.Contains(identity, ":") && !strings.Contains(identity, "@") {
		return identity
	}
	return lower(identity)
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
