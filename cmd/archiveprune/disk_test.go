package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tunnelcast/internal/archive/archivetest"
	"tunnelcast/internal/hook"
)

// recordUntilFull mounts a small file system and fills it with recordings, of these lengths in turn. Each is
// an hour older than the one before. It returns their paths, the oldest first.
func recordUntilFull(t *testing.T, dir, size string, lengths ...int) (oldestFirst []string) {
	t.Helper()
	archivetest.Mount(t, dir, "tmpfs", "tmpfs", 0, "size="+size)
	for i := 0; ; i++ {
		path := filepath.Join(dir, fmt.Sprintf("d%d", i%3), fmt.Sprintf("%d.flv", i))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		full := os.WriteFile(path, make([]byte, lengths[i%len(lengths)]), 0o644)
		then := time.Now().Add(-time.Duration(i+1) * time.Hour)
		if err := os.Chtimes(path, then, then); err != nil {
			t.Fatal(err)
		}
		oldestFirst = append([]string{path}, oldestFirst...)
		if errors.Is(full, syscall.ENOSPC) {
			break
		} else if full != nil {
			t.Fatal(full)
		}
	}
	if free, _ := space(t, dir); free != 0 {
		t.Fatalf("%d bytes are free on the full disk", free)
	}
	return oldestFirst
}

// space returns what df shows.
func space(t *testing.T, dir string) (free, size int64) {
	t.Helper()
	var stat syscall.Statfs_t
	if err := syscall.Statfs(dir, &stat); err != nil {
		t.Fatal(err)
	}
	return int64(stat.Bavail) * stat.Bsize, int64(stat.Blocks) * stat.Bsize
}

// blocks returns how many bytes of the disk those of the files take that exist.
func blocks(t *testing.T, paths ...string) (total int64) {
	t.Helper()
	for _, path := range paths {
		var stat syscall.Stat_t
		if err := syscall.Lstat(path, &stat); err == nil {
			total += stat.Blocks * 512
		} else if !errors.Is(err, syscall.ENOENT) {
			t.Fatal(err)
		}
	}
	return total
}

// left returns those of the paths that exist.
func left(paths []string) (there []string) {
	for _, path := range paths {
		if _, err := os.Lstat(path); err == nil {
			there = append(there, path)
		}
	}
	return there
}

// archiveprune runs the program, without max-age, and returns what it prints.
func archiveprune(args ...string) (string, error) {
	env, out := newEnv(append([]string{"--max-age=off"}, args...)...)
	err := run(context.Background(), env)
	return out.String(), err
}

// TestFullDisk checks that a run removes the oldest until the limit is met, and not one more.
func TestFullDisk(t *testing.T) {
	if !archivetest.Mounts(t) {
		return
	}
	const mega = 1 << 20
	for name, test := range map[string]struct {
		flag  string
		short func(free, size, held int64) int64 // bytes until the limit is met
	}{
		"min-free in bytes":   {"--min-free=3MiB", func(free, _, _ int64) int64 { return 3*mega - free }},
		"min-free in percent": {"--min-free=25%", func(free, size, _ int64) int64 { return size/4 - free }},
		"max-size":            {"--max-size=5MiB", func(_, _, held int64) int64 { return held - 5*mega }},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			recordings := recordUntilFull(t, dir, "8m", 300_000, 1, 100_000, 65_536)
			sizes := make(map[string]int64)
			for _, path := range recordings {
				sizes[path] = blocks(t, path)
			}
			plan, err := archiveprune("--dry-run", test.flag, dir)
			if err != nil {
				t.Fatal(err)
			}
			if out, err := archiveprune(test.flag, dir); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			gone := 0
			for gone < len(recordings) && blocks(t, recordings[gone]) == 0 {
				gone++
			}
			free, size := space(t, dir)
			short := test.short(free, size, blocks(t, recordings...))
			if gone == 0 || short > 0 {
				t.Fatalf("%d removed, %d bytes short of the limit", gone, short)
			}
			if last := sizes[recordings[gone-1]]; short+last <= 0 {
				t.Errorf("the last of %d removals was not needed: %d bytes beyond the limit, it had %d",
					gone, -short, last)
			}
			for _, path := range recordings[gone:] {
				if blocks(t, path) != sizes[path] {
					t.Errorf("%s went before older ones", path)
				}
			}
			if said := strings.Count(plan, ".flv  "); said != gone {
				t.Errorf("the dry run said %d, the run removed %d", said, gone)
			}
			if out, err := archiveprune(test.flag, dir); err != nil || !strings.HasPrefix(out, "removed 0,") {
				t.Errorf("again: %s%v", out, err)
			}
			if err := os.WriteFile(filepath.Join(dir, "new.flv"), make([]byte, mega), 0o644); err != nil {
				t.Errorf("recording afterwards: %v", err)
			}
		})
	}
}

