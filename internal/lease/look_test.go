package lease

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var rules = Rules{
	Zone:     "example.",
	Reverse:  []string{"0.10.in-addr.arpa.", "0.0.10.in-addr.arpa."},
	Pools:    Pools{{netip.MustParseAddr("10.0.0.100"), netip.MustParseAddr("10.0.0.105")}},
	Reserved: []string{"www"},
}

// draw draws live clients and zones whose names and addresses often coincide.
func draw(t *rapid.T) (live []Lease, zones map[string][]RR, busy map[RR]bool) {
	label := rapid.SampledFrom([]string{"alice", "bob", "carol", "ns", "www", "*", "a.b", ""})
	identity := rapid.SampledFrom([]string{"alice", "Alice", "alice@b", `D\bob`, "bob", "ns", "www", "*", "a.b",
		"carol", "\x00"})
	addr := rapid.Custom(func(t *rapid.T) netip.Addr {
		return netip.AddrFrom4([4]byte{10, 0, 0, byte(rapid.IntRange(98, 107).Draw(t, "octet"))})
	})
	holder := map[netip.Addr]string{}
	for range rapid.IntRange(0, 6).Draw(t, "leases") {
		l := Lease{Identity: identity.Draw(t, "identity"), Addresses: rapid.SliceOfN(addr, 1, 2).Draw(t, "addresses")}
		// charon assigns an address to one identity at a time.
		l.Addresses = slices.DeleteFunc(l.Addresses, func(addr netip.Addr) bool {
			return holder[addr] != "" && !SameIdentity(holder[addr], l.Identity)
		})
		for _, addr := range l.Addresses {
			holder[addr] = l.Identity
		}
		if len(l.Addresses) > 0 {
			live = append(live, l)
		}
	}
	owner := func() string { return strings.TrimPrefix(label.Draw(t, "label")+".example.", ".") }
	in := map[RR]bool{}
	for range rapid.IntRange(0, 8).Draw(t, "rrs") {
		switch o := owner(); rapid.IntRange(0, 5).Draw(t, "kind") {
		case 0:
			in[RR{Owner: o, Type: "CNAME"}] = true
		case 1:
			in[RR{Owner: o, Type: "TXT"}] = true
		default:
			in[Address(o, addr.Draw(t, "address"))] = true
		}
	}
	reverse := map[RR]bool{}
	for range rapid.IntRange(0, 5).Draw(t, "ptrs") {
		target := rapid.SampledFrom([]string{"alice.example.", "bob.example.", "ns.example.",
			"host.elsewhere."}).Draw(t, "target")
		reverse[RR{Owner: reverseName(addr.Draw(t, "address")), Type: "PTR", Target: target}] = true
	}
	busy = map[RR]bool{}
	for range rapid.IntRange(0, 2).Draw(t, "busy") {
		busy[Address(owner(), addr.Draw(t, "address"))] = true
	}
	sorted := func(rrs map[RR]bool) []RR { return slices.SortedFunc(maps.Keys(rrs), compareRR) }
	return live, map[string][]RR{"example.": sorted(in), "0.0.10.in-addr.arpa.": sorted(reverse)}, busy
}

func apply(zones map[string][]RR, changes []Change) map[string][]RR {
	after := map[string][]RR{}
	for zone, rrs := range zones {
		after[zone] = slices.Clone(rrs)
	}
	for _, c := range changes {
		after[c.Zone] = slices.DeleteFunc(after[c.Zone], func(rr RR) bool { return slices.Contains(c.Remove, rr) })
		after[c.Zone] = append(after[c.Zone], c.Add...)
	}
	return after
}

func TestPlanInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		live, zones, busy := draw(t)
		changes, refused := rules.Plan(live, zones, busy)
		isLive := func(rr RR) bool {
			return slices.ContainsFunc(live, func(l Lease) bool {
				name, err := rules.Name(l.Identity)
				return err == nil && name == rr.Owner && slices.Contains(l.Addresses, rr.Addr)
			})
		}
		for _, c := range changes {
			for _, rr := range slices.Concat(c.Add, c.Remove) {
				if rr.Type == "PTR" {
					addr, ok := reverseAddr(rr.Owner)
					if !ok || !rules.Pools.Contains(addr) || rr.Target == "ns.example." ||
						rr.Target == "host.elsewhere." {
						t.Fatalf("PTR %+v is not ours", rr)
					}
					continue
				}
				label, ok := strings.CutSuffix(rr.Owner, ".example.")
				if !ok || !ldh.MatchString(label) || label == "ns" || label == "www" {
					t.Fatalf("%s is not ours", rr.Owner)
				}
				if !rules.Pools.Contains(rr.Addr) || busy[rr] {
					t.Fatalf("%+v is not ours or a hook's", rr)
				}
			}
			for _, rr := range c.Add {
				if rr.Type != "PTR" && !isLive(rr) {
					t.Fatalf("%+v is added and no client's", rr)
				}
				i := slices.IndexFunc(c.Seen, func(o Owner) bool { return o.Name == rr.Owner })
				if i < 0 {
					t.Fatalf("%+v has no prerequisite", rr)
				}
				for _, have := range c.Seen[i].Holds {
					if have.Type == "CNAME" || have.Addr.IsValid() && !rules.Pools.Contains(have.Addr) {
						t.Fatalf("%+v is added beside %+v", rr, have)
					}
				}
			}
			for _, rr := range c.Remove {
				if !slices.Contains(zones[c.Zone], rr) {
					t.Fatalf("%+v is removed and was not there", rr)
				}
				clash := slices.ContainsFunc(refused, func(r Refusal) bool {
					name, _ := rules.Name(r.Lease.Identity)
					return name == rr.Owner
				})
				if rr.Type != "PTR" && isLive(rr) && !clash {
					t.Fatalf("the live %+v is removed", rr)
				}
			}
		}
		// One run is enough.
		if again, _ := rules.Plan(live, apply(zones, changes), busy); len(again) > 0 {
			t.Fatalf("after %+v it still plans %+v", changes, again)
		}
	})
}

// Two identities never have one name.
func TestPlanNeverMerges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		live, zones, _ := draw(t)
		changes, _ := rules.Plan(live, zones, nil)
		holder := map[string]string{}
		for _, rr := range apply(zones, changes)["example."] {
			if !rules.ours(rr) {
				continue
			}
			holders := map[string]bool{}
			for _, l := range live {
				if name, err := rules.Name(l.Identity); err == nil && name == rr.Owner &&
					slices.Contains(l.Addresses, rr.Addr) {
					holders[lower(l.Identity)] = true
				}
			}
			if len(holders) == 0 {
				t.Fatalf("%+v is no client's", rr)
			}
			for id := range holders {
				if first := holder[rr.Owner]; first != "" && first != id {
					t.Fatalf("%s is both %q and %q", rr.Owner, first, id)
				}
				holder[rr.Owner] = id
			}
		}
	})
}

// Only the TTL of live names is renewed.
func TestRenew(t *testing.T) {
	r := rules
	live := []Lease{lives("alice", "10.0.0.100"), lives("printer", "10.0.0.101")}
	zones := map[string][]RR{
		"example.": {rr("alice", "10.0.0.100"), rr("printer", "10.0.0.101"), rr("printer", "10.0.9.9"),
			rr("gone", "10.0.0.102")},
		reverseZone: {ptr("100", "alice"), ptr("102", "gone")},
	}
	got := fmt.Sprint(r.Look(live, zones).Renew(zones))
	want := fmt.Sprint([]Change{
		{Zone: "example.", Seen: []Owner{{Name: "alice.example.", InUse: true, Holds: []RR{rr("alice", "10.0.0.100")}}},
			Renew: []RR{rr("alice", "10.0.0.100")}},
		{Zone: reverseZone, Seen: []Owner{{Name: ptr("100", "").Owner, InUse: true, Holds: []RR{ptr("100", "alice")}}},
			Renew: []RR{ptr("100", "alice")}},
	})
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
