package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tunnelcast/internal/hook"
	"tunnelcast/internal/lease"
)

// syncs runs sync and returns its error.
func (g *testGateway) syncs() error {
	g.t.Helper()
	return g.host.sync(g.t.Context(), g.flags)
}

// wantSome fails the test unless the error wraps hook.ErrSome and contains the words.
func wantSome(t *testing.T, err error, words ...string) {
	t.Helper()
	if hook.Status(err) != 3 {
		t.Fatalf("exit status %d: %v", hook.Status(err), err)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error has no %q: %v", word, err)
		}
	}
}

// If the server refuses a name, its client is logged and all other names are done.
func TestBindOneRefusedName(t *testing.T) {
	alice, carol := client("alice", "10.0.0.101"), client("carol@corp.test", "10.0.0.104")
	for name, test := range map[string]struct {
		zone   string // more RRs
		policy string
		bad    lease.Lease
		words  []string
		zoneIs string
	}{
		"a denied name": {"", "update-policy { deny local-ddns name mail.example. ANY; grant local-ddns zonesub " +
			"ANY; };",
			client("Mail@corp.test", "10.0.0.103"),
			[]string{`"Mail@corp.test"`, "mail.example. A 10.0.0.103", "REFUSED"}, ""},
		"a type without a grant": {"", "update-policy { grant local-ddns zonesub A; };",
			client("dave", "10.0.0.105", "fd00::105"), []string{`"dave"`, "dave.example. AAAA fd00::105"},
			"dave A 10.0.0.105"},
		"a hundred addresses": {strings.Join(many("big", 100), ""),
			"max-records-per-type 100; allow-update { localhost; };",
			client("big", "10.0.0.105"), []string{`"big"`, "big.example. A 10.0.0.105"}, "LOT"},
	} {
		t.Run(name, func(t *testing.T) {
			b := startBindWith(t, test.zone, test.policy)
			g := newTestGateway(t, b)
			if test.zoneIs == "LOT" { // names that this gateway added before
				known := map[lease.RR]bool{}
				for i := range 100 {
					l := client("big", fmt.Sprintf("10.0.1.%d", i))
					known[lease.Address("big.example.", l.Addresses[0])] = true
					g.live = append(g.live, l)
				}
				if err := errors.Join(g.memory.Create(), g.memory.Save(known)); err != nil {
					t.Fatal(err)
				}
			}
			g.sync()
			if err := g.up(alice); err != nil {
				t.Fatal(err)
			}
			if err := g.up(test.bad); err == nil ||
				!strings.Contains(err.Error(), strings.ToLower(test.bad.Identity[:3])) {
				t.Errorf("the hook returned %v", err)
			}
			if err := g.down(alice); err != nil {
				t.Fatal(err)
			}
			g.live = append(g.live, carol) // while named did not run
			for range 2 {
				wantSome(t, g.syncs(), test.words...)
				zone := g.zone()
				if strings.Contains(zone, "alice") || !strings.Contains(zone, "carol A 10.0.0.104") {
					t.Errorf("the zone is %q", zone)
				}
				if !strings.Contains(zone, strings.Replace(test.zoneIs, "LOT", "big A 10.0.1.99", 1)) ||
					strings.Contains(zone, "mail") {
					t.Errorf("the zone is %q", zone)
				}
			}
			if n := strings.Count(g.log.String(), "name refused by the DNS server"); n != 2 {
				t.Errorf("%d entries on a refused name, want one in each run:\n%s", n, g.log.String())
			}
		})
	}
}

func many(label string, n int) (lines []string) {
	for i := range n {
		lines = append(lines, fmt.Sprintf("%s IN A 10.0.1.%d\n", label, i))
	}
	return lines
}

