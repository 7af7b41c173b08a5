package box

import (
	"context"
	"embed"
	"fmt"
	"os"
	"path"
	"path/filepath"

	"tunnelcast/packaging"
)

//go:embed files
var files embed.FS

// A Gateway is the server: the VPN gateway that the guide describes.
type Gateway struct {
	*machine
	Services
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
	g := &Gateway{m, NewServices(m)}
	if b.options.Server == VPS {
		return g, g.bootVPS(ctx)
	}
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
		if err := g.follow(ctx, b.options.Suite); err != nil {
			return nil, err
		}
	}
	if err := m.start(ctx); err != nil {
		return nil, err
	}
	return g, g.WaitRunning(ctx)
}

// follow writes the guide's files and mounts the archive.
func (g *Gateway) follow(ctx context.Context, suite string) error {
	if err := Follow(g.Path("/"), suite); err != nil {
		return err
	}
	if err := g.mountArchive(ctx); err != nil {
		return err
	}
	const prepare = `set -e
chroot "$1" chown www-data:www-data "$2"
chroot "$1" chown bind:bind /var/lib/bind/db.example
systemctl -q --root="$1" enable pebble.service`
	_, err := g.namespaces.run(ctx, "/bin/sh", "-c", prepare, "prepare", g.root(), Archive)
	return err
}

// mountArchive makes the archive a file system of its own, as on many servers. On overlayfs a file's device differs
// from that of its directory, and archiveprune, which stays on one file system, would skip every file.
func (g *Gateway) mountArchive(ctx context.Context) error {
	const script = `set -e
mkdir -p "$1" "$2"
mount --bind "$1" "$2"`
	_, err := g.namespaces.run(ctx, "/bin/sh", "-c", script, "mount",
		filepath.Join(g.root(), "../archive"), g.root()+Archive)
	return err
}

// root returns the root directory of the gateway, for commands in the namespaces.
func (g *Gateway) root() string { return filepath.Join(g.namespaces.dir, g.name, "root") }

// Install installs a Debian package on the running gateway: see InstallFile.
func (g *Gateway) Install(ctx context.Context, deb string) error {
	data, err := os.ReadFile(deb)
	if err != nil {
		return fmt.Errorf("install the package: %w", err)
	}
	inside := path.Join("/var/cache", path.Base(deb))
	if err := g.WriteFile(inside, string(data), 0o644); err != nil {
		return err
	}
	return g.InstallFile(ctx, inside)
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
