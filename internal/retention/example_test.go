package retention_test

import (
	"fmt"
	"time"

	"tunnelcast/internal/retention"
)

// A plan for four recordings, of which one is too old and the archive may hold three gigabytes.
func ExamplePolicy_Plan() {
	now := time.Date(2026, 11, 21, 6, 0, 0, 0, time.UTC)
	recorded := func(age time.Duration, gigabytes int64, stream uint32) retention.Recording {
		return retention.Recording{ModTime: now.Add(-age).UnixNano(), Bytes: gigabytes * 1e9, Stream: stream}
	}
	recordings := []retention.Recording{
		recorded(time.Hour, 2, 1),
		recorded(80*time.Hour, 2, 1),
		recorded(30*time.Hour, 1, 2),
		recorded(10*time.Hour, 1, 1),
	}
	policy := retention.Policy{MaxAge: retention.Age(72 * time.Hour), MaxSize: 3e9}
	plan := policy.Plan(recordings, retention.Disk{Free: 10e9, Size: 30e9}, now)
	for i, r := range plan.Recordings {
		verdict := "stays"
		if plan.Reasons[i].Removes() {
			verdict = "is removed"
		}
		fmt.Printf("%v old, %v: %s, %v\n", retention.Age(now.Sub(time.Unix(0, r.ModTime))), retention.Bytes(r.Bytes),
			verdict, plan.Reasons[i])
	}
	// Output:
	// 80h old, 2.0 GB: is removed, max-age
	// 30h old, 1.0 GB: is removed, max-size
	// 10h old, 1.0 GB: stays, within limits
	// 1h old, 2.0 GB: stays, within limits
}

// The recordings of one stream have one number, whatever their dates are.
func ExampleStreams() {
	var streams retention.Streams
	for _, path := range []string{
		"live-2026-11-21_09-35-58.flv", "live-2026-11-21_18-00-03.mp4", "cam-1-1795254935.flv", "2026/11/21/live.flv",
	} {
		fmt.Println(streams.Number(path), path)
	}
	fmt.Println(streams.Len(), "streams")
	// Output:
	// 0 live-2026-11-21_09-35-58.flv
	// 0 live-2026-11-21_18-00-03.mp4
	// 1 cam-1-1795254935.flv
	// 0 2026/11/21/live.flv
	// 2 streams
}

// Gain notices that removals make no room, as when a snapshot holds the blocks.
func ExampleGain() {
	gain := retention.NewGain(1e9)
	for n := 1; ; n++ {
		if gain.Removed(5e6) && gain.Vain(1e9) {
			fmt.Printf("%d recordings of %v were removed, and no space came free\n", n, retention.Bytes(gain.Bytes))
			return
		}
	}
	// Output: 24 recordings of 120 MB were removed, and no space came free
}
