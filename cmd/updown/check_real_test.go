package main

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"tunnelcast/internal/charon"
	"tunnelcast/internal/lease"
	"tunnelcast/internal/units"
)

const ownKey = `key "tc" { algorithm hmac-sha256; secret "b3duIGtleSBvZiB0aGUgdGVzdA=="; };
`

// reconfigure replaces text in named.conf, adds the key tc to it and loads it.
func (b *bind) reconfigure(pairs ...string) {
	b.t.Helper()
	file := filepath.Join(b.dir, "named.conf")
	conf, err := os.ReadFile(file)
	if err != nil {
		b.t.Fatal(err)
	}
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(string(conf), pairs[i]) {
			b.t.Fatalf("named.conf has no %q", pairs[i])
		}
	}
	b.write("named.conf", ownKey+strings.NewReplacer(pairs...).Replace(strings.TrimPrefix(string(conf), ownKey)))
	b.write("tc.key", ownKey)
	if err := os.Chmod(filepath.Join(b.dir, "tc.key"), 0o600); err != nil {
		b.t.Fatal(err)
	}
	b.named.Stop()
	b.start()
}

// checked returns the output of check, without the backquotes around what is typed.
func (g *testGateway) checked() string {
	g.t.Helper()
	g.stdout.Reset()
	if err := g.check(g.t.Context()); err == nil { // there is no swanctl.conf
		g.t.Error("check found nothing")
	}
	return strings.ReplaceAll(g.stdout.String(), "`", "")
}

func wantLine(t *testing.T, out, want string) {
	t.Helper()
	if !regexp.MustCompile(`(?m)^` + want + `$`).MatchString(out) {
		t.Errorf("no line %s in\n%s", want, out)
	}
}

// bareZone is the file of a zone with any name.
const bareZone = "@ 60 IN SOA ns.example. hostmaster.example. ( 1 3600 900 3600000 60 )\n@ 60 IN NS ns.example.\n"

const (
	exampleUpdate = `zone "example" { type master; file "db.example"; allow-update { localhost; }; };`
	reverseUpdate = `zone "0.0.10.in-addr.arpa" { type master; file "db.reverse"; allow-update { localhost; }; };`
)

