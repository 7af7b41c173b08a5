package e2e

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"tunnelcast/internal/e2e/box"
)

var update = flag.Bool("update", false, "write what the package changes on a server into testdata/package")

// previous makes a package of an older version out of ours: the same programs, and two configuration files of which
// that version had others.
func previous(t *testing.T, deb string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "old")
	tool := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("dpkg-deb", args...).CombinedOutput(); err != nil {
			t.Fatalf("dpkg-deb %v: %v\n%s", args, err, out)
		}
	}
	tool("-R", deb, dir)
	edit := func(name string, change func([]byte) []byte) {
		t.Helper()
		file := filepath.Join(dir, name)
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, change(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	edit("DEBIAN/control", func(b []byte) []byte {
		return regexp.MustCompile(`(?m)^Version: .*`).ReplaceAll(b, []byte("Version: 0.0.9"))
	})
	for _, name := range []string{"updown", "recorddone"} {
		edit("etc/tunnelcast/"+name+".toml", func(b []byte) []byte { return append([]byte("# As of 0.0.9.\n"), b...) })
	}
	tool("-b", "--root-owner-group", "-Zgzip", "-z1", dir, dir+".deb")
	return dir + ".deb"
}

// claims makes a package that contains only a directory.
func claims(t *testing.T, dir string) string {
	t.Helper()
	tree := filepath.Join(t.TempDir(), "claims")
	for _, d := range []string{tree + dir, tree + "/DEBIAN"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	const control = `Package: claims
Version: 1
Architecture: all
Maintainer: nobody <nobody@localhost>
Description: a directory
`
	if err := os.WriteFile(tree+"/DEBIAN/control", []byte(control), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("dpkg-deb", "-b", "--root-owner-group", tree, tree+".deb").CombinedOutput()
	if err != nil {
		t.Fatalf("dpkg-deb: %v\n%s", err, out)
	}
	return tree + ".deb"
}

// A life is a server on which the package is installed and removed, and a log of what each step changed.
type life struct {
	*testing.T
	box    *box.Box
	before map[string]file // before the first step
	last   map[string]file // after the last step
	log    strings.Builder
}

// A file is a file's type, mode, owner and link target, and for a regular file the time and size of the last write.
type file struct{ is, written string }

// begin starts a server that ends with the test.
func begin(t *testing.T, suite string, server box.Server) *life {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), boot)
	defer cancel()
	b, err := box.Start(ctx, box.Options{Suite: suite, Server: server})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	t.Cleanup(func() {
		if t.Failed() {
			journal, err := b.Journal()
			t.Log(journal, err)
		}
	})
	l := &life{T: t, box: b}
	l.before = l.look()
	l.last = l.before
	return l
}

// look returns the server's files, without those that change by themselves, and our units.
func (l *life) look() map[string]file {
	l.Helper()
	const changing = "/(proc|sys|dev|run|tmp|root|" +
		"var/(tmp|log|cache|lib/(apt|bind|dpkg|nginx|systemd/(catalog|timesync)|tunnelcast/names.*)))"
	out := run(l.T, l.box, "find", "/", "-xdev", "-regextype", "posix-extended", "-regex", changing, "-prune",
		"-o", "-not", "-path", "/", "-printf", `%p\t%y %m %u:%g %l\t%T@ %s\n`)
	files := make(map[string]file)
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 3 {
			l.Fatalf("find prints %q", line)
		}
		// Releases differ in the name of one directory. The files below /var/lib/systemd are systemd's own.
		is := strings.Replace(strings.TrimSpace(f[1]), " /lib/", " /usr/lib/", 1)
		if is[0] != 'f' || strings.HasPrefix(f[0], "/var/lib/systemd/") {
			f[2] = ""
		}
		if f[0] == "/var/lib/systemd/timers" {
			continue
		}
		files[f[0]] = file{is, f[2]}
	}
	units := run(l.T, l.box, "sh", "-c", `cd /usr/lib/systemd/system
for u in tunnelcast-*.*; do
	[ ! -e $u ] || systemctl show -P Id -P ActiveState -P UnitFileState $u | xargs
done`)
	for line := range strings.Lines(units) {
		f := strings.Fields(line)
		if strings.HasSuffix(f[0], ".service") {
			f[1] = f[2] // it does not matter whether the service is running now
		}
		files["unit "+f[0]] = file{is: strings.Join(slices.Compact(f[1:]), " ")}
	}
	return files
}

