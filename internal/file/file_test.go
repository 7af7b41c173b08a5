package file

import (
	"math"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestNanoseconds checks that times out of range are the first and the last: ext4 knows the year
// 2446, tmpfs years of twelve digits.
func TestNanoseconds(t *testing.T) {
	year := func(y int) int64 { return time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC).Unix() }
	for sec, want := range map[int64]int64{
		math.MinInt64: math.MinInt64, year(1): math.MinInt64, year(1677): math.MinInt64,
		year(1678): year(1678)*1e9 + 7, -1: -1e9 + 7, 0: 7, year(2262): year(2262)*1e9 + 7,
		year(2263): math.MaxInt64, math.MaxInt64: math.MaxInt64,
	} {
		if got := Nanoseconds(unix.StatxTimestamp{Sec: sec, Nsec: 7}); got != want {
			t.Errorf("%d: %d, want %d", sec, got, want)
		}
	}
}
