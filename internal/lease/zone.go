package lease

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// RR is a resource record as far as it matters here. It is comparable.
type RR struct {
	Owner  string     // fully qualified, lower case, ends in a dot
	Type   string     // "A", "AAAA", "PTR", "CNAME", ...
	Addr   netip.Addr // of A and AAAA
	Target string     // of PTR; fully qualified, lower case
}

// Address returns the A or AAAA of an address.
func Address(owner string, addr netip.Addr) RR {
	if addr.Is4() {
		return RR{Owner: owner, Type: "A", Addr: addr}
	}
	return RR{Owner: owner, Type: "AAAA", Addr: addr}
}

// Owner is what was seen at a name.
type Owner struct {
	Name  string
	InUse bool // holds some RR, perhaps of a type that is not in Holds
	Holds []RR
}

// Change is what one zone lacks and what it has too much. It may be applied
// only while each of Seen still holds exactly the addresses and pointers that
// were seen there, and no CNAME, DNAME or delegation.
type Change struct {
	Zone        string
	Seen        []Owner // every owner name of Add and Renew
	Add, Remove []RR
	Renew       []RR // stand with another TTL, and get the new one
}

// Empty tells whether there is nothing to do.
func (c Change) Empty() bool { return len(c.Add) == 0 && len(c.Remove) == 0 && len(c.Renew) == 0 }

// Refusal says why a live client has no name.
type Refusal struct {
	Lease Lease
	Addr  netip.Addr // the only one that is refused; the zero Addr: all are
	Err   error
}

// Rules say which names and addresses are ours.
type Rules struct {
	Zone     string   // fully qualified, lower case
	Reverse  []string // likewise
	Pools    Pools
	Reserved []string // labels that no client gets, besides those that none ever does
	Names    Names    // labels of certain identities
	Mend     bool     // a login that is not a label becomes one

	// Known are the addresses under a name that are ours to remove: what this
	// gateway added. What a live client holds is ours as well.
	Known map[RR]bool
	// AnyAddress says that nobody knows the pools (RADIUS, DHCP): every address
	// that charon gave to a client may be added.
	AnyAddress bool
	// LeftOut are the connections whose clients get no names, and why.
	LeftOut map[string]string

	live map[RR]bool // see knowing
}

// FQDN brings a zone's name from a setting into the form used here.
func FQDN(name string) string { return lower(strings.TrimSuffix(name, ".")) + "." }

// CheckZone tells whether a setting is the name of a zone: labels of letters,
// digits, hyphens and underscores. The slash is there for RFC 2317.
func CheckZone(name string) error {
	name = strings.TrimSuffix(FQDN(name), ".")
	if len(name) > 253 {
		return fmt.Errorf("zone %q is longer than 253 octets", name)
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_/") != "" {
			return fmt.Errorf("%q is no name of a zone", name)
		}
	}
	return nil
}

// Name returns the owner name of an identity.
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

// CheckLabel is a name that is in the zone for a moment while a host is checked.
const CheckLabel = "tunnelcast-check"

// neverAClient are names that other hosts trust without having been told to: the
// zone's server, the proxy that browsers look for (WPAD), the IPv6 router that
// Windows looks for (RFC 5214 section 8.3.2), and the host itself (RFC 6761
// section 6.3). CheckLabel is ours.
var neverAClient = []string{"ns", "wpad", "isatap", "localhost", CheckLabel}

// CheckNames returns an error if Names has a label that is reserved.
func (r Rules) CheckNames() error {
	for _, label := range slices.Sorted(maps.Keys(r.Names.owners)) {
		if r.reserved(label) {
			return fmt.Errorf("the name %q of identity %q is reserved", label, r.Names.owners[label])
		}
	}
	return nil
}

func (r Rules) reserved(label string) bool {
	return slices.Contains(neverAClient, label) || slices.ContainsFunc(r.Reserved, func(s string) bool { return lower(s) == label })
}

// isName tells whether name is one that a client may have.
func (r Rules) isName(name string) bool {
	label, ok := strings.CutSuffix(name, "."+r.Zone)
	return ok && isLabel(label) && !r.reserved(label)
}

// mayHave reports whether a client may have the address, as far as pools go.
func (r Rules) mayHave(addr netip.Addr) bool { return r.AnyAddress || r.Pools.Contains(addr) }

// addable reports whether an RR is one that we may add: the address of a client's
// name inside the pools, or the pointer from such an address to such a name.
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

// ours reports whether an RR is one that we may remove: a known address under a
// name, or the pointer from such an address to that name.
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

// knowing returns the rules with what live clients hold.
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

// nameOf returns the owner name of a live client.
func (r Rules) nameOf(l Lease) (string, error) {
	if why, is := r.LeftOut[l.Connection]; is {
		return "", fmt.Errorf("%w: %s", ErrLeftOut, why)
	}
	return r.Name(l.Identity)
}

// ErrLeftOut says that the clients of a connection get no names.
var ErrLeftOut = errors.New("its connection gets no names")

