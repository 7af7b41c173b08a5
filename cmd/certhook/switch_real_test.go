package main

import (
	"context"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tunnelcast/internal/hook"
	"tunnelcast/internal/lineage"
	"tunnelcast/internal/lineage/lineagetest"
)

// gateway is a server with a lineage, whose issuers are two; its client trusts
// the root alone.
type gateway struct {
	*charons
	authority *lineagetest.Authority
	le, live  string
	version   int
}

// newGateway starts one with a good pair, served. certs is what swanctl.conf
// names, DIR in it the live directory; private/ holds a link to the key.
func newGateway(t testing.TB, certs string, clients ...string) *gateway {
	g := &gateway{authority: lineagetest.NewAuthority(t, "CA", 2)}
	g.charons = startCharons(t, lineagetest.PEM(g.authority.Root()), clients...)
	g.le = filepath.Join(g.dir, "letsencrypt")
	g.live = filepath.Join(g.le, "live", identity)
	g.write("gw/swanctl.conf", g.conf(certs))
	for link, file := range map[string]string{"private": "privkey.pem", "x509": "cert.pem"} {
		if link == "x509" && strings.Contains(certs, "DIR") {
			continue
		}
		if err := os.Symlink(filepath.Join(g.live, file), filepath.Join(g.dir, "gw", link, "vpn.pem")); err != nil {
			t.Fatal(err)
		}
	}
	g.renew()
	g.mustSwanctl("gw", "--load-all", "--noprompt")
	if _, _, err := g.hook(g.live); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *gateway) conf(certs string) string {
	return fmt.Sprintf(gatewayConf, strings.ReplaceAll(certs, "DIR", g.live), g.live)
}

// newGuide is the guide's layout.
func newGuide(t testing.TB, clients ...string) *gateway {
	return newGateway(t, "DIR/cert.pem", clients...)
}

// renew does what certbot does before it calls the hook.
func (g *gateway) renew() *x509.Certificate {
	g.t.Helper()
	return g.save(g.authority.Renew(g.t, identity))
}

func (g *gateway) save(files lineagetest.Files) *x509.Certificate {
	g.t.Helper()
	g.version++
	files.Save(g.t, g.le, identity, g.version)
	certs, err := lineage.ParseCertificates(files["cert.pem"])
	if err != nil {
		g.t.Fatal(err)
	}
	return certs[0]
}

