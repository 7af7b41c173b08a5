package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tunnelcast/internal/promised"
)

// TestSameAsFind checks that a run removes what the guide's cron line removed, second by second around every
// whole day.
func TestSameAsFind(t *testing.T) {
	find := promised.Program(t, "find")
	dir := t.TempDir()
	modTimes := make(map[string]time.Time)
	start := time.Now()
	for day := range 6 {
		for second := -5; second <= 5; second++ {
			age := time.Duration(day)*24*time.Hour + time.Duration(second)*time.Second - 500*time.Millisecond
			name := filepath.Join(dir, fmt.Sprintf("%d-%d.flv", day, second))
			modTimes[name] = start.Add(-age)
			if err := os.WriteFile(name, nil, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(name, start, modTimes[name]); err != nil {
				t.Fatal(err)
			}
		}
	}
	theirs, err := exec.Command(find, dir, "-type", "f", "-mtime", "+2").Output()
	if err != nil {
		t.Fatal(err)
	}
	ours := dryRun(t, time.Now(), dir)
	// find reads the clock before we do: a file that became old enough between the start and now may be in
	// one list and not in the other.
	end := time.Now()
	between := func(name string) bool {
		old := modTimes[name].Add(72 * time.Hour)
		return !old.Before(start) && !old.After(end)
	}
	compare(t, slices.DeleteFunc(ours, between), slices.DeleteFunc(strings.Fields(string(theirs)), between))
}

// dryRun returns the paths of what a run at that time would remove.
func dryRun(t *testing.T, now time.Time, args ...string) []string {
	t.Helper()
	env, out := newEnv(append([]string{"--dry-run"}, args...)...)
	env.Now = func() time.Time { return now }
	if err := run(context.Background(), env); err != nil {
		t.Fatal(err)
	}
	var paths []string
	for line := range strings.Lines(out.String()) {
		if path, _, ok := strings.Cut(line, "  "); ok {
			paths = append(paths, path)
		}
	}
	return paths
}

// compare reports a difference between what we choose and what find chooses.
func compare(t *testing.T, ours, theirs []string) {
	t.Helper()
	slices.Sort(ours)
	slices.Sort(theirs)
	if !slices.Equal(ours, theirs) {
		t.Errorf("ours:\n%s\nfind's:\n%s", strings.Join(ours, "\n"), strings.Join(theirs, "\n"))
	}
	if len(ours) < 20 || len(ours) > 40 {
		t.Errorf("%d files were chosen: the boundary is not in the tree", len(ours))
	}
}