// ErrHeld says that a name belongs to somebody else.
var ErrHeld = errors.New("the name is held by somebody else")

// held returns an error if what stands at an owner name makes it somebody
// else's: an alias, a delegation, a DHCP server's mark (RFC 4701), or an address
// or a pointer that is not ours.
func (r Rules) held(rrs []RR) error {
	for _, rr := range rrs {
		switch rr.Type {
		case "CNAME", "DNAME", "NS", "SOA":
			return fmt.Errorf("%w: %s has a %s", ErrHeld, rr.Owner, rr.Type)
		case "DHCID":
			return fmt.Errorf("%w: %s has a DHCID, so a DHCP server keeps it", ErrHeld, rr.Owner)
		case "A", "AAAA":
			if r.ours(rr) {
				continue
			}
			if r.mayHave(rr.Addr) {
				return fmt.Errorf("%w: %s has the address %s, which this gateway did not add (tunnelcast-updown sync --force removes it)",
					ErrHeld, rr.Owner, rr.Addr)
			}
			return fmt.Errorf("%w: %s has the address %s, which is in none of the gateway's pools", ErrHeld, rr.Owner, rr.Addr)
		case "PTR":
			if !r.ours(rr) {
				return fmt.Errorf("%w: %s points to %s", ErrHeld, rr.Owner, rr.Target)
			}
		}
	}
	return nil
}

// Join returns the change that adds the wanted RRs, all of one owner name, to
// what is seen there. It is empty if they are there, and an error that wraps
// ErrHeld if the name is somebody else's. Reserved names and addresses outside
// the pools are refused here too, whatever the caller has checked.
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

// Pointer returns the PTR of an address and the reverse zone it belongs to;
// false if none of the reverse zones has it.
func (r Rules) Pointer(addr netip.Addr, name string) (zone string, rr RR, ok bool) {
	owner := reverseName(addr)
	for _, z := range r.Reverse {
		if label, parent, is := classless(z); is {
			if last, rest, _ := strings.Cut(owner, "."); rest == parent && holdsOctet(label, last) {
				// The names in the parent zone are aliases that lead here.
				return z, RR{Owner: last + "." + z, Type: "PTR", Target: name}, true
			}
		} else if strings.HasSuffix(owner, "."+z) && len(z) > len(zone) {
			zone = z
		}
	}
	return zone, RR{Owner: owner, Type: "PTR", Target: name}, zone != ""
}

// pointerAddr returns the address of a PTR by its owner name.
func (r Rules) pointerAddr(owner string) (netip.Addr, bool) {
	last, zone, _ := strings.Cut(owner, ".")
	if label, parent, is := classless(zone); is {
		addr, ok := reverseAddr(last + "." + parent)
		return addr, ok && holdsOctet(label, last) && slices.Contains(r.Reverse, zone)
	}
	return reverseAddr(owner)
}

// classless splits the name of a reverse zone for a part of a /24 (RFC 2317),
// "128/25.0.0.10.in-addr.arpa.", into its first label and the zone of the /24.
func classless(zone string) (label, parent string, ok bool) {
	label, parent, _ = strings.Cut(zone, ".")
	octets, isV4 := strings.CutSuffix(parent, ".in-addr.arpa.")
	if _, err := strconv.ParseUint(label, 10, 8); err == nil || !isV4 || label == "" || strings.Count(octets, ".") != 2 {
		return "", "", false
	}
	return label, parent, true
}

// holdsOctet reports whether the first label of a classless zone covers the last
// octet of an address: "128/25", "128-25" (a prefix length that is smaller than
// the first address), "128-255". Any other label covers all octets: its name does not
// say which, and a PTR that nothing leads to does no harm.
func holdsOctet(label, octet string) bool {
	n, err := strconv.ParseUint(octet, 10, 8)
	if err != nil {
		return false
	}
	first, last, ok := strings.Cut(label, "/")
	if !ok {
		first, last, ok = strings.Cut(label, "-")
	}
	a, errA := strconv.ParseUint(first, 10, 8)
	b, errB := strconv.ParseUint(last, 10, 8)
	if !ok || errA != nil || errB != nil {
		return true
	}
	if strings.Contains(label, "/") || b < a {
		if b < 24 || b > 32 {
			return true
		}
		b = a + 1<<(32-b) - 1
	}
	return n >= a && n <= b
}

// CheckReverse returns an error unless a setting is the name of a zone in which addresses
// have their PTRs.
func CheckReverse(name string) error {
	zone := "." + FQDN(name)
	if _, single := reverseAddr(zone[1:]); single {
		return fmt.Errorf("%q is the zone of one address, whose PTR would be at the zone's own name; use the zone above it", name)
	}
	if labels, ok := strings.CutSuffix(zone, ".in-addr.arpa."); ok && strings.Count(labels, ".") <= 4 {
		return nil
	}
	if strings.HasSuffix(zone, ".ip6.arpa.") {
		return nil
	}
	return fmt.Errorf("%q is no reverse zone, such as 0.0.10.in-addr.arpa", name)
}

