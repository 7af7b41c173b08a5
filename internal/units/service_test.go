package units

import (
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
)

func TestServiceFault(t *testing.T) {
	const unit = "x.service"
	base := t.TempDir()
	if err := os.MkdirAll(filepath.Join(base, "disk", "my archive"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(base, "disk"), filepath.Join(base, "link")); err != nil {
		t.Fatal(err)
	}
	edit := func(line string) string { return "systemctl edit x.service: [Service] " + line }
	type test struct {
		service     Service
		dir         string
		err, remedy string // no error if both are empty
	}
	away := func(s Service, dir, setting, line string) test {
		return test{s, dir, setting + " keeps it away", edit(line)}
	}
	fine := func(s Service, dir string) test { return test{s, dir, "", ""} }
	readWrite := func(path string) Service { return Service{System: "strict", ReadWrite: []string{path}} }
	bind := func(b Bind) Service { b.MayBeGone = true; return Service{Binds: []Bind{b}} }
	const gone = " does not exist, so systemd cannot start it"
	for name, test := range map[string]test{
		"nothing restricts": fine(Service{}, "/srv/a"),
		"strict": away(Service{System: "strict"}, "/srv/a",
			"ProtectSystem=strict", "ReadWritePaths=/srv/a"),
		"strict, with a space": away(Service{System: "strict"}, "/srv/my archive",
			"ProtectSystem=strict", `ReadWritePaths="/srv/my archive"`),
		"strict, and allowed": fine(readWrite("-/srv/a"), "/srv/a"),
		"parent allowed":      fine(readWrite("-+/srv/"), "/srv/a"),
		"similar name": away(readWrite("-/srv/arch"), "/srv/archive",
			"ProtectSystem=strict", "ReadWritePaths=/srv/archive"),
		"space in the path": fine(readWrite("-/srv/my archive"), "/srv/my archive"),
		"full":              fine(Service{System: "full"}, "/srv/a"),
		"full, below /etc": away(Service{System: "full"}, "/etc/a",
			"ProtectSystem=full", "ReadWritePaths=/etc/a"),
		"link allowed":      fine(readWrite("-"+base+"/link"), base+"/disk/my archive"),
		"target of a link":  fine(readWrite("-"+base+"/disk"), base+"/link/my archive"),
		"home":              away(Service{Home: "yes"}, "/home/pi/a", "ProtectHome=yes", "ProtectHome=no"),
		"home, read-only":   away(Service{Home: "read-only"}, "/home/pi/a", "ProtectHome=read-only", "ProtectHome=no"),
		"home, but allowed": fine(Service{Home: "read-only", ReadWrite: []string{"-/home/pi"}}, "/home/pi/a"),
		"home, with a bind": fine(Service{Home: "tmpfs", Binds: bind(Bind{From: "/home/pi", To: "/home/pi"}).Binds},
			"/home/pi/a"),
		"home, hidden anyway": away(Service{Home: "yes", System: "strict", ReadWrite: []string{"-/home/pi/a"}},
			"/home/pi/a", "ProtectHome=yes", "ProtectHome=no"),
		"home, no bind": away(Service{Home: "tmpfs", ReadWrite: []string{"-/home/pi"}}, "/home/pi/a",
			"ProtectHome=tmpfs", "ProtectHome=no"),
		"tmp": away(Service{Tmp: true, ReadWrite: []string{"-/var/tmp/a"}}, "/var/tmp/a",
			"PrivateTmp=yes", "PrivateTmp=no"),
		"bind of another directory": away(bind(Bind{From: "/mnt/b", To: "/srv"}), "/srv/a",
			"BindPaths=/mnt/b:/srv", "BindPaths="),
		"read-only bind": away(bind(Bind{From: "/srv", To: "/srv", ReadOnly: true}), "/srv/a",
			"BindReadOnlyPaths=/srv:/srv", "BindReadOnlyPaths="),
		"read-only": away(Service{ReadOnly: []string{"-/srv/a"}, ReadWrite: []string{"-/srv/a"}}, "/srv/a/b",
			"ReadOnlyPaths=-/srv/a", "ReadOnlyPaths="),
		"inaccessible": away(Service{Inaccessible: []string{"-/srv"}, ReadWrite: []string{"-/srv/a"}}, "/srv/a",
			"InaccessiblePaths=-/srv", "InaccessiblePaths="),
		"tmpfs": away(Service{Temporary: []string{"/srv"}}, "/srv/a",
			"TemporaryFileSystem=/srv", "TemporaryFileSystem="),
		"another root": {Service{Root: "/srv/root"}, "/srv/a",
			"RootDirectory=/srv/root gives it another root directory", edit("RootDirectory=")},
		"path missing": {Service{ReadWrite: []string{"/nonexistent/a b"}}, "/srv",
			"ReadWritePaths=/nonexistent/a b" + gone, edit(`ReadWritePaths="-/nonexistent/a b"`)},
		"source missing": {Service{Binds: []Bind{{From: "/nonexistent", To: "/srv/b"}}}, "/srv",
			"BindPaths=/nonexistent" + gone, edit("BindPaths=-/nonexistent")},
		"no such user": {Service{User: "no-such-user"}, "/srv",
			"its User=no-such-user: user: unknown user no-such-user, so systemd cannot start it", ""},
		"no such number": {Service{User: "4294967290"}, "/srv",
			"its User=4294967290: user: unknown userid 4294967290, so systemd cannot start it", ""},
		"stale": {Service{Stale: true}, "/srv",
			"its files have changed since systemd read them", "systemctl daemon-reload"},
		"not installed": {Service{Load: "not-found"}, "/srv",
			"it is not installed", "apt-get install --reinstall tunnelcast"},
		"masked": {Service{Load: "masked"}, "/srv", "it is masked", "systemctl unmask x.service"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.service.Load == "" {
				test.service.Load = "loaded"
			}
			remedy, err := test.service.Fault(unit, test.dir)
			remedy = strings.ReplaceAll(remedy, "`", "") // around what is typed
			text := ""
			if err != nil {
				text = err.Error()
			}
			if text != test.err || remedy != test.remedy {
				t.Errorf("got  %q (%s)\nwant %q (%s)", text, remedy, test.err, test.remedy)
			}
		})
	}
}

