package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"tunnelcast/internal/e2e/box"
	"tunnelcast/packaging"
)

// A named is a running bind9.
type named struct {
	*testbed
	dir, addr string
	key       string // the file of the key that transfers need, or ""
	daemon    *box.Daemon
}

const sessionKey = "/run/named/session.key"

const namedConf = `options {
	directory %q;
	pid-file none;
	lock-file none;
	session-keyfile %q;
	listen-on { %s; };
	listen-on-v6 { none; };
	recursion no;
	dnssec-validation no;
};
controls { };
`

// guideZone is the zone as the guide configures it. It also accepts updates that are signed with the session key.
const guideZone = `zone "example" { type master; file "db.example"; allow-update { localhost; }; };
`

// startNamed starts a server with the guide's zone, at the guide's address.
func (t *testbed) startNamed(ctx context.Context) (*named, error) {
	return t.startServer(ctx, "named", "127.0.0.1", guideZone, true)
}

// startServer starts a named with these zones at an address of lo. A primary gets the guide's zone file, and an empty
// file for a reverse zone.
func (t *testbed) startServer(ctx context.Context, name, addr, zones string, primary bool) (*named, error) {
	dir, err := t.makeDir(name)
	if err != nil {
		return nil, err
	}
	n := &named{testbed: t, dir: dir, addr: addr}
	key := sessionKey
	if addr != "127.0.0.1" {
		key = filepath.Join(dir, "session.key")
	}
	files := map[string]string{"named.conf": fmt.Sprintf(namedConf, dir, key, addr) + zones}
	if primary {
		zone, err := packaging.Examples.ReadFile("examples/db.example")
		if err != nil {
			return nil, err
		}
		files["db.example"] = string(zone)
		files["db.reverse"] = "@ 3600 IN SOA ns.example. hostmaster.example. 1 3600 900 604800 60\n" +
			"@ 3600 IN NS ns.example.\n"
	}
	for file, text := range files {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	return n, n.boot(ctx)
}

// boot starts the server, which may have been stopped before, and waits until it answers.
func (n *named) boot(ctx context.Context) error {
	words, err := n.theirs("usr/sbin/named", "-g", "-c", filepath.Join(n.dir, "named.conf"))
	if err != nil {
		return err
	}
	if n.daemon, err = n.start(words, filepath.Join(n.dir, "log")); err != nil {
		return err
	}
	return n.daemon.Wait(ctx, "named", func() (bool, error) {
		serial, err := n.serial(ctx)
		return serial != 0, err
	})
}

func (n *named) dig(ctx context.Context, args ...string) (string, error) {
	args = append([]string{"@" + n.addr, "+time=1", "+tries=1"}, args...)
	out, err := exec.CommandContext(ctx, "dig", args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("dig %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// serial returns the zone's serial number, or 0 if the server does not have the zone yet.
func (n *named) serial(ctx context.Context) (int, error) {
	out, err := n.dig(ctx, "+short", "example.", "SOA")
	if err != nil {
		return 0, err
	}
	f := strings.Fields(out)
	if len(f) != 7 {
		return 0, nil
	}
	return strconv.Atoi(f[2])
}

// names returns the zone's addresses by name, without "example." and without the names of the zone file.
func (n *named) names(ctx context.Context) (map[string]string, error) {
	question := []string{"+noall", "+answer", "example.", "AXFR"}
	if n.key != "" {
		question = append([]string{"-k", n.key}, question...)
	}
	out, err := n.dig(ctx, question...)
	if err != nil {
		return nil, err
	}
	names := map[string]string{}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) != 5 || f[3] != "A" {
			continue
		}
		switch label, _ := strings.CutSuffix(f[0], ".example."); label {
		case "example.", "ns", "vpn":
		default:
			names[label] = strings.TrimSpace(names[label] + " " + f[4])
		}
	}
	return names, nil
}

// A client is a name and the virtual IP that charon gave it.
type client struct{ name, addr string }

// clients returns clients with addresses in the fake charon's pool.
func clients(prefix string, count int) []client {
	all := make([]client, count)
	for i := range all {
		all[i] = client{fmt.Sprint(prefix, i), fmt.Sprintf("10.9.%d.%d", i/250, i%250+1)}
	}
	return all
}

// holds checks that the zone has the names of exactly these clients. The error is a wrongZone if it does not.
func (n *named) holds(ctx context.Context, want []client) error {
	names, err := n.names(ctx)
	if err != nil {
		return err
	}
	wrong := 0
	for _, c := range want {
		if names[c.name] != c.addr {
			wrong++
		}
		delete(names, c.name)
	}
	if wrong+len(names) > 0 {
		return wrongZone(fmt.Sprintf(
			"the zone is wrong: %d of %d names are missing or have another address, %d are too many",
			wrong, len(want), len(names)))
	}
	return nil
}

// A wrongZone says how a zone differs from what it should contain.
type wrongZone string

func (w wrongZone) Error() string { return string(w) }

// nsupdate runs Debian's nsupdate with these lines.
func (n *named) nsupdate(ctx context.Context, lines string) (usage, error) {
	lines = "server " + n.addr + "\nzone example\n" + lines + "send\n"
	return run(ctx, process{args: []string{"nsupdate", "-k", sessionKey}, stdin: lines})
}

// add returns lines for nsupdate that add these clients, in messages of a thousand: a message holds few thousand.
func add(all []client, ttl int) string {
	var b strings.Builder
	for i, c := range all {
		fmt.Fprintf(&b, "update add %s.example. %d A %s\n", c.name, ttl, c.addr)
		if i%1000 == 999 {
			b.WriteString("send\n")
		}
	}
	return b.String()
}

// remove returns lines for nsupdate that remove these clients.
func remove(all []client) string {
	var b strings.Builder
	for i, c := range all {
		fmt.Fprintf(&b, "update delete %s.example. A %s\n", c.name, c.addr)
		if i%1000 == 999 {
			b.WriteString("send\n")
		}
	}
	return b.String()
}