// The server refuses half of a thousand names of one message.
func TestBindManyRefusedNames(t *testing.T) {
	b := startBindWith(t, "", `update-policy { deny local-ddns wildcard *.example. AAAA; grant local-ddns zonesub `+
		`ANY; };`)
	g := newTestGateway(t, b, "--pools", "10.9.0.0/16,fd00::/64")
	for i := range 1000 {
		g.live = append(g.live, client(fmt.Sprint("client", i), fmt.Sprintf("10.9.%d.%d", i/250, i%250),
			fmt.Sprintf("fd00::%x", i+1)))
	}
	start := time.Now()
	wantSome(t, g.syncs(), "fd00::1", "and 990 more")
	t.Logf("in %s", time.Since(start))
	if n := strings.Count(g.zone(), " A 10.9."); n != 1000 {
		t.Errorf("%d names", n)
	}
}

// After a pool was changed while charon did not run, no name is left over.
func TestBindPoolMoved(t *testing.T) {
	g := newTestGateway(t, startBind(t), "--reverse-zones", "0.0.10.in-addr.arpa")
	g.sync()
	alice := client("alice", "10.0.0.101")
	if err := g.up(alice); err != nil {
		t.Fatal(err)
	}
	g.sync()
	moved := func(context.Context) ([]lease.Lease, lease.Pools, error) {
		pools, err := lease.ParsePools([]string{"10.0.5.100-10.0.5.200"})
		return slices.Clone(g.live), pools, err
	}
	g.askCharon, g.live = moved, nil
	// The old pool is back before a sync has run: the old address is known.
	if err := os.WriteFile(filepath.Join(string(g.dir), "pools"), []byte("10.0.5.100-10.0.5.200\n"),
		0o644); err != nil {
		t.Fatal(err)
	}
	if err := g.up(client("alice", "10.0.5.100")); err != nil {
		t.Error(err)
	}
	g.sync()
	g.want("alice A 10.0.5.100")
	g.live = nil
	g.sync()
	g.want("")
}

// Addresses from RADIUS or a DHCP server are in no known pool.
func TestBindNoPools(t *testing.T) {
	g := newTestGateway(t, startBind(t))
	g.askCharon = func(context.Context) ([]lease.Lease, lease.Pools, error) { return slices.Clone(g.live), nil, nil }
	g.sync()
	alice := client("alice", "10.8.0.5")
	if err := g.up(alice); err != nil {
		t.Fatal(err)
	}
	g.sync()
	if n := strings.Count(g.log.String(), "charon has no pools"); n != 1 {
		t.Errorf("%d warnings, want one:\n%s", n, g.log.String())
	}
	if err := g.down(alice); err != nil {
		t.Fatal(err)
	}
	g.sync()
	g.want("")
	for _, l := range []lease.Lease{client("bob", "10.8.0.5"), client("alice", "10.8.0.9"),
		client("alice", "10.8.0.10")} {
		if err := g.up(l); err != nil {
			t.Error(err)
		}
	}
	if err := g.up(client("printer", "10.8.0.11")); !errors.Is(err, lease.ErrHeld) ||
		strings.Contains(err.Error(), "no sync has run") {
		t.Errorf("printer: %v", err)
	}
	g.sync()
	g.want("alice A 10.8.0.10; alice A 10.8.0.9; bob A 10.8.0.5")
	g.live = nil
	g.sync()
	g.want("")
}

const handMadeZone = `$GENERATE 150-161 vpn$ IN A 10.0.0.$
scanner IN A 10.0.0.162
scanner IN TXT "by hand"
laptop IN A 10.0.0.163
laptop IN DHCID AAIBY2/AuCccgoJbsaxcQc9TUapptP69lOjxfNuVAA2kjEA=
both IN A 10.0.0.164
both IN A 203.0.113.1
`

