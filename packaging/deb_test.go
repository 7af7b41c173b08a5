package packaging

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/buildinfo"
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

	"tunnelcast/internal/promised"
)

var update = flag.Bool("update", false, "write the list of the package's contents to testdata/contents.txt")

var commands = []string{"updown", "recorddone", "archiveprune", "certhook"}

type member struct {
	*tar.Header
	data []byte
}

// each runs a test on the built packages: the one that TUNNELCAST_DEB names and, on
// amd64, the one for arm64 beside it.
func each(t *testing.T, try func(t *testing.T, file string)) {
	native := os.Getenv("TUNNELCAST_DEB")
	if native == "" {
		promised.Lacking(t, "TUNNELCAST_DEB names no package; make deb builds one")
	}
	promised.Program(t, "dpkg-deb")
	t.Run(runtime.GOARCH, func(t *testing.T) { try(t, native) })
	if runtime.GOARCH != "amd64" {
		return
	}
	t.Run("arm64", func(t *testing.T) {
		file := strings.Replace(native, "_amd64.deb", "_arm64.deb", 1)
		if _, err := os.Stat(file); err != nil || file == native {
			promised.Lacking(t, "no package for arm64 beside "+native+"; make deb builds one")
		}
		try(t, file)
	})
}

// members returns the members of an archive in the package, as dpkg-deb unpacks it.
func members(t *testing.T, file, part string) map[string]member {
	t.Helper()
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

func unzip(t *testing.T, data []byte) []byte {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// programs unpacks the package's four programs into a directory. It returns the
// directory and the emulator that must precede each command line on this machine.
func programs(t *testing.T, file string) (dir string, emulator []string) {
	t.Helper()
	if runtime.GOARCH == "amd64" && strings.HasSuffix(file, "_arm64.deb") {
		promised.Program(t, "qemu-aarch64-static")
		emulator = []string{"qemu-aarch64-static"}
	}
	dir = t.TempDir()
	files := members(t, file, "--fsys-tarfile")
	for _, command := range commands {
		program := "tunnelcast-" + command
		if err := os.WriteFile(filepath.Join(dir, program), files["/usr/sbin/"+program].data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir, emulator
}

func TestContents(t *testing.T) {
	each(t, func(t *testing.T, file string) {
		var lines []string
		var date time.Time
		for name, m := range members(t, file, "--fsys-tarfile") {
			if m.Uid != 0 || m.Gid != 0 {
				t.Errorf("%s belongs to %d:%d", name, m.Uid, m.Gid)
			}
			if date.IsZero() {
				date = m.ModTime
			}
			if !m.ModTime.Equal(date) {
				t.Errorf("%s is dated %s, others are dated %s", name, m.ModTime, date)
			}
			kind := map[byte]rune{tar.TypeReg: 'f', tar.TypeDir: 'd', tar.TypeSymlink: 'l'}[m.Typeflag]
			lines = append(lines, fmt.Sprintf("%s %c %o\n", name, kind, m.Mode))
		}
		slices.Sort(lines)
		got := strings.Join(lines, "")
		const golden = "testdata/contents.txt"
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("the package contains\n%s", got)
		}
	})
}

// TestNothingOfOthers looks for files that dpkg would install over an administrator's
// file or over one of another package.
func TestNothingOfOthers(t *testing.T) {
	each(t, func(t *testing.T, file string) {
		control := members(t, file, "--ctrl-tarfile")
		conffiles := strings.Fields(string(control["/conffiles"].data))
		for name, m := range members(t, file, "--fsys-tarfile") {
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
		for _, field := range []string{"Depends", "Recommends", "Pre-Depends"} {
			if strings.Contains(string(control["/control"].data), "\n"+field+":") {
				t.Errorf("the package has %s, so apt would install hosts on a server that needs one program", field)
			}
		}
		for _, field := range []string{"Homepage: https://", "Static-Built-Using: ffmpeg (= "} {
			if !strings.Contains(string(control["/control"].data), "\n"+field) {
				t.Errorf("the package lacks the field %s", field)
			}
		}
	})
}

func TestScriptsKnowTheUnits(t *testing.T) {
	each(t, func(t *testing.T, file string) {
		control := members(t, file, "--ctrl-tarfile")
		for name, m := range members(t, file, "--fsys-tarfile") {
			dir, unit := path.Split(name)
			if dir != "/usr/lib/systemd/system/" || m.Typeflag == tar.TypeDir ||
				!strings.HasPrefix(unit, "tunnelcast-") {
				continue
			}
			scripts := []string{"prerm"}
			if strings.Contains(string(m.data), "\n[Install]") {
				scripts = []string{"postinst", "prerm", "postrm"}
			}
			for _, script := range scripts {
				if !strings.Contains(string(control["/"+script].data), unit) {
					t.Errorf("%s does not name %s", script, unit)
				}
			}
		}
		for _, script := range []string{"postinst", "prerm", "postrm"} {
			if m := control["/"+script]; m.Mode&0o111 == 0 || strings.Contains(string(m.data), "@") {
				t.Errorf("%s: the mode is %o, or a placeholder was not replaced", script, m.Mode)
			}
		}
	})
}

func TestProgramsAreStatic(t *testing.T) {
	each(t, func(t *testing.T, file string) {
		files := members(t, file, "--fsys-tarfile")
		for _, command := range commands {
			name := "/usr/sbin/tunnelcast-" + command
			program, err := elf.NewFile(bytes.NewReader(files[name].data))
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if slices.ContainsFunc(program.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
				t.Errorf("%s needs a dynamic linker", name)
			}
		}
	})
}

// flagInHelp matches a flag where --help lists it. A help text that mentions a flag is indented further.
var flagInHelp = regexp.MustCompile(`(?m)^ {2,6}(?:-h, )?--(\[no-\])?([a-z-]+)`)

// TestEveryKeyIsExplained compares the flags of each program with its configuration
// file and its man pages.
func TestEveryKeyIsExplained(t *testing.T) {
	each(t, func(t *testing.T, file string) {
		files := members(t, file, "--fsys-tarfile")
		dir, emulator := programs(t, file)
		for _, command := range commands {
			line := append(emulator, filepath.Join(dir, "tunnelcast-"+command), "--help")
			help, err := exec.Command(line[0], line[1:]...).Output()
			if err != nil {
				t.Errorf("%s --help: %v", command, err)
				continue
			}
			pages := map[string][]byte{}
			for _, language := range []string{"", "ja/"} {
				name := "/usr/share/man/" + language + "man8/tunnelcast-" + command + ".8.gz"
				pages[name] = unzip(t, files[name].data)
			}
			flags := flagInHelp.FindAllStringSubmatch(string(help), -1)
			if len(flags) < 5 {
				t.Errorf("%s --help names %d flags", command, len(flags))
			}
			config := string(files["/etc/tunnelcast/"+command+".toml"].data)
			for _, flag := range flags {
				name := regexp.QuoteMeta(strings.ReplaceAll(flag[2], "-", `\-`))
				for file, page := range pages {
					if !regexp.MustCompile(`\\-\\-(no\\-)?` + name + `\b`).Match(page) {
						t.Errorf("%s does not explain --%s", file, flag[2])
					}
				}
				switch flag[2] {
				case "help", "version", "config":
					continue
				}
				if !regexp.MustCompile(`(?m)^#?` + flag[2] + ` = `).MatchString(config) {
					t.Errorf("%s.toml does not explain %s", command, flag[2])
				}
			}
		}
	})
}

// TestCompletion has bash complete every command and flag that each --help lists.
func TestCompletion(t *testing.T) {
	each(t, func(t *testing.T, file string) {
		promised.Program(t, "bash")
		if !strings.HasSuffix(file, "_"+runtime.GOARCH+".deb") {
			return // the script is the same, and bash runs no emulator
		}
		dir, _ := programs(t, file)
		script := filepath.Join(dir, "completion")
		files := members(t, file, "--fsys-tarfile")
		data := files["/usr/share/bash-completion/completions/tunnelcast-updown"].data
		if err := os.WriteFile(script, data, 0o644); err != nil {
			t.Fatal(err)
		}
		// complete returns the completions of the last word, as Readline requests them.
		complete := func(words ...string) []string {
			const ask = `. "$1"; shift; compopt() { :; }
				complete -p "$1" >/dev/null || exit
				COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
				_tunnelcast "$1" "${@: -1}" "${COMP_WORDS[COMP_CWORD - 1]}"; printf '%s\n' "${COMPREPLY[@]}"`
			cmd := exec.Command("bash", append([]string{"-c", ask, "bash", script}, words...)...)
			cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
			cmd.Stderr = os.Stderr
			out, err := cmd.Output()
			if err != nil {
				t.Errorf("complete %q: %v", words, err)
			}
			return strings.Fields(string(out))
		}
		for _, command := range commands {
			program := "tunnelcast-" + command
			var subcommands []string
			help, err := exec.Command(filepath.Join(dir, program), "--help").Output()
			if err != nil {
				t.Fatal(err)
			}
			_, list, _ := strings.Cut(string(help), "\nCommands:\n")
			for _, m := range regexp.MustCompile(`(?m)^  ([a-z]+) `).FindAllStringSubmatch(list, -1) {
				subcommands = append(subcommands, m[1])
			}
			if got := complete(program, ""); !slices.Equal(got, subcommands) || len(got) == 0 {
				t.Errorf("%s is completed with %q, its commands are %q", program, got, subcommands)
			}
			for _, subcommand := range append(subcommands, "") {
				words := strings.Fields(program + " " + subcommand)
				help, err := exec.Command(filepath.Join(dir, program), append(words[1:], "--help")...).Output()
				if err != nil {
					t.Fatal(err)
				}
				var want []string
				for _, flag := range flagInHelp.FindAllStringSubmatch(string(help), -1) {
					want = append(want, "--"+flag[2])
					if flag[1] != "" {
						want = append(want, "--no-"+flag[2])
					}
				}
				got := complete(append(words, "--")...)
				for i := range got {
					got[i] = strings.TrimSuffix(got[i], "=")
				}
				if !slices.Equal(got, want) {
					t.Errorf("the flags of %q are completed as %q, want %q", words, got, want)
				}
			}
		}
	})
}

// TestTwoBuildsAreEqual builds the package again from the same programs, with another umask, time zone and locale.
func TestTwoBuildsAreEqual(t *testing.T) {
	if !promised.All() {
		t.Skip("only with TUNNELCAST_E2E=1, bin/ contains the programs of the package")
	}
	each(t, func(t *testing.T, file string) {
		name := strings.Split(strings.TrimSuffix(filepath.Base(file), ".deb"), "_")
		date := members(t, file, "--ctrl-tarfile")["/control"].ModTime
		dir := t.TempDir()
		cmd := exec.Command("sh", "-c", `umask 077; exec ./build-deb.sh "$@"`, "sh", name[1], name[2], dir)
		cmd.Env = append(os.Environ(), "TZ=Asia/Tokyo", "LC_ALL=C.UTF-8",
			fmt.Sprintf("SOURCE_DATE_EPOCH=%d", date.Unix()))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if out, err := exec.Command("cmp", file, filepath.Join(dir, filepath.Base(file))).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
}

// TestCopyrightNamesWhatIsLinked compares the copyright file with the build information of the programs, and with the
// one in the repository.
func TestCopyrightNamesWhatIsLinked(t *testing.T) {
	each(t, func(t *testing.T, file string) {
		text := string(members(t, file, "--fsys-tarfile")["/usr/share/doc/tunnelcast/copyright"].data)
		if kept, err := os.ReadFile("deb/copyright"); err != nil || string(kept) != text {
			t.Errorf("deb/copyright differs from the package's (%v): "+
				"go run ./packaging/copyright bin >packaging/deb/copyright", err)
		}
		dir, _ := programs(t, file)
		for _, command := range commands {
			info, err := buildinfo.ReadFile(filepath.Join(dir, "tunnelcast-"+command))
			if err != nil {
				t.Fatal(err)
			}
			_, stanza, ok := strings.Cut(text, "\nFiles: usr/sbin/tunnelcast-"+command+"\n")
			stanza, _, _ = strings.Cut(stanza, "\n\n")
			if !ok || !strings.Contains(stanza, "\n Go: runtime") {
				t.Errorf("no stanza for %s names Go", command)
			}
			for _, module := range info.Deps {
				if !strings.Contains(stanza, "\n "+module.Path+" "+module.Version+", ") {
					t.Errorf("%s contains %s, which the copyright file does not name", command, module.Path)
				}
			}
			for _, licence := range regexp.MustCompile(`(?m)^License: (.*)$`).FindStringSubmatch("\n" + stanza)[1:] {
				for name := range strings.SplitSeq(licence, " and ") {
					if !strings.Contains(text, "\n\nLicense: "+name+"\n") {
						t.Errorf("the text of the licence %s is missing", name)
					}
				}
			}
		}
	})
}

// TestChangelogHasWholeEntries compares the words of the package's changelog with those of CHANGELOG.md.
func TestChangelogHasWholeEntries(t *testing.T) {
	each(t, func(t *testing.T, file string) {
		source, err := os.ReadFile("../CHANGELOG.md")
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		inEntry := false
		for line := range strings.Lines(string(source)) {
			switch {
			case strings.HasPrefix(line, "## ") && len(want) > 0:
				source = nil
			case strings.HasPrefix(line, "- "):
				inEntry = true
			case !strings.HasPrefix(line, " "):
				inEntry = false
			}
			if source == nil {
				break
			}
			if inEntry {
				want = append(want, strings.Fields(strings.TrimPrefix(strings.ReplaceAll(line, "`", ""), "- "))...)
			}
		}
		text := string(unzip(t, members(t, file, "--fsys-tarfile")["/usr/share/doc/tunnelcast/changelog.gz"].data))
		var got []string
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "  ") {
				got = append(got, strings.Fields(strings.TrimPrefix(line, "  * "))...)
			}
			if len(line) > 81 && !strings.HasPrefix(line, " -- ") {
				t.Errorf("a long line: %s", line)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("the package's changelog is\n%s\nwant the words\n%s", text, strings.Join(want, " "))
		}
	})
}

// TestAlertsAreOverOurMetrics looks up the metrics of the alert rules in the table of docs/monitoring.md.
func TestAlertsAreOverOurMetrics(t *testing.T) {
	rules, err := os.ReadFile("../docs/prometheus-alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`\btunnelcast_[a-z_]+`).FindAllString(string(rules), -1)
	if len(names) < 5 {
		t.Errorf("the alert rules name only %d metrics", len(names))
	}
	for _, name := range names {
		if !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("docs/monitoring.md does not name the metric %s", name)
		}
	}
}

// TestPagesLinkWithinThePackage follows the links of the installed pages, which the package has in one directory.
func TestPagesLinkWithinThePackage(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#]+)`)
	each(t, func(t *testing.T, file string) {
		files := members(t, file, "--fsys-tarfile")
		pages := 0
		for name, m := range files {
			if path.Dir(name) != "/usr/share/doc/tunnelcast" || path.Ext(name) != ".md" {
				continue
			}
			pages++
			for _, target := range link.FindAllStringSubmatch(string(m.data), -1) {
				if _, ok := files[path.Join(path.Dir(name), target[1])]; !ok && !strings.Contains(target[1], "://") {
					t.Errorf("%s links to %s, which the package lacks", name, target[1])
				}
			}
		}
		if pages < 6 {
			t.Errorf("the package has only %d pages", pages)
		}
	})
}

func TestLintian(t *testing.T) {
	each(t, func(t *testing.T, file string) {
		promised.Program(t, "lintian")
		lintian := exec.Command("lintian", "--allow-root", "-EvI", "--pedantic", "--fail-on=error,warning", file)
		out, err := lintian.CombinedOutput()
		if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		overrides := members(t, file, "--fsys-tarfile")["/usr/share/lintian/overrides/tunnelcast"].data
		// Only Debian 12 needs this one.
		overrides = bytes.ReplaceAll(overrides, []byte("\nunknown-field Static-Built-Using\n"), []byte("\n"))
		if n := len(regexp.MustCompile(`(?m)^[^#\n]`).FindAll(overrides, -1)); n > 2 {
			t.Errorf("%d overrides, want at most 2", n)
		}
	})
}
