package file

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"tunnelcast/internal/archive/archivetest"
)

func TestReplace(t *testing.T) {
	for name, durability := range map[string]Durability{"on disk": OnDisk, "in memory": InMemory} {
		t.Run(name, func(t *testing.T) {
			defer syscall.Umask(syscall.Umask(0o077))
			path := filepath.Join(t.TempDir(), "a.prom")
			for _, content := range []string{"old", "new", ""} {
				if err := Replace(path, []byte(content), 0o644, durability); err != nil {
					t.Fatal(err)
				}
				got, err := os.ReadFile(path)
				info, statErr := os.Stat(path)
				if string(got) != content || err != nil || statErr != nil || info.Mode() != 0o644 {
					t.Errorf("got %q, mode %v, errors %v, %v", got, info.Mode(), err, statErr)
				}
			}
			if left := list(t, filepath.Dir(path)); len(left) != 1 {
				t.Errorf("left %q", left)
			}
		})
	}
}

// TestReplaceFails checks that a replacement that fails leaves nothing and changes nothing.
func TestReplaceFails(t *testing.T) {
	dir := t.TempDir()
	taken := filepath.Join(dir, "taken")
	if err := os.MkdirAll(filepath.Join(taken, "full"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Replace(taken, []byte("x"), 0o644, OnDisk); err == nil {
		t.Error("a directory was replaced")
	}
	if left := list(t, dir); len(left) != 1 {
		t.Errorf("left %q", left)
	}
	if err := Replace(filepath.Join(dir, "none", "a"), nil, 0o644, OnDisk); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in a missing directory: %v", err)
	}
}

// TestReplaceSyncs checks that the content is on the disk before the file has its name: if it cannot be
// synced, the file stays as it was.
func TestReplaceSyncs(t *testing.T) {
	if !archivetest.Refuse(t, archivetest.With(syscall.EIO, archivetest.Fsync)...) {
		return
	}
	path := filepath.Join(t.TempDir(), "a")
	if err := Replace(path, []byte("old"), 0o644, InMemory); err != nil {
		t.Fatal(err)
	}
	if err := Replace(path, []byte("new"), 0o644, OnDisk); !errors.Is(err, syscall.EIO) {
		t.Errorf("error %v, want %v", err, syscall.EIO)
	}
	if got := archivetest.Files(t, filepath.Dir(path)); got != "a=old" {
		t.Errorf("left %s", got)
	}
}

// TestReplaceTidies checks that the hidden file of a run that was killed is removed, and that of a run at
// work is not.
func TestReplaceTidies(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	for name, age := range map[string]time.Duration{
		".a.new-1": 2 * leftover, ".a.new-2": 0, ".ab.new-1": 2 * leftover, "a.new-1": 2 * leftover,
	} {
		left := filepath.Join(dir, name)
		if err := os.WriteFile(left, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(-age)
		if err := os.Chtimes(left, at, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := Replace(path, nil, 0o600, InMemory); err != nil {
		t.Fatal(err)
	}
	want := []string{".a.new-2", ".ab.new-1", "a", "a.new-1"}
	if got := list(t, dir); len(got) != len(want) || got[0] != want[0] {
		t.Errorf("left %q, want %q", got, want)
	}
}

func list(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}
