package lease

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// BenchmarkPlan plans a zone with a PTR zone for 1,000 clients: without differences, and
// with 50 clients that came and 50 that left.
func BenchmarkPlan(b *testing.B) {
	r := Rules{
		Zone:    "example.",
		Reverse: []string{"0.10.in-addr.arpa."},
		Pools:   Pools{{netip.MustParseAddr("10.0.0.0"), netip.MustParseAddr("10.0.255.255")}},
		Known:   map[RR]bool{},
	}
	var live []Lease
	var forward, reverse []RR
	for n := range 1000 {
		addr := netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)})
		l := Lease{Identity: fmt.Sprintf("client%d@example.org", n), Addresses: []netip.Addr{addr},
			Established: time.Unix(int64(n), 0)}
		live = append(live, l)
		rr := Address(fmt.Sprintf("client%d.example.", n), addr)
		_, ptr, _ := r.Pointer(addr, rr.Owner)
		forward, reverse = append(forward, rr), append(reverse, ptr)
		r.Known[rr] = true
	}
	for name, zones := range map[string]map[string][]RR{
		"no difference":   {"example.": forward, "0.10.in-addr.arpa.": reverse},
		"100 differences": {"example.": forward[:950], "0.10.in-addr.arpa.": reverse[:950]},
	} {
		clients := live
		if name != "no difference" {
			clients = live[50:]
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.Plan(clients, zones, nil)
			}
		})
	}
}

// BenchmarkName finds the owner name of an identity, as each run of the hook does.
func BenchmarkName(b *testing.B) {
	r := Rules{Zone: "example.", Reserved: []string{"www", "mail"}}
	for _, identity := range []string{"alice", "alice@example.org", `DOM\alice`, "C=JP, O=x, CN=alice", "*.evil"} {
		b.Run(identity, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = r.Name(identity)
			}
		})
	}
}