// check tries a client's update, each type by itself, and leaves no RRs in the zone.
func TestBindCheckTriesAnUpdate(t *testing.T) {
	wildcard := netip.MustParseAddr("10.0.0.7") // the address of the wildcard
	for name, test := range map[string]struct {
		conf []string // replacements in named.conf
		args []string
		want []string // lines
	}{
		"session key": {nil, []string{"--reverse-zones", "0.0.10.in-addr.arpa"}, []string{
			`ok    update of zone example\., A and AAAA`, `ok    update of zone 0\.0\.10\.in-addr\.arpa\., PTR`,
			`ok    what clients see of zone example\. at .*, A`,
			`ok    what clients see of zone example\. at .*, AAAA`,
		}},
		"each zone has its policy": {
			[]string{exampleUpdate,
				`zone "example" { type master; file "db.example"; update-policy { deny * name example. ANY; grant ` +
					`tc zonesub A AAAA; }; allow-transfer { key tc; }; };`,
				reverseUpdate,
				`zone "0.0.10.in-addr.arpa" { type master; file "db.reverse"; update-policy { grant tc zonesub ` +
					`PTR; }; allow-transfer { key tc; }; };`,
			},
			[]string{"--key", "tc.key", "--reverse-zones", "0.0.10.in-addr.arpa"},
			[]string{
				`ok    update of zone example\., A and AAAA`,
				`ok    update of zone 0\.0\.10\.in-addr\.arpa\., PTR`,
			}},
		"a type is not granted": {
			[]string{exampleUpdate,
				`zone "example" { type master; file "db.example"; update-policy { grant tc zonesub A; }; };`,
			}, []string{"--key", "tc.key"},
			[]string{
				`FAIL  update of zone example\.: REFUSED: the zone's update-policy does not let the key tc\. ` +
					`change tunnelcast-check\.example\. AAAA \(grant tc zonesub A AAAA; .*\)`,
			}},
		"another's policy": {
			[]string{exampleUpdate,
				`zone "example" { type master; file "db.example"; update-policy local; };`,
			}, []string{"--key", "tc.key"},
			[]string{
				`FAIL  update of zone example\.: REFUSED: the zone's update-policy .* \(grant tc zonesub A AAAA; .*\)`,
			}},
		"no updates": {
			[]string{exampleUpdate, `zone "example" { type master; file "db.example"; };`}, nil,
			[]string{
				`FAIL  update of zone example\.: .*REFUSED.*\(update-policy local; in the zone's statement in ` +
					`named\.conf\)`,
			}},
		"a secondary": {
			[]string{exampleUpdate,
				`zone "example" { type secondary; file "db.secondary"; masterfile-format text; primaries { ` +
					`127.0.0.1 port 9; }; };`,
			}, nil,
			[]string{
				`FAIL  update of zone example\.: REFUSED: .* is a secondary of the zone \(the key server .* primary\)`,
			}},
		"a reverse zone for other addresses": {
			nil, []string{"--reverse-zones", "0.0.10.in-addr.arpa", "--pools", "10.1.0.0/24"},
			[]string{
				`FAIL  update of zone 0\.0\.10\.in-addr\.arpa\.: no address of the pools ` +
					`\[10\.1\.0\.0-10\.1\.0\.255\] has its PTR in this zone \(the key reverse-zones .*\)`,
			}},
		"clients are in another view": {
			[]string{exampleUpdate,
				`view "updates" { match-clients { key local-ddns; key tc; }; ` +
					`zone "example" { type master; file "db.example"; allow-update { localhost; }; }; }; ` +
					`view "clients" { zone "example" { type master; file "db.clients"; }; `,
				reverseUpdate, `};`}, nil,
			[]string{
				`ok    update of zone example\., A and AAAA`,
				`FAIL  what clients see of zone example\. at .*, A: a name that was just added is not there ` +
					`\(.*match-clients in named\.conf\)`,
			}},
		"clients' questions are refused here": {
			[]string{exampleUpdate,
				`zone "example" { type master; file "db.example"; allow-update { localhost; }; allow-query { key ` +
					`local-ddns; 10.0.0.0/24; }; };`,
			}, nil,
			[]string{`\?     what clients see of zone example\.: .*REFUSED.* \(on a client: dig SOA example\.\)`}},
		"clients ask another address": {
			nil, nil, []string{
				`FAIL  what clients see of zone example\. at 127\.0\.0\.9:53, A: .*connection refused \(listen-on ` +
					`in named\.conf, or dns in the pool's section in swanctl\.conf\)`,
			}},
		"an underscore": {
			[]string{exampleUpdate, exampleUpdate + ` zone "_vpn.example" { type master; file "db.underscore"; ` +
				`update-policy { grant tc zonesub ANY; }; };`}, []string{"--key", "tc.key", "--zone", "_vpn.example"},
			[]string{`FAIL  update of zone _vpn\.example\.: .*check-names.* \(check-names ignore; .*\)`}},
		"a zone inside a zone": {nil, []string{"--zone", "vpn.example"}, []string{
			`FAIL  zone vpn\.example\. at .*: the server does not have the zone: the name lies in its zone ` +
				`example\. \(.*\)`,
		}},
		"a zone that is not there": {nil, []string{"--zone", "example.net"}, []string{
			`FAIL  zone example\.net\. at .*: REFUSED: the server does not have the zone, .* \(named-checkconf ` +
				`-zj; .*\)`,
		}},
		"no pools are known": {nil, []string{"--vici", "none"}, []string{`ok    update of zone example\., A`}},
	} {
		t.Run(name, func(t *testing.T) {
			b := startBind(t)
			for _, name := range []string{"db.secondary", "db.clients"} {
				b.write(name, bindZone)
			}
			b.write("db.underscore", bareZone)
			b.reconfigure(test.conf...)
			for i, arg := range test.args {
				test.args[i] = strings.Replace(arg, "tc.key", filepath.Join(b.dir, "tc.key"), 1)
			}
			g := newTestGateway(t, b, test.args...)
			if name == "no pools are known" {
				g.askCharon = func(context.Context) ([]lease.Lease, lease.Pools, error) {
					return nil, nil, charon.ErrNotRunning
				}
			}
			if name == "clients ask another address" {
				g.SwanctlDir = b.dir
				b.write("swanctl.conf", "pools { a { addrs = 10.0.0.0/24\n dns = 127.0.0.9, fd00::zz\n } }\n")
			}
			out := g.checked()
			for _, want := range test.want {
				wantLine(t, out, want)
			}
			if !strings.Contains(test.want[0], "FAIL  zone") {
				if s, err := newTestGateway(t, b).dnsServer(); err != nil {
					t.Error(err)
				} else if left, err := s.Lookup(t.Context(), lease.CheckLabel+".example."); err != nil {
					t.Error(err)
				} else if slices.ContainsFunc(left.Holds, func(rr lease.RR) bool { return rr.Addr != wildcard }) {
					t.Errorf("check left %v", left)
				}
			}
		})
	}
}

