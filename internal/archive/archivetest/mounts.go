// Package archivetest has what tests of the archive need: mounts that only the test sees (Mounts, Mount),
// a file system with chosen faults (FUSE), a kernel that refuses chosen calls (Refuse), and another user
// (As). Most of these run the calling test again in a process of its own.
package archivetest

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"tunnelcast/internal/promised"
)

// Mounts runs the calling test again, in a process with a mount namespace of its own. It returns true there
// and false here. Nobody else sees what is mounted there, and it ends with the process. Where such a
// namespace cannot be made, the test is skipped, or fails if it was promised.
func Mounts(t *testing.T) bool {
	t.Helper()
	attr := &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if os.Getuid() != 0 {
		attr.Cloneflags = syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	return again(t, "TUNNELCAST_TEST_MOUNTS", attr)
}

// again runs the calling test again, in a process that has the test's name in the variable mark. It returns
// true there and false here.
func again(t *testing.T, mark string, attr *syscall.SysProcAttr) bool {
	t.Helper()
	if os.Getenv(mark) == t.Name() {
		return true
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	run := "^" + strings.ReplaceAll(regexp.QuoteMeta(t.Name()), "/", "$/^") + "$"
	again := exec.Command(self, "-test.run="+run, "-test.v", "-test.count=1")
	again.Env = append(os.Environ(), mark+"="+t.Name())
	if attr == nil {
		attr = new(syscall.SysProcAttr)
	}
	attr.Pdeathsig = syscall.SIGKILL
	again.SysProcAttr = attr
	out, err := again.CombinedOutput()
	switch {
	case again.Process == nil:
		promised.Lacking(t, "a process of its own: ", err)
	case err != nil:
		t.Fatalf("%v\n%s", err, out)
	case strings.Contains(string(out), "--- SKIP: "+t.Name()):
		t.Skipf("%s", out)
	}
	return false
}

// Mount mounts a file system at target until the test ends, or skips the test as Mounts does. It makes the
// directory target, unless the mount is a bind mount.
func Mount(t *testing.T, target, kind, source string, flags uintptr, options string) {
	t.Helper()
	if flags&syscall.MS_BIND == 0 { // a file perhaps
		if err := os.MkdirAll(target, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mount(source, target, kind, flags, options); err != nil {
		promised.Lacking(t, "a mount of ", kind, " ", options, ": ", err)
	}
	// t.TempDir cannot remove a mount point.
	t.Cleanup(func() { syscall.Unmount(target, syscall.MNT_DETACH) })
}
