package main

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"tunnelcast/internal/lease"
	"tunnelcast/internal/rundir"
)

// The next run waits longer while clients only arrive than when one has left, and not
// at all without requests.
func TestPauseInBurst(t *testing.T) {
	for name, test := range map[string]struct {
		arrived, left bool
		leaves        time.Duration // when a client leaves; 0: none does
		want          time.Duration
	}{
		"no requests":             {},
		"arrivals":                {arrived: true, want: 2 * time.Second},
		"one has left":            {left: true, want: 500 * time.Millisecond},
		"both":                    {arrived: true, left: true, want: 500 * time.Millisecond},
		"one leaves in the pause": {arrived: true, leaves: 600 * time.Millisecond, want: time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			dir := rundir.Dir(t.TempDir())
			if test.arrived {
				alice := []lease.RR{lease.Address("alice.example.", netip.MustParseAddr("10.0.0.100"))}
				if err := dir.Register(rundir.Registration{Identity: "alice"}, alice); err != nil {
					t.Fatal(err)
				}
			}
			leave := func() {
				if err := dir.RequestSync(); err != nil {
					t.Error(err)
				}
			}
			if test.left {
				leave()
			}
			synctest.Test(t, func(t *testing.T) {
				if test.leaves > 0 {
					time.AfterFunc(test.leaves, leave)
				}
				start := time.Now()
				h := &host{dir: dir, burstPause: 500 * time.Millisecond}
				h.pauseInBurst(t.Context())
				if took := time.Since(start); took != test.want {
					t.Errorf("the pause lasted %s, want %s", took, test.want)
				}
			})
		})
	}
}