// Clients may use a secondary, which gets new names later, or a server that does not
// answer them.
func TestBindCheckClientsAskAnotherServer(t *testing.T) {
	b, other := startBind(t), startBind(t)
	b.write("swanctl.conf", "pools { a { addrs = 10.0.0.0/24\n dns = 127.0.0.2 } }\n")
	g := newTestGateway(t, b)
	g.SwanctlDir = b.dir
	_, g.clientPort, _ = net.SplitHostPort(udpForwarder(t, "127.0.0.2:0", other.addr))
	wantLine(t, g.checked(),
		`\?     what clients see of zone example\. at 127\.0\.0\.2:[0-9]+, AAAA: it has the zone, and new names `+
			`later, .*`)

	other.reconfigure(exampleUpdate,
		`zone "example" { type master; file "db.example"; allow-query { key local-ddns; }; };`)
	wantLine(t, g.checked(),
		`FAIL  what clients see of zone example\. at 127\.0\.0\.2:[0-9]+, A: .*REFUSED.* names another server\)`)
}

// The named of this host may be a secondary of a primary elsewhere, and clients ask it.
func TestBindCheckClientsAskTheSecondaryHere(t *testing.T) {
	primary, here := startBind(t), startBind(t)
	here.write("swanctl.conf", "pools { a { addrs = 10.0.0.0/24\n dns = 127.0.0.1 } }\n")
	g := newTestGateway(t, primary, "--server", udpForwarder(t, "127.0.0.2:0", primary.addr))
	g.SwanctlDir = here.dir
	_, g.clientPort, _ = net.SplitHostPort(here.addr)
	wantLine(t, g.checked(),
		`\?     what clients see of zone example\. at 127\.0\.0\.1:[0-9]+, A: it has the zone, and new names later, .*`)
}

// A check that was killed leaves a name, which the next one removes.
func TestBindCheckTakesAwayWhatIsLeft(t *testing.T) {
	b := startBind(t)
	g := newTestGateway(t, b)
	s, err := g.dnsServer()
	if err != nil {
		t.Fatal(err)
	}
	name := lease.CheckLabel + ".example."
	left := lease.Change{Zone: "example.", Seen: []lease.Owner{{Name: name}}, Add: []lease.RR{
		lease.Address(name, netip.MustParseAddr("10.0.0.150")), lease.Address(name, netip.MustParseAddr("fd00::150"))}}
	if err := s.Update(t.Context(), left, time.Minute); err != nil {
		t.Fatal(err)
	}
	wantLine(t, g.checked(), `ok    update of zone example\., A and AAAA`)
	g.want("")
}

// named needs to write to the zone's directory for the first update, not to load the
// zone.
func TestBindCheckNoJournal(t *testing.T) {
	b := startBind(t)
	// Since root may write anywhere, a directory is in place of the journal.
	if err := os.Mkdir(filepath.Join(b.dir, "db.example.jnl"), 0o700); err != nil {
		t.Fatal(err)
	}
	g := newTestGateway(t, b)
	wantLine(t, g.checked(),
		`FAIL  update of zone example\.: .*SERVFAIL.* \(journalctl -u named; .*directory of the zone's file.*\)`)
}

// If a pool is full, check tries an address that is in use.
func TestBindCheckFullPool(t *testing.T) {
	b := startBind(t)
	g := newTestGateway(t, b, "--pools", "10.0.0.100", "--reverse-zones", "0.0.10.in-addr.arpa")
	if err := g.up(client("alice", "10.0.0.100")); err != nil {
		t.Fatal(err)
	}
	wantLine(t, g.checked(), `ok    update of zone 0\.0\.10\.in-addr\.arpa\., PTR`)
	g.want("100 PTR alice.example.; alice A 10.0.0.100")
}

// If the server cannot be reached, the remedy is about the network, not the zone.
func TestBindCheckTheWay(t *testing.T) {
	b := startBind(t)
	g := newTestGateway(t, b, "--server", freePort(t).String())
	wantLine(t, g.checked(),
		`FAIL  zone example\. at .*connection refused \(systemctl start named; .* listen-on in named\.conf, the `+
			`key server in .*\)`)

	// A forwarder for UDP only.
	forwarder := udpForwarder(t, "127.0.0.1:0", b.addr)
	g = newTestGateway(t, b, "--server", forwarder)
	out := g.checked()
	wantLine(t, out, `ok    update of zone example\., A and AAAA`)
	wantLine(t, out, `FAIL  transfer of zone .* \(TCP port [0-9]+ of the server must be open, besides UDP: .*\)`)

	// A journal that does not match the zone's file, which named-checkconf -z does not notice.
	if err := newTestGateway(t, b).up(client("alice", "10.0.0.100")); err != nil {
		t.Fatal(err)
	}
	b.named.Stop()
	b.write("db.example", strings.Replace(bindZone, "( 1 ", "( 99 ", 1))
	b.write("named.conf", strings.Replace(read(t, filepath.Join(b.dir, "named.conf")), "options {",
		"zone \"up\" { type primary; file \"db.up\"; };\noptions {", 1))
	b.write("db.up", bareZone)
	b.startWith("up.")
	wantLine(t, newTestGateway(t, b).checked(), `FAIL  zone example\. at .*SERVFAIL.* \(named-checkconf -zj; .*\)`)
}

