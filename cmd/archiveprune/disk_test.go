package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tunnelcast/internal/archive/archivetest"
	"tunnelcast/internal/hook"
)

// recordUntilFull mounts a small file system and records to it until not a byte
// more fits. The recordings are of several sizes and each is an hour older than
// the one before; their paths are returned oldest first.
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

// space is what df says.
func space(t *testing.T, dir string) (free, size int64) {
	t.Helper()
	var stat syscall.Statfs_t
	if err := syscall.Statfs(dir, &stat); err != nil {
		t.Fatal(err)
	}
	return int64(stat.Bavail) * stat.Bsize, int64(stat.Blocks) * stat.Bsize
}

// blocks are what the files that are there take of the disk, in bytes.
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

func left(paths []string) (there []string) {
	for _, path := range paths {
		if _, err := os.Lstat(path); err == nil {
			there = append(there, path)
		}
	}
	return there
}

func archiveprune(args ...string) (string, error) {
	var out bytes.Buffer
	env := hook.Env{Name: "archiveprune", Args: append([]string{"--config=/dev/null", "--max-age=off"}, args...), Stdout: &out, Stderr: &out,
		Log: slog.New(slog.DiscardHandler), Result: slog.New(slog.DiscardHandler), Now: time.Now}
	err := run(context.Background(), env)
	return out.String(), err
}

// TestFullDisk: a run removes the oldest until the limit is met, and not one more.
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
				t.Errorf("the last of %d that went was not needed: %d bytes beyond the limit, it had %d", gone, -short, last)
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
				t.Errorf("recording goes on: %v", err)
			}
		})
	}
}

// TestRemovalsThatFreeNothing: what somebody has open keeps its blocks.
func TestRemovalsThatFreeNothing(t *testing.T) {
	if !archivetest.Mounts(t) {
		return
	}
	const length, all = 2 << 20, 60
	for name, test := range map[string]struct {
		read    int // so many of the oldest are being read
		removed int
		said    string
	}{
		"all are read":           {all, 24, " recordings of 50 MB were removed for min-free = 20 MB and no space came free, so the others stay"},
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
			if test.said == "" && err != nil || test.said != "" && (hook.Status(err) != 1 || !strings.Contains(err.Error(), test.said)) {
				t.Errorf("got %v", err)
			}
			// A worker may be at its last file when the other finds out.
			if n := len(recordings) - len(left(recordings)); n != test.removed && (test.said == "" || n != test.removed+1) {
				t.Errorf("%d were removed, want %d: %s", n, test.removed, out)
			}
		})
	}
}
