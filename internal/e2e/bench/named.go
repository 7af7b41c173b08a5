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

// A named is a bind9 of its own, which by default has the guide's zone at the guide's address.
type named struct {
	*testbed
	dir, addr string
	key       string // that a transfer must be signed with, if any
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

// guideZone is the guide's line, which takes what is signed with the session key too.
const guideZone = `zone "example" { type master; file "db.example"; allow-update { localhost; }; };
`

// startNamed starts the guide's server.
func (t *testbed) startNamed(ctx context.Context) (*named, error) {
	return t.startServer(ctx, "named", "127.0.0.1", guideZone, true)
}

// startServer starts a named with these zones at an address of lo, with the guide's zone file and an empty
// one for a reverse zone if it is a primary.
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
		files["db.reverse"] = "@ 3600 IN SOA ns.example. hostmaster.example. 1 3600 900 604800 60\n@ 3600 IN NS ns.example.\n"
	}
	for file, text := range files {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	return n, n.boot(ctx)
}

// boot starts it, anew after its end, and waits until it answers.
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
	out, err := exec.CommandContext(ctx, "dig", append([]string{"@" + n.addr, "+time=1", "+tries=1"}, args...)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("dig %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// serial gives the zone's, 0 if the server has no such zone yet.
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

// names gives the zone's addresses by their names, without those of its file and without "example.".
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

// clients gives so many, all in the pool of the stand-in.
func clients(prefix string, count int) []client {
	all := make([]client, count)
	for i := range all {
		all[i] = client{fmt.Sprint(prefix, i), fmt.Sprintf("10.9.%d.%d", i/250, i%250+1)}
	}
	return all
}

// holds says what the zone lacks or has too much of, as a wrongZone: it should hold these clients alone.
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
		return wrongZone(fmt.Sprintf("the zone is wrong: %d of %d names missing or not as they should be, %d too many", wrong, len(want), len(names)))
	}
	return nil
}

// A wrongZone is one that does not hold what it should.
type wrongZone string

func (w wrongZone) Error() string { return string(w) }

// nsupdate runs Debian's own on these lines.
func (n *named) nsupdate(ctx context.Context, lines string) (usage, error) {
	return run(ctx, process{args: []string{"nsupdate", "-k", sessionKey}, stdin: "server " + n.addr + "\nzone example\n" + lines + "send\n"})
}

// add and remove are lines for nsupdate. One message does not hold more than some thousand.
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
