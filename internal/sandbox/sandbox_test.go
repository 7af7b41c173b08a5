package sandbox

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tunnelcast/internal/promised"
)

// baseVariable is set in the process that stays in the sandbox: the directory to work in.
const baseVariable = "TUNNELCAST_SANDBOX"

// runAgain runs this test in a process of its own and compares its output.
func runAgain(t *testing.T, base, want string) {
	t.Helper()
	command := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	command.Env = append(os.Environ(), baseVariable+"="+base)
	out, err := command.CombinedOutput()
	if strings.Contains(string(out), ErrNoLandlock.Error()) {
		promised.Lacking(t, ErrNoLandlock)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if string(out) != want+"PASS\n" {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
}

// try prints whether the sandbox let something pass.
func try(what string, err error) {
	switch {
	case err == nil:
		fmt.Println(what + ": done")
	case errors.Is(err, os.ErrPermission):
		fmt.Println(what + ": refused")
	default:
		fmt.Println(what+":", err)
	}
}

func tree(t *testing.T, dirs, files []string) string {
	t.Helper()
	base := t.TempDir()
	for _, dir := range dirs {
		if err := os.MkdirAll(filepath.Join(base, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range files {
		if err := os.WriteFile(filepath.Join(base, file), []byte("x"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return base
}

func TestWrites(t *testing.T) {
	if base := os.Getenv(baseVariable); base != "" {
		insideWrites(base)
		return
	}
	base := tree(t, []string{"archive/below", "metrics", "outside"},
		[]string{"archive/a", "archive/below/b", "outside/c"})
	if err := os.Symlink("archive", filepath.Join(base, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../outside", filepath.Join(base, "archive", "out")); err != nil {
		t.Fatal(err)
	}
	runAgain(t, base, `remove archive/a: done
remove archive/below/b: done
create link/new: done
remove directory archive/below: done
create metrics/m: done
rename metrics/m: done
create outside/new: refused
truncate outside/c: refused
remove outside/c: refused
create archive/out/new: refused
create link in outside: refused
read outside/c: done
`)
}

func insideWrites(base string) {
	at := func(name string) string { return filepath.Join(base, name) }
	create := func(name string) error { return os.WriteFile(at(name), nil, 0o644) }
	if err := Writes(at("link"), at("metrics"), at("missing"), at("outside/c")); err != nil {
		fmt.Println(err)
		return
	}
	try("remove archive/a", os.Remove(at("archive/a")))
	try("remove archive/below/b", os.Remove(at("archive/below/b")))
	try("create link/new", create("link/new"))
	try("remove directory archive/below", os.Remove(at("archive/below")))
	try("create metrics/m", create("metrics/m"))
	try("rename metrics/m", os.Rename(at("metrics/m"), at("metrics/n")))
	try("create outside/new", create("outside/new"))
	try("truncate outside/c", os.Truncate(at("outside/c"), 0))
	try("remove outside/c", os.Remove(at("outside/c")))
	try("create archive/out/new", create("archive/out/new"))
	try("create link in outside", os.Symlink("c", at("outside/link")))
	_, err := os.ReadFile(at("outside/c"))
	try("read outside/c", err)
}

func TestRestrict(t *testing.T) {
	if base := os.Getenv(baseVariable); base != "" {
		insideRestrict(base)
		return
	}
	base := tree(t, []string{"archive", "outside"}, []string{"outside/c"})
	runAgain(t, base, `create archive/a: done
rename archive/a: done
remove archive/b: done
create directory archive/d: refused
create link in archive: refused
read outside/c: refused
create outside/new: refused
list outside: refused
read /etc/passwd: refused
connect: refused
execute: refused
`)
}

func insideRestrict(base string) {
	at := func(name string) string { return filepath.Join(base, name) }
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer listener.Close()
	if err := Restrict(at("archive")); err != nil {
		fmt.Println(err)
		return
	}
	try("create archive/a", os.WriteFile(at("archive/a"), []byte("x"), 0o755))
	try("rename archive/a", os.Rename(at("archive/a"), at("archive/b")))
	try("remove archive/b", os.Remove(at("archive/b")))
	try("create directory archive/d", os.Mkdir(at("archive/d"), 0o755))
	try("create link in archive", os.Symlink("/etc/passwd", at("archive/link")))
	_, err = os.ReadFile(at("outside/c"))
	try("read outside/c", err)
	try("create outside/new", os.WriteFile(at("outside/new"), nil, 0o644))
	_, err = os.ReadDir(at("outside"))
	try("list outside", err)
	_, err = os.ReadFile("/etc/passwd")
	try("read /etc/passwd", err)
	_, err = net.Dial("tcp", listener.Addr().String())
	try("connect", err)
	try("execute", exec.Command(os.Args[0], "-test.run=none").Run())
}

func TestLowerPriority(t *testing.T) {
	if os.Getenv(baseVariable) != "" {
		try("lower priority", LowerPriority())
		return
	}
	runAgain(t, t.TempDir(), "lower priority: done\n")
}
