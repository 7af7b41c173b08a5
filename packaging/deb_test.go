package packaging

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write what the package holds into testdata/contents.txt")

var commands = []string{"updown", "recorddone", "archiveprune", "certhook"}

type member struct {
	*tar.Header
	data []byte
}

// deb is the built package that TUNNELCAST_DEB names, in dpkg's own reading.
func deb(t *testing.T, part string) map[string]member {
	t.Helper()
	file := os.Getenv("TUNNELCAST_DEB")
	if file == "" {
		t.Skip("TUNNELCAST_DEB names no package; make deb builds one")
	}
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		t.Skip("dpkg-deb is missing")
	}
	out, err := exec.Command("dpkg-deb", part, file).Output()
	if err != nil {
		t.Fatal(err)
	}
	members := make(map[string]member)
	for r := tar.NewReader(bytes.NewReader(out)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return members
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		members[path.Clean("/"+header.Name)] = member{header, data}
	}
}

func TestContents(t *testing.T) {
	var lines []string
	var date time.Time
	for name, m := range deb(t, "--fsys-tarfile") {
		if m.Uid != 0 || m.Gid != 0 {
			t.Errorf("%s belongs to %d:%d", name, m.Uid, m.Gid)
		}
		if date.IsZero() {
			date = m.ModTime
		}
		if !m.ModTime.Equal(date) {
			t.Errorf("%s is of %s, others are of %s", name, m.ModTime, date)
		}
		lines = append(lines, fmt.Sprintf("%s %c %o\n", name, map[byte]rune{tar.TypeReg: 'f', tar.TypeDir: 'd', tar.TypeSymlink: 'l'}[m.Typeflag], m.Mode))
	}
	slices.Sort(lines)
	got := strings.Join(lines, "")
	const file = "testdata/contents.txt"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the package holds:\n%s", got)
	}
}

// TestNothingOfOthers looks for what dpkg would put over an administrator's file,
// or over another package's.
func TestNothingOfOthers(t *testing.T) {
	control := deb(t, "--ctrl-tarfile")
	conffiles := strings.Fields(string(control["/conffiles"].data))
	for name, m := range deb(t, "--fsys-tarfile") {
		if !strings.HasPrefix(name, "/etc/") || m.Typeflag == tar.TypeDir {
			continue
		}
		if !slices.Contains(conffiles, name) || path.Dir(name) != "/etc/tunnelcast" {
			t.Errorf("%s is in the package", name)
		}
	}
	var want []string
	for _, command := range commands {
		want = append(want, "/etc/tunnelcast/"+command+".toml")
	}
	slices.Sort(want)
	slices.Sort(conffiles)
	if !slices.Equal(conffiles, want) {
		t.Errorf("conffiles are %v", conffiles)
	}
	if strings.Contains(string(control["/control"].data), "\nDepends:") {
		t.Error("the package depends on a host")
	}
}

func TestScriptsKnowTheUnits(t *testing.T) {
	control := deb(t, "--ctrl-tarfile")
	for name, m := range deb(t, "--fsys-tarfile") {
		dir, unit := path.Split(name)
		if dir != "/usr/lib/systemd/system/" || m.Typeflag == tar.TypeDir || !strings.HasPrefix(unit, "tunnelcast-") {
			continue
		}
		scripts := []string{"prerm"}
		if strings.Contains(string(m.data), "\n[Install]") {
			scripts = []string{"postinst", "prerm", "postrm"}
		}
		for _, script := range scripts {
			if !strings.Contains(string(control["/"+script].data), unit) {
				t.Errorf("%s does not know %s", script, unit)
			}
		}
	}
	for _, script := range []string{"postinst", "prerm", "postrm"} {
		if m := control["/"+script]; m.Mode&0o111 == 0 || strings.Contains(string(m.data), "@") {
			t.Errorf("%s: mode %o, or a name was not filled in", script, m.Mode)
		}
	}
}

func TestProgramsAreStatic(t *testing.T) {
	files := deb(t, "--fsys-tarfile")
	for _, command := range commands {
		name := "/usr/sbin/tunnelcast-" + command
		file, err := elf.NewFile(bytes.NewReader(files[name].data))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if slices.ContainsFunc(file.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
			t.Errorf("%s asks for a dynamic linker", name)
		}
	}
}

// TestEveryKeyIsExplained compares what each program takes with its
// configuration file and its man page.
func TestEveryKeyIsExplained(t *testing.T) {
	if !strings.Contains(os.Getenv("TUNNELCAST_DEB"), runtime.GOARCH) {
		t.Skip("the package's programs do not run here: another architecture")
	}
	files := deb(t, "--fsys-tarfile")
	dir := t.TempDir()
	for _, command := range commands {
		program := filepath.Join(dir, command)
		if err := os.WriteFile(program, files["/usr/sbin/tunnelcast-"+command].data, 0o755); err != nil {
			t.Fatal(err)
		}
		help, err := exec.Command(program, "--help").Output()
		if err != nil {
			t.Errorf("%s --help: %v", command, err)
			continue
		}
		zipped, err := gzip.NewReader(bytes.NewReader(files["/usr/share/man/man8/tunnelcast-"+command+".8.gz"].data))
		if err != nil {
			t.Fatal(err)
		}
		page, err := io.ReadAll(zipped)
		if err != nil {
			t.Fatal(err)
		}
		flags := regexp.MustCompile(`(?m)^ +(?:-h, )?--(?:\[no-\])?([a-z-]+)`).FindAllStringSubmatch(string(help), -1)
		if len(flags) < 5 {
			t.Errorf("%s --help names %d flags", command, len(flags))
		}
		config := string(files["/etc/tunnelcast/"+command+".toml"].data)
		for _, flag := range flags {
			if name := regexp.QuoteMeta(strings.ReplaceAll(flag[1], "-", `\-`)); !regexp.MustCompile(`\\-\\-(no\\-)?` + name + `\b`).Match(page) {
				t.Errorf("the man page of %s does not know --%s", command, flag[1])
			}
			switch flag[1] {
			case "help", "version", "config":
				continue
			}
			if !regexp.MustCompile(`(?m)^#?` + flag[1] + ` = `).MatchString(config) {
				t.Errorf("%s.toml does not explain %s", command, flag[1])
			}
		}
	}
}
