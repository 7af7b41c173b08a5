package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tunnelcast/internal/charon"
	"tunnelcast/internal/e2e/box"
	"tunnelcast/internal/lease"
	"tunnelcast/internal/promised"
	"tunnelcast/internal/units"
)

// bind is a named with its own directory and port.
type bind struct {
	t       testing.TB
	command []string
	dir     string
	addr    string
	control string // the port that rndc speaks to
	named   *box.Daemon
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

// tool returns the command for a program of bind9, such as "sbin/named": that of this
// machine, or with TUNNELCAST_E2E=1 that of the box's tree, run by the tree's own
// loader and libraries. Without either the test is skipped.
func tool(t testing.TB, program string) []string {
	t.Helper()
	if !promised.All() {
		file, err := exec.LookPath(filepath.Base(program))
		if err != nil {
			t.Skipf("a program of bind9 is missing (TUNNELCAST_E2E=1 takes that of the box): %v", err)
		}
		return []string{file}
	}
	if err := box.Missing(); err != nil {
		t.Fatal(err)
	}
	tree, release, err := box.Tree(t.Context(), "bookworm", func(what string) { t.Log(what) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	loaders, _ := filepath.Glob(tree + "/usr/lib/*-linux-gnu/ld-linux-*.so.*")
	if len(loaders) != 1 {
		t.Fatalf("the tree %s has the loaders %q", tree, loaders)
	}
	libraries := filepath.Dir(loaders[0])
	return []string{loaders[0], "--library-path", libraries, filepath.Join(tree, "usr", program)}
}

// freePort returns an address with a port that is unused over TCP and UDP. It is below Linux's range of ephemeral
// ports, which the kernel may assign to a client of this or another package's tests before named binds the port.
func freePort(t testing.TB) *net.TCPAddr {
	t.Helper()
	var errs []error
	for range 100 {
		addr := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 10_000 + rand.N(20_000)}
		stream, err := net.ListenTCP("tcp", addr)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		packets, err := net.ListenPacket("udp", addr.String())
		stream.Close()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		packets.Close()
		return addr
	}
	t.Fatalf("no free port: %v", errors.Join(errs...))
	return nil
}

// startBind starts named with the guide's zone.
func startBind(t testing.TB) *bind {
	t.Helper()
	return startBindWith(t, "", "allow-update { localhost; };")
}

// startBindWith starts named with the guide's zone, more RRs in it, and other
// statements for both zones. Statements before "%%" precede the zones.
func startBindWith(t testing.TB, more, statements string) *bind {
	t.Helper()
	before, statements, ok := strings.Cut(statements, "%%")
	if !ok {
		before, statements = "", before
	}
	command := tool(t, "sbin/named")
	addr, control := freePort(t), freePort(t)
	b := &bind{t: t, command: command, dir: t.TempDir(), addr: addr.String(), control: fmt.Sprint(control.Port)}
	b.write("rndc.key", "key rndc { algorithm hmac-sha256; secret \"cm5kYyBvZiB0aGUgdGVzdA==\"; };\n")
	b.write("db.example", bindZone+more)
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
include "rndc.key";
controls { inet 127.0.0.1 port %[4]d allow { 127.0.0.1; } keys { rndc; }; };
%[5]s
zone "example" { type master; file "db.example"; %[6]s };
zone "0.0.10.in-addr.arpa" { type master; file "db.reverse"; %[6]s };
`, b.dir, b.key(), addr.Port, control.Port, before, statements))
	b.start()
	return b
}

// freeze stops every thread of named, which takes a moment. SIGCONT continues it.
func (b *bind) freeze() {
	b.t.Helper()
	if err := b.named.Signal(syscall.SIGSTOP); err != nil {
		b.t.Fatal(err)
	}
	err := b.named.Wait(b.t.Context(), "all threads of named to stop", func() (bool, error) {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", b.named.Pid()))
		running := slices.ContainsFunc(tasks, func(file string) bool {
			stat, err := os.ReadFile(file)
			_, state, _ := bytes.Cut(stat, []byte(") "))
			return err == nil && !bytes.HasPrefix(state, []byte("T"))
		})
		return len(tasks) > 0 && !running, err
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bind) key() string { return filepath.Join(b.dir, "session.key") }

func (b *bind) rndc(args ...string) {
	b.t.Helper()
	words := slices.Concat(tool(b.t, "sbin/rndc"), []string{"-s", "127.0.0.1", "-p", b.control, "-k",
		filepath.Join(b.dir, "rndc.key")}, args)
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		b.t.Fatalf("rndc %v: %v\n%s", args, err, out)
	}
}

func (b *bind) write(name, text string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bind) start() {
	b.t.Helper()
	b.startWith("example.")
}

// startWith starts named and waits for a zone.
func (b *bind) startWith(zone string) {
	b.t.Helper()
	cmd := exec.Command(b.command[0], append(b.command[1:], "-g", "-n", "1", "-c",
		filepath.Join(b.dir, "named.conf"))...)
	var err error
	if b.named, err = box.StartDaemon(cmd, filepath.Join(b.dir, "log")); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(b.named.Stop)
	g := newTestGateway(b.t, b)
	err = b.named.Wait(b.t.Context(), "named", func() (bool, error) {
		s, err := g.dnsServer()
		if err != nil {
			return false, err
		}
		ctx, cancel := context.WithTimeout(b.t.Context(), time.Second)
		defer cancel()
		_, err = s.Serial(ctx, zone)
		return err == nil, err
	})
	if err != nil {
		b.t.Fatal(err)
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

// The six orders in which two sessions of one identity may begin and end, with one
// address for both and with two. In every order a live name exists from its up on,
// with a sync after each call and with one at the end.
func TestBindSixOrders(t *testing.T) {
	b := startBind(t)
	type event struct {
		session int
		up      bool
	}
	var orders [][]event
	var build func(order []event, state [2]int)
	build = func(order []event, state [2]int) {
		if len(order) == 4 {
			orders = append(orders, slices.Clone(order))
			return
		}
		for s := range 2 {
			if state[s] < 2 {
				next := state
				next[s]++
				build(append(order, event{s, state[s] == 0}), next)
			}
		}
	}
	build(nil, [2]int{})
	if len(orders) != 6 {
		t.Fatalf("%d orders", len(orders))
	}
	for n, order := range orders {
		for _, second := range []string{"10.0.0.100", "10.0.0.101"} {
			for _, each := range []bool{false, true} {
				t.Run(fmt.Sprintf("order %d, second on %s, sync after each %v", n+1, second, each), func(t *testing.T) {
					g := newTestGateway(t, b)
					g.sync()
					g.want("")
					sessions := [2]lease.Lease{client("alice", "10.0.0.100"), client("alice", second)}
					for _, e := range order {
						var err error
						if e.up {
							err = g.up(sessions[e.session])
						} else {
							err = g.down(sessions[e.session])
						}
						if err != nil {
							t.Error(err)
						}
						if each {
							g.sync()
						}
						for _, l := range g.live {
							line := "alice A " + l.Addresses[0].String()
							if got := g.zone(); !strings.Contains(got, line) {
								t.Errorf("after %+v of %+v the zone has %q, without %q", e, order, got, line)
							}
						}
					}
					g.sync()
					g.want("")
				})
			}
		}
	}
}

func TestBindForeignNamesAreSafe(t *testing.T) {
	b := startBind(t)
	g := newTestGateway(t, b, "--reserved", "Mail", "--reverse-zones", "0.0.10.in-addr.arpa")
	g.sync()
	refused := map[string]string{
		"ns":                      "reserved",
		"MAIL":                    "reserved",
		"example":                 "", // the label below the apex, not the apex
		"printer@example.org":     "10.0.0.9",
		`DOM\www`:                 "CNAME",
		"CN=other, O=x":           "10.1.0.5",
		"*":                       "not one DNS label",
		"@":                       "not one DNS label",
		"mallory 3600 TXT pwned":  "not one DNS label",
		"a.b":                     "not one DNS label",
		"al ice; $(id)":           "not one DNS label",
		"":                        "no identity",
		strings.Repeat("a", 64):   "not one DNS label",
		"alice\x00":               "not one DNS label",
		"mixed":                   "", // a TXT is not an address
		"CN=a, CN=b":              "common names",
		strings.Repeat("a@", 300): "cut it",
		"\u212Aate":               "not one DNS label",
	}
	for _, identity := range slices.Sorted(maps.Keys(refused)) {
		cause := refused[identity]
		g.live = nil
		err := g.up(client(identity, "10.0.0.120"))
		if cause == "" && err != nil || cause != "" && (err == nil || !strings.Contains(err.Error(), cause)) {
			t.Errorf("%.40q: got %v, want %q", identity, err, cause)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\n\x00") {
			t.Errorf("%.40q: not one line: %q", identity, err)
		}
	}
	g.want("120 PTR example.example.; example A 10.0.0.120; mixed A 10.0.0.120")
	// An address from outside the pools is not ours, not even under a name of ours.
	if err := g.up(client("carol", "192.168.1.5")); err == nil {
		t.Error("an address outside the pools was added")
	}
	g.live = []lease.Lease{client("printer", "10.0.0.121"), client("www", "10.0.0.122"), client("ns", "10.0.0.123"),
		client("carol", "192.168.1.5"), client("dave", "10.0.0.130")}
	g.sync()
	g.want("dave A 10.0.0.130") // and its PTR stays with static.elsewhere.test
	g.live = nil
	g.sync()
	g.want("")
}

func TestBindTwoIdentitiesOneLabel(t *testing.T) {
	g := newTestGateway(t, startBind(t))
	g.sync()
	first, second := client("alice@a.test", "10.0.0.101"), client("alice@b.test", "10.0.0.100")
	if err := g.up(first); err != nil {
		t.Fatal(err)
	}
	// Known by the registration of the first, and after a sync by what that learned.
	for range 2 {
		if err := g.up(second); err == nil || !strings.Contains(err.Error(), `"alice@a.test"`) {
			t.Errorf("the second identity got the name: %v", err)
		}
		g.want("alice A 10.0.0.101")
		g.sync()
		g.want("alice A 10.0.0.101")
	}
	// The same user on another device is the same identity.
	if err := g.up(client("Alice@A.test", "10.0.0.110")); err != nil {
		t.Error(err)
	}
	g.want("alice A 10.0.0.101; alice A 10.0.0.110")
	g.live = []lease.Lease{second}
	g.sync()
	g.want("alice A 10.0.0.100")
}

func TestBindNothingToDoSendsNothing(t *testing.T) {
	g := newTestGateway(t, startBind(t))
	g.sync()
	alice := client("alice", "10.0.0.100")
	if err := g.up(alice); err != nil {
		t.Fatal(err)
	}
	serial := func() uint32 {
		s, err := g.dnsServer()
		if err != nil {
			t.Fatal(err)
		}
		n, err := s.Serial(t.Context(), "example.")
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := serial()
	g.sync()
	g.live = g.live[:1]
	if err := g.up(alice); err != nil {
		t.Fatal(err)
	}
	g.sync()
	if after := serial(); after != before {
		t.Errorf("the serial went from %d to %d", before, after)
	}
}

// Removal requires evidence: charon's whole list, or systemd's report that charon is stopped.
func TestBindNoEvidenceNoRemoval(t *testing.T) {
	g := newTestGateway(t, startBind(t))
	g.sync()
	if err := g.up(client("alice", "10.0.0.100")); err != nil {
		t.Fatal(err)
	}
	g.askCharon = func(context.Context) ([]lease.Lease, lease.Pools, error) { return nil, nil, charon.ErrNotRunning }
	for name, test := range map[string]struct {
		state units.State
		err   error
	}{
		"starting":          {state: units.State{Load: "loaded", Active: "activating"}},
		"stopping":          {state: units.State{Load: "loaded", Active: "deactivating"}},
		"running":           {state: units.State{Load: "loaded", Active: "active"}},
		"another's unit":    {state: units.State{Load: "not-found", Active: "inactive"}},
		"systemd is silent": {err: errors.New("no bus")},
	} {
		g.askUnit = func(context.Context, string) (units.State, error) { return test.state, test.err }
		if err := g.host.sync(t.Context(), syncFlags{}); err == nil ||
			!strings.Contains(err.Error(), "without evidence") {
			t.Errorf("%s: got %v", name, err)
		}
		g.want("alice A 10.0.0.100")
	}
	g.askUnit = func(context.Context, string) (units.State, error) {
		return units.State{Load: "loaded", Active: "inactive"}, nil
	}
	g.sync() // with the pools of the sync before
	g.want("")
}

// After a crash charon answers again in a moment, without clients.
func TestBindCharonStarts(t *testing.T) {
	g := newTestGateway(t, startBind(t))
	g.sync()
	if err := g.up(client("alice", "10.0.0.100")); err != nil {
		t.Fatal(err)
	}
	g.live, g.restartTime = nil, time.Minute
	ask, calls := g.askCharon, 0
	g.askCharon = func(ctx context.Context) ([]lease.Lease, lease.Pools, error) {
		if calls++; calls < 3 {
			return nil, nil, fmt.Errorf("dial: %w", charon.ErrNotRunning)
		}
		leases, _, err := ask(ctx)
		return leases, nil, err // its configuration is not loaded yet
	}
	g.askUnit = func(context.Context, string) (units.State, error) {
		return units.State{Load: "loaded", Active: "activating"}, nil
	}
	g.sync()
	g.want("")
}

// A client returns with its old address while sync runs: charon did not list it, but it
// is live now.
func TestBindUpBetweenListAndUpdate(t *testing.T) {
	g := newTestGateway(t, startBind(t))
	g.sync()
	alice, bob := client("alice", "10.0.0.100"), client("bob", "10.0.0.101")
	for _, l := range []lease.Lease{alice, bob} {
		if err := g.up(l); err != nil {
			t.Fatal(err)
		}
	}
	g.live = nil
	ask, calls := g.askCharon, 0
	g.askCharon = func(ctx context.Context) ([]lease.Lease, lease.Pools, error) {
		leases, pools, err := ask(ctx)
		if calls++; calls == 1 {
			if err := g.up(alice); err != nil {
				t.Error(err)
			}
			g.live = nil // not seen by a second list either
		}
		return leases, pools, err
	}
	g.sync()
	g.want("alice A 10.0.0.100")
	if names, err := g.dir.Requests(); err != nil || !slices.Equal(names, []string{"alice@10.0.0.100"}) {
		t.Errorf("the poke for the next sync is gone: %q, %v", names, err)
	}
	g.live = []lease.Lease{alice}
	g.sync()
	g.want("alice A 10.0.0.100")
}

// An IKE_SA that is being rekeyed may be missing from one list.
func TestBindOneListIsNotEnough(t *testing.T) {
	g := newTestGateway(t, startBind(t))
	g.sync()
	if err := g.up(client("alice", "10.0.0.100")); err != nil {
		t.Fatal(err)
	}
	if err := g.up(client("bob", "10.0.0.101")); err != nil {
		t.Fatal(err)
	}
	ask, calls := g.askCharon, 0
	g.askCharon = func(ctx context.Context) ([]lease.Lease, lease.Pools, error) {
		leases, pools, err := ask(ctx)
		if calls++; calls == 1 {
			leases = leases[:1]
		}
		return leases, pools, err
	}
	g.sync()
	g.want("alice A 10.0.0.100; bob A 10.0.0.101")
}

func TestBindAway(t *testing.T) {
	b := startBind(t)
	g := newTestGateway(t, b)
	g.sync()
	alice := client("alice", "10.0.0.100")

	// The limits distinguish a wait of one timeout from two, and none from one, on a busy computer, too. make bench
	// measures how long charon is held.
	const timeout = 6 * time.Second
	g.Timeout = timeout
	b.freeze()
	start := time.Now()
	err := g.up(alice)
	if held := time.Since(start); err == nil || held > 2*timeout {
		t.Errorf("named stopped: charon was held %s, error %v", held, err)
	}
	start = time.Now()
	g.vars["PLUTO_UNIQUEID"] = "7"
	_ = g.hook(t.Context())
	if held := time.Since(start); held > 2*timeout {
		t.Errorf("named stopped: charon was held %s", held)
	}
	start = time.Now()
	err = g.hook(t.Context())
	if held := time.Since(start); err == nil || held > timeout/2 {
		t.Errorf("the next call of the same connect held charon for %s, error %v", held, err)
	}
	if err := b.named.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	g.live = g.live[:1]
	g.sync()
	g.want("alice A 10.0.0.100")

	b.named.Stop()
	g.live = nil
	start = time.Now()
	err = g.up(client("bob", "10.0.0.101"))
	if held := time.Since(start); err == nil || held > timeout/2 {
		t.Errorf("named gone: charon was held %s, error %v", held, err)
	}
	if err := g.down(alice); err != nil {
		t.Error(err)
	}
	if err := g.host.sync(t.Context(), syncFlags{}); err == nil {
		t.Error("sync without named succeeded")
	}
	if names, err := g.dir.Requests(); err != nil || len(names) > 0 {
		t.Errorf("a failed sync left %q, which would start it at once: %v", names, err)
	}
	b.start() // with another session key
	g.sync()
	g.want("bob A 10.0.0.101")
}

func TestBindThousandClients(t *testing.T) {
	g := newTestGateway(t, startBind(t), "--pools", "10.9.0.0/16,10.0.0.100-10.0.0.200", "--reverse-zones",
		"0.0.10.in-addr.arpa")
	for i := range 3000 {
		g.live = append(g.live, client(fmt.Sprint("client", i), fmt.Sprintf("10.9.%d.%d", i/250, i%250)))
	}
	start := time.Now()
	g.sync()
	t.Logf("3,000 added in %s", time.Since(start))
	if n := strings.Count(g.zone(), "client"); n != 3000 {
		t.Errorf("%d names", n)
	}
	start = time.Now()
	g.sync()
	t.Logf("nothing to do in %s", time.Since(start))
	g.live = g.live[:1000]
	g.sync()
	if n := strings.Count(g.zone(), "client"); n != 1000 {
		t.Errorf("%d names", n)
	}
}

func TestBindDryRun(t *testing.T) {
	g := newTestGateway(t, startBind(t), "--reverse-zones", "0.0.10.in-addr.arpa")
	g.sync()
	if err := g.up(client("bob", "10.0.0.101")); err != nil {
		t.Fatal(err)
	}
	g.live = []lease.Lease{client("alice", "10.0.0.100"), client("*", "10.0.0.102")}
	if err := g.host.sync(t.Context(), syncFlags{DryRun: true}); err != nil {
		t.Fatal(err)
	}
	want := `;; ZONE SECTION:
;example.	IN	SOA

;; PREREQUISITE SECTION:
alice.example.	0	NONE	ANY

;; UPDATE SECTION:
alice.example.	60	IN	A	10.0.0.100
bob.example.	0	NONE	A	10.0.0.101

;; ZONE SECTION:
;0.0.10.in-addr.arpa.	IN	SOA

;; PREREQUISITE SECTION:
100.0.0.10.in-addr.arpa.	0	NONE	ANY

;; UPDATE SECTION:
100.0.0.10.in-addr.arpa.	60	IN	PTR	alice.example.
101.0.0.10.in-addr.arpa.	0	NONE	PTR	bob.example.

; no name for "*": identity "*": "*" is not one DNS label ` +
		`([names] in updown.toml gives an identity its name, mend = true)
`
	if got := g.stdout.String(); got != want {
		t.Errorf("got\n%s", got)
	}
	g.want("101 PTR bob.example.; bob A 10.0.0.101")
}

func TestBindSaysWhatIsWrong(t *testing.T) {
	b := startBind(t)
	good, err := os.ReadFile(b.key())
	if err != nil {
		t.Fatal(err)
	}
	key := func(old, new string) string {
		file := filepath.Join(t.TempDir(), "k")
		if err := os.WriteFile(file, regexp.MustCompile(old).ReplaceAll(good, []byte(new)), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"another secret":  {[]string{"--key", key(`secret ".*"`, `secret "c2VjcmV0"`)}, "BADSIG"},
		"another key":     {[]string{"--key", key("local-ddns", "else")}, "BADKEY"},
		"other algorithm": {[]string{"--key", key("hmac-sha256", "hmac-sha512")}, "BADKEY"},
		"zone not served": {[]string{"--zone", "elsewhere"}, "NOTAUTH: the server is not the zone's primary"},
		"unsigned":        {[]string{"--key", "none"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			g := newTestGateway(t, b, append(test.args, "--pools", "10.0.0.100-10.0.0.200")...)
			err := g.up(client("alice", "10.0.0.100"))
			if test.want == "" && err != nil || test.want != "" &&
				(err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if err := g.host.sync(t.Context(), syncFlags{}); test.want != "" &&
				(err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("sync: got %v, want %q", err, test.want)
			}
		})
	}
}

// The error for a wrong clock does not blame the key.
func TestBindSkewedClock(t *testing.T) {
	b := startBind(t)
	for _, skew := range []time.Duration{-1000 * time.Second, 1000 * time.Second} {
		g := newTestGateway(t, b, "--pools", "10.0.0.100-10.0.0.200")
		g.env.Now = func() time.Time { return time.Now().Add(skew) }
		want := "BADTIME: the clocks are more than 300 s apart: the server has " +
			time.Now().UTC().Format(time.DateOnly)
		if err := g.up(client("alice", "10.0.0.100")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", skew, err, want)
		}
		if err := g.host.sync(t.Context(), syncFlags{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: sync: got %v, want %q", skew, err, want)
		}
	}
	newTestGateway(t, b).want("")
}

// While an administrator edits the zone (rndc freeze), named refuses updates.
func TestBindFrozenZone(t *testing.T) {
	b := startBind(t)
	g := newTestGateway(t, b)
	g.sync()
	b.rndc("freeze", "example")
	const want = "REFUSED: the key local-ddns. has no grant for this, the zone is frozen (`rndc thaw`), or the " +
		"server is its secondary"
	g.Timeout = time.Minute // a refusal is not waited for
	start := time.Now()
	if err := g.up(client("alice", "10.0.0.100")); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
	if held := time.Since(start); held > time.Minute/2 {
		t.Errorf("charon was held for %s", held)
	}
	if err := g.host.sync(t.Context(), syncFlags{}); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("sync: got %v, want %q", err, want)
	}
	g.want("")
	b.rndc("thaw", "example")
	g.sync()
	g.want("alice A 10.0.0.100")
}

// Two gateways with different pools share a zone. Neither changes the other's names.
func TestBindTwoGateways(t *testing.T) {
	b := startBind(t)
	one := newTestGateway(t, b, "--pools", "10.0.0.100-10.0.0.200")
	two := newTestGateway(t, b, "--pools", "10.8.0.0/24", "--run-dir", filepath.Join(b.dir, "run2"), "--state-dir",
		filepath.Join(b.dir, "state2"))
	if err := errors.Join(one.up(client("alice", "10.0.0.100")), two.up(client("bob", "10.8.0.1"))); err != nil {
		t.Fatal(err)
	}
	if err := two.up(client("alice", "10.8.0.2")); !errors.Is(err, lease.ErrHeld) {
		t.Errorf("alice of the other gateway: %v", err)
	}
	one.sync()
	two.sync()
	one.want("alice A 10.0.0.100; bob A 10.8.0.1")
	one.live = nil
	one.sync()
	two.sync() // its own alice may have the name now
	one.want("alice A 10.8.0.2; bob A 10.8.0.1")
}

// Hooks and syncs at the same time: every live client has its name at the end, and none
// lacked it between its up and its down.
func TestBindStorm(t *testing.T) {
	b := startBind(t)
	first := newTestGateway(t, b)
	first.sync()
	// busy is held by hooks until their IKE_SA is listed; a list waits for it.
	var busy sync.RWMutex
	var live struct {
		sync.Mutex
		leases []lease.Lease
	}
	ask := func(context.Context) ([]lease.Lease, lease.Pools, error) {
		busy.Lock()
		defer busy.Unlock()
		live.Lock()
		defer live.Unlock()
		pools, err := lease.ParsePools([]string{"10.0.0.100-10.0.0.200"})
		return slices.Clone(live.leases), pools, err
	}
	var hooks, syncs sync.WaitGroup
	done := make(chan struct{})
	syncs.Go(func() {
		g := newTestGateway(t, b)
		g.askCharon = ask
		for {
			select {
			case <-done:
				return
			default:
				g.sync()
			}
		}
	})
	for device := range 8 {
		hooks.Go(func() {
			g := newTestGateway(t, b, "--timeout", "1m")
			l := client(fmt.Sprint("user", device/2), fmt.Sprintf("10.0.0.%d", 100+device)) // two devices each
			server, err := g.dnsServer()
			if err != nil {
				t.Error(err)
				return
			}
			for range 10 {
				busy.RLock()
				if err := g.up(l); err != nil {
					t.Error(err)
				}
				live.Lock()
				live.leases = append(live.leases, l)
				live.Unlock()
				busy.RUnlock()
				for range 3 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					seen, err := server.Lookup(ctx, l.Identity+".example.")
					cancel()
					if err != nil || !slices.Contains(seen.Holds,
						lease.Address(l.Identity+".example.", l.Addresses[0])) {
						t.Errorf("the live %s is not there: %+v, %v", l.Identity, seen, err)
					}
				}
				live.Lock()
				live.leases = slices.DeleteFunc(live.leases,
					func(x lease.Lease) bool { return x.Addresses[0] == l.Addresses[0] })
				live.Unlock()
				if err := g.down(l); err != nil {
					t.Error(err)
				}
			}
		})
	}
	hooks.Wait()
	close(done)
	syncs.Wait()
	first.sync()
	first.want("")
}
