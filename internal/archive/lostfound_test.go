package archive

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"tunnelcast/internal/archive/archivetest"
)

// TestDirectoriesThatCannotBeRead walks an archive that is the top of a file system, as the user that
// nginx records as. Its lost+found is skipped, and every other directory that cannot be read is a
// failure, whoever owns it.
func TestDirectoriesThatCannotBeRead(t *testing.T) {
	if !archivetest.Mounts(t) {
		return
	}
	dir := t.TempDir()
	archivetest.Mount(t, dir, "tmpfs", "tmpfs", 0, "mode=755")
	inside := place(t, dir, "sub", "a.mp4")
	const www = archivetest.WWWData
	for name, uid := range map[string]int{
		"lost+found": 0, "root's": 0, "sub/lost+found": 0, "closed": 7, "ours": www, "excluded": 0,
	} {
		place(t, dir, name, "b.mp4")
		must(t, os.Chown(filepath.Join(dir, name), uid, uid))
		must(t, os.Chmod(filepath.Join(dir, name), 0))
	}
	archivetest.As(t, www, dir)
	var mu sync.Mutex
	var seen, skipped, unread []string
	add := func(to *[]string, path, what string) {
		mu.Lock()
		defer mu.Unlock()
		*to = append(*to, strings.TrimPrefix(path, dir+"/")+what)
	}
	must(t, openTree(t, dir).Walk(t.Context(), Walk{
		Want:    func(string) bool { return true },
		File:    func(f *File) error { add(&seen, f.Path(), ""); return nil },
		Enter:   func(name string) bool { return name != "excluded" },
		Unread:  func(path string, err error) { add(&unread, path, "") },
		Skipped: func(path string, why error) { add(&skipped, path, ": "+why.Error()) },
	}))
	slices.Sort(skipped)
	slices.Sort(unread)
	if want := []string{"excluded: excluded", "lost+found: " + ErrLostAndFound.Error()}; !slices.Equal(skipped, want) {
		t.Errorf("skipped %q, want %q", skipped, want)
	}
	if want := []string{"closed", "ours", "root's", "sub/lost+found"}; !slices.Equal(unread, want) {
		t.Errorf("unread %q, want %q", unread, want)
	}
	if want := []string{strings.TrimPrefix(inside, dir+"/")}; !slices.Equal(seen, want) {
		t.Errorf("seen %q, want %q", seen, want)
	}
}
