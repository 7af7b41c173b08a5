package nginx

import (
	"os"
	"path/filepath"
	"testing"
)

func TestWithin(t *testing.T) {
	base := t.TempDir()
	if err := os.MkdirAll(filepath.Join(base, "disk", "live"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("disk", filepath.Join(base, "link")); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		dir, archive string
		want         bool
	}{
		{"disk", "disk", true},
		{"link", "disk", true},
		{"disk", "link", true},
		{"link/live", "disk", true},
		{"disk/live", "link", true},
		{"disk", "disk/live", false},
		{"diskette", "disk", false},
		{"gone/live", "gone", true},
	} {
		if got := Within(filepath.Join(base, test.dir), []string{filepath.Join(base, test.archive)}); got != test.want {
			t.Errorf("%s in %s: %v", test.dir, test.archive, got)
		}
	}
}
