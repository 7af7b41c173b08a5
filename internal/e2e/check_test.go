package e2e

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"

	"tunnelcast/internal/e2e/box"
)

// check runs a program's check as the user that it works as, and gives what it said.
func check(t *testing.T, b *box.Box, program, user string) (out string, status int) {
	t.Helper()
	out, err := b.Gateway.Run(t.Context(), "runuser", "-u", user, "--", "sh", "-c", "exec tunnelcast-"+program+" check 2>&1")
	if failed := new(box.CommandError); errors.As(err, &failed) {
		return failed.Output, failed.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out, 0
}

// ready fails the test unless all four programs find the host ready.
func ready(t *testing.T, b *box.Box) {
	t.Helper()
	for _, c := range []struct{ program, user string }{
		{"updown", "root"}, {"certhook", "root"}, {"recorddone", "www-data"}, {"archiveprune", "www-data"}, {"archiveprune", "root"},
	} {
		out, status := check(t, b, c.program, c.user)
		lines, _, _ := strings.Cut(out, "\n\n") // certhook's table
		for line := range strings.Lines(lines) {
			// Whose crontabs www-data may not see, its check cannot praise.
			unseen := c.user != "root" && strings.HasPrefix(line, "?     no cron line ")
			if status != 0 || !unseen && !strings.HasPrefix(line, "ok    ") {
				t.Fatalf("check of %s as %s on a host set up rightly: status %d\n%s", c.program, c.user, status, out)
			}
		}
	}
}

// What is set up wrongly is named, with the remedy, by the check of the program that it keeps from its work.
func TestCheckNamesWhatIsWrong(t *testing.T) {
	b := server(t)
	const (
		vpn, local, rtmp, cron = "/etc/swanctl/conf.d/vpn.conf", "/etc/bind/named.conf.local", "/etc/nginx/rtmp.conf", "/var/spool/cron/crontabs/root"
		tmpfs                  = "mount -t tmpfs -o nosuid,"
		archive                = " tmpfs " + box.Archive
		elsewhere              = `for p in recorddone archiveprune; do cp -a /etc/tunnelcast/$p.toml /root; echo 'archive = "/srv/recordings"' >>/etc/tunnelcast/$p.toml; done`
		back                   = "mv /root/recorddone.toml /root/archiveprune.toml /etc/tunnelcast/"
	)
	keep := func(file string) string { return "cp -a " + file + " /root/kept; " }
	put := func(file string) string { return "mv /root/kept " + file }
	dropin := func(unit, line string) string {
		dir := "/etc/systemd/system/" + unit + ".service.d"
		return "mkdir -p " + dir + "; printf '[Service]\\n%s\\n' '" + line + "' >" + dir + "/wrong.conf; systemctl daemon-reload"
	}
	const noDropin = "rm -r /etc/systemd/system/tunnelcast-*.service.d; systemctl daemon-reload; "
	script := func(t *testing.T, s string) {
		t.Helper()
		run(t, b, "sh", "-ec", s)
	}

	// The guide's cron line, which the package only names.
	script(t, "mv "+cron+" /root/cron")
	t.Cleanup(func() {
		if _, err := b.Gateway.Run(context.Background(), "mv", "/root/cron", cron); err != nil {
			t.Error(err)
		}
	})
	// The timer's first run, at midnight, would give charon its issuers as files.
	script(t, "systemctl start tunnelcast-certcheck.service")
	ready(t, b)

	for _, c := range []struct {
		name          string
		wrong, right  string   // shell scripts
		program, user string   // whose check
		want          []string // expressions for FAIL lines, from the name of the thing to the remedy
	}{
		{"key missing", keep("/etc/tunnelcast/updown.toml") + `echo 'key = "/etc/bind/none.key"' >>/etc/tunnelcast/updown.toml`, put("/etc/tunnelcast/updown.toml"),
			"updown", "root", []string{"key /etc/bind/none\\.key: .*no such file.*\\(the key `key` in /etc/tunnelcast/updown\\.toml; .*\\)"}},
		{"key for everybody", "chmod o+r /run/named/session.key", "chmod o= /run/named/session.key",
			"updown", "root", []string{`key /run/named/session\.key: .*mode 0604.*\(chmod o= /run/named/session\.key\)|key /run/named/session\.key: .*mode 06[0-7]4.*\(chmod o= /run/named/session\.key\)`}},
		{"zone not dynamic", keep(local) + "sed -i '/allow-update/d' " + local + "; rndc reconfig", put(local) + "; rndc reconfig",
			"updown", "root", []string{`update of zone example\.: .*REFUSED.*\(update-policy local; in .*named\.conf\)`}},
		{"no transfer", keep(local) + "sed -i 's/allow-update.*/& allow-transfer { none; };/' " + local + "; rndc reconfig", put(local) + "; rndc reconfig",
			"updown", "root", []string{`transfer of zone example\.,.*REFUSED.*\(allow-transfer \{ key local-ddns; \}; in .*named\.conf\)`}},
		{"zone not there", keep(local) + "sed -i 's/zone \"example\"/zone \"example2\"/' " + local + "; rndc reconfig", put(local) + "; rndc reconfig",
			"updown", "root", []string{`zone example\. at 127\.0\.0\.1:53: .*\(.*zone and server in /etc/tunnelcast/updown\.toml\)`}},
		{"named stopped", "systemctl stop named", "systemctl start named",
			"updown", "root", []string{`key /run/named/session\.key: .*\(is named running\?.*\)`}},
		{"charon stopped", "systemctl stop strongswan", "systemctl start strongswan",
			"updown", "root", []string{`charon at /run/charon\.vici: .*\(systemctl start strongswan\.service\)`}},
		{"charon stopped", "systemctl stop strongswan", "systemctl start strongswan",
			"certhook", "root", []string{`charon on /run/charon\.vici: .*\(systemctl start strongswan\.service\)`}},
		{"no updown line", keep(vpn) + "sed -i '/updown =/d' " + vpn, put(vpn),
			"updown", "root", []string{`updown line in /etc/swanctl/swanctl\.conf: no child of a connection has one \(updown = /etc/swanctl/script/updown\.sh iptables .*\)`}},
		{"another script", keep(vpn) + "sed -i 's,updown = [^ ]*,updown = /usr/bin/true,' " + vpn, put(vpn),
			"updown", "root", []string{`updown line in .*: child net of connection vpn calls /usr/bin/true \(updown = .*\)`}},
		{"wrong path in certs", keep(vpn) + "sed -i 's,live/vpn.example/cert,live/vpn.exmaple/cert,' " + vpn, put(vpn),
			"certhook", "root", []string{
				`certs of connection vpn, /etc/letsencrypt/live/vpn\.exmaple/cert\.pem: .*no such file.* \(certs = /etc/letsencrypt/live/NAME/cert\.pem .*\)`,
				`lineages: no connection in /etc/swanctl/swanctl\.conf names a certificate of certbot \(certs = .*\)`}},
		{"key not in private", "rm /etc/swanctl/private/vpn.example.pem", "ln -s /etc/letsencrypt/live/vpn.example/privkey.pem /etc/swanctl/private/vpn.example.pem",
			"certhook", "root", []string{`lineage /etc/letsencrypt/live/vpn\.example: .*no file in /etc/swanctl/private holds it \(ln -s /etc/letsencrypt/live/vpn\.example/privkey\.pem /etc/swanctl/private/vpn\.example\.pem\)`}},
		{"certbot calls nobody", "mv " + box.Links["certhook"] + " /root/hook", "mv /root/hook " + box.Links["certhook"],
			"certhook", "root", []string{`certbot's hook in /etc/letsencrypt/renewal-hooks/deploy: .*\(ln -s /usr/sbin/tunnelcast-certhook .*\)`}},
		{"no exec_record_done", keep(rtmp) + "sed -i '/exec_record_done/d' " + rtmp, put(rtmp),
			"recorddone", "www-data", []string{`exec_record_done in /etc/nginx: no file has the line \(exec_record_done /etc/nginx/conf\.d/record_done\.sh \$path .*\)`}},
		{"archive missing", elsewhere, back,
			"recorddone", "www-data", []string{`recordings in /srv/recordings, .*no such file.* \(install -d -o www-data -g www-data /srv/recordings.*\)`}},
		{"archive missing", elsewhere, back,
			"archiveprune", "www-data", []string{`archive /srv/recordings: .*no such file.* \(install -d -o www-data -g www-data /srv/recordings.*\)`}},
		{"strict drop-in", elsewhere + "; install -d -o www-data /srv/recordings; " + dropin("tunnelcast-", "ProtectSystem=strict"), noDropin + back + "; rmdir /srv/recordings",
			"recorddone", "www-data", []string{`tunnelcast-sweep\.service may write to /srv/recordings: ProtectSystem=strict keeps it away \(systemctl edit tunnelcast-sweep\.service: \[Service\] ReadWritePaths=/srv/recordings\)`}},
		{"archive elsewhere than nginx's", elsewhere + "; install -d -o www-data /srv/recordings", back + "; rmdir /srv/recordings",
			"archiveprune", "www-data", []string{`recordings of nginx in /var/www/html/archive are pruned: /etc/nginx/rtmp\.conf:[0-9]+ has record_path /var/www/html/archive, .*\(archive = .*\)`}},
		{"no sandbox for want of a path", dropin("tunnelcast-archiveprune", "ReadWritePaths=/srv/none"), noDropin + "true",
			"archiveprune", "www-data", []string{`tunnelcast-archiveprune\.service may write to /var/www/html/archive: ReadWritePaths=/srv/none does not exist.*\(systemctl edit .*ReadWritePaths=-/srv/none\)`}},
		{"no user", keep("/etc/passwd") + "sed -i '/^www-data:/d' /etc/passwd", put("/etc/passwd"),
			"archiveprune", "root", []string{`tunnelcast-archiveprune\.service may write to .*: its User=www-data: .*unknown user.*`}},
		{"archive in a home", "mkdir -p /home/pi/a; chown www-data /home/pi/a; " + keep("/etc/tunnelcast/archiveprune.toml") + `echo 'archive = "/home/pi/a"' >>/etc/tunnelcast/archiveprune.toml`,
			put("/etc/tunnelcast/archiveprune.toml") + "; rm -r /home/pi",
			"recorddone", "www-data", []string{`tunnelcast-sweep\.service may write to /home/pi/a: ProtectHome=yes keeps it away \(.*ProtectHome=no\)`}},
		{"archive full", tmpfs + "size=256k,uid=33" + archive + "; head -c 300k /dev/zero >" + box.Archive + "/full.flv || true", "umount " + box.Archive,
			"recorddone", "www-data", []string{`recordings in /var/www/html/archive, .*no space left.* \(df /var/www/html/archive; .*\)`}},
		{"archive read-only", tmpfs + "ro,uid=33" + archive, "umount " + box.Archive,
			"recorddone", "www-data", []string{`recordings in /var/www/html/archive, .*read-only.* \(.*remount,rw.*\)`}},
		{"archive read-only", tmpfs + "ro,uid=33" + archive, "umount " + box.Archive,
			"archiveprune", "www-data", []string{`archive /var/www/html/archive: .*read-only.* \(.*remount,rw.*\)`}},
		{"archive root's", tmpfs + "mode=755" + archive, "umount " + box.Archive,
			"recorddone", "www-data", []string{`recordings in /var/www/html/archive, .*permission denied.* \(chown www-data .*\)`}},
		{"archive root's", tmpfs + "mode=755" + archive, "umount " + box.Archive,
			"archiveprune", "www-data", []string{`archive /var/www/html/archive: .*permission denied.* \(chown www-data .*\)`}},
		{"old cron line", "cp -a /root/cron " + cron, "rm " + cron,
			"archiveprune", "root", []string{`no cron line removes from /var/www/html/archive: /var/spool/cron/crontabs/root:[0-9]+: .*find .* \(remove the line.*\)`}},
		{"timer stopped", "systemctl stop tunnelcast-sync.timer", "systemctl start tunnelcast-sync.timer",
			"updown", "root", []string{`unit tunnelcast-sync\.timer: it is inactive \(systemctl enable --now tunnelcast-sync\.timer\)`}},
		{"path masked", "systemctl -q mask --now tunnelcast-sync.path", "systemctl -q unmask tunnelcast-sync.path; systemctl start tunnelcast-sync.path",
			"updown", "root", []string{`unit tunnelcast-sync\.path: it is masked \(systemctl unmask tunnelcast-sync\.path && .*\)`}},
		{"timer disabled", "systemctl -q disable tunnelcast-archiveprune.timer", "systemctl -q enable tunnelcast-archiveprune.timer",
			"archiveprune", "www-data", []string{`unit tunnelcast-archiveprune\.timer: it is disabled .*\(systemctl enable --now tunnelcast-archiveprune\.timer\)`}},
		{"timer disabled", "systemctl -q disable --now tunnelcast-sweep.timer", "systemctl -q enable --now tunnelcast-sweep.timer",
			"recorddone", "www-data", []string{`unit tunnelcast-sweep\.timer: it is inactive \(systemctl enable --now tunnelcast-sweep\.timer\)`}},
		{"timer masked", "systemctl -q mask --now tunnelcast-certcheck.timer", "systemctl -q unmask tunnelcast-certcheck.timer; systemctl start tunnelcast-certcheck.timer",
			"certhook", "root", []string{`unit tunnelcast-certcheck\.timer: it is masked \(systemctl unmask tunnelcast-certcheck\.timer && .*\)`}},
	} {
		t.Run(c.program+": "+c.name, func(t *testing.T) {
			script(t, c.wrong)
			out, status := check(t, b, c.program, c.user)
			script(t, c.right)
			if status != 1 {
				t.Errorf("status %d, want 1", status)
			}
			for _, want := range c.want {
				if !regexp.MustCompile(`(?m)^FAIL  (?:` + want + `)$`).MatchString(out) {
					t.Errorf("no line FAIL  %s in\n%s", want, out)
				}
			}
			if n := strings.Count(out, "\nFAIL") + strings.Count(out[:min(4, len(out))], "FAIL"); n < len(c.want) {
				t.Errorf("%d lines FAIL", n)
			}
		})
	}
	if err := b.Gateway.WaitRunning(t.Context()); err != nil {
		t.Error(err)
	}
	ready(t, b)
}