// TestOnlyMinFree checks that the hourly run makes room, and leaves what is too old to the daily run.
func TestOnlyMinFree(t *testing.T) {
	if !archivetest.Mounts(t) {
		return
	}
	dir := t.TempDir()
	recordings := recordUntilFull(t, dir, "8m", 300_000)
	out, err := archiveprune("--only-min-free", "--min-free=3MiB", "--max-age=1h", "--max-size=1B", dir)
	free, _ := space(t, dir)
	if err != nil || free < 3<<20 || free > 4<<20 {
		t.Errorf("%d bytes are free, %v\n%s", free, err, out)
	}
	if n := len(left(recordings)); n < 10 {
		t.Errorf("%d of %d are left", n, len(recordings))
	}
	if out, err := archiveprune("--only-min-free", "--min-free=3MiB", "--max-age=1h", dir); err != nil || out != "" {
		t.Errorf("again: %s%v", out, err)
	}
}

// TestInodesGone checks that min-free applies to inodes: without a free one nobody can record.
func TestInodesGone(t *testing.T) {
	if !archivetest.Mounts(t) {
		return
	}
	dir := t.TempDir()
	archivetest.Mount(t, dir, "tmpfs", "tmpfs", 0, "size=8m,nr_inodes=64")
	var recordings []string
	for i := 0; ; i++ {
		path := filepath.Join(dir, fmt.Sprintf("%d.flv", i))
		if err := os.WriteFile(path, nil, 0o644); errors.Is(err, syscall.ENOSPC) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(time.Duration(i-1000) * time.Hour)
		if err := os.Chtimes(path, then, then); err != nil {
			t.Fatal(err)
		}
		recordings = append(recordings, path)
	}
	if err := os.Mkdir(filepath.Join(dir, "x"), 0o755); err == nil {
		t.Fatal("there is an inode left")
	}
	out, err := archiveprune("--min-free=25%", dir)
	if n := len(recordings) - len(left(recordings)); n != 16 || err != nil {
		t.Errorf("%d of %d went: %s%v", n, len(recordings), out, err)
	}
	if there := left(recordings); there[0] != recordings[16] {
		t.Errorf("the oldest left is %s", there[0])
	}
}

// TestNumbersThatDoNotLast checks that the recordings of a plan are found again on a file system that has
// changed the inode numbers since.
func TestNumbersThatDoNotLast(t *testing.T) {
	if !archivetest.Mounts(t) {
		return
	}
	dir, inside := archivetest.FUSE(t, archivetest.Quirks{Forgets: true})
	if !inside {
		return
	}
	var recordings []string
	for i := range 10 {
		path := filepath.Join(dir, fmt.Sprintf("%d.flv", i))
		if err := os.WriteFile(path, make([]byte, 10_000), 0o644); err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(time.Duration(i/2-10) * time.Hour) // two at a time
		if err := os.Chtimes(path, then, then); err != nil {
			t.Fatal(err)
		}
		recordings = append(recordings, path)
	}
	out, err := archiveprune("--max-size=60K", dir)
	if err != nil || !strings.HasPrefix(out, "removed 5, ") || !strings.Contains(out, " kept 5 ") {
		t.Errorf("%s%v", out, err)
	}
	if there := left(recordings); len(there) != 5 || there[4] != recordings[9] {
		t.Errorf("left %q", there)
	}
}

