package box

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"text/template"

	"tunnelcast/packaging"
)

//go:embed files
var files embed.FS

// A Gateway is the server: the VPN gateway that the guide describes.
type Gateway struct {
	*machine
	suite string
}

// Users are the users that may connect; the password of each is "secret of NAME".
var Users = []string{"alice", "bob", "carol", "dave"}

// Links are the paths at which charon, nginx and certbot call our programs, by the program's name.
var Links = map[string]string{
	"updown":     "/etc/swanctl/script/updown.sh",
	"recorddone": "/etc/nginx/conf.d/record_done.sh",
	"certhook":   "/etc/letsencrypt/renewal-hooks/deploy/tunnelcast",
}

const lineage = "/etc/letsencrypt/live/" + Name

func example(name string) string { return mustRead(packaging.Examples, "examples/"+name) }
func own(name string) string     { return mustRead(files, "files/"+name) }

// mustRead reads an embedded file.
func mustRead(fs embed.FS, name string) string {
	data, err := fs.ReadFile(name)
	if err != nil {
		panic(err)
	}
	return string(data)
}

// startGateway boots the gateway. What needs a certificate is left to setUp.
func (b *Box) startGateway(ctx context.Context) (*Gateway, error) {
	m, err := newMachine(ctx, b.namespaces, b.tree.dir, "gateway")
	if err != nil {
		return nil, err
	}
	g := &Gateway{m, b.options.Suite}
	for _, address := range []string{Inside, Outside} {
		if _, err := m.net(ctx, "ip", "address", "add", address+"/32", "dev", "lo"); err != nil {
			return nil, err
		}
	}

	needs := map[string]string{
		"/etc/hosts":       "127.0.0.1 localhost\n",
		"/etc/resolv.conf": "nameserver 127.0.0.1\n",
	}
	if b.options.Server != Bare {
		needs["/etc/strongswan.d/charon/kernel-libipsec.conf"] = own("kernel-libipsec.conf")
	}
	for name, content := range needs {
		if err := m.WriteFile(name, content, 0o644); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(m.Path("/var/log/journal"), 0o755); err != nil {
		return nil, fmt.Errorf("keep the gateway's journal: %w", err)
	}
	if b.options.Server == Guide {
		if err := g.follow(ctx); err != nil {
			return nil, err
		}
	}
	if err := m.start(ctx); err != nil {
		return nil, err
	}
	return g, g.WaitRunning(ctx)
}

// follow writes the files that the guide has its reader write.
func (g *Gateway) follow(ctx context.Context) error {
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
	if g.suite == "bookworm" {
		// The guide was written for bookworm, which does not need this line.
		zones = strings.Replace(zones, "allow-transfer { key local-ddns; };", "", 1)
	}
	nginx, err := g.ReadFile("/etc/nginx/nginx.conf")
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name, content string
		mode          os.FileMode
	}{
		// The guide's files.
		{"/etc/bind/named.conf.local", zones, 0o644},
		{"/var/lib/bind/db.example", example("db.example"), 0o644},
		{"/etc/nginx/rtmp.conf", example("nginx-rtmp.conf"), 0o644},
		{"/etc/nginx/nginx.conf", nginx + "\ninclude /etc/nginx/rtmp.conf;\n", 0o644},
		{"/etc/nginx/conf.d/record_done.sh", own("record_done.sh"), 0o755},
		{"/etc/swanctl/script/updown.sh", own("updown.sh"), 0o755},
		{"/etc/swanctl/conf.d/users.conf", users.String(), 0o600},
		{"/var/spool/cron/crontabs/root", own("crontab"), 0o600},
		// Files that only the box needs.
		{"/etc/bind/named.conf.options", own("named.conf.options"), 0o644},
		{"/etc/pebble/pebble.json", own("pebble.json"), 0o644},
		{"/etc/systemd/system/pebble.service", own("pebble.service"), 0o644},
	} {
		if err := g.WriteFile(f.name, f.content, f.mode); err != nil {
			return err
		}
	}
	// The archive is a file system of its own, as on many servers. On overlayfs a file's device differs from that of
	// its directory, and archiveprune, which stays on one file system, would skip every file.
	const prepare = `set -e
cd "$1"
mkdir archive "root$2"
mount --bind archive "root$2"
chroot root chown www-data:www-data "$2"
chroot root chown bind:bind /var/lib/bind/db.example
systemctl -q --root=root enable pebble.service`
	_, err = g.namespaces.run(ctx, "/bin/sh", "-c", prepare, "prepare", g.namespaces.dir+"/gateway", Archive)
	return err
}

