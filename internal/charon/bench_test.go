package charon

import (
	"testing"
	"time"

	"tunnelcast/internal/lease"
	"tunnelcast/internal/vici"
	"tunnelcast/internal/vici/vicitest"
)

func BenchmarkLeases(b *testing.B) {
	var events []vici.Message
	for i := range 1000 {
		events = append(events, vicitest.SA(i))
	}
	b.ReportAllocs()
	for b.Loop() {
		var leases []lease.Lease
		for _, m := range events {
			var err error
			if leases, err = appendLeases(leases, m, time.Now()); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkList1000(b *testing.B) {
	server := &vicitest.Server{}
	var events []vici.Message
	for i := range 1000 {
		events = append(events, vicitest.SA(i))
	}
	server.Handle = func(string, vici.Message) (vicitest.Answer, bool) { return vicitest.Answer{Events: events}, true }
	socket := vicitest.Start(b, server)
	s, err := Dial(b.Context(), socket)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	b.ReportAllocs()
	for b.Loop() {
		leases, err := s.Leases(b.Context(), time.Now())
		if err != nil || len(leases) != 1000 {
			b.Fatal(err)
		}
	}
}
