package main

import (
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tunnelcast/internal/lineage/lineagetest"
	"tunnelcast/internal/rotation"
)

// TestCharonPicksByIdentity has a connection that names no certificate. charon's cache holds
// the certificate of the last login, and an earlier one may still have a key.
func TestCharonPicksByIdentity(t *testing.T) {
	t.Run("the same key for the next certificate", func(t *testing.T) {
		g := newTestGateway(t, "", "c1")
		key := lineagetest.NewKey(t, false)
		for range 3 {
			g.renewed(g.save(g.issue(key)))
		}
	})
	t.Run("a copy of an earlier key stays", func(t *testing.T) {
		g := newTestGateway(t, "", "c1")
		first := g.presented("c1")
		key, err := os.ReadFile(filepath.Join(g.live, "privkey.pem"))
		if err != nil {
			t.Fatal(err)
		}
		files := map[string][]byte{"privkey.pem": key}
		for _, name := range []string{"cert.pem", "chain.pem", "fullchain.pem"} {
			if files[name], err = os.ReadFile(filepath.Join(g.live, name)); err != nil {
				t.Fatal(err)
			}
		}
		g.write("gw/private/backup.pem", string(key))
		g.renewed(g.renew())

		// The backup is restored. charon cannot be told to prefer a certificate that it has
		// had all the time, unless it may unload the key of the other.
		g.save(files)
		g.renewed(first)
	})
	t.Run("RSA becomes ECDSA in plain files", func(t *testing.T) {
		g := newTestGateway(t, "", "c1")
		for _, name := range g.issuers() { // of the lineage that this one replaces
			if err := os.Remove(filepath.Join(g.dir, "gw/x509ca", name)); err != nil {
				t.Fatal(err)
			}
		}
		g.live = filepath.Join(g.dir, "plain")
		if err := os.Mkdir(g.live, 0o700); err != nil {
			t.Fatal(err)
		}
		put := func(rsa bool) *x509.Certificate {
			files := g.issue(lineagetest.NewKey(t, rsa))
			for name, text := range files {
				g.write("plain/"+name, string(text))
			}
			return firstCertificate(filepath.Join(g.live, "cert.pem"))
		}
		for link, file := range map[string]string{"private": "privkey.pem", "x509": "cert.pem"} {
			path := filepath.Join(g.dir, "gw", link, "vpn.pem")
			if err := errors.Join(os.Remove(path), os.Symlink(filepath.Join(g.live, file), path)); err != nil {
				t.Fatal(err)
			}
		}
		for _, rsa := range []bool{true, false, true} {
			g.renewed(put(rsa))
		}
	})
	t.Run("beside a connection that names the file", func(t *testing.T) {
		g := newGuide(t, "c1")
		named := "connections { named { remote_addrs = 198.51.100.1\n local { certs = " + g.live + "/cert.pem\n" +
			" id = " + identity + " } } }\n"
		g.write("gw/swanctl.conf", named+g.conf(""))
		g.mustSwanctl("gw", "--load-all", "--noprompt")
		key := lineagetest.NewKey(t, false)
		for range 3 {
			g.presented("c1")
			g.renewed(g.save(g.issue(key)))
		}
	})
}

// TestTwoKindsOfKey has an RSA and an ECDSA lineage for the same names, in one connection and
// by identity.
func TestTwoKindsOfKey(t *testing.T) {
	const second = "vpn-ecdsa"
	for name, certs := range map[string]string{
		"named": "DIR/cert.pem, DIR/../" + second + "/cert.pem", "by identity": "",
	} {
		t.Run(name, func(t *testing.T) {
			g := newTestGateway(t, "DIR/cert.pem", "c1")
			other := g.issue(lineagetest.NewKey(t, false)).Save(t, g.le, second, 1)
			for link, target := range map[string]string{
				"private/ecdsa.pem": other + "/privkey.pem",
				"x509/vpn.pem":      g.live + "/cert.pem",
				"x509/ecdsa.pem":    other + "/cert.pem",
			} {
				if err := os.Symlink(target, filepath.Join(g.dir, "gw", link)); err != nil {
					t.Fatal(err)
				}
			}
			g.save(g.issue(lineagetest.NewKey(t, true)))
			g.write("gw/swanctl.conf", g.conf(certs))
			g.mustSwanctl("gw", "--load-all", "--noprompt")
			for _, dir := range []string{g.live, other} {
				if _, _, err := g.hook(dir); err != nil {
					t.Fatal(err)
				}
			}
			for version := range 3 {
				for _, dir := range []string{g.live, other} {
					if dir == other {
						g.issue(lineagetest.NewKey(t, false)).Save(t, g.le, second, version+2)
					} else {
						g.save(g.issue(lineagetest.NewKey(t, true)))
					}
					if _, _, err := g.hook(dir); err != nil {
						t.Fatal(err)
					}
					g.agrees()
				}
				shown := g.presented("c1")
				isOneOf := func(dir string) bool { return shown.Equal(firstCertificate(dir + "/cert.pem")) }
				if !isOneOf(g.live) && !isOneOf(other) {
					t.Error("the next client is shown neither of the new certificates")
				}
			}
		})
	}
}

