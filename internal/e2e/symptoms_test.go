package e2e

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"tunnelcast/internal/e2e/box"
)

// A symptom is a row of docs/troubleshooting.md: a fault that is made, the line that the page quotes, and the remedy
// that it gives.
type symptom struct {
	name   string
	wrong  string // the script that makes the fault
	act    func(*testing.T, *box.Box)
	log    string // the script that prints the log
	line   string // as the page quotes it
	remedy []string
	undo   string // a script for what the remedy does not undo
}

// The logs that the lines are in.
const (
	charonLog = "journalctl -q -o cat -u strongswan"
	namedLog  = "journalctl -q -o cat -u named"
	nginxLog  = "cat /var/log/nginx/error.log"
)

// onGateway runs a script there, which may fail: what it leaves in the journal counts.
func onGateway(script string) func(*testing.T, *box.Box) {
	return func(t *testing.T, b *box.Box) {
		_, err := b.Gateway.Run(t.Context(), "sh", "-c", script)
		t.Log(err)
	}
}

// login tries to connect as dave, which must fail.
func login(t *testing.T, b *box.Box) {
	c := client(t, b, "refused")
	if address, err := c.Connect(t.Context(), "dave"); err == nil {
		t.Errorf("dave is connected, with the address %s", address)
	}
}

// viewer returns a connected device.
func viewer(t *testing.T, b *box.Box) *box.Client {
	c := client(t, b, "viewer")
	connect(t, c, "carol")
	return c
}

const linkKey = "ln -s /etc/letsencrypt/live/vpn.example/privkey.pem /etc/swanctl/private/vpn.example.pem"

var symptoms = []symptom{
	{
		name:  "the key's link is missing",
		wrong: "rm /etc/swanctl/private/vpn.example.pem; swanctl --load-creds --clear",
		act:   login, log: charonLog, line: "no private key found for 'NAME'",
		remedy: []string{linkKey, "swanctl --load-all"},
	},
	{
		name: "a wrong password", wrong: keep(usersConf) + "sed -i 's/secret of dave/other/' " + usersConf +
			"; swanctl --load-creds --clear",
		act: login, log: charonLog, line: "EAP-MS-CHAPv2 verification failed, retry (N)",
		remedy: []string{"systemctl restart strongswan"}, undo: putBack(usersConf) + "; swanctl --load-creds --clear",
	},
	{
		name: "no such user", wrong: keep(usersConf) + "sed -i 's/id = dave/id = nobody/' " + usersConf +
			"; swanctl --load-creds --clear",
		act: login, log: charonLog, line: "no EAP key found for hosts 'NAME' - 'IDENTITY'",
		remedy: []string{"swanctl --load-creds"}, undo: putBack(usersConf) + "; swanctl --load-creds --clear",
	},
	{
		name: "an update without a key", wrong: "true", log: namedLog, line: "update 'example/IN' denied",
		act: func(t *testing.T, b *box.Box) {
			_, err := viewer(t, b).Run(t.Context(), "sh", "-c", "printf 'server 10.0.0.1\nzone example\n"+
				"update add x.example 60 A 10.0.0.9\nsend\n' | nsupdate")
			if err == nil {
				t.Error("named accepted an unsigned update from a client")
			}
		},
	},
	{
		name: "an edited zone file",
		wrong: "rndc sync; systemctl stop named; " +
			"sed -i -E 's/^([[:space:]]+)[0-9]+([[:space:]]*; serial)/\\190000\\2/' /var/lib/bind/db.example",
		act: onGateway("systemctl start named"), log: namedLog,
		line: "zone example/IN: journal rollforward failed: journal out of sync with zone",
		remedy: []string{
			"systemctl stop named", "rm /var/lib/bind/db.example.jnl", "systemctl start named",
		},
	},
	{
		name: "a journal without the head of a transaction, as of a power cut",
		wrong: "rndc sync -clean; printf 'update add torn.example 60 A 10.0.0.198\nsend\n' | nsupdate -l; " +
			"rndc halt; systemctl stop named; " +
			"dd if=/dev/zero of=/var/lib/bind/db.example.jnl bs=16 seek=32 count=1 conv=notrunc status=none",
		act: onGateway("systemctl start named"), log: namedLog,
		line: "zone example/IN: journal rollforward failed: unexpected error",
		remedy: []string{
			"systemctl stop named", "rm /var/lib/bind/db.example.jnl", "systemctl start named",
		},
	},
	{
		name:  "an empty journal, as of a power cut",
		wrong: "systemctl stop named; systemctl reset-failed named; : >/var/lib/bind/db.example.jnl", // many starts
		act:   onGateway("systemctl start named"), log: namedLog,
		line: "zone example/IN: journal open failed: no more",
		remedy: []string{
			"systemctl stop named", "rm /var/lib/bind/db.example.jnl", "systemctl start named",
		},
	},
	{
		name: "named stopped", wrong: "systemctl stop named", act: onGateway("tunnelcast-updown sync"),
		line:   "tunnelcast-updown: … read key: … (is named running? its session key is made when it starts)",
		remedy: []string{"systemctl start named"},
	},
	{
		name: "no transfer",
		wrong: keep(zoneConf) +
			"sed -i 's/allow-update.*/& allow-transfer { none; };/' " + zoneConf + "; rndc reconfig",
		act:  onGateway("tunnelcast-updown sync"),
		line: "tunnelcast-updown: … REFUSED: the zone may not be transferred with the key NAME (…)",
		undo: putBack(zoneConf) + "; rndc reconfig; tunnelcast-updown sync",
	},
	{
		name: "a name by hand", wrong: "rm -f /run/tunnelcast/said-kept; " +
			"printf 'update add by-hand.example 60 A 10.0.0.199\nsend\n' | nsupdate -l",
		act:    onGateway("tunnelcast-updown sync"),
		line:   "tunnelcast-updown: N names inside the pools are not this gateway's and stay: NAMES; …",
		remedy: []string{"tunnelcast-updown sync --force"},
		undo:   "! dig +short @127.0.0.1 by-hand.example | grep .",
	},
	{
		name: "metrics nowhere", wrong: "true", act: onGateway("tunnelcast-updown --metrics=/nonexistent sync"),
		line: "tunnelcast-updown: metrics not written error=CAUSE",
	},
	{
		name: "the archive is root's", wrong: "chown root " + box.Archive + "; chmod 755 " + box.Archive,
		act: func(t *testing.T, b *box.Box) {
			if err := viewer(t, b).Publish(t.Context(), "unrecorded", 2); err != nil {
				t.Log(err)
			}
		},
		log: nginxLog, line: "failed to open file 'FILE' (13: Permission denied)",
		remedy: []string{"chown www-data " + box.Archive},
	},
	{
		name: "the archive is read-only",
		wrong: mount("uid=33") + "; touch -d '5 days ago' " + box.Archive + "/old.mp4; " +
			"mount -o remount,ro " + box.Archive,
		act:  onGateway("runuser -u www-data -- tunnelcast-archiveprune"),
		line: "tunnelcast-archiveprune: … read-only file system (the disk is, or ProtectSystem= of the unit: …)",
		// The remedy for the disk; the other is for the unit.
		remedy: []string{"mount -o remount,rw " + box.Archive},
		undo:   "runuser -u www-data -- tunnelcast-archiveprune; test ! -e " + box.Archive + "/old.mp4; " + unmount,
	},
	{
		name: "a directory is root's", wrong: "mkdir " + box.Archive + "/root; touch -d '5 days ago' " + box.Archive +
			"/root/old.mp4",
		act:  onGateway("runuser -u www-data -- tunnelcast-archiveprune"),
		line: "tunnelcast-archiveprune: not removed path=FILE cause=CAUSE",
		undo: "rm -r " + box.Archive + "/root",
	},
	{
		name: "a program that is not one", wrong: keep(recorddoneToml) +
			"echo 'on-published = [\"/etc/hosts\"]' >>" + recorddoneToml,
		act:  onGateway("runuser -u www-data -- tunnelcast-recorddone sweep"),
		line: "tunnelcast-recorddone: the program of on-published is not called …", undo: putBack(recorddoneToml),
	},
}

