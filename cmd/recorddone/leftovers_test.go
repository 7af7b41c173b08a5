//go:build cgo

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tunnelcast/internal/archive/archivetest"
)

// TestSweepLooksOn searches an archive that is the top of a file system, as the user that nginx
// records as. Its lost+found is skipped. Another directory that cannot be read is reported, and does
// not keep the sweep from the others.
func TestSweepLooksOn(t *testing.T) {
	if !archivetest.Mounts(t) {
		return
	}
	dir := t.TempDir()
	archivetest.Mount(t, dir, "tmpfs", "tmpfs", 0, "mode=755")
	const www = archivetest.WWWData
	for name, owner := range map[string]int{
		"lost+found": 0, "b/root's": 0, "c/lost+found": 0, "d/closed": www, "e/open": www,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, "a.flv"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, owner, owner); err != nil {
			t.Fatal(err)
		}
		if name != "e/open" {
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
	if want := []string{filepath.Join(dir, "e/open/a.flv")}; !slices.Equal(found.recordings, want) {
		t.Errorf("recordings %q, want %q", found.recordings, want)
	}
	if want := []string{filepath.Join(dir, "lost+found")}; !slices.Equal(found.lostAndFound, want) {
		t.Errorf("skipped %q, want %q", found.lostAndFound, want)
	}
	var unread []string
	for _, d := range found.unread {
		unread = append(unread, strings.TrimPrefix(d.path, dir+"/"))
	}
	if want := []string{"b/root's", "c/lost+found", "d/closed"}; !slices.Equal(unread, want) {
		t.Errorf("not read %q, want %q", unread, want)
	}
	want := "not all recordings are found: 3 directories cannot be read, the first: open " +
		filepath.Join(dir, "b/root's") + ": permission denied"
	if err := found.unreadable(); err == nil || err.Error() != want {
		t.Errorf("check returns %v, want %s", err, want)
	}
}
