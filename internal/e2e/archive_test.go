package e2e

import (
	"cmp"
	"os"
	"strings"
	"testing"

	"tunnelcast/internal/e2e/box"
)

// archives starts a server without the package and without the guide's cron line, which has the package in /var/cache.
// sh runs a script on it, in which aged FILE... creates old recordings, and returns the script's output.
func archives(t *testing.T) (l *life, sh func(script string) string) {
	l = begin(t, cmp.Or(os.Getenv("TUNNELCAST_SUITE"), "bookworm"), box.Stock)
	data, err := os.ReadFile(deb(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.box.Gateway.WriteFile("/var/cache/new.deb", string(data), 0o644); err != nil {
		t.Fatal(err)
	}
	const aged = `aged() {
	for f; do
		echo x >"$f"
		touch -d '100 hours ago' "$f"
		chown www-data "$f"
	done
}
`
	return l, func(script string) string {
		t.Helper()
		return strings.TrimSpace(run(t, l.box, "sh", "-ec", aged+script))
	}
}

// The installation announces what the timer will remove, the first run only reports it, and the second removes it.
func TestOldRecordingsDoNotGoUnannounced(t *testing.T) {
	l, sh := archives(t)
	sh("install -d -o www-data " + box.Archive + "; aged " + box.Archive + "/a.mp4 " + box.Archive + "/b.flv")
	said := sh(apt + "install /var/cache/new.deb")
	for _, want := range []string{
		"removes recordings that are 72 hours old or older, daily at 06:00",
		"Here 2 are that old",
		"max-age in /etc/tunnelcast",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("the installation does not print %q:\n%s", want, said)
		}
	}
	sh("systemctl start tunnelcast-minfree.service tunnelcast-archiveprune.service")
	if left := sh("ls " + box.Archive); left != "a.mp4\nb.flv" {
		t.Errorf("the first run left %q", left)
	}
	for _, want := range []string{"the first run removes nothing", "a.mp4"} {
		if journal := sh("journalctl -q -t tunnelcast-archiveprune -o cat"); !strings.Contains(journal, want) {
			t.Errorf("the first run does not report %q:\n%s", want, journal)
		}
	}
	sh("systemctl start tunnelcast-archiveprune.service")
	if left := sh("ls " + box.Archive); left != "" {
		t.Errorf("the second run left %q", left)
	}
	if err := l.box.Gateway.WaitRunning(t.Context()); err != nil {
		t.Error(err)
	}
}

// One setting names the archives, which may be links and contain spaces. Both units follow it at once, without a
// drop-in.
func TestUnitsFollowTheArchive(t *testing.T) {
	_, sh := archives(t)
	sh(apt + "install /var/cache/new.deb")
	sh(`mkdir -p /srv/disk
install -d -o www-data "/srv/my recordings" /srv/disk/a /srv/keep
ln -s /srv/disk/a /srv/link
aged "/srv/my recordings/old.mp4" /srv/disk/a/old.mp4 /srv/keep/old.mp4
cat >>/etc/tunnelcast/archiveprune.toml <<'END'
[[archive]]
path = "/srv/my recordings"
[[archive]]
path = "/srv/link"
[[archive]]
path = "/srv/keep"
max-age = "30d"
END
for d in "/srv/my recordings" /srv/disk/a /srv/keep; do echo x >"$d/.new.flv.recorddone-1.part"; done
systemctl start tunnelcast-archiveprune.service tunnelcast-sweep.service`)
	if left := sh("cd /srv; ls -d */*.mp4 disk/a/*.mp4 2>/dev/null || true"); left != "keep/old.mp4" {
		t.Errorf("the archives contain %q", left)
	}
	for _, program := range []string{"archiveprune", "recorddone"} {
		out := sh("runuser -u www-data -- tunnelcast-" + program + " check 2>&1 || true")
		for _, dir := range []string{"/srv/my recordings", "/srv/link", "/srv/keep"} {
			if !strings.Contains(out, ".service may write to "+dir+"\n") || strings.Contains(out, "FAIL  tunnelcast") {
				t.Errorf("check of %s does not report that %s is writable:\n%s", program, dir, out)
			}
		}
	}
}

// A unit that cannot do its work fails. It does not fail on a server that records nothing.
func TestUnitsFailVisibly(t *testing.T) {
	_, sh := archives(t)
	sh(apt + "install /var/cache/new.deb")
	both := "tunnelcast-archiveprune.service tunnelcast-sweep.service"
	result := func() string {
		return sh("for u in " + both + `; do
	systemctl start $u 2>/dev/null || true
	systemctl show -P Result $u
done | xargs
systemctl reset-failed`)
	}
	if got := result(); got != "success success" {
		t.Errorf("without an archive the results are %s", got)
	}
	sh("install -d -o www-data " + box.Archive)
	const (
		makeArchive = "install -d -o www-data " + box.Archive
		nginxConf   = "rtmp { server { application live { record_path " + box.Archive + "; } } }"
		dropins     = "/run/systemd/system/tunnelcast-.service.d"
	)
	for name, c := range map[string]struct{ wrong, right string }{
		"no user": {
			"cp -p /etc/passwd /root; sed -i '/^www-data:/d' /etc/passwd",
			"mv /root/passwd /etc/passwd",
		},
		"no archive": {
			`echo 'archive = "/mnt/gone/archive"' >>` + pruneToml,
			"sed -i '/gone/d' " + pruneToml,
		},
		"a dangling link": {
			"rmdir " + box.Archive + "; ln -s /mnt/gone " + box.Archive,
			"rm " + box.Archive + "; " + makeArchive,
		},
		"no sandbox": {
			"mkdir -p " + dropins + `
printf '[Service]\nRootDirectory=/nonexistent\n' >` + dropins + `/a.conf
systemctl daemon-reload`,
			"rm -r " + dropins + "; systemctl daemon-reload",
		},
		"nginx records to a missing directory": {
			"rmdir " + box.Archive + "; echo '" + nginxConf + "' >/etc/nginx/rtmp.conf",
			"rm /etc/nginx/rtmp.conf; " + makeArchive,
		},
	} {
		sh(c.wrong)
		if got := result(); strings.Contains(got, "success") {
			t.Errorf("%s: the results are %s", name, got)
		}
		sh(c.right)
		if got := result(); got != "success success" {
			t.Errorf("after %s the results are %s", name, got)
		}
	}
}