func TestModeAllows(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root makes directories of other users")
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	const uid, gid, other = 65534, 65534, 12345
	for name, test := range map[string]struct {
		uid, gid int
		mode     os.FileMode
		want     bool
	}{
		"its own":               {uid, other, 0o755, true},
		"its own, read-only":    {uid, other, 0o577, false},
		"its group's":           {other, gid, 0o775, true},
		"its group's to read":   {other, gid, 0o755, false},
		"everyone's":            {other, other, 0o777, true},
		"another user's":        {other, other, 0o755, false},
		"not searchable":        {other, other, 0o776, false},
		"root's":                {0, 0, 0o755, false},
		"sticky and everyone's": {0, 0, 0o777 | os.ModeSticky, true},
	} {
		dir := t.TempDir()
		if err := os.Chown(dir, test.uid, test.gid); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, test.mode); err != nil {
			t.Fatal(err)
		}
		if err := modeAllows(nobody, dir); (err == nil) != test.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestQuotePath(t *testing.T) {
	for path, want := range map[string]string{
		"/srv/a":    "/srv/a",
		"/srv/a b":  `"/srv/a b"`,
		`/srv/"a"`:  `"/srv/\"a\""`,
		"/srv/50%":  "/srv/50%%",
		`/srv/a\b`:  `"/srv/a\\b"`,
		"/srv/it's": `"/srv/it's"`,
	} {
		if got := quotePath(path); got != want {
			t.Errorf("%s is written %s, want %s", path, got, want)
		}
	}
	if got := quotePath("/a\nb"); strings.Contains(got, "\n") {
		t.Errorf("two lines: %q", got)
	}
}

func TestFault(t *testing.T) {
	for want, state := range map[string]State{
		"":                    {"loaded", "active", "enabled"},
		"it is not installed": {"not-found", "inactive", ""},
		"it is masked":        {"masked", "inactive", "masked"},
		"it is inactive":      {"loaded", "inactive", "disabled"},
		"it is failed":        {"loaded", "failed", "enabled"},
		"it is disabled and will be off after the next boot": {"loaded", "active", "disabled"},
	} {
		remedy, err := state.Fault("x.timer")
		if (err == nil) != (want == "") || err != nil && (err.Error() != want || remedy == "") {
			t.Errorf("%+v: %v (%s), want %q", state, err, remedy, want)
		}
	}
}