const (
	usersConf      = "/etc/swanctl/conf.d/users.conf"
	recorddoneToml = "/etc/tunnelcast/recorddone.toml"
)

// value matches what stands for a value in a line that the page quotes, or in a command.
var value = regexp.MustCompile(`…|\b(?:CAUSE|DIRECTORY|FILE|IDENTITY|N|NAMES?)\b`)

// likeQuoted returns an expression for the lines that a quotation stands for.
func likeQuoted(line string) *regexp.Regexp {
	parts := value.Split(strings.TrimPrefix(line, "… "), -1)
	for i, part := range parts {
		parts[i] = regexp.QuoteMeta(part)
	}
	return regexp.MustCompile(strings.Join(parts, ".*"))
}

// TestSymptoms makes faults of the page for them, one after the other: the log must have the line that the page quotes,
// and the server must be as before after the page's remedy.
func TestSymptoms(t *testing.T) {
	text, err := os.ReadFile("../../docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	page := regexp.MustCompile("(?ms)^```.*?^```$").ReplaceAllString(string(text), "")
	b := server(t)
	script := func(t *testing.T, s string) {
		t.Helper()
		run(t, b, "sh", "-ec", s)
	}
	for _, s := range symptoms {
		t.Run(s.name, func(t *testing.T) {
			if !strings.Contains(page, "`"+s.line+"`") {
				t.Errorf("the page does not quote %q", s.line)
			}
			for _, command := range s.remedy {
				known := false
				for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(page, -1) {
					known = known || regexp.MustCompile("^"+likeQuoted(m[1]).String()+"$").MatchString(command)
				}
				if !known {
					t.Errorf("the page does not have the remedy %q", command)
				}
			}
			line, log := s.line, s.log
			if program, rest, ok := strings.Cut(s.line, ": "); ok && strings.HasPrefix(program, "tunnelcast-") {
				line, log = rest, "journalctl -q -o cat -t "+program
			}
			before := run(t, b, "sh", "-c", log)
			script(t, s.wrong)
			s.act(t, b)
			after := ""
			err := box.Poll(t.Context(), soon, "the line in the log", func() (bool, error) {
				after = strings.TrimPrefix(run(t, b, "sh", "-c", log), before)
				return likeQuoted(line).MatchString(after), nil
			})
			if err != nil {
				t.Errorf("%v: %s; it has\n%s", err, line, after)
			}
			for _, command := range s.remedy {
				script(t, command)
			}
			if s.undo != "" {
				script(t, s.undo)
			}
		})
	}
	if address := connect(t, client(t, b, "again"), "dave"); address == "" {
		t.Error("dave has no address")
	}
	runUnits(t, b)
	for _, program := range []string{"updown", "certhook"} {
		if out, status := check(t, b, program, "root"); status != 0 {
			t.Errorf("check of %s after all remedies: status %d\n%s", program, status, out)
		}
	}
}
