package archive

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"tunnelcast/internal/archive/archivetest"
	"tunnelcast/internal/promised"
)

// TestRemedy checks the remedies. chown is right only for a directory of root's.
func TestRemedy(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"root": 0o755, "other": 0o755, "closed/ours": 0o755, "ours": 0o555} {
		must(t, os.MkdirAll(filepath.Join(dir, name), mode))
	}
	if os.Getuid() != 0 {
		promised.Lacking(t, "root, to chown directories")
	}
	const www, other = archivetest.WWWData, 65534
	must(t, os.Chown(filepath.Join(dir, "other"), other, other))
	must(t, os.Chown(filepath.Join(dir, "closed/ours"), www, www))
	must(t, os.Chown(filepath.Join(dir, "ours"), www, www))
	must(t, os.Chmod(filepath.Join(dir, "closed"), 0o750))
	archivetest.As(t, www, dir)
	me, them := userName(www), userName(other)
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, test := range map[string]struct {
		dir  string
		err  error
		want string
	}{
		"missing":   {"none", fs.ErrNotExist, "install -d -o www-data -g www-data " + at("none")},
		"read-only": {"root", syscall.EROFS, "findmnt -T " + at("root")},
		"root's":    {"root", syscall.EACCES, "chown " + me + " " + at("root") + ": "},
		"another's": {"other", syscall.EACCES,
			"it belongs to " + them + ": if nginx records as " + them + ", so must these runs (systemctl edit "},
		"not passable":       {"closed/ours", syscall.EACCES, "setfacl -m u:" + me + ":x " + at("closed") + ", "},
		"ours, not to write": {"ours", syscall.EACCES, "chmod u+rwx " + at("ours")},
		"a directory inside": {"other", &fs.PathError{Op: "remove from", Path: at("root"), Err: syscall.EACCES},
			"chown " + me + " " + at("root") + ": "},
		"an immutable inside": {"root", &fs.PathError{Op: "remove", Path: at("root/a.mp4"), Err: syscall.EPERM},
			"lsattr -d " + at("root") + " " + at("root/a.mp4") + "; chattr -i "},
		"full":           {"root", syscall.ENOSPC, "df " + at("root")},
		"something else": {"root", errors.New("x"), "it must be a directory"},
	} {
		got := strings.ReplaceAll(Remedy(at(test.dir), test.err), "`", "") // around what is typed
		if !strings.HasPrefix(got, test.want) {
			t.Errorf("%s: %q, want %q...", name, got, test.want)
		}
	}
}