// differences returns a line for each file that is new (+), removed (-), different (~) or rewritten (!).
func differences(before, after map[string]file) string {
	var lines []string
	for name, is := range after {
		was, ok := before[name]
		switch {
		case !ok:
			lines = append(lines, fmt.Sprintf("%s + %s", name, is.is))
		case was.is != is.is:
			lines = append(lines, fmt.Sprintf("%s ~ %s", name, is.is))
		case was.written != is.written:
			lines = append(lines, name+" !")
		}
	}
	for name := range before {
		if _, ok := after[name]; !ok {
			lines = append(lines, name+" -")
		}
	}
	slices.Sort(lines)
	return strings.Join(append(lines, ""), "\n")
}

// contents returns the files that the package adds to /usr, in the format of differences.
func (l *life) contents() string {
	l.Helper()
	list, err := os.ReadFile("../../packaging/testdata/contents.txt")
	if err != nil {
		l.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(list)) {
		f := strings.Fields(line)
		if _, there := l.before[f[0]]; !there && strings.HasPrefix(f[0], "/usr/") {
			lines = append(lines, fmt.Sprintf("%s + %s %s root:root", f[0], f[1], f[2]))
		}
	}
	slices.Sort(lines)
	return strings.Join(append(lines, ""), "\n")
}

// split separates the differences in /usr, where only dpkg may write, from the rest.
func split(differences string) (usr, rest string) {
	for line := range strings.Lines(differences) {
		if strings.HasPrefix(line, "/usr/") {
			line, _, _ = strings.Cut(strings.TrimSuffix(line, "\n"), "root:root ")
			usr += strings.TrimSuffix(line, "root:root") + "root:root\n"
		} else {
			rest += line
		}
	}
	return usr, rest
}

// step runs a command of the administrator, after which the package is installed or not. It logs what changed outside
// /usr, and returns the command's output.
func (l *life) step(what string, installed bool, command string) string {
	l.Helper()
	out, err := l.box.Gateway.Run(l.Context(), "sh", "-c", "{ "+command+"\n} </dev/null 2>&1")
	if err != nil {
		l.Fatalf("%s: %v", what, err)
	}
	if err := l.box.Gateway.WaitRunning(l.Context()); err != nil {
		l.Errorf("after %s: %v", what, err)
	}
	if strings.Contains(out, "dpkg: warning") && !strings.Contains(out, "downgrading") {
		l.Errorf("%s: dpkg warns:\n%s", what, out)
	}
	if audit := run(l.T, l.box, "dpkg", "--audit"); audit != "" {
		l.Errorf("after %s dpkg --audit prints:\n%s", what, audit)
	}
	now := l.look()
	want := ""
	if installed {
		want = l.contents()
	}
	if got, _ := split(differences(l.before, now)); got != want {
		l.Errorf("after %s /usr is not as it should be:\n%s", what, diff(want, got))
	}
	_, changed := split(differences(l.last, now))
	fmt.Fprintf(&l.log, "== %s\n%s", what, changed)
	l.last = now
	return out
}

