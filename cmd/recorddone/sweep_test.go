//go:build cgo

package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"tunnelcast/internal/archive/archivetest"
)

// TestSweepLooksOn: every ext4 has a lost+found that only root may read, and a
// directory that cannot be read is no reason to leave out the others.
func TestSweepLooksOn(t *testing.T) {
	dir := t.TempDir()
	const www = archivetest.WWWData
	for name, owner := range map[string]int{"a/lost+found": 0, "b/root's": 0, "c/closed": www, "d/open": www} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, "a.flv"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if os.Getuid() == 0 {
			if err := os.Chown(path, owner, owner); err != nil {
				t.Fatal(err)
			}
		}
		if name != "d/open" {
			if err := os.Chmod(path, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	archivetest.As(t, www, dir)
	var found leftovers
	if err := found.look(dir); err != nil {
		t.Fatal(err)
	}
	if want := []string{filepath.Join(dir, "d/open/a.flv")}; !slices.Equal(found.recordings, want) {
		t.Errorf("recordings %q, want %q", found.recordings, want)
	}
	if want := []string{filepath.Join(dir, "b/root's")}; !slices.Equal(found.foreign, want) {
		t.Errorf("left out %q, want %q", found.foreign, want)
	}
	if len(found.unread) != 1 || found.unread[0].path != filepath.Join(dir, "c/closed") {
		t.Errorf("not read %v", found.unread)
	}
}
