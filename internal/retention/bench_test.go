package retention

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// BenchmarkPlan plans for a hundred thousand recordings in the order in which a walk finds them.
func BenchmarkPlan(b *testing.B) {
	const count = 100_000
	found := make([]Recording, count)
	for i := range found {
		age := time.Duration(i*7919%count) * time.Second
		found[i] = Recording{ModTime: now.Add(-age).UnixNano(), Bytes: 1e6, ID: uint64(i), Stream: uint32(i % 10)}
	}
	for name, policy := range map[string]Policy{
		"size":      {MaxSize: count / 2 * 1e6},
		"keep-last": {MaxAge: Age(time.Hour), KeepLast: 100},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				recordings := slices.Clone(found)
				b.StartTimer()
				policy.Plan(recordings, Disk{Free: 1e9, Size: 1e12}, now)
			}
		})
	}
}

// BenchmarkStreams numbers the streams of paths as nginx-rtmp makes them.
func BenchmarkStreams(b *testing.B) {
	var streams Streams
	paths := make([]string, 1000)
	for i := range paths {
		paths[i] = fmt.Sprintf("cam%d/live-%d-21-Nov-26-09:%02d:%02d.flv", i%10, 1795254935+i, i/60, i%60)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		streams.Number(paths[i%1000])
		i++
	}
}