// issuers returns the files in x509ca.
func (g *gateway) issuers() []string {
	entries, err := os.ReadDir(filepath.Join(g.dir, "gw/x509ca"))
	if err != nil {
		g.t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// logins lets clients log in again and again until stopped, and counts.
type logins struct {
	tried, lost atomic.Int64
	first       atomic.Pointer[error] // why the first one was lost
	stop        func()
}

func (c *charons) keepLoggingIn(clients ...string) *logins {
	ctx, cancel := context.WithCancel(c.t.Context())
	l := &logins{}
	var wg sync.WaitGroup
	for _, name := range clients {
		wg.Go(func() {
			for ctx.Err() == nil {
				err := c.login(name)
				l.tried.Add(1)
				if err != nil {
					l.lost.Add(1)
					l.first.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	l.stop = func() { cancel(); wg.Wait() }
	return l
}

// rotations is how many times the certificate is renewed under load.
func rotations() int {
	if n, err := strconv.Atoi(os.Getenv("TUNNELCAST_ROTATIONS")); err == nil {
		return n
	}
	return 20
}

// rotate renews count times, a login or more between, and returns how long
// each move took.
func (g *gateway) rotate(count int, l *logins, move func() error) (took []time.Duration) {
	g.t.Helper()
	for range count {
		g.renew()
		start := time.Now()
		if err := move(); err != nil {
			g.t.Fatal(err)
		}
		took = append(took, time.Since(start))
		before, end := l.tried.Load(), time.Now().Add(30*time.Second)
		for l.tried.Load() < before+2 && time.Now().Before(end) {
			<-time.After(time.Millisecond)
		}
	}
	slices.Sort(took)
	return took
}

func TestNoLoginIsLostWhileCertificatesRotate(t *testing.T) {
	g := newGuide(t, "c1", "c2", "c3", "stays")
	if err := g.login("stays"); err != nil {
		t.Fatal(err)
	}
	established := g.mustSwanctl("client", "--list-sas", "--ike", "stays")

	l := g.keepLoggingIn("c1", "c2", "c3")
	took := g.rotate(rotations(), l, func() error {
		output, _, err := g.hook(g.live)
		if output != "" {
			err = errors.Join(err, fmt.Errorf("the hook says %q", output))
		}
		return err
	})
	l.stop()
	t.Logf("certhook: %d rotations, %d logins tried, %d lost; one switch took %v (median), %v (longest)",
		len(took), l.tried.Load(), l.lost.Load(), took[len(took)/2], took[len(took)-1])
	if l.lost.Load() > 0 {
		t.Errorf("lost, the first: %v", *l.first.Load())
	}

	// The same line of list-sas, so the same SA: unique id and SPIs are in it.
	head, _, _ := strings.Cut(established, "\n")
	if now := g.mustSwanctl("client", "--list-sas", "--ike", "stays"); !strings.HasPrefix(now, head) || !strings.Contains(head, "ESTABLISHED") {
		t.Errorf("the tunnel that was up is not the same:\n%s\n%s", established, now)
	}
	g.mustSwanctl("client", "--terminate", "--ike", "stays")
	if leaf := g.renew(); g.presented("c1").Equal(leaf) {
		t.Error("the client saw a certificate before the hook ran")
	} else if _, _, err := g.hook(g.live); err != nil {
		t.Error(err)
	} else if !g.presented("c1").Equal(leaf) {
		t.Error("the next client does not see the new certificate")
	}

	// What strongswan.service does on reload, for comparison: its gap is no
	// fault of ours, and on a lucky run shows nothing.
	all := g.keepLoggingIn("c1", "c2", "c3")
	g.rotate(rotations(), all, func() error {
		_, err := g.swanctl("gw", "--load-all", "--noprompt")
		return err
	})
	all.stop()
	t.Logf("swanctl --load-all: %d rotations, %d logins tried, %d lost", rotations(), all.tried.Load(), all.lost.Load())
}

// TestNoLoginIsLostWhileIntermediatesChange renews from intermediates of one root in
// turn, as Let's Encrypt does. The client trusts the root alone.
func TestNoLoginIsLostWhileIntermediatesChange(t *testing.T) {
	g := newGuide(t, "c1", "c2", "c3")
	authorities := []*lineagetest.Authority{g.authority, g.authority.Sibling(t, "Sibling")}
	l := g.keepLoggingIn("c1", "c2", "c3")
	turn := 0
	g.rotate(10, l, func() error {
		turn++
		g.authority = authorities[turn%len(authorities)]
		_, _, err := g.hook(g.live)
		return err
	})
	l.stop()
	t.Logf("%d logins tried, %d lost", l.tried.Load(), l.lost.Load())
	if l.lost.Load() > 0 {
		t.Errorf("lost, the first: %v", *l.first.Load())
	}
}

// TestFaultsLeaveTheOldPairServing breaks a renewal or a tool in every way, one
// after the other.
func TestFaultsLeaveTheOldPairServing(t *testing.T) {
	g := newGuide(t, "c1")
	names := []string{identity}
	other := lineagetest.NewAuthority(t, "Other", 2)
	issue := func(change func(*x509.Certificate)) lineagetest.Files {
		key := lineagetest.NewKey(t, false)
		return lineagetest.NewFiles(t, g.authority.Issue(t, key.Public(), names, change), g.authority.Chain(), key)
	}
	with := func(file string, text []byte) lineagetest.Files {
		files := issue(nil)
		files[file] = text
		return files
	}
	chain := lineagetest.PEM(g.authority.Chain()...)
	refuse := func(command string) []string { return []string{"--vici", g.between(t, command, "no memory")} }
	for _, fault := range []struct {
		name  string
		files lineagetest.Files
		spoil func() // after the files are saved
		args  []string
		want  string // in the error
	}{
		{name: "key corrupt", files: with("privkey.pem", []byte("-----BEGIN PRIVATE KEY-----\nMIG\n")), want: "privkey.pem: damaged or truncated"},
		{name: "key of another certificate", files: with("privkey.pem", lineagetest.KeyPEM(t, lineagetest.NewKey(t, false))), want: "privkey.pem does not belong to cert.pem"},
		{name: "key dangling", files: issue(nil), spoil: func() {
			os.Remove(filepath.Join(g.le, "archive", identity, fmt.Sprintf("privkey%d.pem", g.version)))
		}, want: "read privkey.pem: dangling link"},
		{name: "certificate dangling", files: issue(nil), spoil: func() {
			os.Remove(filepath.Join(g.le, "archive", identity, fmt.Sprintf("cert%d.pem", g.version)))
		}, want: "read cert.pem: dangling link"},
		{name: "links to different versions", files: lineagetest.Files{"cert.pem": issue(nil)["cert.pem"]}, want: "links point to different versions"},
		{name: "chain cut short", files: with("chain.pem", chain[:len(chain)-40]), want: "chain.pem: damaged or truncated"},
		{name: "chain unreadable", files: with("chain.pem", []byte("\x00")), want: "chain.pem: no certificate"},
		{name: "chain of another authority", files: with("chain.pem", lineagetest.PEM(other.Chain()...)), want: "did not sign cert.pem"},
		{name: "expired", files: issue(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), want: "expired at"},
		{name: "not yet valid", files: issue(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }), want: "not valid before"},
		{name: "wrong name", files: issue(func(c *x509.Certificate) { c.DNSNames = []string{"www.example"} }), want: `the identity "vpn.example" is not among`},
		{name: "charon refuses the key", files: issue(nil), args: refuse("load-key"), want: "charon load-key: "},
		{name: "charon refuses an issuer", files: issue(nil), args: refuse("load-authority"), want: "charon load-authority: "},
		{name: "charon refuses the connection", files: issue(nil), args: refuse("load-conn"), want: "no memory"},
		{name: "charon says it has loaded the connection, and has not", files: issue(nil), args: []string{"--vici", g.between(t, "load-conn", "")}, want: "charon did not get vpn.example"},
		{name: "charon cannot list certificates", files: issue(nil), args: refuse("list-certs"), want: "no memory"},
		{name: "VICI hangs", files: issue(nil), args: []string{"--vici", hungSocket(t)}, want: "no answer within 5s"},
	} {
		t.Run(fault.name, func(t *testing.T) {
			old := g.presented("c1")
			files, was := g.issuers(), readAll(t, filepath.Join(g.dir, "gw/x509ca"))
			g.save(fault.files)
			if fault.spoil != nil {
				fault.spoil()
			}
			_, log, err := g.hook(g.live, fault.args...)
			if err == nil || !strings.Contains(err.Error(), fault.want) || hook.Status(err) != 1 {
				t.Errorf("error %v (log %s), want %q and status 1", err, log, fault.want)
			} else if strings.ContainsAny(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
			if !g.presented("c1").Equal(old) {
				t.Error("the old pair is not served any more")
			}
			if now := readAll(t, filepath.Join(g.dir, "gw/x509ca")); now != was {
				t.Errorf("the issuers' files are %v, were %v, or their contents differ", g.issuers(), files)
			}
		})
	}
	leaf := g.renew()
	if _, _, err := g.hook(g.live); err != nil || !g.presented("c1").Equal(leaf) {
		t.Errorf("after all faults a good renewal gives %v", err)
	}
}

// hungSocket listens and never answers.
func hungSocket(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "vici")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return path
}

func readAll(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&all, "%s\n%s", e.Name(), text)
	}
	return all.String()
}

// TestLayouts goes through the ways to name a lineage to swanctl.
func TestLayouts(t *testing.T) {
	for name, certs := range map[string]string{
		"path of fullchain.pem":     "DIR/fullchain.pem",
		"link in x509, named":       "vpn.pem",
		"link in x509, by identity": "",
	} {
		t.Run(name, func(t *testing.T) {
			g := newGateway(t, certs, "c1")
			for range 3 {
				old := g.presented("c1")
				leaf := g.renew()
				if _, _, err := g.hook(g.live); err != nil {
					t.Fatal(err)
				}
				if shown := g.presented("c1"); shown.Equal(old) || !shown.Equal(leaf) {
					t.Fatal("the next client does not see the new certificate")
				}
			}
			g.agrees()
			// What a reload of the unit does must find the same.
			g.mustSwanctl("gw", "--load-all", "--noprompt")
			if err := g.login("c1"); err != nil {
				t.Error(err)
			}
			g.agrees()
		})
	}
}

// agrees fails the test if disk and charon do not.
func (g *gateway) agrees() {
	g.t.Helper()
	out, _, err := g.certhook(nil, "check")
	for line := range strings.Lines(out) {
		// Here is no package: neither its timer nor certbot's hook.
		if strings.HasPrefix(line, "FAIL") && !strings.HasPrefix(line, "FAIL  unit ") && !strings.HasPrefix(line, "FAIL  certbot's hook ") {
			g.t.Errorf("check: %v\n%s", err, out)
		}
	}
}

func TestTheOrdinaryDays(t *testing.T) {
	g := newGuide(t, "c1")
	do := func(name string, f func(t *testing.T)) {
		t.Helper()
		t.Run(name, f)
		g.agrees()
	}
	mustHook := func(t *testing.T) (log string) {
		t.Helper()
		out, log, err := g.hook(g.live)
		if err != nil || out != "" {
			t.Fatalf("error %v, output %q", err, out)
		}
		return log
	}
	do("the same certificate again is nothing to do", func(t *testing.T) {
		if log := mustHook(t); log != "" {
			t.Errorf("log %s", log)
		}
		out, _, err := g.certhook(nil, "deploy", "--lineage", g.live, "--dry-run")
		if err != nil || !strings.HasPrefix(out, "nothing to do: charon serves vpn.example (serial ") {
			t.Errorf("dry run: %v, %q", err, out)
		}
	})
	do("a dry run says the plan and does nothing", func(t *testing.T) {
		old := g.presented("c1")
		g.renew()
		out, _, err := g.certhook(nil, "deploy", "--lineage", g.live, "--dry-run")
		var verbs []string
		for line := range strings.Lines(out) {
			verbs = append(verbs, strings.Fields(line)[0])
		}
		want := "load-key load-issuer load-issuer load-authority load-conn flush-certs prove unload-key prove-choice"
		if err != nil || strings.Join(verbs, " ") != want {
			t.Errorf("error %v, plan:\n%s", err, out)
		}
		if out, _, _ := g.certhook(nil, "check"); !strings.Contains(out, "charon does not serve what is on disk") {
			t.Errorf("check finds nothing although the hook has not run:\n%s", out)
		}
		if !g.presented("c1").Equal(old) {
			t.Error("the dry run switched")
		}
		mustHook(t)
	})
	do("an RSA lineage, and back", func(t *testing.T) {
		key := lineagetest.NewKey(t, true)
		leaf := g.save(lineagetest.NewFiles(t, g.authority.Issue(t, key.Public(), []string{identity}, nil), g.authority.Chain(), key))
		mustHook(t)
		if !g.presented("c1").Equal(leaf) {
			t.Error("the next client does not see the RSA certificate")
		}
		g.renew()
		mustHook(t)
	})
	do("the same key for the next certificate", func(t *testing.T) {
		key := lineagetest.NewKey(t, false)
		for range 2 {
			leaf := g.save(lineagetest.NewFiles(t, g.authority.Issue(t, key.Public(), []string{identity}, nil), g.authority.Chain(), key))
			mustHook(t)
			if !g.presented("c1").Equal(leaf) {
				t.Error("the next client does not see the new certificate")
			}
		}
	})
	do("a chain that gets shorter", func(t *testing.T) {
		short := lineagetest.NewAuthority(t, "Short", 1)
		if err := os.WriteFile(filepath.Join(g.dir, "client/x509ca/short.pem"), lineagetest.PEM(short.Root()), 0o600); err != nil {
			t.Fatal(err)
		}
		g.mustSwanctl("client", "--load-creds", "--noprompt")
		leaf := g.save(short.Renew(t, identity))
		mustHook(t)
		if got := strings.Join(g.issuers(), " "); got != "tunnelcast-vpn.example-1.pem" {
			t.Errorf("x509ca holds %s", got)
		}
		if !g.presented("c1").Equal(leaf) {
			t.Error("the next client does not see the new certificate")
		}
		g.renew()
		mustHook(t)
	})
	do("a lineage that charon does not use is silence", func(t *testing.T) {
		other := g.authority.Renew(t, "www.example").Save(t, g.le, "www.example", 1)
		if out, log, err := g.hook(other); err != nil || out != "" || log != "" {
			t.Errorf("error %v, output %q, log %q", err, out, log)
		}
		if _, _, err := g.hook(other, "--lineages", "www.example"); err == nil || !strings.Contains(err.Error(), "no connection in") {
			t.Errorf("listed: %v", err)
		}
	})
	do("the timer heals what swanctl --load-creds broke", func(t *testing.T) {
		leaf := g.renew()
		g.mustSwanctl("gw", "--load-creds", "--noprompt")
		if out, _, err := g.certhook(nil, "check", "--heal"); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		if !g.presented("c1").Equal(leaf) {
			t.Error("not healed")
		}
	})
	do("the timer heals a missed hook", func(t *testing.T) {
		leaf := g.renew()
		if out, _, err := g.certhook(nil, "check", "--heal"); err != nil || !g.presented("c1").Equal(leaf) {
			t.Errorf("%v\n%s", err, out)
		}
	})
	do("several hooks at once", func(t *testing.T) {
		leaf := g.renew()
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if _, _, err := g.hook(g.live); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if !g.presented("c1").Equal(leaf) {
			t.Error("the next client does not see the new certificate")
		}
	})
	t.Run("a key that the next reload would lose is said", func(t *testing.T) {
		link := filepath.Join(g.dir, "gw/private/vpn.pem")
		text, err := os.ReadFile(link)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Remove(link), os.WriteFile(link, text, 0o600)); err != nil {
			t.Fatal(err)
		}
		leaf := g.renew()
		_, _, err = g.hook(g.live)
		if err == nil || !strings.Contains(err.Error(), "the next reload of tunnelcast-test-none.service loses the key") {
			t.Errorf("got %v", err)
		}
		if !g.presented("c1").Equal(leaf) {
			t.Error("the new certificate is not served meanwhile")
		}
	})
	t.Run("a copied certificate is said", func(t *testing.T) {
		text, err := os.ReadFile(filepath.Join(g.live, "cert.pem"))
		if err != nil {
			t.Fatal(err)
		}
		g.write("gw/x509/vpn.pem", string(text))
		g.write("gw/swanctl.conf", g.conf("vpn.pem"))
		g.renew()
		if _, _, err = g.hook(g.live); err == nil || !strings.Contains(err.Error(), "charon serves a copy of its certificate: name ") {
			t.Errorf("got %v", err)
		}
	})
}

// TestTwoLineages has a connection for each and renews both at once.
func TestTwoLineages(t *testing.T) {
	g := newGuide(t, "c1")
	const second = "two.example"
	live := g.authority.Renew(t, second).Save(t, g.le, second, 1)
	if err := os.Symlink(filepath.Join(live, "privkey.pem"), filepath.Join(g.dir, "gw/private/two.pem")); err != nil {
		t.Fatal(err)
	}
	g.write("gw/swanctl.conf", g.conf("DIR/cert.pem")+
		fmt.Sprintf("connections { second { remote_addrs = 198.51.100.1\n local { certs = %s/cert.pem\n id = %s } } }\n", live, second))
	g.mustSwanctl("gw", "--load-all", "--noprompt")
	for version := range 5 {
		g.renew()
		g.authority.Renew(t, second).Save(t, g.le, second, version+2)
		var wg sync.WaitGroup
		for _, dir := range []string{g.live, live} {
			wg.Go(func() {
				if _, _, err := g.hook(dir); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		g.agrees()
	}
	if err := g.login("c1"); err != nil {
		t.Error(err)
	}

	// certbot calls for every lineage: what is wrong with a web server's is said
	// to nobody, and a fault of the gateway's own files is.
	foreign := g.authority.Renew(t, "www.example").Save(t, g.le, "www.example", 1)
	if err := os.Remove(filepath.Join(foreign, "privkey.pem")); err != nil {
		t.Fatal(err)
	}
	if stdout, stderr, err := g.hook(foreign); err != nil || stdout+stderr != "" {
		t.Errorf("the hook for a foreign lineage: %v\n%s%s", err, stdout, stderr)
	}
	if err := os.Remove(filepath.Join(g.dir, "gw/x509ca", g.issuers()[0])); err != nil {
		t.Fatal(err)
	}
	if stdout, _, err := g.certhook(nil, "check"); err == nil || !strings.Contains(stdout, "charon lacks an issuer as a file of its own") {
		t.Errorf("check without an issuer's file: %v\n%s", err, stdout)
	}
}

// TestCharonStartsWithWhatTheHookLeft renews while charon is down.
func TestCharonStartsWithWhatTheHookLeft(t *testing.T) {
	g := newGuide(t, "c1")
	g.stop["gw"]()
	for _, name := range g.issuers() {
		if err := os.Remove(filepath.Join(g.dir, "gw/x509ca", name)); err != nil {
			t.Fatal(err)
		}
	}
	leaf := g.renew()
	if out, log, err := g.hook(g.live); err != nil || out != "" || !strings.Contains(log, "charon does not answer") {
		t.Errorf("error %v, output %q, log %s", err, out, log)
	}
	g.start("gw")
	g.mustSwanctl("gw", "--load-all", "--noprompt")
	if !g.presented("c1").Equal(leaf) {
		t.Error("charon does not serve the new certificate after its start")
	}
	g.agrees()
}

// BenchmarkSwitch renews b.N times with certhook and b.N times with swanctl
// --load-all, in turn, under clients that log in all the time. A move is a whole
// process. Every thirty have charons of their own: they keep all certificates that
// they have seen, and become slow by hundreds of one name. For each of the two it
// tells the logins that were tried and lost, and the median and the bounds of a
// move, in milliseconds.
//
//	go test -run '^$' -bench Switch -benchtime 300x ./cmd/certhook -certhook PROGRAM
func BenchmarkSwitch(b *testing.B) {
	if *benchProgram == "" {
		b.Skip("-certhook names no program")
	}
	sides := []*struct {
		name        string
		move        func(g *gateway) error
		took        []time.Duration
		tried, lost int64
	}{
		{name: "certhook", move: func(g *gateway) error { return g.process(*benchProgram) }},
		{name: "load-all", move: func(g *gateway) error {
			_, err := g.swanctl("gw", "--load-all", "--noprompt")
			return err
		}},
	}
	for done, turn := 0, 0; done < b.N; turn++ {
		count := min(30, b.N-done)
		for i := range sides {
			side := sides[(i+turn)%len(sides)]
			g := newGuide(b, "c1", "c2", "c3")
			l := g.keepLoggingIn("c1", "c2", "c3")
			side.took = append(side.took, g.rotate(count, l, func() error { return side.move(g) })...)
			l.stop()
			if err := l.first.Load(); err != nil {
				b.Logf("%s: the first login that was lost: %v", side.name, *err)
			}
			g.stop["gw"]()
			g.stop["client"]()
			side.tried += l.tried.Load()
			side.lost += l.lost.Load()
		}
		done += count
	}
	b.ReportMetric(0, "ns/op")
	for _, side := range sides {
		slices.Sort(side.took)
		ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
		b.ReportMetric(float64(side.tried), side.name+"-tried")
		b.ReportMetric(float64(side.lost), side.name+"-lost")
		b.ReportMetric(ms(side.took[0]), side.name+"-least-ms")
		b.ReportMetric(ms(side.took[len(side.took)/2]), side.name+"-median-ms")
		b.ReportMetric(ms(side.took[len(side.took)-1]), side.name+"-most-ms")
	}
}

var benchProgram = flag.String("certhook", "", "the program that BenchmarkSwitch measures")

// process runs a built certhook as certbot does.
func (g *gateway) process(program string) error {
	hook := exec.Command(program, g.arguments()...)
	hook.Env = append(os.Environ(), "RENEWED_LINEAGE="+g.live)
	if out, err := hook.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}
