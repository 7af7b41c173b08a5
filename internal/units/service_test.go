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
	for name, test := range map[string]struct {
		service     Service
		dir         string
		err, remedy string // no error if both are empty
	}{
		"nothing restricts":     {Service{}, "/srv/a", "", ""},
		"strict":                {Service{System: "strict"}, "/srv/a", "ProtectSystem=strict keeps it away", edit("ReadWritePaths=/srv/a")},
		"strict, with a space":  {Service{System: "strict"}, "/srv/my archive", "ProtectSystem=strict keeps it away", edit(`ReadWritePaths="/srv/my archive"`)},
		"strict, and let in":    {Service{System: "strict", ReadWrite: []string{"-/srv/a"}}, "/srv/a", "", ""},
		"a parent is let in":    {Service{System: "strict", ReadWrite: []string{"-+/srv/"}}, "/srv/a", "", ""},
		"a name like it":        {Service{System: "strict", ReadWrite: []string{"-/srv/arch"}}, "/srv/archive", "ProtectSystem=strict keeps it away", edit("ReadWritePaths=/srv/archive")},
		"a space in the path":   {Service{System: "strict", ReadWrite: []string{"-/srv/my archive"}}, "/srv/my archive", "", ""},
		"full":                  {Service{System: "full"}, "/srv/a", "", ""},
		"full, below /etc":      {Service{System: "full"}, "/etc/a", "ProtectSystem=full keeps it away", edit("ReadWritePaths=/etc/a")},
		"a link is let in":      {Service{System: "strict", ReadWrite: []string{"-" + base + "/link"}}, base + "/disk/my archive", "", ""},
		"its target is let in":  {Service{System: "strict", ReadWrite: []string{"-" + base + "/disk"}}, base + "/link/my archive", "", ""},
		"home":                  {Service{Home: "yes"}, "/home/pi/a", "ProtectHome=yes keeps it away", edit("ProtectHome=no")},
		"home, not to be had":   {Service{System: "strict", Home: "yes", ReadWrite: []string{"-/home/pi/a"}}, "/home/pi/a", "ProtectHome=yes keeps it away", edit("ProtectHome=no")},
		"home read-only":        {Service{Home: "read-only"}, "/home/pi/a", "ProtectHome=read-only keeps it away", edit("ProtectHome=no")},
		"home, let in":          {Service{Home: "read-only", ReadWrite: []string{"-/home/pi"}}, "/home/pi/a", "", ""},
		"home, bound":           {Service{Home: "tmpfs", Binds: []Bind{{From: "/home/pi", To: "/home/pi", MayBeGone: true}}}, "/home/pi/a", "", ""},
		"home, not bound":       {Service{Home: "tmpfs", ReadWrite: []string{"-/home/pi"}}, "/home/pi/a", "ProtectHome=tmpfs keeps it away", edit("ProtectHome=no")},
		"tmp":                   {Service{Tmp: true, ReadWrite: []string{"-/var/tmp/a"}}, "/var/tmp/a", "PrivateTmp=yes keeps it away", edit("PrivateTmp=no")},
		"bound from elsewhere":  {Service{Binds: []Bind{{From: "/mnt/b", To: "/srv", MayBeGone: true}}}, "/srv/a", "BindPaths=/mnt/b:/srv keeps it away", edit("BindPaths=")},
		"bound, to read only":   {Service{Binds: []Bind{{From: "/srv", To: "/srv", ReadOnly: true, MayBeGone: true}}}, "/srv/a", "BindReadOnlyPaths=/srv:/srv keeps it away", edit("BindReadOnlyPaths=")},
		"read-only":             {Service{ReadOnly: []string{"-/srv/a"}, ReadWrite: []string{"-/srv/a"}}, "/srv/a/b", "ReadOnlyPaths=-/srv/a keeps it away", edit("ReadOnlyPaths=")},
		"inaccessible":          {Service{Inaccessible: []string{"-/srv"}, ReadWrite: []string{"-/srv/a"}}, "/srv/a", "InaccessiblePaths=-/srv keeps it away", edit("InaccessiblePaths=")},
		"a tmpfs":               {Service{Temporary: []string{"/srv"}}, "/srv/a", "TemporaryFileSystem=/srv keeps it away", edit("TemporaryFileSystem=")},
		"another root":          {Service{Root: "/srv/root"}, "/srv/a", "RootDirectory=/srv/root gives it another root directory", edit("RootDirectory=")},
		"a path that is gone":   {Service{ReadWrite: []string{"/nonexistent/a b"}}, "/srv", "ReadWritePaths=/nonexistent/a b does not exist, so systemd cannot start it", edit(`ReadWritePaths="-/nonexistent/a b"`)},
		"a source that is gone": {Service{Binds: []Bind{{From: "/nonexistent", To: "/srv/b"}}}, "/srv", "BindPaths=/nonexistent does not exist, so systemd cannot start it", edit("BindPaths=-/nonexistent")},
		"no such user":          {Service{User: "no-such-user"}, "/srv", "its User=no-such-user: user: unknown user no-such-user, so systemd cannot start it", ""},
		"no such number":        {Service{User: "4294967290"}, "/srv", "its User=4294967290: user: unknown userid 4294967290, so systemd cannot start it", ""},
		"stale":                 {Service{Stale: true}, "/srv", "its files have changed since systemd read them", "systemctl daemon-reload"},
		"not installed":         {Service{Load: "not-found"}, "/srv", "it is not installed", "apt-get install --reinstall tunnelcast"},
		"masked":                {Service{Load: "masked"}, "/srv", "it is masked", "systemctl unmask x.service"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.service.Load == "" {
				test.service.Load = "loaded"
			}
			remedy, err := test.service.Fault(unit, test.dir)
			said := ""
			if err != nil {
				said = err.Error()
			}
			if said != test.err || remedy != test.remedy {
				t.Errorf("got  %q (%s)\nwant %q (%s)", said, remedy, test.err, test.remedy)
			}
		})
	}
}

func TestModeAllows(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root makes others' directories")
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
		"everybody's":           {other, other, 0o777, true},
		"somebody's":            {other, other, 0o755, false},
		"not to be passed":      {other, other, 0o776, false},
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
