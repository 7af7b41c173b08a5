package retention

import "testing"

// TestGain removes files from disks on which the free space changes in many ways.
func TestGain(t *testing.T) {
	const mega, two = 1 << 20, 2 << 20
	for name, test := range map[string]struct {
		bytes int64                 // of each file
		free  func(n int) (b int64) // after n removals
		want  int                   // removals until the end, of 1000
		vain  int                   // of those, for nothing
	}{
		"each frees its own":              {two, func(n int) int64 { return int64(n) * two }, 1000, 0},
		"nothing comes free":              {two, func(int) int64 { return 7 }, 24, 24},
		"large files, nothing comes free": {1000 * mega, func(int) int64 { return 7 }, 24, 24},
		"small files, nothing comes free": {mega / 16, func(int) int64 { return 7 }, 768, 768},
		"empty files":                     {0, func(int) int64 { return 7 }, 1000, 0},
		"others write, and slower":        {two, func(n int) int64 { return int64(n) * (two - 15*mega/10) }, 1000, 0},
		"others write as much":            {two, func(n int) int64 { return -int64(n) }, 24, 24},
		"others write, once":              {two, func(n int) int64 { return int64(n-n/100*25) * two }, 1000, 0},
		"the oldest sixteen are read":     {two, func(n int) int64 { return int64(max(n-16, 0)) * two }, 1000, 0},
		"the newer are in a snapshot":     {two, func(n int) int64 { return int64(min(n, 80)) * two }, 104, 24},
		"a little comes free at times":    {two, func(n int) int64 { return int64(n / 20) }, 1000, 0},
		"it comes free late, in one":      {two, func(n int) int64 { return int64(n/16) * 16 * two }, 1000, 0},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewGain(test.free(0))
			n := 1
			for ; n < 1000; n++ {
				if g.Removed(test.bytes) && g.Vain(test.free(n)) {
					break
				}
			}
			if n != test.want {
				t.Errorf("ended after %d removals, want %d", n, test.want)
			}
			if n < 1000 && (g.Files != test.vain || g.Bytes != int64(test.vain)*test.bytes) {
				t.Errorf("%d files and %d bytes were for nothing, want %d", g.Files, g.Bytes, test.vain)
			}
		})
	}
}