func TestCheckKey(t *testing.T) {
	b := &bind{dir: t.TempDir(), addr: "127.0.0.1:1"}
	out := newTestGateway(t, b).checked()
	wantLine(t, out, `FAIL  key .*session\.key: .*no such file or directory \(is named running\? .*\)`)
	out = newTestGateway(t, b, "--key", "/nonexistent/gw1.kye").checked()
	wantLine(t, out, "FAIL  key /nonexistent/gw1\\.kye: .*no such file or directory \\(key = \"FILE\" in .*\\)")
}

// check distinguishes the reasons why charon does not answer.
func TestCheckCharon(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		vici, active string
		want         string
	}{
		"stopped": {dir + "/none", "", `charon does not answer: there is no socket .*/none.* \(systemctl start ` +
			`strongswan\.service\)`},
		"wrong path": {dir + "/none", "strongswan.service",
			`charon does not answer: there is no socket .*/none.* \(strongswan\.service runs: the key vici .*\)`},
		"as a URI": {"unix://" + dir + "/none", "", `charon does not answer: there is no socket /.*/none.*`},
		"another URI": {"tcp://127.0.0.1:4502", "",
			`connect to charon: tcp://127\.0\.0\.1:4502 is not the path of a socket \(the key vici .*\)`},
		"a file": {file, "", `charon does not answer: .*/file is not a socket.*`},
		"the old daemon": {dir + "/none", "strongswan-starter.service",
			`charon does not answer: .* \(strongswan-starter\.service runs: its charon needs the vici plugin .*\)`},
	} {
		t.Run(name, func(t *testing.T) {
			b := &bind{dir: t.TempDir(), addr: "127.0.0.1:1"}
			g := newTestGateway(t, b, "--vici", test.vici)
			g.askCharon = func(ctx context.Context) ([]lease.Lease, lease.Pools, error) {
				_, err := charon.Dial(ctx, g.Vici)
				return nil, nil, err
			}
			g.askUnit = func(_ context.Context, unit string) (units.State, error) {
				if unit == test.active {
					return units.State{Load: "loaded", Active: "active"}, nil
				}
				return units.State{Load: "loaded", Active: "inactive"}, nil
			}
			wantLine(t, g.checked(), "FAIL  charon at "+test.vici+": "+test.want)
		})
	}
}

func TestSample(t *testing.T) {
	pools, err := lease.ParsePools([]string{"10.0.0.1-10.0.0.3", "fd00::/64"})
	if err != nil {
		t.Fatal(err)
	}
	used := map[netip.Addr]bool{netip.MustParseAddr("10.0.0.3"): true}
	if addr, ok := sample(pools, used, netip.Addr.Is4); !ok || addr.String() != "10.0.0.2" {
		t.Error(addr, ok)
	}
	if addr, ok := sample(pools, used, netip.Addr.Is6); !ok || addr.String() != "fd00::ffff:ffff:ffff:ffff" {
		t.Error(addr, ok)
	}
	if addr, ok := sample(pools, used, func(netip.Addr) bool { return false }); ok {
		t.Error(addr)
	}
	full := map[netip.Addr]bool{}
	for _, last := range []string{"1", "2", "3"} {
		full[netip.MustParseAddr("10.0.0."+last)] = true
	}
	if addr, ok := sample(pools, full, netip.Addr.Is4); !ok {
		t.Error("no address of a full pool", addr)
	}
}

// udpForwarder forwards one message after the other.
func udpForwarder(t *testing.T, listen, to string) string {
	t.Helper()
	l, err := net.ListenPacket("udp", listen)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		buffer := make([]byte, 1<<16)
		for {
			n, from, err := l.ReadFrom(buffer)
			if err != nil {
				return
			}
			conn, err := net.Dial("udp", to)
			if err != nil {
				return
			}
			_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
			if _, err = conn.Write(buffer[:n]); err == nil {
				if n, err = conn.Read(buffer); err == nil {
					_, _ = l.WriteTo(buffer[:n], from)
				}
			}
			conn.Close()
		}
	}()
	return l.LocalAddr().String()
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
