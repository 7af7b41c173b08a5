package box

import (
	"context"
	"errors"
	"os"
	"strings"
)

// SiteName is the name of a computer on the Internet, which answers to ping and has no route into the VPN.
const SiteName = "www.debian.org"

// firstDevice is the address of that computer, the first device of each box.
const firstDevice = "198.51.100.1"

// PublicName is the name of a VPS in the public DNS, for which /etc/hosts stands.
const PublicName = "vpn.example.net"

// The VPS and the computers of its users are the bare machines on which the pages in docs are run as they are written.
// This file is the one place for what the box replaces without the text:
//
//   - kernel-libipsec, ESP in user space, stands for the kernel's ESP.
//   - pebble on the VPS stands for Let's Encrypt: certbot asks it by root's own cli.ini, and users' computers have its
//     root certificate under a name of Let's Encrypt's.
//   - /etc/hosts stands for the public DNS, one computer with SiteName for the Internet, and a directory of packages
//     for Debian's mirrors.
//   - Reboot, which cuts the power, stands for the command of that name.
//   - A user's computer has an SSH key, because ssh-keygen asks questions. Its ssh accepts the VPS's host
//     key without a question.
func vpsFiles() map[string]string {
	return map[string]string{
		"/etc/strongswan.d/box.conf": own("vps-charon.conf"),
		"/etc/hosts": "127.0.0.1 localhost\n" +
			Outside + " " + PublicName + "\n" + firstDevice + " " + SiteName + "\n",
		"/etc/resolv.conf":               "nameserver 127.0.0.1\n",
		"/etc/ssh/ssh_config.d/box.conf": "StrictHostKeyChecking accept-new\n",
	}
}

// bootVPS boots the gateway as a VPS on which nothing was done, and returns when it has booted.
func (g *Gateway) bootVPS(ctx context.Context) error {
	if _, err := g.net(ctx, "ip", "address", "add", Outside+"/32", "dev", "lo"); err != nil {
		return err
	}
	ca := map[string]string{
		"/root/.config/letsencrypt/cli.ini":  "server = https://localhost:14000/dir\n",
		"/etc/pebble/pebble.json":            strings.Replace(own("pebble.json"), "5002", "80", 1),
		"/etc/systemd/system/pebble.service": own("pebble.service"),
	}
	if err := errors.Join(g.writeFiles(vpsFiles()), g.writeFiles(ca), g.mountArchive(ctx)); err != nil {
		return err
	}
	enable := []string{"systemctl", "-q", "--root=" + g.root(), "enable", "pebble.service"}
	if _, err := g.namespaces.run(ctx, enable...); err != nil {
		return err
	}
	g.sysctls = true
	if err := g.start(ctx); err != nil {
		return err
	}
	if err := g.WaitRunning(ctx); err != nil {
		return err
	}
	return g.WaitPebble(ctx)
}

// Reboot cuts the VPS's power and starts it again. Its network remains, but not what the guide has set in it.
func (g *Gateway) Reboot(ctx context.Context) error {
	g.stop()
	g.leader, g.done = 0, make(chan struct{})
	for _, args := range [][]string{
		{"ip", "address", "del", Inside + "/32", "dev", "lo"},
		{"sysctl", "--quiet", "net.ipv4.ip_forward=0"},
	} {
		if _, err := g.net(ctx, args...); err != nil {
			return err
		}
	}
	if err := g.start(ctx); err != nil {
		return err
	}
	return g.WaitRunning(ctx)
}

// Internet makes the computer with SiteName. It must be the first device of the box.
func (b *Box) Internet(ctx context.Context) error {
	_, err := b.device(ctx, "internet")
	return err
}

// Computer boots a computer of a user of the VPS, with the same Debian and nothing of ours.
func (b *Box) Computer(ctx context.Context, name string) (*Client, error) {
	c, err := b.device(ctx, name)
	if err != nil {
		return nil, err
	}
	root, err := b.Gateway.Root(ctx)
	if err != nil {
		return nil, err
	}
	err = errors.Join(c.writeFiles(vpsFiles()),
		c.WriteFile("/etc/ssl/certs/ISRG_Root_pebble.pem", root, 0o644),
		os.MkdirAll(c.Path("/root/.ssh"), 0o700))
	if err != nil {
		return nil, err
	}
	c.sysctls = true
	if err := c.start(ctx); err != nil {
		return nil, err
	}
	if _, err := c.Run(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/.ssh/id_ed25519"); err != nil {
		return nil, err
	}
	return c, NewServices(c).WaitRunning(ctx)
}

// writeFiles writes files with mode 0644.
func (m *machine) writeFiles(files map[string]string) error {
	for name, content := range files {
		if err := m.WriteFile(name, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}