// TestCrossSigns changes the signer of an intermediate, and changes it back. The client trusts
// only the first root.
func TestCrossSigns(t *testing.T) {
	g := newGuide(t, "c1")
	first := g.authority
	second := first.CrossSign(t, lineagetest.NewAuthority(t, "Second", 0), time.Now().Add(time.Hour))
	use := func(a *lineagetest.Authority) *x509.Certificate {
		g.authority = a
		return g.renew()
	}
	for range 2 {
		use(second)
		if _, _, err := g.hook(g.live); err != nil {
			t.Fatal(err)
		}
		if err := g.login("c1"); err == nil {
			t.Fatal("the client logs in although it does not trust the root of the chain")
		}
		g.renewed(use(first))
	}

	// A reload of the unit loads the files in x509ca. charon keeps their certificates until it
	// restarts, even if the files change.
	g.mustSwanctl("gw", "--load-all", "--noprompt")
	use(second)
	if _, _, err := g.hook(g.live); err != nil {
		t.Fatal(err)
	}
	g.mustSwanctl("gw", "--load-all", "--noprompt")
	leaf := use(first)
	_, _, err := g.hook(g.live)
	wantFinding(t, err, 1, rotation.OtherSent, "systemctl restart tunnelcast-test-none.service")
	if out, _, _ := g.certhook(nil, "check"); !strings.Contains(out, "charon sends another chain") {
		t.Errorf("check:\n%s", out)
	}
	if g.login("c1") == nil {
		t.Error("the client logs in, so the finding is wrong")
	}
	g.stop["gw"]()
	g.start("gw")
	g.mustSwanctl("gw", "--load-all", "--noprompt")
	g.renewed(leaf)
}

// TestOtherCertificateOfAnIssuer has an old file in x509ca that charon may send in
// place of the issuer in the chain.
func TestOtherCertificateOfAnIssuer(t *testing.T) {
	g := newGuide(t, "c1")
	expired := g.authority.CrossSign(t, lineagetest.NewAuthority(t, "Gone", 0), time.Now().Add(-time.Minute))
	old := filepath.Join(g.dir, "gw/x509ca/lets-encrypt-cross-signed.pem")
	g.write("gw/x509ca/lets-encrypt-cross-signed.pem", string(lineagetest.PEM(expired.Chain()[1])))
	leaf := g.renew()
	_, _, err := g.hook(g.live)
	wantFinding(t, err, 1, rotation.RivalIssuer, "rm "+old)
	if !g.presented("c1").Equal(leaf) {
		t.Error("the next client does not see the new certificate")
	}
	if out, _, _ := g.certhook(nil, "check"); !strings.Contains(out, "rm "+old) {
		t.Errorf("check does not name the file:\n%s", out)
	}
	if err := os.Remove(old); err != nil {
		t.Fatal(err)
	}
	g.agrees()
}

// TestSwanctlLoadsNoTemporaryFile has what interrupted runs leave in x509ca: this version's
// below a directory, which swanctl skips, and an older version's beside the other files.
func TestSwanctlLoadsNoTemporaryFile(t *testing.T) {
	g := newGuide(t, "c1")
	dir := newIssuerDir(filepath.Join(g.dir, "gw"))
	ours, older := lineagetest.NewAuthority(t, "Ours", 0).Root(), lineagetest.NewAuthority(t, "Older", 0).Root()
	if err := os.Mkdir(dir.unfinished(), 0o755); err != nil {
		t.Fatal(err)
	}
	g.write("gw/x509ca/.tunnelcast/1.pem", string(lineagetest.PEM(ours)))
	g.write("gw/x509ca/.tunnelcast-vpn.example-1.pem1234567890", string(lineagetest.PEM(older)))
	g.mustSwanctl("gw", "--load-creds", "--noprompt")
	list := g.mustSwanctl("gw", "--list-certs")
	if strings.Contains(list, "CN=Ours") || !strings.Contains(list, "CN=Older") {
		t.Errorf("want the older version's file loaded, and ours not:\n%s", list)
	}
	g.renewed(g.renew())
	want := []string{"tunnelcast-vpn.example-1.pem", "tunnelcast-vpn.example-2.pem"}
	if got := g.issuers(); !slices.Equal(got, want) {
		t.Errorf("x509ca holds %q, want %q", got, want)
	}
}

// TestAnExpiredEndOfTheChain has a chain whose last certificate no client needs: a root that
// an older root has signed.
func TestAnExpiredEndOfTheChain(t *testing.T) {
	g := newGuide(t, "c1")
	root, end := g.authority.Root(), time.Now().Add(-time.Minute)
	key := lineagetest.NewKey(t, false)
	// The highest intermediate is such an end for clients that trust it.
	g.write("client/x509ca/root.pem", string(lineagetest.PEM(root)))
	expired := g.authority.CrossSign(t, lineagetest.NewAuthority(t, "Gone", 0), end)
	g.write("client/x509ca/high.pem", string(lineagetest.PEM(g.authority.Chain()[1])))
	g.mustSwanctl("client", "--load-creds", "--noprompt")
	leaf := expired.Issue(t, key.Public(), []string{identity}, nil)
	g.save(lineagetest.NewFiles(t, leaf, expired.Chain(), key))
	g.renewed(leaf)
	if got := strings.Join(g.issuers(), " "); got != "tunnelcast-vpn.example-1.pem" {
		t.Errorf("x509ca holds %s", got)
	}
}
