// Package promised is for tests that need more than Go: programs, mounts, a
// package that was built. make test promises all of it; then a test that lacks
// something fails, and else it is skipped.
package promised

import (
	"os"
	"os/exec"
	"testing"
)

// All says whether everything was promised.
func All() bool { return os.Getenv("TUNNELCAST_E2E") == "1" }

// Lacking ends the test for what this machine has not.
func Lacking(t testing.TB, what ...any) {
	t.Helper()
	if All() {
		t.Fatal(what...)
	}
	t.Skip(what...)
}

// Program returns where the program is that PATH finds by this name.
func Program(t testing.TB, name string) string {
	t.Helper()
	file, err := exec.LookPath(name)
	if err != nil {
		Lacking(t, err)
	}
	return file
}
