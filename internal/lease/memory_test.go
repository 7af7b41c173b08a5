package lease

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func rr(owner, addr string) RR { return Address(owner+".example.", netip.MustParseAddr(addr)) }

func ptr(octet, label string) RR {
	return RR{Owner: octet + ".0.0.10.in-addr.arpa.", Type: "PTR", Target: label + ".example."}
}

func set(rrs ...RR) map[RR]bool {
	is := map[RR]bool{}
	for _, rr := range rrs {
		is[rr] = true
	}
	return is
}

func lives(identity, addr string) Lease {
	return Lease{Identity: identity, Addresses: []netip.Addr{netip.MustParseAddr(addr)}}
}

const reverseZone = "0.0.10.in-addr.arpa."

// What is remembered is what was, as long as any of it may stand, and what is
// live.
func TestRemember(t *testing.T) {
	other := RR{Owner: "old.elsewhere.", Type: "A", Addr: netip.MustParseAddr("10.0.0.100")}
	for name, test := range map[string]struct {
		known map[RR]bool
		live  []Lease
		zones map[string][]RR
		want  map[RR]bool
	}{
		"gone":                       {set(rr("alice", "10.0.0.100")), nil, map[string][]RR{"example.": nil, reverseZone: nil}, set()},
		"standing":                   {set(rr("alice", "10.0.0.100")), nil, map[string][]RR{"example.": {rr("alice", "10.0.0.100")}, reverseZone: nil}, set(rr("alice", "10.0.0.100"))},
		"its PTR stands":             {set(rr("alice", "10.0.0.100")), nil, map[string][]RR{"example.": nil, reverseZone: {ptr("100", "alice")}}, set(rr("alice", "10.0.0.100"))},
		"another's PTR stands":       {set(rr("alice", "10.0.0.100")), nil, map[string][]RR{"example.": nil, reverseZone: {ptr("100", "bob")}}, set()},
		"the reverse zone is unread": {set(rr("alice", "10.0.0.100")), nil, map[string][]RR{"example.": nil}, set(rr("alice", "10.0.0.100"))},
		"the zone is unread":         {set(rr("alice", "10.0.0.100")), nil, nil, set(rr("alice", "10.0.0.100"))},
		"another forward zone":       {set(other), nil, map[string][]RR{"example.": nil, reverseZone: nil}, set(other)},
		"live":                       {nil, []Lease{lives("alice", "10.0.0.100")}, map[string][]RR{"example.": nil, reverseZone: nil}, set(rr("alice", "10.0.0.100"))},
		"live and standing":          {nil, []Lease{lives("alice", "10.0.0.100")}, map[string][]RR{"example.": {rr("alice", "10.0.0.100")}, reverseZone: nil}, set(rr("alice", "10.0.0.100"))},
		"live beside a DHCID": {nil, []Lease{lives("alice", "10.0.0.100")},
			map[string][]RR{"example.": {rr("alice", "10.0.0.100"), {Owner: "alice.example.", Type: "DHCID"}}, reverseZone: nil}, set()},
		"live beside a TXT": {nil, []Lease{lives("alice", "10.0.0.100")},
			map[string][]RR{"example.": {rr("alice", "10.0.0.100"), {Owner: "alice.example.", Type: "TXT"}}, reverseZone: nil}, set()},
		"outside the pools":         {nil, []Lease{lives("alice", "10.0.9.1")}, map[string][]RR{"example.": nil, reverseZone: nil}, set()},
		"in a pool of before, live": {set(rr("alice", "10.0.9.1")), []Lease{lives("alice", "10.0.9.1")}, map[string][]RR{"example.": nil, reverseZone: nil}, set(rr("alice", "10.0.9.1"))},
		"printer is somebody's":     {nil, []Lease{lives("printer", "10.0.0.100")}, map[string][]RR{"example.": {rr("printer", "10.0.0.101")}, reverseZone: nil}, set()},
	} {
		t.Run(name, func(t *testing.T) {
			r := rules
			r.Known = test.known
			if got := r.Look(test.live, test.zones).Remember(); !maps.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestKeptAndTaken(t *testing.T) {
	r := rules
	r.Known = set(rr("alice", "10.0.0.100"))
	live := []Lease{lives("bob", "10.0.0.101"), lives("dave", "10.0.0.105")}
	zones := map[string][]RR{
		"example.": {rr("alice", "10.0.0.100"), rr("bob", "10.0.0.101"), rr("www", "10.0.0.102"), rr("dead", "10.0.0.103"), rr("mail", "10.0.0.104"),
			{Owner: "mail.example.", Type: "MX"}, rr("two", "10.0.0.105"), rr("two", "10.0.9.9"), rr("gateway", "10.0.0.102")},
		reverseZone: {ptr("100", "alice"), ptr("101", "bob"), ptr("102", "mail"), ptr("103", "dead"), ptr("104", "mail"),
			{Owner: "105.0.0.10.in-addr.arpa.", Type: "PTR", Target: "host.elsewhere."}, ptr("99", "dead")},
	}
	look := r.Look(live, zones)
	kept := look.Kept()
	want := []RR{rr("dead", "10.0.0.103"), rr("mail", "10.0.0.104"), rr("two", "10.0.0.105"), rr("gateway", "10.0.0.102"),
		ptr("102", "mail"), ptr("103", "dead"), ptr("104", "mail"), {Owner: "105.0.0.10.in-addr.arpa.", Type: "PTR", Target: "host.elsewhere."}}
	if !slices.Equal(kept, want) {
		t.Errorf("kept %v, want %v", kept, want)
	}
	take := look.Take(func(addr netip.Addr) bool { return addr.String() == "10.0.0.102" })
	// dead with its PTR, and the PTR of 102 to mail, which has no such address.
	if want := set(rr("dead", "10.0.0.103"), rr("mail", "10.0.0.102")); !maps.Equal(take, want) {
		t.Errorf("taken %v, want %v", take, want)
	}
}

// Whatever is remembered: only that or what a live client holds is removed, a name
// beside a DHCID never, and in the end the memory has what stands and is ours.
func TestMemoryInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		live, zones, busy := world(t)
		r := rules
		r.Known = map[RR]bool{}
		for _, in := range zones["example."] {
			if in.Addr.IsValid() && rapid.Bool().Draw(t, "known") {
				r.Known[in] = true
			}
		}
		if rapid.Bool().Draw(t, "DHCID") {
			zones["example."] = append(zones["example."], RR{Owner: "bob.example.", Type: "DHCID"})
		}
		holds := func(is RR) bool {
			return slices.ContainsFunc(live, func(l Lease) bool {
				name, err := r.Name(l.Identity)
				return err == nil && name == is.Owner && slices.Contains(l.Addresses, is.Addr)
			})
		}
		changes, _ := r.Plan(live, zones, busy)
		for _, change := range changes {
			for _, gone := range change.Remove {
				is := gone
				if gone.Type == "PTR" {
					addr, _ := reverseAddr(gone.Owner)
					is = Address(gone.Target, addr)
				}
				if !r.Known[is] && !holds(is) {
					t.Fatalf("%+v is removed and nobody's of ours", gone)
				}
				if gone.Owner == "bob.example." && slices.Contains(zones["example."], RR{Owner: "bob.example.", Type: "DHCID"}) {
					t.Fatalf("%+v is removed from beside a DHCID", gone)
				}
			}
		}
		after := Done(zones, changes)
		r.Known = r.Look(live, after).Remember()
		if again, _ := r.Plan(live, after, busy); len(again) > 0 {
			t.Fatalf("after %+v there is still %+v", changes, again)
		}
		if again := r.Look(live, after).Remember(); !maps.Equal(again, r.Known) {
			t.Fatalf("remembered %v, and then %v", r.Known, again)
		}
		// Everybody leaves, and nothing of theirs is left but beside what is no address.
		changes, _ = r.Plan(nil, after, nil)
		for _, left := range Done(after, changes)["example."] {
			if r.Known[left] && left.Owner != "bob.example." {
				t.Fatalf("%+v is ours and left", left)
			}
		}
	})
}

// The TTL of live names is renewed, and of no other.
func TestRenew(t *testing.T) {
	r := rules
	live := []Lease{lives("alice", "10.0.0.100"), lives("printer", "10.0.0.101")}
	zones := map[string][]RR{
		"example.":  {rr("alice", "10.0.0.100"), rr("printer", "10.0.0.101"), rr("printer", "10.0.9.9"), rr("gone", "10.0.0.102")},
		reverseZone: {ptr("100", "alice"), ptr("102", "gone")},
	}
	got := fmt.Sprint(r.Look(live, zones).Renew(zones))
	want := fmt.Sprint([]Change{
		{Zone: "example.", Seen: []Owner{{"alice.example.", true, []RR{rr("alice", "10.0.0.100")}}}, Renew: []RR{rr("alice", "10.0.0.100")}},
		{Zone: reverseZone, Seen: []Owner{{ptr("100", "").Owner, true, []RR{ptr("100", "alice")}}}, Renew: []RR{ptr("100", "alice")}},
	})
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
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
	for name, ok := range map[string]bool{"0.0.10.in-addr.arpa": true, "0/25.0.0.10.IN-ADDR.arpa.": true, "d.f.ip6.arpa": true,
		"7.0.0.10.in-addr.arpa": false, "example": false, "1.0/25.0.0.10.in-addr.arpa": false, "in-addr.example": false} {
		if err := CheckReverse(name); (err == nil) != ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