// Names inside the pool that this gateway did not add are kept, and logged once a day.
// --force removes those that could be a client's.
func TestBindHandMadeNames(t *testing.T) {
	b := startBindWith(t, handMadeZone, "allow-update { localhost; };")
	g := newTestGateway(t, b, "--reverse-zones", "0.0.10.in-addr.arpa", "--pools", "10.0.0.100-10.0.0.200")
	before := g.zone()
	alice := client("alice", "10.0.0.100")
	if err := g.up(alice); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		g.sync()
	}
	g.live = nil
	g.sync()
	g.want(before)
	if n := strings.Count(g.log.String(), "15 names inside the pools are not this gateway's"); n != 1 ||
		!strings.Contains(g.log.String(), "vpn150.example. A 10.0.0.150, ") {
		t.Errorf("%d entries, want one that names them:\n%s", n, g.log.String())
	}
	yesterday := time.Now().Add(-24*time.Hour - time.Minute)
	if err := os.Chtimes(filepath.Join(string(g.dir), "said-kept"), yesterday, yesterday); err != nil {
		t.Fatal(err)
	}
	g.sync()
	if n := strings.Count(g.log.String(), "15 names inside the pools"); n != 2 {
		t.Errorf("%d entries after a day, want another", n)
	}

	// A client does not get someone else's name, nor one that a DHCP server manages.
	for _, identity := range []string{"vpn150", "scanner", "laptop", "both"} {
		if err := g.up(client(identity, "10.0.0.120")); !errors.Is(err, lease.ErrHeld) {
			t.Errorf("%s: %v", identity, err)
		}
		g.live = nil
	}
	// A live client whose name already has its address keeps the name, which is removed
	// with the client, except for the DHCP server's and one beside a TXT.
	g.live = []lease.Lease{client("vpn151", "10.0.0.151"), client("laptop", "10.0.0.163"),
		client("scanner", "10.0.0.162")}
	g.sync()
	g.live = nil
	g.sync()
	want := strings.Replace(before, "vpn151 A 10.0.0.151; ", "", 1)
	if got := strings.Replace(g.zone(), "; 151 PTR vpn151.example.", "", 1); got != want && got+"x" != want {
		t.Errorf("zone has %q, want %q", got, want)
	}

	g.flags.Force = true
	g.stdout.Reset()
	if err := g.host.sync(t.Context(), syncFlags{DryRun: true, Force: true}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(g.stdout.String(), "vpn160.example.\t0\tNONE\tA\t10.0.0.160") ||
		strings.Contains(g.stdout.String(), "laptop") {
		t.Errorf("the dry run prints\n%s", g.stdout.String())
	}
	g.sync()
	g.want("both A 10.0.0.164; both A 203.0.113.1; laptop A 10.0.0.163; scanner A 10.0.0.162")
}

// After a power cut /run is empty. Dead names are removed, whatever hooks and syncs ran before.
func TestBindPowerCut(t *testing.T) {
	for _, synced := range []bool{true, false} {
		t.Run(fmt.Sprint("sync after the hook ", synced), func(t *testing.T) {
			b := startBindWith(t, handMadeZone, "allow-update { localhost; };")
			g := newTestGateway(t, b, "--reverse-zones", "0.0.10.in-addr.arpa")
			before := g.zone()
			g.sync()
			if err := g.up(client("alice", "10.0.0.100", "fd00::100")); err != nil {
				t.Fatal(err)
			}
			if synced {
				g.sync()
			}
			if err := os.RemoveAll(string(g.dir)); err != nil {
				t.Fatal(err)
			}
			g.live = []lease.Lease{client("alice", "10.0.0.101")}
			g.sync()
			g.live = nil
			g.sync()
			g.want(before)
		})
	}
}

// If the memory is lost or cannot be read, names stay.
func TestBindLostMemory(t *testing.T) {
	b := startBind(t)
	g := newTestGateway(t, b)
	lose := func(how func(file string) error) {
		t.Helper()
		if err := how(g.memory.File()); err != nil {
			t.Fatal(err)
		}
	}
	g.sync()
	for _, l := range []lease.Lease{client("alice", "10.0.0.100"), client("bob", "10.0.0.101")} {
		if err := g.up(l); err != nil {
			t.Fatal(err)
		}
	}
	g.sync()
	lose(os.Remove)
	g.live = g.live[1:]
	g.sync()
	g.want("alice A 10.0.0.100; bob A 10.0.0.101")
	g.live = nil // bob was live when the new memory was written
	g.sync()
	g.want("alice A 10.0.0.100")

	if err := g.up(client("carol", "10.0.0.102")); err != nil {
		t.Fatal(err)
	}
	g.sync()
	lose(func(file string) error {
		return os.WriteFile(file, []byte("alice.exam\x00ple 10.0.0.100\ncarol.example. 10.0.0.102"), 0o600)
	})
	g.live = nil
	wantSome(t, g.syncs(), "the file is damaged")
	g.want("alice A 10.0.0.100; carol A 10.0.0.102")
	g.sync() // the memory is complete again
	g.flags.Force = true
	g.sync()
	g.want("")

	// The disk is full or read-only: names are added and removed, and the run fails.
	g.flags.Force = false
	lose(func(file string) error {
		return errors.Join(os.RemoveAll(file), os.Mkdir(file, 0o755), os.Mkdir(file+"/x", 0o755))
	})
	if err := g.up(client("dave", "10.0.0.103")); err != nil {
		t.Fatal(err)
	}
	g.live = append(g.live, client("erin", "10.0.0.104"))
	wantSome(t, g.syncs(), "names that are this gateway's")
	g.want("dave A 10.0.0.103; erin A 10.0.0.104")
}