// TestHardLinks checks that a file counts once, and that its bytes come free with its last name.
func TestHardLinks(t *testing.T) {
	dir := t.TempDir()
	archived, outside := filepath.Join(dir, "arc"), filepath.Join(dir, "out")
	for _, path := range []string{archived, outside, filepath.Join(archived, "copy")} {
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	const length = 1 << 20
	for name, age := range map[string]time.Duration{"a": 5, "b": 4, "c": 3, "d": 2} { // hours
		path := filepath.Join(archived, name+".mp4")
		if err := os.WriteFile(path, make([]byte, length), 0o644); err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-age * time.Hour)
		err := os.Chtimes(path, then, then)
		if name == "a" || name == "b" {
			err = errors.Join(err, os.Link(path, filepath.Join(archived, "copy", name+".mp4")))
		}
		if name == "b" {
			err = errors.Join(err, os.Link(path, filepath.Join(outside, name+".mp4")))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	summary := func(out string) string {
		lines := strings.Split(strings.TrimSpace(out), "\n")
		return lines[len(lines)-1]
	}
	for _, step := range []struct {
		args []string
		want string
	}{
		{[]string{"--dry-run", "--max-size=2M"}, "would remove 3, free 2.1 MB, keep 3 (2.1 MB), fail 0"},
		{[]string{"--dry-run", "--max-age=3h"}, "would remove 5, free 2.1 MB, keep 1 (1.0 MB), fail 0"},
		{[]string{"--dry-run", "--max-age=5h"}, "would remove 2, free 1.0 MB, keep 4 (3.1 MB), fail 0"},
		{[]string{"--max-size=2200K"}, "removed 2, freed 1.0 MB, kept 4 (3.1 MB), failed 0"},
		{[]string{"--max-age=3h"}, "removed 3, freed 1.0 MB, kept 1 (1.0 MB), failed 0"},
	} {
		out, err := archiveprune(append(step.args, archived)...)
		if got := summary(out); got != step.want || err != nil {
			t.Errorf("%q: %s, want %s, error %v", step.args, got, step.want, err)
		}
	}
}

// TestRemovalsThatFreeNothing checks that a run stops if no space comes free, because files that somebody
// reads keep their blocks.
func TestRemovalsThatFreeNothing(t *testing.T) {
	if !archivetest.Mounts(t) {
		return
	}
	const length, all = 2 << 20, 60
	for name, test := range map[string]struct {
		read    int // so many of the oldest are being read
		removed int
		cause   string // the end of the error
	}{
		"all are read": {all, 24, " recordings of 50 MB were removed for min-free = 20 MB " +
			"and no space came free, so the others stay"},
		"the oldest are read":    {5, 5 + 10, ""},
		"nothing is read":        {0, 10, ""},
		"more than give up with": {30, 24, "no space came free"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			recordings := recordUntilFull(t, dir, fmt.Sprint(all*length), length)[1:] // the oldest found no room
			for _, path := range recordings[:min(test.read, len(recordings))] {
				file, err := os.Open(path)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { file.Close() })
			}
			out, err := archiveprune("--min-free=20MB", dir)
			fails := test.cause != ""
			if (err != nil) != fails || fails && (hook.Status(err) != 1 || !strings.Contains(err.Error(), test.cause)) {
				t.Errorf("error %v, want %q", err, test.cause)
			}
			// One worker may remove another file while the other finds out.
			n := len(recordings) - len(left(recordings))
			if n != test.removed && !(fails && n == test.removed+1) {
				t.Errorf("%d were removed, want %d: %s", n, test.removed, out)
			}
		})
	}
}
