package charon

import (
	"testing"
	"time"

	"tunnelcast/internal/lease"
	"tunnelcast/internal/vici"
	"tunnelcast/internal/vici/vicitest"
)

const manySAs = 1000

// events is what charon sends when it lists a thousand clients.
func events() (events []vici.Message) {
	for i := range manySAs {
		events = append(events, vicitest.SA(i))
	}
	return events
}

// BenchmarkRead1000Leases reads events that are in memory.
func BenchmarkRead1000Leases(b *testing.B) {
	events := events()
	b.ReportAllocs()
	for b.Loop() {
		var leases []lease.Lease
		var sa ikeSA
		for _, m := range events {
			var err error
			if leases, err = appendLeases(leases, &sa, m, time.Now()); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkList1000Leases includes a server that sends the events over a socket.
func BenchmarkList1000Leases(b *testing.B) {
	s := answers{"list-sas": {Events: events()}}.session(b)
	b.ReportAllocs()
	for b.Loop() {
		leases, err := s.Leases(b.Context(), time.Now())
		if err != nil || len(leases) != manySAs {
			b.Fatalf("%d leases, error %v", len(leases), err)
		}
	}
}
