package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tunnelcast/internal/hook"
)

// entries collects journal entries.
type entries struct{ records []slog.Record }

func (e *entries) Enabled(context.Context, slog.Level) bool { return true }
func (e *entries) Handle(_ context.Context, r slog.Record) error {
	e.records = append(e.records, r.Clone())
	return nil
}
func (e *entries) WithAttrs([]slog.Attr) slog.Handler { return e }
func (e *entries) WithGroup(string) slog.Handler      { return e }

// paths returns the values of path and paths in the entries with these messages, and how many had several.
func (e *entries) paths(one, many string) (paths []string, lists int) {
	for _, r := range e.records {
		r.Attrs(func(a slog.Attr) bool {
			switch {
			case r.Message == one && a.Key == "path":
				paths = append(paths, a.Value.String())
			case r.Message == many && a.Key == "paths":
				lists++
				for _, path := range regexp.MustCompile(`"(\\.|[^"\\])*"|[^,]+`).FindAllString(a.Value.String(), -1) {
					if unquoted, err := strconv.Unquote(path); err == nil {
						path = unquoted
					}
					paths = append(paths, path)
				}
			}
			return true
		})
	}
	slices.Sort(paths)
	return paths, lists
}

// TestJournalNamesWhatIsRemoved checks that the journal has the name of every recording that is removed,
// whatever it is, in few entries, and on a dry run of the unit, whose output nobody sees, of every one that
// would be removed.
func TestJournalNamesWhatIsRemoved(t *testing.T) {
	dir := t.TempDir()
	var want []string
	for i := range 3000 {
		name := fmt.Sprintf("recording-%d.flv", i)
		switch i % 100 {
		case 0:
			name = fmt.Sprintf("a, \"b\"=\n\xff%d.flv", i)
		case 1:
			name = fmt.Sprintf("録画-%d.flv", i)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-100 * time.Hour)
		if err := os.Chtimes(path, then, then); err != nil {
			t.Fatal(err)
		}
		want = append(want, path)
	}
	slices.Sort(want)
	prune := func(unit bool, args ...string) *entries {
		t.Helper()
		var got entries
		env := hook.Env{Name: "archiveprune", Args: append([]string{"--config=/dev/null", dir}, args...),
			Stdout: new(bytes.Buffer), Stderr: new(bytes.Buffer),
			Log: slog.New(slog.DiscardHandler), Result: slog.New(&got), Now: time.Now}
		c := cli{DryRun: slices.Contains(args, "--dry-run")}
		if unit { // the rest of what a unit does is its sandbox
			r := newReport(env, c, nil)
			r.unseen = true
			a := cli{Archive: &dir, MaxAge: 1, Include: []string{"*.flv"}, DryRun: true}
			if err := pruneArchive(t.Context(), env, a, dir, r); err != nil {
				t.Fatal(err)
			}
			if err := r.finish(); err != nil {
				t.Fatal(err)
			}
		} else if err := run(t.Context(), env); err != nil {
			t.Fatal(err)
		}
		return &got
	}
	if got := prune(false, "--dry-run"); len(got.records) != 0 {
		t.Errorf("a person's dry run made %d entries", len(got.records))
	}
	for _, step := range []struct {
		got               *entries
		one, many, ending string
	}{
		{prune(true, "--dry-run"), "recording would be removed", "recordings would be removed",
			"nothing was removed: this was a dry run"},
		{prune(false), "recording removed", "recordings removed", "archive pruned"},
	} {
		paths, lists := step.got.paths(step.one, step.many)
		if !slices.Equal(paths, want) {
			t.Errorf("%s: %d of %d paths", step.one, len(paths), len(want))
		}
		if lists == 0 || len(step.got.records) > 200 {
			t.Errorf("%s: %d lists in %d entries", step.one, lists, len(step.got.records))
		}
		if last := step.got.records[len(step.got.records)-1].Message; !strings.HasPrefix(last, step.ending) {
			t.Errorf("the last entry is %q", last)
		}
	}
}
