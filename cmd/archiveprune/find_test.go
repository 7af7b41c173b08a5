package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tunnelcast/internal/hook"
	"tunnelcast/internal/promised"
)

// TestSameAsFind chooses what the old cron line chose, second by second around
// every whole day.
func TestSameAsFind(t *testing.T) {
	find := promised.Program(t, "find")
	dir := t.TempDir()
	// find has a clock of its own. Half a second beside the boundaries is
	// time enough for it, and a run that took longer is done again.
	for range 10 {
		start := time.Now()
		for day := range 6 {
			for second := -5; second <= 5; second++ {
				age := time.Duration(day)*24*time.Hour + time.Duration(second)*time.Second - 500*time.Millisecond
				name := filepath.Join(dir, fmt.Sprintf("%d-%d.flv", day, second))
				if err := os.WriteFile(name, nil, 0o644); err != nil {
					t.Fatal(err)
				}
				if err := os.Chtimes(name, start, start.Add(-age)); err != nil {
					t.Fatal(err)
				}
			}
		}
		theirs, err := exec.Command(find, dir, "-type", "f", "-mtime", "+2").Output()
		if err != nil {
			t.Fatal(err)
		}
		ours := dryRun(t, time.Now(), dir)
		if time.Since(start) < 400*time.Millisecond {
			compare(t, ours, strings.Fields(string(theirs)))
			return
		}
	}
	t.Fatal("this machine is too slow to compare")
}

func dryRun(t *testing.T, now time.Time, args ...string) []string {
	t.Helper()
	var out bytes.Buffer
	env := hook.Env{Name: "archiveprune", Args: append([]string{"--config=/dev/null", "--dry-run"}, args...), Stdout: &out, Stderr: &out,
		Log: slog.New(slog.DiscardHandler), Result: slog.New(slog.DiscardHandler), Now: func() time.Time { return now }}
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
