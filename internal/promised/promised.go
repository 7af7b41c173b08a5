// Package promised is for tests that need more than Go: programs, mounts, a package that was built. Under make test, a
// missing prerequisite fails the test; otherwise the test is skipped.
package promised

import (
	"os"
	"os/exec"
	"testing"
)

// All reports whether everything was promised, which make test does by TUNNELCAST_E2E=1.
func All() bool { return os.Getenv("TUNNELCAST_E2E") == "1" }

// Lacking ends a test that cannot run on this computer. The arguments name what is missing.
func Lacking(t testing.TB, what ...any) {
	t.Helper()
	if All() {
		t.Fatal(what...)
	}
	t.Skip(what...)
}

// Program returns the path of a program that the test needs.
func Program(t testing.TB, name string) string {
	t.Helper()
	file, err := exec.LookPath(name)
	if err != nil {
		Lacking(t, err)
	}
	return file
}
