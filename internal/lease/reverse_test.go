package lease

import (
	"net/netip"
	"strings"
	"testing"
)

func TestReverseNames(t *testing.T) {
	for addr, name := range map[string]string{
		"10.0.0.100":  "100.0.0.10.in-addr.arpa.",
		"fd00::1:102": "2.0.1.0.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.",
	} {
		a := netip.MustParseAddr(addr)
		if got := reverseName(a); got != name {
			t.Errorf("%s: %s", addr, got)
		}
		if got, ok := reverseAddr(name); !ok || got != a {
			t.Errorf("%s: %s %v", name, got, ok)
		}
	}
	for _, name := range []string{"", "in-addr.arpa.", "0.10.in-addr.arpa.", "1.100.0.0.10.in-addr.arpa.",
		"100.0.0.010.in-addr.arpa.", "x.0.0.10.in-addr.arpa.",
		"0.ip6.arpa.", strings.Repeat("g.", 32) + "ip6.arpa.", strings.Repeat("00", 31) +
			"0.ip6.arpa.", "alice.example."} {
		if addr, ok := reverseAddr(name); ok {
			t.Errorf("%q is %s", name, addr)
		}
	}
}

func TestPointersOfPartsOfNetworks(t *testing.T) {
	for _, test := range []struct{ zone, addr, owner string }{
		{"128/25.0.0.10.in-addr.arpa.", "10.0.0.129", "129.128/25.0.0.10.in-addr.arpa."},
		{"128/25.0.0.10.in-addr.arpa.", "10.0.0.255", "255.128/25.0.0.10.in-addr.arpa."},
		{"128/25.0.0.10.in-addr.arpa.", "10.0.0.127", ""},
		{"128/25.0.0.10.in-addr.arpa.", "10.0.1.129", ""},
		{"0/26.0.0.10.in-addr.arpa.", "10.0.0.63", "63.0/26.0.0.10.in-addr.arpa."},
		{"0/26.0.0.10.in-addr.arpa.", "10.0.0.64", ""},
		{"0-25.0.0.10.in-addr.arpa.", "10.0.0.25", "25.0-25.0.0.10.in-addr.arpa."},
		{"128-25.0.0.10.in-addr.arpa.", "10.0.0.200", "200.128-25.0.0.10.in-addr.arpa."},
		{"100-200.0.0.10.in-addr.arpa.", "10.0.0.200", "200.100-200.0.0.10.in-addr.arpa."},
		{"100-200.0.0.10.in-addr.arpa.", "10.0.0.201", ""},
		{"customer.0.0.10.in-addr.arpa.", "10.0.0.7", "7.customer.0.0.10.in-addr.arpa."},
		{"0.0.10.in-addr.arpa.", "10.0.0.7", "7.0.0.10.in-addr.arpa."},
		{"7.0.0.10.in-addr.arpa.", "10.0.0.7", ""},
		{"0/25.0.10.in-addr.arpa.", "10.0.0.7", ""}, // of a /16: no such thing
		{"0.0.10.in-addr.arpa.", "fd00::1", ""},
	} {
		r := Rules{Zone: "example.", Reverse: []string{test.zone}}
		addr := netip.MustParseAddr(test.addr)
		zone, got, ok := r.Pointer(addr, "alice.example.")
		if ok != (test.owner != "") || ok && (got.Owner != test.owner || zone != test.zone) {
			t.Errorf("%s in %s: %s, %v; want %q", test.addr, test.zone, got.Owner, ok, test.owner)
			continue
		}
		if back, is := r.pointerAddr(test.owner); ok && (!is || back != addr) {
			t.Errorf("%s became %s, %v", test.owner, back, is)
		}
	}
	for name, ok := range map[string]bool{"0.0.10.in-addr.arpa": true, "0/25.0.0.10.IN-ADDR.arpa.": true,
		"d.f.ip6.arpa":          true,
		"7.0.0.10.in-addr.arpa": false, "example": false, "1.0/25.0.0.10.in-addr.arpa": false,
		"in-addr.example": false} {
		if err := CheckReverse(name); (err == nil) != ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCheckZone(t *testing.T) {
	for name, ok := range map[string]bool{"example": true, "vpn.Example.org.": true, "0.0.10.in-addr.arpa": true,
		"0/25.0.0.10.in-addr.arpa": true,
		"":                         false, ".": false, "a..b": false, "a b": false, "*.x": false,
		strings.Repeat("a", 64): false} {
		if err := CheckZone(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}