// A Look is the live leases beside what stands in the zones, by their names. A zone
// that is missing from the map is left alone.
type Look struct {
	rules   Rules // with what is live
	zones   map[string][]RR
	at      map[string][]RR // the forward zone, by owner names
	wanted  []RR            // the addresses that ought to stand there, sorted
	refused []Refusal
}

// Look compares what is live with what stands.
func (r Rules) Look(live []Lease, zones map[string][]RR) *Look {
	l := &Look{rules: r.knowing(live), zones: zones, at: byOwner(zones[r.Zone])}
	l.wanted, l.refused = l.rules.wanted(live, l.at)
	return l
}

// Plan is the plan of a look.
func (r Rules) Plan(live []Lease, zones map[string][]RR, busy map[RR]bool) ([]Change, []Refusal) {
	return r.Look(live, zones).Plan(busy)
}

// Plan returns what to change in each of the zones, in the order forward, reverse,
// and the clients that get no name. What is neither known nor live stays, inside
// the pools too.
//
// busy names the addresses under a name that a hook is at work on or has been
// since the zones were read; they are neither added nor removed.
//
// Of two identities that fold to one label the first keeps it: the one whose
// address stands in the zone, else the one whose IKE_SA is older.
func (l *Look) Plan(busy map[RR]bool) ([]Change, []Refusal) {
	r := l.rules
	var changes []Change
	if _, ok := l.zones[r.Zone]; ok {
		changes = append(changes, r.difference(r.Zone, l.zones[r.Zone], l.at, l.wanted, func(rr RR) bool { return busy[rr] }))
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
			// A name that somebody else keeps gets no PTR from here.
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

// wanted returns the addresses that ought to stand in the forward zone, sorted,
// each once. The rules know what is live.
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
				refused = append(refused, Refusal{Lease: l, Err: fmt.Errorf("%w: %s is %q", ErrHeld, name, first.Identity)})
				continue
			}
			for _, addr := range l.Addresses {
				rr := Address(name, addr)
				switch {
				case !r.mayHave(addr) && !r.Known[rr]:
					refused = append(refused, Refusal{l, addr, fmt.Errorf("address %s is in none of the gateway's pools", addr)})
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

// difference returns the change that leads a zone to the wanted RRs, which are
// sorted.
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
			change.Seen = append(change.Seen, Owner{rr.Owner, len(at[rr.Owner]) > 0, at[rr.Owner]})
		}
	}
	slices.SortFunc(change.Remove, compareRR)
	return change
}

func byOwner(rrs []RR) map[string][]RR {
	at := make(map[string][]RR, len(rrs))
	for i, rr := range rrs {
		at[rr.Owner] = appendAt(at[rr.Owner], rrs, i)
	}
	return at
}

// appendAt appends all[i]. It shares memory with all as long as there is one,
// which is nearly always so.
func appendAt[T any](have, all []T, i int) []T {
	if len(have) == 0 {
		return all[i : i+1 : i+1]
	}
	return append(have, all[i])
}

func compareRR(a, b RR) int {
	if c := strings.Compare(a.Owner, b.Owner); c != 0 {
		return c
	}
	return cmp.Or(strings.Compare(a.Type, b.Type), a.Addr.Compare(b.Addr), strings.Compare(a.Target, b.Target))
}

const hexDigits = "0123456789abcdef"

// reverseName returns the owner name of an address' PTR (RFC 1035 section 3.5,
// RFC 3596 section 2.5).
func reverseName(addr netip.Addr) string {
	var b strings.Builder
	for _, octet := range slices.Backward(addr.AsSlice()) {
		if addr.Is4() {
			fmt.Fprintf(&b, "%d.", octet)
			continue
		}
		b.WriteByte(hexDigits[octet&15])
		b.WriteByte('.')
		b.WriteByte(hexDigits[octet>>4])
		b.WriteByte('.')
	}
	if addr.Is4() {
		return b.String() + "in-addr.arpa."
	}
	return b.String() + "ip6.arpa."
}

// reverseAddr is the inverse of reverseName.
func reverseAddr(name string) (netip.Addr, bool) {
	var addr netip.Addr
	if labels, ok := strings.CutSuffix(name, ".in-addr.arpa."); ok {
		parts := strings.Split(labels, ".")
		slices.Reverse(parts)
		addr, _ = netip.ParseAddr(strings.Join(parts, "."))
	} else if labels, ok := strings.CutSuffix(name, ".ip6.arpa."); ok && len(labels) == 63 {
		var raw [16]byte
		for i := range 32 {
			digit := strings.IndexByte(hexDigits, labels[62-2*i])
			if digit < 0 {
				return addr, false
			}
			raw[i/2] = raw[i/2]<<4 | byte(digit)
		}
		addr = netip.AddrFrom16(raw)
	}
	// Only the one notation, so that 010.0.0.10.in-addr.arpa. is nobody's.
	return addr, addr.IsValid() && reverseName(addr) == name
}
