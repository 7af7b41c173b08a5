package box

import (
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
)

// A guideFile is a file of the gateway.
type guideFile struct {
	name, content string
	mode          os.FileMode
}

// guideFiles returns the files that the guide has its reader write, and those that only the tests need.
func guideFiles(suite string) []guideFile {
	var users strings.Builder
	for _, u := range Users {
		fmt.Fprintf(&users, `secrets {
    eap-%s {
        id = %[1]s
        secret = "%s"
    }
}
`, u, secret(u))
	}
	zones := example("named.conf.local")
	if suite == "bookworm" {
		// The guide was written for bookworm, which does not need this line.
		zones = strings.Replace(zones, "allow-transfer { key local-ddns; };", "", 1)
	}
	return []guideFile{
		// The guide's files.
		{"/etc/bind/named.conf.local", zones, 0o644},
		{"/var/lib/bind/db.example", example("db.example"), 0o644},
		{"/etc/nginx/rtmp.conf", example("nginx-rtmp.conf"), 0o644},
		{"/etc/nginx/conf.d/record_done.sh", own("record_done.sh"), 0o755},
		{"/etc/swanctl/script/updown.sh", own("updown.sh"), 0o755},
		{"/etc/swanctl/conf.d/users.conf", users.String(), 0o600},
		{"/var/spool/cron/crontabs/root", own("crontab"), 0o600},
		// Files that only the box needs.
		{"/etc/bind/named.conf.options", own("named.conf.options"), 0o644},
		{"/etc/pebble/pebble.json", own("pebble.json"), 0o644},
		{"/etc/systemd/system/pebble.service", own("pebble.service"), 0o644},
	}
}

// Follow writes those files into a tree with the guide's daemons. The owners of the archive and of the zone's file are
// left to the caller.
func Follow(tree, suite string) error {
	const settings = "/etc/nginx/nginx.conf"
	nginx, err := readFile(tree, settings)
	if err != nil {
		return err
	}
	nginx += "\ninclude /etc/nginx/rtmp.conf;\n"
	for _, f := range append(guideFiles(suite), guideFile{settings, nginx, 0o644}) {
		if err := WriteFile(tree, f.name, f.content, f.mode); err != nil {
			return err
		}
	}
	return nil
}

// GuideSum returns a hash of those files, and of the connection's that Certify writes.
func GuideSum(suite string) string {
	h := sha256.New()
	for _, f := range append(guideFiles(suite), guideFile{"", example("swanctl.conf"), 0}) {
		fmt.Fprintf(h, "%s %o %d %s", f.name, f.mode, len(f.content), f.content)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}
