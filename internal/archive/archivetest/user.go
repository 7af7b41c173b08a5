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

// As makes the rest of the test run as another user, in the group of that number, who may pass to dir, a
// directory of the test's. It takes root, and skips the test as Mounts does where
// it is not. Such a test must not run beside others.
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
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setresgid(-1, uid, 0), syscall.Setresuid(-1, uid, 0)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(syscall.Setresuid(-1, 0, 0), syscall.Setresgid(-1, 0, 0), syscall.Setgroups(groups)); err != nil {
			t.Fatal(err)
		}
	})
}
