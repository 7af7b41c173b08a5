package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tunnelcast/internal/hook"
	"tunnelcast/internal/lease"
	"tunnelcast/internal/units"
)

// bind is a named of the machine's own, in directories of its own.
type bind struct {
	t    *testing.T
	dir  string
	addr string
	cmd  *exec.Cmd
}

const bindZone = `$ORIGIN example.
$TTL 3600
@ IN SOA ns.example. hostmaster.example. ( 1 3600 900 3600000 60 )
@ IN NS ns.example.
@ IN A 10.0.0.1
ns IN A 10.0.0.1
printer IN A 10.0.0.9
www IN CNAME ns.example.
mixed IN TXT "by hand"
* IN A 10.0.0.7
other IN A 10.1.0.5
`

const bindReverse = `$ORIGIN 0.0.10.in-addr.arpa.
$TTL 3600
@ IN SOA ns.example. hostmaster.example. ( 1 3600 900 3600000 60 )
@ IN NS ns.example.
1 IN PTR ns.example.
130 IN PTR static.elsewhere.test.
`

// startBind starts named with the guide's zone and skips where there is none.
func startBind(t *testing.T) *bind {
	t.Helper()
	if _, err := exec.LookPath("named"); err != nil {
		if os.Getenv("TUNNELCAST_E2E") == "1" {
			t.Fatalf("named was promised: %v", err)
		}
		t.Skipf("named of bind9 is missing: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().(*net.TCPAddr)
	l.Close()
	b := &bind{t: t, dir: t.TempDir(), addr: addr.String()}
	b.write("db.example", bindZone)
	b.write("db.reverse", bindReverse)
	b.write("named.conf", fmt.Sprintf(`options {
	directory %[1]q;
	pid-file none;
	session-keyfile %[2]q;
	listen-on port %[3]d { 127.0.0.1; };
	listen-on-v6 { none; };
	recursion no;
	dnssec-validation no;
};
controls { };
zone "example" { type master; file "db.example"; allow-update { localhost; }; };
zone "0.0.10.in-addr.arpa" { type master; file "db.reverse"; allow-update { localhost; }; };
`, b.dir, b.key(), addr.Port))
	b.start()
	return b
}

func (b *bind) key() string { return filepath.Join(b.dir, "session.key") }

func (b *bind) write(name, text string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bind) start() {
	b.t.Helper()
	var log bytes.Buffer
	b.cmd = exec.Command("named", "-g", "-n", "1", "-c", filepath.Join(b.dir, "named.conf"))
	b.cmd.Stderr = &log
	if err := b.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(b.stop)
	g := newTestGateway(b.t, b)
	deadline := time.Now().Add(20 * time.Second)
	for {
		s, err := g.server()
		if err == nil {
			ctx, cancel := context.WithTimeout(b.t.Context(), time.Second)
			_, err = s.Serial(ctx, "example.")
			cancel()
		}
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			b.stop()
			b.t.Fatalf("named does not answer: %v\n%s", err, log.String())
		}
	}
}

func (b *bind) stop() {
	if b.cmd.ProcessState == nil {
		_ = b.cmd.Process.Kill()
		_ = b.cmd.Wait()
	}
}

// testGateway is a gateway whose charon is a list.
type testGateway struct {
	*gateway
	t      *testing.T
	live   []lease.Lease
	vars   map[string]string
	stdout bytes.Buffer
	log    bytes.Buffer
}

func newTestGateway(t *testing.T, b *bind, args ...string) *testGateway {
	t.Helper()
	tg := &testGateway{t: t}
	env := hook.Env{
		Name:   "updown",
		Args:   append([]string{"--config", os.DevNull, "--server", b.addr, "--key", b.key(), "--run-dir", filepath.Join(b.dir, "run")}, args...),
		Getenv: func(name string) string { return tg.vars[name] },
		Stdout: &tg.stdout,
		Stderr: io.Discard,
		Log:    slog.New(slog.NewTextHandler(&tg.log, nil)),
		Now:    time.Now,
	}
	var c cli
	if _, err := hook.Parse(env, &c, "test"); err != nil {
		t.Fatal(err)
	}
	g, err := newGateway(c, env)
	if err != nil {
		t.Fatal(err)
	}
	g.askCharon = func(context.Context) ([]lease.Lease, lease.Pools, error) {
		pools, err := lease.ParsePools([]string{"10.0.0.100-10.0.0.200", "fd00::100-fd00::200"})
		return slices.Clone(tg.live), pools, err
	}
	g.askUnit = func(context.Context, string) (units.State, error) {
		return units.State{Load: "loaded", Active: "active"}, nil
	}
	tg.gateway = g
	return tg
}

func client(identity string, addrs ...string) lease.Lease {
	l := lease.Lease{Identity: identity}
	for _, a := range addrs {
		l.Addresses = append(l.Addresses, netip.MustParseAddr(a))
	}
	return l
}

// up has charon hold the lease and call the hook.
func (g *testGateway) up(l lease.Lease) error {
	g.live = append(g.live, l)
	g.vars = map[string]string{"PLUTO_VERB": "up-client", "PLUTO_XAUTH_ID": l.Identity}
	n4, n6 := 0, 0
	for _, addr := range l.Addresses {
		if addr.Is4() {
			n4++
			g.vars[fmt.Sprint("PLUTO_PEER_SOURCEIP4_", n4)] = addr.String()
		} else {
			n6++
			g.vars[fmt.Sprint("PLUTO_PEER_SOURCEIP6_", n6)] = addr.String()
		}
	}
	return g.hook(g.t.Context())
}

// down has charon call the hook for one lease, and then forget it.
func (g *testGateway) down(l lease.Lease) error {
	g.vars = map[string]string{"PLUTO_VERB": "down-client", "PLUTO_XAUTH_ID": l.Identity}
	err := g.hook(g.t.Context())
	for i, have := range g.live {
		if have.Identity == l.Identity && slices.Equal(have.Addresses, l.Addresses) {
			g.live = slices.Delete(g.live, i, i+1)
			break
		}
	}
	return err
}

// zone returns the zone's clients, reserved names and what was there at first
// left out, as "alice A 10.0.0.100".
func (g *testGateway) zone() string {
	g.t.Helper()
	s, err := g.server()
	if err != nil {
		g.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(g.t.Context(), 10*time.Second)
	defer cancel()
	var lines []string
	for _, zone := range append([]string{g.rules.Zone}, g.rules.Reverse...) {
		rrs, err := s.Transfer(ctx, zone)
		if err != nil {
			g.t.Fatal(err)
		}
		for _, rr := range rrs {
			label, _ := strings.CutSuffix(rr.Owner, "."+zone)
			switch {
			case rr.Type == "PTR":
				lines = append(lines, label+" PTR "+rr.Target)
			case rr.Addr.IsValid():
				lines = append(lines, label+" "+rr.Type+" "+rr.Addr.String())
			}
		}
	}
	for _, fixed := range []string{"example. A 10.0.0.1", "ns A 10.0.0.1", "printer A 10.0.0.9", "* A 10.0.0.7", "other A 10.1.0.5",
		"1 PTR ns.example.", "130 PTR static.elsewhere.test."} {
		if i := slices.Index(lines, fixed); i >= 0 {
			lines = slices.Delete(lines, i, i+1)
		} else if !strings.Contains(fixed, "PTR") || len(g.rules.Reverse) > 0 {
			lines = append(lines, "LOST "+fixed)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "; ")
}

func (g *testGateway) want(zone string) {
	g.t.Helper()
	if got := g.zone(); got != zone {
		g.t.Errorf("zone has %q, want %q", got, zone)
	}
}

func (g *testGateway) sync() {
	g.t.Helper()
	if err := g.gateway.sync(g.t.Context(), false); err != nil {
		g.t.Errorf("sync: %v", err)
	}
}

func TestBindOrdinaryConnect(t *testing.T) {
	g := newTestGateway(t, startBind(t), "--reverse-zones", "0.0.10.in-addr.arpa")
	g.sync()
	alice := client("alice@example.org", "10.0.0.100", "fd00::100")
	for range 3 { // one per pair of traffic selectors
		if err := g.up(alice); err != nil {
			t.Fatal(err)
		}
		g.live = g.live[:1]
	}
	const both = "100 PTR alice.example.; alice A 10.0.0.100; alice AAAA fd00::100"
	g.want(both)
	if n := strings.Count(g.log.String(), "name added"); n != 2 {
		t.Errorf("%d names were logged as added, want 2:\n%s", n, g.log.String())
	}
	g.sync()
	g.want(both)
	if err := g.down(alice); err != nil {
		t.Fatal(err)
	}
	g.want(both)
	g.sync()
	g.want("")
}
