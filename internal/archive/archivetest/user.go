package archivetest

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"tunnelcast/internal/promised"
)

// WWWData is Debian's number of the user and the group that nginx records as.
const WWWData = 33

// As makes the rest of the test run as another user, in the group of the same number, and lets that user
// reach dir, a directory of the test. It needs root, and otherwise skips the test as Mounts does. Such a
// test must not run in parallel with others.
func As(t *testing.T, uid int, dir string) {
	t.Helper()
	if os.Getuid() != 0 {
		promised.Lacking(t, "root, who may become another user")
	}
	for ; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	groups, err := syscall.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(syscall.Setgroups(nil), syscall.Setresgid(-1, uid, 0), syscall.Setresuid(-1, uid, 0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := errors.Join(syscall.Setresuid(-1, 0, 0), syscall.Setresgid(-1, 0, 0), syscall.Setgroups(groups))
		if err != nil {
			t.Fatal(err)
		}
	})
}
