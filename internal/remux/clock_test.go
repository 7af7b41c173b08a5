//go:build cgo

package remux

import (
	"math"
	"testing"

	"github.com/asticode/go-astiav"
	"pgregory.net/rapid"
)

// Times are rescaled as libav does it.
func TestRescale(t *testing.T) {
	roundings := map[rounding]astiav.Rounding{
		nearest: astiav.RoundingNearInf, down: astiav.RoundingDown, up: astiav.RoundingUp,
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(-1<<40, 1<<40).Draw(t, "n")
		from := timeBase{1, rapid.Int64Range(1, 200000).Draw(t, "from")}
		to := timeBase{1, rapid.Int64Range(1, 200000).Draw(t, "to")}
		for ours, theirs := range roundings {
			a, b := astiav.NewRational(1, int(from.den)), astiav.NewRational(1, int(to.den))
			want := astiav.RescaleQRnd(n, a, b, theirs)
			if got := rescale(n, from, to, ours); got != want {
				t.Fatalf("%d from 1/%d to 1/%d, rounding %d: %d, libav %d", n, from.den, to.den, ours, got, want)
			}
		}
	})
	if got := rescale(math.MaxInt64, timeBase{1, 1}, timeBase{1, 1000}, nearest); got != noTime {
		t.Errorf("an overflow became %d", got)
	}
}
