package sandbox

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tunnelcast/internal/promised"
)

// TestWrites goes on in a process of its own, which stays in the sandbox.
func TestWrites(t *testing.T) {
	if base := os.Getenv("TUNNELCAST_SANDBOX"); base != "" {
		inside(base)
		return
	}
	base := t.TempDir()
	for _, dir := range []string{"archive/below", "metrics", "outside"} {
		if err := os.MkdirAll(filepath.Join(base, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"archive/a", "archive/below/b", "outside/c"} {
		if err := os.WriteFile(filepath.Join(base, file), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("archive", filepath.Join(base, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../outside", filepath.Join(base, "archive", "out")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=TestWrites$")
	cmd.Env = append(os.Environ(), "TUNNELCAST_SANDBOX="+base)
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), ErrNoLandlock.Error()) {
		promised.Lacking(t, ErrNoLandlock)
		return
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	const want = `remove archive/a: done
remove archive/below/b: done
make link/new: done
remove directory archive/below: done
make metrics/m: done
rename metrics/m: done
make outside/new: refused
truncate outside/c: refused
remove outside/c: refused
make archive/out/new: refused
make link to outside: refused
read outside/c: done
`
	if string(out) != want+"PASS\n" {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
}

func inside(base string) {
	at := func(name string) string { return filepath.Join(base, name) }
	if err := Writes(at("link"), at("metrics"), at("missing"), at("outside/c")); err != nil {
		os.Stdout.WriteString(err.Error() + "\n")
		return
	}
	say := func(what string, err error) {
		switch {
		case err == nil:
			what += ": done\n"
		case errors.Is(err, os.ErrPermission):
			what += ": refused\n"
		default:
			what += ": " + err.Error() + "\n"
		}
		os.Stdout.WriteString(what)
	}
	make := func(name string) error { return os.WriteFile(at(name), nil, 0o644) }
	say("remove archive/a", os.Remove(at("archive/a")))
	say("remove archive/below/b", os.Remove(at("archive/below/b")))
	say("make link/new", make("link/new"))
	say("remove directory archive/below", os.Remove(at("archive/below")))
	say("make metrics/m", make("metrics/m"))
	say("rename metrics/m", os.Rename(at("metrics/m"), at("metrics/n")))
	say("make outside/new", make("outside/new"))
	say("truncate outside/c", os.Truncate(at("outside/c"), 0))
	say("remove outside/c", os.Remove(at("outside/c")))
	say("make archive/out/new", make("archive/out/new"))
	say("make link to outside", os.Symlink("c", at("outside/link")))
	_, err := os.ReadFile(at("outside/c"))
	say("read outside/c", err)
}
