package main

import (
	"context"
	"crypto"
	"crypto/x509"
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

	"tunnelcast/internal/charon"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/lineage"
	"tunnelcast/internal/lineage/lineagetest"
	"tunnelcast/internal/rotation"
	"tunnelcast/internal/vici"
	"tunnelcast/internal/vici/vicitest"
)

// testGateway is a gateway with a lineage that has two issuers. Its client trusts only the root.
type testGateway struct {
	*charons
	authority *lineagetest.Authority
	le, live  string
	version   int
}

// newTestGateway starts one that serves a good pair. certs is the value of certs in swanctl.conf, in
// which DIR stands for the live directory; private has a link to the key.
func newTestGateway(t testing.TB, certs string, clients ...string) *testGateway {
	g := &testGateway{authority: lineagetest.NewAuthority(t, "CA", 2)}
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

func (g *testGateway) conf(certs string) string {
	return fmt.Sprintf(gatewayConf, strings.ReplaceAll(certs, "DIR", g.live), g.live)
}

// newGuide starts one with the layout of the guide.
func newGuide(t testing.TB, clients ...string) *testGateway {
	return newTestGateway(t, "DIR/cert.pem", clients...)
}

// renew does what certbot does before it calls the hook, and returns the certificate.
func (g *testGateway) renew() *x509.Certificate {
	g.t.Helper()
	return g.save(g.authority.Renew(g.t, identity))
}

func (g *testGateway) save(files lineagetest.Files) *x509.Certificate {
	g.t.Helper()
	g.version++
	files.Save(g.t, g.le, identity, g.version)
	certs, err := lineage.ParseCertificates(files["cert.pem"])
	if err != nil {
		g.t.Fatal(err)
	}
	return certs[0]
}

// issue makes the files of a certificate with a given key.
func (g *testGateway) issue(key crypto.Signer) lineagetest.Files {
	g.t.Helper()
	leaf := g.authority.Issue(g.t, key.Public(), []string{identity}, nil)
	return lineagetest.NewFiles(g.t, leaf, g.authority.Chain(), key)
}

// issuers returns the files in x509ca.
func (g *testGateway) issuers() []string {
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

// logins counts the logins of clients that log in again and again until stop is called.
type logins struct {
	tried, lost atomic.Int64
	first       atomic.Pointer[error] // of the first one that was lost
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

// rotations returns how many times a certificate is renewed under load.
func rotations() int {
	if n, err := strconv.Atoi(os.Getenv("TUNNELCAST_ROTATIONS")); err == nil {
		return n
	}
	return 20
}

// rotate renews count times, with a login or more between, and returns how long each move
// took.
func (g *testGateway) rotate(count int, l *logins, move func() error) (took []time.Duration) {
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

// agrees fails the test if charon does not serve what is on disk.
func (g *testGateway) agrees() {
	g.t.Helper()
	out, _, err := g.certhook(nil, "check")
	for line := range strings.Lines(out) {
		// The package is not installed: there is neither its timer nor certbot's hook.
		packaged := strings.HasPrefix(line, "FAIL  unit ") || strings.HasPrefix(line, "FAIL  certbot's hook ")
		if strings.HasPrefix(line, "FAIL") && !packaged {
			g.t.Errorf("check: %v\n%s", err, out)
		}
	}
}

// renewed runs the hook, which must succeed. The test fails unless the next client is shown
// the certificate, and check agrees.
func (g *testGateway) renewed(leaf *x509.Certificate) {
	g.t.Helper()
	if _, _, err := g.hook(g.live); err != nil {
		g.t.Fatal(err)
	}
	if !g.presented("c1").Equal(leaf) {
		g.t.Error("the next client does not see the new certificate")
	}
	g.agrees()
}

// keeps fails the test unless charon holds the certificate with its key.
func (g *testGateway) keeps(cert *x509.Certificate) {
	g.t.Helper()
	s, err := charon.Dial(g.t.Context(), g.socket("gw"))
	if err != nil {
		g.t.Fatal(err)
	}
	defer s.Close()
	all, err := credentials(g.t.Context(), s)
	if err != nil {
		g.t.Fatal(err)
	}
	if !slices.ContainsFunc(all, func(c rotation.Credential) bool { return c.Equal(cert) && c.HasKey }) {
		g.t.Error("charon does not hold the other certificate with its key")
	}
}

// firstCertificate returns the certificate that charon reads from a file.
func firstCertificate(path string) *x509.Certificate { return newReader().file(path).First }

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

// between passes all on to the gateway's charon but one command, which it answers itself: with
// an error, or with success if cause is empty.
func (c *charons) between(t testing.TB, command, cause string) (socket string) {
	t.Helper()
	answer := vicitest.Message(vici.Value("success", "yes"))
	if cause != "" {
		answer = vicitest.Message(vici.Value("success", "no"), vici.Value("errmsg", cause))
	}
	return vicitest.Start(t, &vicitest.Server{
		Upstream: c.socket("gw"),
		Handle: func(name string, _ vici.Message) (vicitest.Answer, bool) {
			return vicitest.Answer{Response: answer}, name == command
		},
	})
}

// process runs a built certhook as certbot does.
func (g *testGateway) process(program string) error {
	hook := exec.Command(program, g.arguments()...)
	hook.Env = append(os.Environ(), "RENEWED_LINEAGE="+g.live)
	if out, err := hook.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// removeArchived removes what one of the lineage's links points to: cert, chain, privkey.
func (g *testGateway) removeArchived(kind string) {
	g.t.Helper()
	file := filepath.Join(g.le, "archive", identity, fmt.Sprintf("%s%d.pem", kind, g.version))
	if err := os.Remove(file); err != nil {
		g.t.Fatal(err)
	}
}

// wantError fails the test unless an error has the exit status and contains the text.
func wantError(t testing.TB, err error, status int, text string) {
	t.Helper()
	if err == nil || hook.Status(err) != status || !strings.Contains(err.Error(), text) {
		t.Errorf("error %v, status %d; want %q, status %d", err, hook.Status(err), text, status)
	}
}

// wantFinding is wantError for a finding of a kind.
func wantFinding(t testing.TB, err error, status int, kind rotation.Kind, text string) {
	t.Helper()
	wantError(t, err, status, text)
	if !isFinding(err, kind) {
		t.Errorf("error %v is not of kind %d", err, kind)
	}
}