// Without differences sync writes nothing, neither to the zones nor to the disk.
func TestBindNothingToDoWritesNothing(t *testing.T) {
	g := newTestGateway(t, startBind(t), "--reverse-zones", "0.0.10.in-addr.arpa")
	g.sync()
	alice := client("alice", "10.0.0.100")
	look := func() (times []string) {
		for _, dir := range []string{string(g.memory), string(g.dir)} {
			_ = filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
				if err == nil && filepath.Base(path) != "poke" {
					times = append(times, fmt.Sprint(path, info.ModTime()))
				}
				return err
			})
		}
		return times
	}
	for what, do := range map[string]func() error{"nobody": func() error { return nil },
		"up": func() error { return g.up(alice) }, "down": func() error { return g.down(alice) }} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
		g.sync()
		before := look()
		g.sync()
		if after := look(); !slices.Equal(before, after) {
			t.Errorf("%s: before\n%s\nafter\n%s", what, strings.Join(before, "\n"), strings.Join(after, "\n"))
		}
	}
}

// Each PTR that is added, removed or left because it is someone else's is logged.
func TestBindPointersAreSaid(t *testing.T) {
	g := newTestGateway(t, startBind(t), "--reverse-zones", "0.0.10.in-addr.arpa")
	g.sync()
	if err := errors.Join(g.up(client("alice", "10.0.0.100")), g.up(client("dave", "10.0.0.130"))); err != nil {
		t.Fatal(err)
	}
	g.live = append(g.live, client("bob", "10.0.0.101"))
	g.sync()
	g.live = nil
	g.sync()
	for _, line := range []string{
		`"PTR added" event=.* pointer=100.0.0.10.in-addr.arpa. name=alice.example.`,
		`"PTR added" event=.* pointer=101.0.0.10.in-addr.arpa. name=bob.example.`,
		`"PTR removed" event=.* pointer=100.0.0.10.in-addr.arpa. name=alice.example.`,
		`130.0.0.10.in-addr.arpa. PTR static.elsewhere.test.`,
	} {
		if words := strings.Split(line, " event=.*"); !strings.Contains(g.log.String(), words[0]) ||
			!strings.Contains(g.log.String(), words[len(words)-1]) {
			t.Errorf("not logged: %s\n%s", line, g.log.String())
		}
	}
}

// named answers questions and transfers from a signed copy of the zone, which is older
// than the one that it updates.
func TestBindInlineSigning(t *testing.T) {
	b := startBindWith(t, "", `dnssec-policy big { keys { csk lifetime unlimited algorithm rsasha256 4096; }; };
%%allow-update { localhost; }; dnssec-policy big; inline-signing yes;`)
	g := newTestGateway(t, b)
	g.sync()
	for i := range 100 {
		g.live = append(g.live, client(fmt.Sprint("u", i), fmt.Sprintf("10.0.0.%d", 100+i)))
	}
	g.sync()
	live := g.live
	for i := range 3 {
		if err := g.up(live[i]); err != nil { // its next traffic selectors
			t.Error(err)
		}
		g.live = live
		if err := g.up(client(live[i].Identity, fmt.Sprintf("fd00::%d", 100+i))); err != nil { // another device
			t.Error(err)
		}
		live = g.live
		g.sync()
	}
	g.live = nil
	g.sync()
	g.sync()
	for deadline := time.Now().Add(30 * time.Second); strings.Contains(g.zone(),
		"u"); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the zone keeps %s", g.zone())
		}
	}
}

