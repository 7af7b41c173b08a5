package e2e

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"

	"tunnelcast/internal/e2e/box"
)

// check runs a program's check as a user, and returns its output, without the backquotes around what is typed, and its
// exit status.
func check(t *testing.T, b *box.Box, program, user string) (out string, status int) {
	t.Helper()
	command := "exec tunnelcast-" + program + " check 2>&1"
	out, err := b.Gateway.Run(t.Context(), "runuser", "-u", user, "--", "sh", "-c", command)
	if failed := new(box.CommandError); errors.As(err, &failed) {
		return strings.ReplaceAll(failed.Output, "`", ""), failed.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(out, "`", ""), 0
}

// ready fails the test unless the checks of all four programs succeed.
func ready(t *testing.T, b *box.Box) {
	t.Helper()
	for _, c := range []struct{ program, user string }{
		{"updown", "root"},
		{"certhook", "root"},
		{"recorddone", "www-data"},
		{"archiveprune", "www-data"},
		{"archiveprune", "root"},
	} {
		out, status := check(t, b, c.program, c.user)
		lines, _, _ := strings.Cut(out, "\n\n") // certhook's table follows
		for line := range strings.Lines(lines) {
			// www-data may not read the crontabs, so its check cannot vouch for them.
			unseen := c.user != "root" && strings.HasPrefix(line, "?     no cron line ")
			if status != 0 || !unseen && !strings.HasPrefix(line, "ok    ") {
				t.Fatalf("check of %s as %s on a correct host: status %d\n%s", c.program, c.user, status, out)
			}
		}
	}
}

// The files that the mistakes below are made in.
const (
	vpnConf     = "/etc/swanctl/conf.d/vpn.conf"
	zoneConf    = "/etc/bind/named.conf.local"
	rtmpConf    = "/etc/nginx/rtmp.conf"
	rootCrontab = "/var/spool/cron/crontabs/root"
	updownToml  = "/etc/tunnelcast/updown.toml"
	pruneToml   = "/etc/tunnelcast/archiveprune.toml"
)

// A mistake is a wrong setting of a host that a program's check has to report.
type mistake struct {
	name        string
	wrong       string   // the script that makes it
	right       string   // the script that undoes it
	want        []string // regular expressions for FAIL lines, without "FAIL  "
	program, as string   // whose check, and the user it runs as
}

// keep is a script that saves a file before the rest of a mistake changes it; putBack restores the file.
func keep(file string) string    { return "cp -a " + file + " /root/kept; " }
func putBack(file string) string { return "mv /root/kept " + file }

// edit changes a file by a sed command until right is run.
func (m mistake) edit(file, sed string) mistake {
	m.wrong, m.right = keep(file)+"sed -i '"+sed+"' "+file, putBack(file)
	return m
}

// append adds a line to a file until right is run.
func (m mistake) append(file, line string) mistake {
	m.wrong, m.right = keep(file)+"echo '"+line+"' >>"+file, putBack(file)
	return m
}

// then adds commands to both scripts.
func (m mistake) then(wrong, right string) mistake {
	m.wrong += "; " + wrong
	m.right += "; " + right
	return m
}

// do sets both scripts.
func (m mistake) do(wrong, right string) mistake {
	m.wrong, m.right = wrong, right
	return m
}

// dropin is a script that adds a line to a unit's settings; noDropins removes all of them.
func dropin(unit, line string) string {
	dir := "/etc/systemd/system/" + unit + ".service.d"
	write := "printf '[Service]\\n%s\\n' '" + line + "' >" + dir + "/wrong.conf"
	return "mkdir -p " + dir + "; " + write + "; systemctl daemon-reload"
}

const noDropins = "rm -r /etc/systemd/system/tunnelcast-*.service.d; systemctl daemon-reload"

// elsewhere is a script that moves the archive's setting to a directory that does not exist; back undoes it.
const (
	elsewhere = `for p in recorddone archiveprune; do
	cp -a /etc/tunnelcast/$p.toml /root
	echo 'archive = "/srv/recordings"' >>/etc/tunnelcast/$p.toml
done`
	back          = "mv /root/recorddone.toml /root/archiveprune.toml /etc/tunnelcast/"
	makeElsewhere = "; install -d -o www-data /srv/recordings"
	rmElsewhere   = "; rmdir /srv/recordings"
)

// mount is a script that mounts a tmpfs over the archive; unmount removes it.
func mount(options string) string {
	return "mount -t tmpfs -o nosuid," + options + " tmpfs " + box.Archive
}

const unmount = "umount " + box.Archive

// forUpdown and its siblings begin a mistake: the program whose check has to report it, and as which user.
func forUpdown(name string, want ...string) mistake {
	return mistake{name: name, want: want, program: "updown", as: "root"}
}
func forCerthook(name string, want ...string) mistake {
	return mistake{name: name, want: want, program: "certhook", as: "root"}
}
func forRecorddone(name string, want ...string) mistake {
	return mistake{name: name, want: want, program: "recorddone", as: "www-data"}
}
func forPrune(name string, want ...string) mistake {
	return mistake{name: name, want: want, program: "archiveprune", as: "www-data"}
}
func forRootsPrune(name string, want ...string) mistake {
	return mistake{name: name, want: want, program: "archiveprune", as: "root"}
}

// mistakes are tried one after the other. Their expressions go from the name of the thing to the remedy.
var mistakes = []mistake{
	forUpdown("key missing",
		`key /etc/bind/none\.key: .*no such file.*\(key = "FILE" in /etc/tunnelcast/updown\.toml .*\)`,
	).append(updownToml, `key = "/etc/bind/none.key"`),
	forUpdown("key for everybody",
		`key /run/named/session\.key: .*mode 06[0-7]4.*\(chmod o= /run/named/session\.key\)`,
	).do("chmod o+r /run/named/session.key", "chmod o= /run/named/session.key"),
	forUpdown("zone not dynamic",
		`update of zone example\.: .*REFUSED.*\(update-policy local; in .*named\.conf\)`,
	).edit(zoneConf, "/allow-update/d").then("rndc reconfig", "rndc reconfig"),
	forUpdown("no transfer",
		`transfer of zone example\.,.*REFUSED.*\(allow-transfer \{ key local-ddns; \}; in .*named\.conf\)`,
	).edit(zoneConf, "s/allow-update.*/& allow-transfer { none; };/").then("rndc reconfig", "rndc reconfig"),
	forUpdown("zone not there",
		`zone example\. at 127\.0\.0\.1:53: .*\(.*zone and server in /etc/tunnelcast/updown\.toml\)`,
	).edit(zoneConf, `s/zone "example"/zone "example2"/`).then("rndc reconfig", "rndc reconfig"),
	forUpdown("named stopped",
		`key /run/named/session\.key: .*\(is named running\?.*\)`,
	).do("systemctl stop named", "systemctl start named"),
	forUpdown("charon stopped",
		`charon at /run/charon\.vici: .*\(systemctl start strongswan\.service\)`,
	).do("systemctl stop strongswan", "systemctl start strongswan"),
	forCerthook("charon stopped",
		`charon on /run/charon\.vici: .*\(systemctl start strongswan\.service\)`,
	).do("systemctl stop strongswan", "systemctl start strongswan"),
	forUpdown("no updown line",
		`updown line in /etc/swanctl/swanctl\.conf: no child of a connection has one `+
			`\(updown = /etc/swanctl/script/updown\.sh iptables .*\)`,
	).edit(vpnConf, "/updown =/d"),
	forUpdown("another script",
		`updown line in .*: child net of connection vpn calls /usr/bin/true \(updown = .*\)`,
	).edit(vpnConf, "s,updown = [^ ]*,updown = /usr/bin/true,"),
	forCerthook("wrong path in certs",
		`certs of connection vpn, /etc/letsencrypt/live/vpn\.exmaple/cert\.pem: .*no such file.* `+
			`\(certs = /etc/letsencrypt/live/NAME/cert\.pem .*\)`,
		`lineages: no connection in /etc/swanctl/swanctl\.conf names a certificate of certbot \(certs = .*\)`,
	).edit(vpnConf, "s,live/vpn.example/cert,live/vpn.exmaple/cert,"),
	forCerthook("key not in private",
		`lineage /etc/letsencrypt/live/vpn\.example: .*no file in /etc/swanctl/private holds it `+
			`\(ln -s /etc/letsencrypt/live/vpn\.example/privkey\.pem /etc/swanctl/private/vpn\.example\.pem\)`,
	).do("rm /etc/swanctl/private/vpn.example.pem",
		"ln -s /etc/letsencrypt/live/vpn.example/privkey.pem /etc/swanctl/private/vpn.example.pem"),
	forCerthook("certbot calls nobody",
		`certbot's hook in /etc/letsencrypt/renewal-hooks/deploy: .*\(ln -s /usr/sbin/tunnelcast-certhook .*\)`,
	).do("mv "+box.Links["certhook"]+" /root/hook", "mv /root/hook "+box.Links["certhook"]),
	forRecorddone("no exec_record_done",
		`exec_record_done in /etc/nginx: no file has the line `+
			`\(exec_record_done /etc/nginx/conf\.d/record_done\.sh \$path .*\)`,
	).edit(rtmpConf, "/exec_record_done/d"),
	forRecorddone("archive missing",
		`recordings in /srv/recordings, .*no such file.* \(install -d -o www-data -g www-data /srv/recordings.*\)`,
	).do(elsewhere, back),
	forPrune("archive missing",
		`archive /srv/recordings: .*no such file.* \(install -d -o www-data -g www-data /srv/recordings.*\)`,
	).do(elsewhere, back),
	forRecorddone("strict drop-in",
		`tunnelcast-sweep\.service may write to /srv/recordings: ProtectSystem=strict keeps it away `+
			`\(systemctl edit tunnelcast-sweep\.service: \[Service\] ReadWritePaths=/srv/recordings\)`,
	).do(elsewhere+makeElsewhere, back+rmElsewhere).then(dropin("tunnelcast-", "ProtectSystem=strict"), noDropins),
	forPrune("archive elsewhere than nginx's",
		`recordings of nginx in /var/www/html/archive are pruned: `+
			`/etc/nginx/rtmp\.conf:[0-9]+ has record_path /var/www/html/archive, .*\(archive = .*\)`,
	).do(elsewhere+makeElsewhere, back+rmElsewhere),
	forPrune("no sandbox for want of a path",
		`tunnelcast-archiveprune\.service may write to /var/www/html/archive: `+
			`ReadWritePaths=/srv/none does not exist.*\(systemctl edit .*ReadWritePaths=-/srv/none\)`,
	).do(dropin("tunnelcast-archiveprune", "ReadWritePaths=/srv/none"), noDropins),
	forRootsPrune("no user",
		`tunnelcast-archiveprune\.service may write to .*: its User=www-data: .*unknown user.*`,
	).edit("/etc/passwd", "/^www-data:/d"),
	forRecorddone("archive in a home",
		`tunnelcast-sweep\.service may write to /home/pi/a: ProtectHome=yes keeps it away \(.*ProtectHome=no\)`,
	).append(pruneToml, `archive = "/home/pi/a"`).
		then("mkdir -p /home/pi/a; chown www-data /home/pi/a", "rm -r /home/pi"),
	forRecorddone("archive full",
		`recordings in /var/www/html/archive, .*no space left.* \(df /var/www/html/archive; .*\)`,
	).do(mount("size=256k,uid=33")+"; head -c 300k /dev/zero >"+box.Archive+"/full.flv || true", unmount),
	forRecorddone("archive read-only",
		`recordings in /var/www/html/archive, .*read-only.* \(.*remount,rw.*\)`,
	).do(mount("ro,uid=33"), unmount),
	forPrune("archive read-only",
		`archive /var/www/html/archive: .*read-only.* \(.*remount,rw.*\)`,
	).do(mount("ro,uid=33"), unmount),
	forRecorddone("archive root's",
		`recordings in /var/www/html/archive, .*permission denied.* \(chown www-data .*\)`,
	).do(mount("mode=755"), unmount),
	forPrune("archive root's",
		`archive /var/www/html/archive: .*permission denied.* \(chown www-data .*\)`,
	).do(mount("mode=755"), unmount),
	forRootsPrune("old cron line",
		`no cron line removes from /var/www/html/archive: `+
			`/var/spool/cron/crontabs/root:[0-9]+: .*find .* \(remove the line.*\)`,
	).do("cp -a /root/cron "+rootCrontab, "rm "+rootCrontab),
	forUpdown("timer stopped",
		`unit tunnelcast-sync\.timer: it is inactive \(systemctl enable --now tunnelcast-sync\.timer\)`,
	).do("systemctl stop tunnelcast-sync.timer", "systemctl start tunnelcast-sync.timer"),
	forUpdown("path masked",
		`unit tunnelcast-sync\.path: it is masked \(systemctl unmask tunnelcast-sync\.path && .*\)`,
	).do("systemctl -q mask --now tunnelcast-sync.path",
		"systemctl -q unmask tunnelcast-sync.path; systemctl start tunnelcast-sync.path"),
	forPrune("timer disabled",
		`unit tunnelcast-archiveprune\.timer: it is disabled `+
			`.*\(systemctl enable --now tunnelcast-archiveprune\.timer\)`,
	).do("systemctl -q disable tunnelcast-archiveprune.timer", "systemctl -q enable tunnelcast-archiveprune.timer"),
	forRecorddone("timer disabled",
		`unit tunnelcast-sweep\.timer: it is inactive \(systemctl enable --now tunnelcast-sweep\.timer\)`,
	).do("systemctl -q disable --now tunnelcast-sweep.timer", "systemctl -q enable --now tunnelcast-sweep.timer"),
	forCerthook("timer masked",
		`unit tunnelcast-certcheck\.timer: it is masked \(systemctl unmask tunnelcast-certcheck\.timer && .*\)`,
	).do("systemctl -q mask --now tunnelcast-certcheck.timer",
		"systemctl -q unmask tunnelcast-certcheck.timer; systemctl start tunnelcast-certcheck.timer"),
}

// The check of the program that a mistake affects names what is wrong, with the remedy.
func TestCheckNamesWhatIsWrong(t *testing.T) {
	b := server(t)
	script := func(t *testing.T, s string) {
		t.Helper()
		run(t, b, "sh", "-ec", s)
	}

	// The guide's cron line, which the package does not remove.
	script(t, "mv "+rootCrontab+" /root/cron")
	t.Cleanup(func() {
		if _, err := b.Gateway.Run(context.Background(), "mv", "/root/cron", rootCrontab); err != nil {
			t.Error(err)
		}
	})
	// Without this, charon would not have its issuers as files before the timer's first run.
	script(t, "systemctl start tunnelcast-certcheck.service")
	ready(t, b)

	for _, m := range mistakes {
		t.Run(m.program+": "+m.name, func(t *testing.T) {
			script(t, m.wrong)
			out, status := check(t, b, m.program, m.as)
			script(t, m.right)
			if status != 1 {
				t.Errorf("status %d, want 1", status)
			}
			for _, want := range m.want {
				if !regexp.MustCompile(`(?m)^FAIL  (?:` + want + `)$`).MatchString(out) {
					t.Errorf("no line FAIL  %s in\n%s", want, out)
				}
			}
			if n := len(regexp.MustCompile(`(?m)^FAIL`).FindAllString(out, -1)); n < len(m.want) {
				t.Errorf("%d lines FAIL, want at least %d", n, len(m.want))
			}
		})
	}
	runUnits(t, b) // also those that a timer started in the middle of a mistake
	ready(t, b)
}
