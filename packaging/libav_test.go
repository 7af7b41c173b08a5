package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tunnelcast/internal/promised"
)

// A libav that cannot be linked is an error and is not kept. The caller's environment reaches neither configure nor
// make: FFmpeg's makefiles would take ARCH and other variables from there, and above all make's own flags.
func TestLibavBuildIsTriedBeforeItIsKept(t *testing.T) {
	for _, tool := range []string{"make", "gcc", "pkg-config", "flock"} {
		promised.Program(t, tool)
	}
	dir := t.TempDir()
	source, cache, seen := filepath.Join(dir, "source"), filepath.Join(dir, "cache"), filepath.Join(dir, "seen")
	if err := os.MkdirAll(source, 0o755); err != nil {
		t.Fatal(err)
	}
	// A source tree that builds empty libraries.
	for name, text := range map[string]string{
		"RELEASE":   "7.1.9\n",
		"configure": "#!/bin/sh\nenv >>" + seen + "\ncp src/Makefile .\n",
		"Makefile": "all:\n\tenv >>" + seen + "\ninstall-libs install-headers:\n" +
			"\tmkdir -p $(DESTDIR)/libav/lib/pkgconfig\n" +
			"\tfor l in libavformat libavcodec libavutil; do " +
			"printf 'Name: %s\\nDescription: none\\nVersion: 1\\n' $$l >$(DESTDIR)/libav/lib/pkgconfig/$$l.pc; done\n",
	} {
		if err := os.WriteFile(filepath.Join(source, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	script, err := filepath.Abs("libav/build.sh")
	if err != nil {
		t.Fatal(err)
	}
	callers := []string{
		"MAKEFLAGS= -- ARCH=arm64", "MFLAGS=-k", "ARCH=arm64", "CC=false", "CFLAGS=-DNO", "LDFLAGS=-lno",
		"CGO_CFLAGS=-DNO", "PKG_CONFIG_PATH=/no", "CPATH=/no", "LIBRARY_PATH=/no", "GCC_EXEC_PREFIX=/no",
	}
	build := exec.Command(script)
	build.Env = append(callers, "PATH="+os.Getenv("PATH"), "HOME="+dir,
		"TUNNELCAST_CACHE="+cache, "LIBAV_SOURCE="+source)
	out, err := build.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "libav: linking a probe: failed") {
		t.Errorf("an empty libav was accepted: %v\n%s", err, out)
	}
	if kept, _ := filepath.Glob(cache + "/libav/7.1*"); len(kept) > 0 {
		t.Errorf("a libav that cannot be linked was kept: %q", kept)
	}
	env, err := os.ReadFile(seen)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(env), "PATH="); n < 2 {
		t.Fatalf("configure and make wrote no environment:\n%s", env)
	}
	for line := range strings.Lines(string(env)) {
		if slices.Contains(callers, strings.TrimSuffix(line, "\n")) {
			t.Errorf("the caller's %s was passed on", strings.TrimSpace(line))
		}
	}
}