// end compares the log with the golden one, which is the same for every release.
func (l *life) end(name string) {
	l.Helper()
	golden := filepath.Join("testdata", "package", name)
	if *update {
		if err := os.WriteFile(golden, []byte(l.log.String()), 0o644); err != nil {
			l.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		l.Fatal(err)
	}
	if got := l.log.String(); got != string(want) {
		l.Errorf("the steps differ from %s:\n%s", golden, diff(string(want), got))
	}
}

// diff returns the lines that only one of the texts has.
func diff(want, got string) string {
	var b bytes.Buffer
	w, g := strings.SplitAfter(want, "\n"), strings.SplitAfter(got, "\n")
	for _, line := range w {
		if !slices.Contains(g, line) {
			b.WriteString("not " + line)
		}
	}
	for _, line := range g {
		if !slices.Contains(w, line) {
			b.WriteString("but " + line)
		}
	}
	if b.Len() == 0 {
		return got
	}
	return b.String()
}

// gone fails the test unless the server is as it was before the first step.
func (l *life) gone() {
	l.Helper()
	if left := differences(l.before, l.look()); left != "" {
		l.Errorf("the package leaves:\n%s", left)
	}
}

// eachRelease runs a test on a server of each Debian release, which has the package and an older one in /var/cache.
func eachRelease(t *testing.T, server box.Server, try func(*life)) {
	deb := deb(t)
	old := previous(t, deb)
	for suite := range maps.Keys(box.Releases) {
		t.Run(suite, func(t *testing.T) {
			t.Parallel() // the releases mostly wait
			l := begin(t, suite, server)
			for name, from := range map[string]string{"new.deb": deb, "old.deb": old} {
				data, err := os.ReadFile(from)
				if err != nil {
					t.Fatal(err)
				}
				if err := l.box.Gateway.WriteFile("/var/cache/"+name, string(data), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			try(l)
		})
	}
}

// apt is how an administrator calls apt-get, without answering questions.
const apt = "apt-get -qy --no-install-recommends -o Dpkg::Use-Pty=0 "

// The package can be installed on a server that has none of the daemons; then it waits for them.
func TestPackageOnABareServer(t *testing.T) {
	eachRelease(t, box.Bare, func(l *life) {
		data, err := os.ReadFile(claims(l.T, "/etc/nginx/conf.d"))
		if err != nil {
			l.Fatal(err)
		}
		if err := l.box.Gateway.WriteFile("/var/cache/claims.deb", string(data), 0o644); err != nil {
			l.Fatal(err)
		}
		l.step("install", true, apt+"install /var/cache/new.deb")
		runUnits(l.T, l.box)
		l.step("a package that has nginx's directory", true, apt+"install /var/cache/claims.deb")
		l.step("remove", false, apt+"remove tunnelcast")
		l.step("removal of that package", false, apt+"remove claims")
		l.step("purge", false, apt+"purge tunnelcast")
		l.gone()
		l.end("bare.txt")
	})
}

// The package can be installed where the daemons are installed but not configured.
func TestPackageOnStockDaemons(t *testing.T) {
	eachRelease(t, box.Stock, func(l *life) {
		l.step("install", true, apt+"install /var/cache/new.deb")
		runUnits(l.T, l.box)
		// A unit that has failed, here because there is no zone, is not listed as failed after the removal.
		run(l.T, l.box, "sh", "-c", "touch /run/tunnelcast/poke/down; ! systemctl start tunnelcast-sync.service")
		l.step("purge", false, apt+"purge tunnelcast")
		l.gone()
		l.end("stock.txt")
	})
}

// On the guide's server the package is installed, upgraded, downgraded, removed, reinstalled and purged. It keeps the
// administrator's settings and scripts. During all this a client stays connected, and no daemon is restarted.
func TestPackageOnTheGuidesServer(t *testing.T) {
	eachRelease(t, box.Guide, func(l *life) {
		daemons := func() string {
			return run(l.T, l.box, "systemctl", "show", "-P", "MainPID",
				"strongswan.service", "named.service", "nginx.service")
		}
		pids := daemons()
		alice, bob := client(l.T, l.box, "laptop"), client(l.T, l.box, "phone")
		connect(l.T, alice, "alice")
		// serves fails unless the daemons still run, and a client that connects now has its name.
		serves := func(when string) {
			l.Helper()
			if now := daemons(); now != pids {
				l.Errorf("%s: daemons were restarted:\n%s, before:\n%s", when, now, pids)
			}
			if up, err := alice.Connected(l.Context()); err != nil || !up {
				l.Errorf("%s: the tunnel is gone: %v", when, err)
			}
			address := connect(l.T, bob, "bob")
			got, err := alice.Dig(l.Context(), "bob."+box.Zone)
			if err != nil || !slices.Equal(got, []string{address}) {
				l.Errorf("%s: bob is connected as %s, his name has %v, %v", when, address, got, err)
			}
			if err := bob.Disconnect(l.Context()); err != nil {
				l.Errorf("%s: %v", when, err)
			}
		}
		l.last = l.look()
		serves("with the guide's scripts")

		said := l.step("install of an old version", true, apt+"install /var/cache/old.deb")
		_, ours, _ := strings.Cut(said, "Setting up tunnelcast (0.0.9) ...\n")
		ours, _, _ = strings.Cut(ours, "Processing triggers")
		if n := strings.Count(ours, "\n"); n > 10 || !strings.Contains(ours, "updown.sh is kept as") ||
			!strings.Contains(ours, "find /var/www/html/archive/") {
			l.Errorf("the installation prints %d lines:\n%s", n, ours)
		}
		serves("with the old version")
		runUnits(l.T, l.box)
		out := run(l.T, l.box, "sh", "-c", `exec systemd-analyze --man=no verify \
	/usr/lib/systemd/system/tunnelcast-*.* strongswan.service named.service 2>&1`)
		if out != "" {
			l.Errorf("systemd-analyze verify prints:\n%s", out)
		}

		l.step("settings", true, `echo 'max-age = "96h"' >>`+pruneToml+`
echo 'ttl = 30' >>`+updownToml+`
tunnelcast-certhook deploy --lineage `+lineage)
		// Both the package and the administrator have changed updown.toml. Without asking, dpkg keeps the latter's.
		const keepSettings = "-o Dpkg::Options::=--force-confold "
		l.step("upgrade", true, apt+keepSettings+"install /var/cache/new.deb")
		serves("after the upgrade")
		l.step("downgrade", true, apt+keepSettings+"--allow-downgrades install /var/cache/old.deb")
		serves("after the downgrade")
		l.step("upgrade again", true, apt+keepSettings+"install /var/cache/new.deb")
		run(l.T, l.box, "grep", "-x", `max-age = "96h"`, pruneToml)
		run(l.T, l.box, "grep", "-x", "ttl = 30", updownToml)
		l.step("remove", false, apt+"remove tunnelcast")
		serves("with the guide's scripts again")
		l.step("reinstall", true, apt+"install /var/cache/new.deb")
		serves("after the reinstallation")
		l.step("purge", false, apt+"purge tunnelcast")
		serves("after the purge")
		l.gone()
		l.end("guide.txt")
	})
}

// SECURITY.md lists the exposure of each unit, as systemd-analyze security measures it.
func TestUnitsAreAsTightAsDocumented(t *testing.T) {
	b := server(t)
	page, err := os.ReadFile("../../SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	pattern := regexp.MustCompile("(?m)^\\| `(tunnelcast-[a-z]+\\.service)` \\| ([0-9.]+) \\|")
	listed := pattern.FindAllStringSubmatch(string(page), -1)
	if len(listed) != 6 {
		t.Errorf("SECURITY.md lists %d services, want 6", len(listed))
	}
	for _, row := range listed {
		out := run(t, b, "systemd-analyze", "--no-pager", "security", row[1])
		is := regexp.MustCompile(`exposure level for \S+: ([0-9.]+)`).FindStringSubmatch(out)
		if is == nil || is[1] != row[2] {
			t.Errorf("%s: %q, SECURITY.md has %s", row[1], is, row[2])
		}
	}
}
