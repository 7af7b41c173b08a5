package main

import (
	"flag"
	"slices"
	"testing"
	"time"
)

// BenchmarkSwitch renews b.N times with certhook and b.N times with swanctl --load-all, in
// turn, while clients log in all the time. A switch is a whole process. After every thirty
// there are new charons, because one keeps all certificates that it has seen and becomes slow
// after hundreds for one name. For each of the two the benchmark reports how many logins were
// tried and lost, and the median, the least and the most milliseconds of a switch.
//
//	go test -run '^$' -bench Switch -benchtime 300x ./cmd/certhook -certhook PROGRAM
func BenchmarkSwitch(b *testing.B) {
	if *benchProgram == "" {
		b.Skip("-certhook names no program")
	}
	sides := []*struct {
		name        string
		move        func(g *testGateway) error
		took        []time.Duration
		tried, lost int64
	}{
		{name: "certhook", move: func(g *testGateway) error { return g.process(*benchProgram) }},
		{name: "load-all", move: func(g *testGateway) error {
			_, err := g.swanctl("gw", "--load-all", "--noprompt")
			return err
		}},
	}
	for done, turn := 0, 0; done < b.N; turn++ {
		count := min(30, b.N-done)
		for i := range sides {
			side := sides[(i+turn)%len(sides)]
			g := newGuide(b, "c1", "c2", "c3")
			l := g.keepLoggingIn("c1", "c2", "c3")
			side.took = append(side.took, g.rotate(count, l, func() error { return side.move(g) })...)
			l.stop()
			if err := l.first.Load(); err != nil {
				b.Logf("%s: the first login that was lost: %v", side.name, *err)
			}
			g.stop["gw"]()
			g.stop["client"]()
			side.tried += l.tried.Load()
			side.lost += l.lost.Load()
		}
		done += count
	}
	b.ReportMetric(0, "ns/op")
	for _, side := range sides {
		slices.Sort(side.took)
		ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
		b.ReportMetric(float64(side.tried), side.name+"-tried")
		b.ReportMetric(float64(side.lost), side.name+"-lost")
		b.ReportMetric(ms(side.took[0]), side.name+"-least-ms")
		b.ReportMetric(ms(side.took[len(side.took)/2]), side.name+"-median-ms")
		b.ReportMetric(ms(side.took[len(side.took)-1]), side.name+"-most-ms")
	}
}

var benchProgram = flag.String("certhook", "", "the program that BenchmarkSwitch measures")