// WaitRunning waits until systemd has no job left, and fails if a unit has failed.
func (g *Gateway) WaitRunning(ctx context.Context) error {
	return g.wait(ctx, "the gateway to run", func() (bool, error) {
		state, err := g.Run(ctx, "systemctl", "is-system-running")
		switch strings.TrimSpace(state) {
		case "running":
			return true, nil
		case "degraded":
			failed, _ := g.Run(ctx, "systemctl", "--failed", "--no-legend", "--plain")
			return true, fmt.Errorf("units of the gateway failed: %s", strings.TrimSpace(failed))
		}
		return false, err
	})
}

// setUp obtains the first certificate and loads charon's connection.
func (g *Gateway) setUp(ctx context.Context) error {
	if err := g.wait(ctx, "pebble", func() (bool, error) {
		_, err := g.Root(ctx)
		if err == nil {
			return true, nil
		}
		if _, failed := g.Run(ctx, "systemctl", "is-failed", "pebble.service"); failed == nil {
			return true, fmt.Errorf("pebble has failed: %w", err)
		}
		return false, err
	}); err != nil {
		return err
	}
	if _, err := g.Run(ctx, "certbot", "certonly", "--non-interactive", "--agree-tos",
		"--register-unsafely-without-email", "--server", "https://localhost:14000/dir",
		"--standalone", "--http-01-port", "5002", "--domain", Name); err != nil {
		return err
	}
	if err := g.WriteFile("/etc/swanctl/conf.d/vpn.conf", example("swanctl.conf"), 0o644); err != nil {
		return err
	}
	if _, err := g.Run(ctx, "ln", "-s", lineage+"/privkey.pem", "/etc/swanctl/private/"+Name+".pem"); err != nil {
		return err
	}
	_, err := g.Run(ctx, "swanctl", "--load-all", "--noprompt")
	return err
}

// Root returns the root certificate of the ACME server, the only one that clients trust, in PEM.
func (g *Gateway) Root(ctx context.Context) (string, error) {
	return g.Run(ctx, "curl", "--silent", "--show-error", "--fail", "https://localhost:15000/roots/0")
}

// Install installs a Debian package on the running gateway, as its administrator would, and waits until systemd has
// done all that the installation started.
func (g *Gateway) Install(ctx context.Context, deb string) error {
	data, err := os.ReadFile(deb)
	if err != nil {
		return fmt.Errorf("install the package: %w", err)
	}
	inside := path.Join("/var/cache", path.Base(deb))
	if err := g.WriteFile(inside, string(data), 0o644); err != nil {
		return err
	}
	_, err = g.Run(ctx, "apt-get", "-qq", "--no-install-recommends", "install", inside)
	if err := errors.Join(err, os.Remove(g.Path(inside))); err != nil {
		return err
	}
	return g.WaitRunning(ctx)
}

// Renew renews the gateway's certificate as certbot.timer does when it is due, deploy hooks included, and returns what
// certbot printed. certbot succeeds even if a hook failed.
func (g *Gateway) Renew(ctx context.Context) (string, error) {
	return g.Run(ctx, "sh", "-c", "certbot renew --force-renewal --no-random-sleep-on-renew 2>&1")
}

// CertSerial returns the serial number, in upper case hexadecimal, of the certificate on the gateway's disk.
func (g *Gateway) CertSerial(ctx context.Context) (string, error) {
	out, err := g.Run(ctx, "openssl", "x509", "-noout", "-serial", "-in", lineage+"/cert.pem")
	serial, _ := strings.CutPrefix(strings.TrimSpace(out), "serial=")
	return plainSerial(serial), err
}

// plainSerial normalizes a serial number: some tools print the zero byte that precedes a high bit in DER.
func plainSerial(s string) string {
	return strings.TrimLeft(strings.ToUpper(strings.ReplaceAll(s, ":", "")), "0")
}

// Journal returns the output of journalctl with these arguments, one line per entry.
func (g *Gateway) Journal(ctx context.Context, args ...string) (string, error) {
	return g.Run(ctx, append([]string{"journalctl", "--quiet", "--no-pager", "--no-hostname"}, args...)...)
}

// Recordings returns the names of the files in the archive, sorted.
func (g *Gateway) Recordings() ([]string, error) {
	entries, err := os.ReadDir(g.Path(Archive))
	if err != nil {
		return nil, fmt.Errorf("list the archive: %w", err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

func secret(user string) string { return "secret of " + user }

func clientConfig(user string) (string, error) {
	t, err := template.New("client.conf").Parse(own("client.conf"))
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	err = t.Execute(&b, struct{ User, Secret string }{user, secret(user)})
	return b.String(), err
}
