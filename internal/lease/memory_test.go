package lease

import (
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

// Known addresses are remembered as long as they or their PTRs may exist, and those of
// live clients.
func TestRemember(t *testing.T) {
	other := RR{Owner: "old.elsewhere.", Type: "A", Addr: netip.MustParseAddr("10.0.0.100")}
	alice := rr("alice", "10.0.0.100")
	live := []Lease{lives("alice", "10.0.0.100")}
	zones := func(forward, reverse []RR) map[string][]RR {
		return map[string][]RR{"example.": forward, reverseZone: reverse}
	}
	for name, test := range map[string]struct {
		known map[RR]bool
		live  []Lease
		zones map[string][]RR
		want  map[RR]bool
	}{
		"removed":                       {set(alice), nil, zones(nil, nil), set()},
		"in the zone":                   {set(alice), nil, zones([]RR{alice}, nil), set(alice)},
		"its PTR exists":                {set(alice), nil, zones(nil, []RR{ptr("100", "alice")}), set(alice)},
		"another's PTR exists":          {set(alice), nil, zones(nil, []RR{ptr("100", "bob")}), set()},
		"the reverse zone was not read": {set(alice), nil, map[string][]RR{"example.": nil}, set(alice)},
		"the zone was not read":         {set(alice), nil, nil, set(alice)},
		"another forward zone":          {set(other), nil, zones(nil, nil), set(other)},
		"live":                          {nil, live, zones(nil, nil), set(alice)},
		"live and in the zone":          {nil, live, zones([]RR{alice}, nil), set(alice)},
		"live beside a DHCID": {nil, live, zones([]RR{alice, {Owner: "alice.example.", Type: "DHCID"}}, nil),
			set()},
		"live beside a TXT": {nil, live, zones([]RR{alice, {Owner: "alice.example.", Type: "TXT"}}, nil),
			set()},
		"outside the pools": {nil, []Lease{lives("alice", "10.0.9.1")}, zones(nil, nil), set()},
		"live, in a former pool": {set(rr("alice", "10.0.9.1")), []Lease{lives("alice", "10.0.9.1")}, zones(nil, nil),
			set(rr("alice", "10.0.9.1"))},
		"someone else's name": {nil, []Lease{lives("printer", "10.0.0.100")},
			zones([]RR{rr("printer", "10.0.0.101")}, nil), set()},
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
		"example.": {rr("alice", "10.0.0.100"), rr("bob", "10.0.0.101"), rr("www", "10.0.0.102"),
			rr("dead", "10.0.0.103"), rr("mail", "10.0.0.104"),
			{Owner: "mail.example.", Type: "MX"}, rr("two", "10.0.0.105"), rr("two", "10.0.9.9"), rr("gateway",
				"10.0.0.102")},
		reverseZone: {ptr("100", "alice"), ptr("101", "bob"), ptr("102", "mail"), ptr("103", "dead"),
			ptr("104", "mail"),
			{Owner: "105.0.0.10.in-addr.arpa.", Type: "PTR", Target: "host.elsewhere."}, ptr("99", "dead")},
	}
	look := r.Look(live, zones)
	kept := look.Kept()
	want := []RR{rr("dead", "10.0.0.103"), rr("mail", "10.0.0.104"), rr("two", "10.0.0.105"),
		rr("gateway", "10.0.0.102"),
		ptr("102", "mail"), ptr("103", "dead"), ptr("104", "mail"), {Owner: "105.0.0.10.in-addr.arpa.", Type: "PTR",
			Target: "host.elsewhere."}}
	if !slices.Equal(kept, want) {
		t.Errorf("kept %v, want %v", kept, want)
	}
	take := look.Take(func(addr netip.Addr) bool { return addr.String() == "10.0.0.102" })
	// dead with its PTR, and the PTR of 102 to mail, because mail does not have that address.
	if want := set(rr("dead", "10.0.0.103"), rr("mail", "10.0.0.102")); !maps.Equal(take, want) {
		t.Errorf("taken %v, want %v", take, want)
	}
}

// Whatever is known: only known addresses and those of live clients are removed, never
// one beside a DHCID, and afterwards the memory has what exists and is ours.
func TestMemoryInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		live, zones, busy := draw(t)
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
					t.Fatalf("%+v is removed and not ours", gone)
				}
				if gone.Owner == "bob.example." && slices.Contains(zones["example."],
					RR{Owner: "bob.example.", Type: "DHCID"}) {
					t.Fatalf("%+v is removed beside a DHCID", gone)
				}
			}
		}
		after := Done(zones, changes)
		r.Known = r.Look(live, after).Remember()
		if again, _ := r.Plan(live, after, busy); len(again) > 0 {
			t.Fatalf("after %+v it still plans %+v", changes, again)
		}
		if again := r.Look(live, after).Remember(); !maps.Equal(again, r.Known) {
			t.Fatalf("remembered %v, and then %v", r.Known, again)
		}
		// After all clients have left, their addresses are removed, except beside RRs that are not addresses.
		changes, _ = r.Plan(nil, after, nil)
		for _, left := range Done(after, changes)["example."] {
			if r.Known[left] && left.Owner != "bob.example." {
				t.Fatalf("%+v is ours and left", left)
			}
		}
	})
}
