package lease

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Pointer returns the PTR of an address and its reverse zone, or false if it is in
// none of the reverse zones.
func (r Rules) Pointer(addr netip.Addr, name string) (zone string, rr RR, ok bool) {
	owner := reverseName(addr)
	for _, z := range r.Reverse {
		if label, parent, is := classless(z); is {
			if last, rest, _ := strings.Cut(owner, "."); rest == parent && holdsOctet(label, last) {
				// The names in the parent zone are aliases of these.
				return z, RR{Owner: last + "." + z, Type: "PTR", Target: name}, true
			}
		} else if strings.HasSuffix(owner, "."+z) && len(z) > len(zone) {
			zone = z
		}
	}
	return zone, RR{Owner: owner, Type: "PTR", Target: name}, zone != ""
}

// pointerAddr returns the address of a PTR from its owner name.
func (r Rules) pointerAddr(owner string) (netip.Addr, bool) {
	last, zone, _ := strings.Cut(owner, ".")
	if label, parent, is := classless(zone); is {
		addr, ok := reverseAddr(last + "." + parent)
		return addr, ok && holdsOctet(label, last) && slices.Contains(r.Reverse, zone)
	}
	return reverseAddr(owner)
}

// classless splits the name of a reverse zone for a part of a /24 (RFC 2317), such as
// "128/25.0.0.10.in-addr.arpa.", into its first label and the zone of the /24.
func classless(zone string) (label, parent string, ok bool) {
	label, parent, _ = strings.Cut(zone, ".")
	octets, isV4 := strings.CutSuffix(parent, ".in-addr.arpa.")
	_, err := strconv.ParseUint(label, 10, 8)
	if err == nil || !isV4 || label == "" || strings.Count(octets, ".") != 2 {
		return "", "", false
	}
	return label, parent, true
}

// holdsOctet reports whether the first label of a classless zone covers the last octet
// of an address: "128/25", "128-25" (a prefix length, since it is smaller than the
// first address) or "128-255". Any other label covers all octets: it does not show
// which, and a PTR that no alias leads to does no harm.
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

// CheckReverse returns an error unless a setting is the name of a zone for PTRs.
func CheckReverse(name string) error {
	zone := "." + FQDN(name)
	if _, single := reverseAddr(zone[1:]); single {
		return fmt.Errorf("%q is the zone of one address, whose PTR would be at the zone's own name; "+
			"use the zone above it", name)
	}
	if labels, ok := strings.CutSuffix(zone, ".in-addr.arpa."); ok && strings.Count(labels, ".") <= 4 {
		return nil
	}
	if strings.HasSuffix(zone, ".ip6.arpa.") {
		return nil
	}
	return fmt.Errorf("%q is not a reverse zone, such as 0.0.10.in-addr.arpa", name)
}

const hexDigits = "0123456789abcdef"

// reverseName returns the owner name of an address's PTR (RFC 1035 section 3.5, RFC
// 3596 section 2.5).
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
	// Reject other notations, such as 010.0.0.10.in-addr.arpa.
	return addr, addr.IsValid() && reverseName(addr) == name
}
