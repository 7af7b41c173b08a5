package main

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"tunnelcast/internal/charon"
	"tunnelcast/internal/e2e/box"
	"tunnelcast/internal/lineage/lineagetest"
)

const startingConf = `connections {
	site {
		version = 2
		remote_addrs = 192.0.2.2
		keyingtries = 0
		local { certs = %[1]s/cert.pem
			id = ` + identity + ` }
		remote { auth = psk
			id = branch }
		children { lan { remote_ts = 10.2.0.0/16
			start_action = start } }
	}
}
secrets { ike-branch { id = branch
	secret = abcdefgh } }
`

// newSite is a gateway that starts a tunnel to the client itself, and has it up.
func newSite(t *testing.T) *testGateway {
	g := newGuide(t, "c1")
	g.write("client/swanctl.conf", `connections { site { version = 2
	local { auth = psk
		id = branch }
	remote { auth = pubkey
		id = `+identity+` }
	children { lan { local_ts = 10.2.0.0/16 } } } }
secrets { ike-branch { id = branch
	secret = abcdefgh } }
`)
	g.mustSwanctl("client", "--load-all", "--noprompt")
	g.write("gw/swanctl.conf", fmt.Sprintf(startingConf, g.live))
	g.mustSwanctl("gw", "--load-all", "--noprompt")
	g.tunnel()
	return g
}

// tunnel waits for the one tunnel and returns the line that identifies it.
func (g *testGateway) tunnel() string {
	g.t.Helper()
	var list, head string
	err := box.Poll(g.t.Context(), box.Patience, "the tunnel", func() (bool, error) {
		list = g.mustSwanctl("gw", "--list-sas", "--ike", "site")
		head, _, _ = strings.Cut(list, "\n")
		return strings.Contains(head, "ESTABLISHED"), nil
	})
	if err != nil {
		g.t.Fatalf("%v; list-sas prints:\n%s", err, list)
	}
	return head
}

func (g *testGateway) shownToBranch() *x509.Certificate {
	g.t.Helper()
	g.mustSwanctl("client", "--flush-certs")
	g.swanctl("gw", "--terminate", "--ike", "site", "--timeout", "60")
	g.swanctl("gw", "--initiate", "--ike", "site", "--timeout", "60")
	g.tunnel()
	s, err := charon.Dial(g.t.Context(), g.socket("client"))
	if err != nil {
		g.t.Fatal(err)
	}
	defer s.Close()
	certs, err := s.Certificates(g.t.Context())
	if err != nil {
		g.t.Fatal(err)
	}
	var leaves []*x509.Certificate
	for _, held := range certs {
		if cert, err := x509.ParseCertificate(held.DER); err == nil && !cert.IsCA {
			leaves = append(leaves, cert)
		}
	}
	if len(leaves) != 1 {
		g.t.Fatalf("the branch holds %d leaves", len(leaves))
	}
	return leaves[0]
}

// TestTunnelsThatCharonStartsStay renews under a tunnel of a connection with
// start_action = start.
func TestTunnelsThatCharonStartsStay(t *testing.T) {
	g := newSite(t)
	before := g.tunnel()
	var leaf *x509.Certificate
	for range 3 {
		leaf = g.renew()
		if out, _, err := g.hook(g.live); err != nil || out != "" {
			t.Fatalf("error %v, output %q", err, out)
		}
	}
	if now := g.tunnel(); !sameTunnel(now, before) {
		t.Errorf("the tunnel is not the same:\n%s\n%s", before, now)
	}
	g.agrees()
	if !g.shownToBranch().Equal(leaf) {
		t.Error("the branch is not shown the new certificate when the tunnel is set up again")
	}
	g.mustSwanctl("gw", "--load-all", "--noprompt") // what a reload of the unit does
	g.tunnel()
	if !g.shownToBranch().Equal(leaf) {
		t.Error("a reload loses the new certificate")
	}
}

// With the same key for the next certificate, charon would go on with the old one
// unless the connection is loaded.
func TestTunnelOfAKeptKeyIsNotClosedUnsaid(t *testing.T) {
	g := newSite(t)
	key := lineagetest.NewKey(t, false)
	save := func(valid time.Duration) *x509.Certificate {
		leaf := g.authority.Issue(t, key.Public(), []string{identity}, func(c *x509.Certificate) {
			c.NotAfter = time.Now().Add(valid)
		})
		return g.save(lineagetest.NewFiles(t, leaf, g.authority.Chain(), key))
	}
	old := save(1000 * time.Hour)
	if _, _, err := g.hook(g.live); err != nil {
		t.Fatal(err)
	}
	before := g.tunnel()
	leaf := save(30 * time.Hour)
	for range 2 { // it is said as long as it is so
		_, log, err := g.hook(g.live)
		wantError(t, err, 3, "connection site goes on with its earlier certificate")
		if log != "" {
			t.Errorf("log %s", log)
		}
	}
	if now := g.tunnel(); !sameTunnel(now, before) {
		t.Errorf("the tunnel is not the same:\n%s\n%s", before, now)
	}
	out, _, err := g.certhook(nil, "check")
	if err == nil || !strings.Contains(out, "charon does not serve what is on disk") {
		t.Errorf("check: %v\n%s", err, out)
	}
	if !g.shownToBranch().Equal(old) {
		t.Error("the connection has moved")
	}

	// Nothing is disturbed when the tunnel is down.
	g.mustSwanctl("gw", "--terminate", "--ike", "site", "--timeout", "60")
	if _, _, err := g.hook(g.live); err != nil {
		t.Error(err)
	}
	if !g.shownToBranch().Equal(leaf) {
		t.Error("the branch is not shown the new certificate")
	}

	// That one ends within two days, so the next closes the tunnel.
	leaf = save(1000 * time.Hour)
	if _, log, err := g.hook(g.live); err != nil || !strings.Contains(log, "the tunnel of connection site is closed") {
		t.Errorf("error %v, log %s", err, log)
	}
	if !g.shownToBranch().Equal(leaf) {
		t.Error("the branch is not shown the new certificate")
	}
}

// sameTunnel compares the unique id and the SPIs of list-sas.
func sameTunnel(a, b string) bool {
	fields := func(line string) []string {
		return slices.DeleteFunc(strings.Fields(line), func(f string) bool {
			return !strings.HasPrefix(f, "#") && !strings.Contains(f, "_")
		})
	}
	return slices.Equal(fields(a), fields(b))
}