// Only live names get the changed TTL.
func TestBindNewTTL(t *testing.T) {
	b := startBind(t)
	g := newTestGateway(t, b, "--reverse-zones", "0.0.10.in-addr.arpa")
	g.sync()
	if err := errors.Join(g.up(client("alice", "10.0.0.100", "fd00::100")),
		g.up(client("mixed", "10.0.0.101"))); err != nil {
		t.Fatal(err)
	}
	g.sync()
	g.TTL = seconds(5 * time.Minute)
	g.sync()
	server, err := g.dnsServer()
	if err != nil {
		t.Fatal(err)
	}
	for _, zone := range []string{"example.", "0.0.10.in-addr.arpa."} {
		_, other, err := server.TransferTTL(t.Context(), zone, 5*time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		for _, rr := range other {
			if strings.Contains(text(rr), "alice") || strings.Contains(text(rr), "mixed") {
				t.Errorf("%s has the old TTL", text(rr))
			}
		}
		if len(other) == 0 {
			t.Errorf("all of %s has the new TTL", zone)
		}
	}
	serial, err := server.Serial(t.Context(), "example.")
	if err != nil {
		t.Fatal(err)
	}
	g.sync()
	if again, _ := server.Serial(t.Context(), "example."); again != serial {
		t.Errorf("the serial went from %d to %d", serial, again)
	}
}

// The reverse zone for a part of a /24 has special names (RFC 2317).
func TestBindClasslessReverseZone(t *testing.T) {
	for _, zone := range []string{"96/27.0.0.10.in-addr.arpa", "96-127.0.0.10.in-addr.arpa",
		"clients.0.0.10.in-addr.arpa"} {
		b := startBind(t)
		b.write("db.classless", strings.ReplaceAll(bindReverse, "0.0.10.in-addr.arpa.", zone+"."))
		conf, err := os.ReadFile(filepath.Join(b.dir, "named.conf"))
		if err != nil {
			t.Fatal(err)
		}
		b.write("named.conf", string(conf)+fmt.Sprintf("zone %q { type master; file \"db.classless\"; allow-update "+
			"{ localhost; }; };\n", zone))
		b.rndc("reconfig")
		g := newTestGateway(t, b, "--reverse-zones", zone)
		g.sync()
		if err := errors.Join(g.up(client("alice", "10.0.0.100")), g.up(client("bob", "10.0.0.140"))); err != nil {
			t.Fatal(err)
		}
		want := "100 PTR alice.example.; alice A 10.0.0.100; bob A 10.0.0.140"
		if strings.HasPrefix(zone, "clients") {
			want = "100 PTR alice.example.; 140 PTR bob.example.; alice A 10.0.0.100; bob A 10.0.0.140"
		}
		g.want(want)
		g.sync()
		g.want(want)
		g.live = nil
		g.sync()
		g.want("")
	}
}

const twoConnections = `connections {
  users { children { net { updown = /etc/swanctl/script/updown.sh iptables } } }
  branch { children { lan { local_ts = 0.0.0.0/0 } } }
}
`

// Clients of a connection without an updown line get no names. The setting connections changes that.
func TestBindConnections(t *testing.T) {
	b := startBind(t)
	if err := os.MkdirAll(filepath.Join(b.dir, "swanctl"), 0o755); err != nil {
		t.Fatal(err)
	}
	b.write("swanctl/swanctl.conf", twoConnections)
	user, router, other := client("alice", "10.0.0.100"), client("router", "10.0.0.101"), client("bob", "10.0.0.102")
	user.Connection, router.Connection, other.Connection = "users", "branch", "elsewhere"
	for setting, want := range map[string]string{
		"":             "alice A 10.0.0.100; bob A 10.0.0.102",
		"users":        "alice A 10.0.0.100",
		"users,branch": "alice A 10.0.0.100; router A 10.0.0.101",
	} {
		args := []string{"--connections", setting}
		if setting == "" {
			args = nil
		}
		g := newTestGateway(t, b, args...)
		g.live = []lease.Lease{user, router, other}
		g.sync()
		g.want(want)
		g.stdout.Reset()
		if err := g.host.sync(t.Context(), syncFlags{DryRun: true}); err != nil {
			t.Error(err)
		}
		if !strings.Contains(want, "router") && !strings.Contains(g.stdout.String(),
			`no name for "router": its connection gets no names: branch `) {
			t.Errorf("%q: a dry run does not print the reason: %s", setting, g.stdout.String())
		}
		g.live = nil
		g.sync()
		g.want("")
		// The hook gets only the child's name.
		if setting == "users" {
			if err := g.up(client("carol", "10.0.0.103")); err != nil { // no child has this name
				t.Error(err)
			}
			g.vars["PLUTO_CONNECTION"], g.vars["PLUTO_XAUTH_ID"] = "lan", "router"
			if err := g.hook(t.Context()); err != nil {
				t.Error(err)
			}
			g.want("carol A 10.0.0.103")
			g.live = nil
			g.sync()
		}
	}
}

func TestServerWithoutPort(t *testing.T) {
	for server, want := range map[string]string{
		"127.0.0.1": "127.0.0.1:53", "ns.example.org": "ns.example.org:53", "::1": "[::1]:53", "[::1]": "[::1]:53",
		"fe80::1%eth0":   "[fe80::1%eth0]:53",
		"127.0.0.1:5353": "127.0.0.1:5353", "[::1]:53": "[::1]:53", ":53": ":53",
		"": "", "127.0.0.1:": "", "http://127.0.0.1/": "", "unix:///run/x": "", "a b": "", "1:2:3": "", "[ns]": "",
	} {
		if got, err := withPort(server); got != want || (err == nil) != (want != "") {
			t.Errorf("%q became %q, %v", server, got, err)
		}
	}
}

// A reverse zone that refuses updates does not delay the PTRs in another.
func TestBindOneRefusedZone(t *testing.T) {
	b := startBind(t)
	b.write("db.six", strings.ReplaceAll(strings.ReplaceAll(bindReverse, "0.0.10.in-addr.arpa.", "d.f.ip6.arpa."),
		"130 IN", "0 IN"))
	conf, err := os.ReadFile(filepath.Join(b.dir, "named.conf"))
	if err != nil {
		t.Fatal(err)
	}
	b.write("named.conf", string(conf)+"zone \"d.f.ip6.arpa\" { type master; file \"db.six\"; };\n")
	b.rndc("reconfig")
	g := newTestGateway(t, b, "--reverse-zones", "d.f.ip6.arpa,0.0.10.in-addr.arpa")
	g.live = []lease.Lease{client("alice", "10.0.0.100", "fd00::100")}
	wantSome(t, g.syncs(), "update zone d.f.ip6.arpa.", "REFUSED")
	zone := g.zone()
	for _, line := range []string{"100 PTR alice.example.", "alice A 10.0.0.100", "alice AAAA fd00::100"} {
		if !strings.Contains(zone, line) {
			t.Errorf("the zone lacks %q: %s", line, zone)
		}
	}
}

// If a grant has a limit, named reports success and does nothing.
func TestBindDiscardedName(t *testing.T) {
	b := startBindWith(t, "", "update-policy { grant local-ddns zonesub A(1) PTR(1); };")
	g := newTestGateway(t, b)
	g.live = []lease.Lease{client("alice", "10.0.0.100"), client("bob", "10.0.0.101")}
	g.sync()
	g.live = append(g.live, client("alice", "10.0.0.102"), client("carol", "10.0.0.103"))
	wantSome(t, g.syncs(), `alice.example. A 10.0.0.102 of "alice"`, "the server did not do it")
	g.want("alice A 10.0.0.100; bob A 10.0.0.101; carol A 10.0.0.103")
	if n := strings.Count(g.log.String(), `"name added"`); n != 3 {
		t.Errorf("%d names are logged as added, want 3:\n%s", n, g.log.String())
	}
}
