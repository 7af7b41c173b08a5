package main

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tunnelcast/internal/charon"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/lineage/lineagetest"
	"tunnelcast/internal/rotation"
)

// issue makes the files of a certificate with a given key.
func (g *gateway) issue(key crypto.Signer) lineagetest.Files {
	g.t.Helper()
	return lineagetest.NewFiles(g.t, g.authority.Issue(g.t, key.Public(), []string{identity}, nil), g.authority.Chain(), key)
}

// renewed runs the hook, which must succeed, and fails the test unless the next client
// is shown the certificate and check agrees.
func (g *gateway) renewed(leaf *x509.Certificate) {
	g.t.Helper()
	if _, _, err := g.hook(g.live); err != nil {
		g.t.Fatal(err)
	}
	if !g.presented("c1").Equal(leaf) {
		g.t.Error("the next client does not see the new certificate")
	}
	g.agrees()
}

// TestCharonPicksByIdentity has a connection that names no certificate. charon's cache
// has that of the last login, and an earlier one may have a key still.
func TestCharonPicksByIdentity(t *testing.T) {
	t.Run("the same key for the next certificate", func(t *testing.T) {
		g := newGateway(t, "", "c1")
		key := lineagetest.NewKey(t, false)
		for range 3 {
			g.renewed(g.save(g.issue(key)))
		}
	})
	t.Run("a copy of an earlier key stays", func(t *testing.T) {
		g := newGateway(t, "", "c1")
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

		// The backup is put back: charon cannot be told to prefer a certificate that it
		// has had all the time, unless it may forget the other's key.
		g.save(files)
		g.renewed(first)
	})
	t.Run("RSA becomes ECDSA in plain files", func(t *testing.T) {
		g := newGateway(t, "", "c1")
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
		g.write("gw/swanctl.conf", "connections { named { remote_addrs = 198.51.100.1\n local { certs = "+g.live+"/cert.pem\n id = "+identity+" } } }\n"+g.conf(""))
		g.mustSwanctl("gw", "--load-all", "--noprompt")
		key := lineagetest.NewKey(t, false)
		for range 3 {
			g.presented("c1")
			g.renewed(g.save(g.issue(key)))
		}
	})
}

// TestTwoKindsOfKey has an RSA and an ECDSA lineage of the same names in one connection,
// and by identity.
func TestTwoKindsOfKey(t *testing.T) {
	const second = "vpn-ecdsa"
	for name, certs := range map[string]string{"named": "DIR/cert.pem, DIR/../" + second + "/cert.pem", "by identity": ""} {
		t.Run(name, func(t *testing.T) {
			g := newGateway(t, "DIR/cert.pem", "c1")
			other := g.issue(lineagetest.NewKey(t, false)).Save(t, g.le, second, 1)
			for link, target := range map[string]string{"private/ecdsa.pem": other + "/privkey.pem", "x509/vpn.pem": g.live + "/cert.pem", "x509/ecdsa.pem": other + "/cert.pem"} {
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
				if !shown.Equal(firstCertificate(g.live+"/cert.pem")) && !shown.Equal(firstCertificate(other+"/cert.pem")) {
					t.Error("the next client is shown neither of the new certificates")
				}
			}
		})
	}
}

// TestCrossSigns changes who has signed an intermediate, and back. The client trusts
// the first root alone.
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
			t.Fatal("the client logs in although nobody it trusts has signed the chain")
		}
		g.renewed(use(first))
	}

	// A reload of the unit loads the files in x509ca, which charon then keeps until it
	// restarts, whatever becomes of them.
	g.mustSwanctl("gw", "--load-all", "--noprompt")
	use(second)
	if _, _, err := g.hook(g.live); err != nil {
		t.Fatal(err)
	}
	g.mustSwanctl("gw", "--load-all", "--noprompt")
	leaf := use(first)
	_, _, err := g.hook(g.live)
	if err == nil || !isFinding(err, rotation.OtherSent) || hook.Status(err) != 1 || !strings.Contains(err.Error(), "systemctl restart tunnelcast-test-none.service") {
		t.Errorf("the chain cannot be changed, and the hook says %v", err)
	}
	if out, _, _ := g.certhook(nil, "check"); !strings.Contains(out, "charon sends another chain") {
		t.Errorf("check:\n%s", out)
	}
	if g.login("c1") == nil {
		t.Error("the client logs in, so what is said is not so")
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
	if _, _, err := g.hook(g.live); err == nil || !isFinding(err, rotation.RivalIssuer) || !strings.Contains(err.Error(), "rm "+old) {
		t.Errorf("the hook says %v", err)
	}
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

// TestAnExpiredEndOfTheChain has a last certificate, a root's by an older root, that no
// client needs.
func TestAnExpiredEndOfTheChain(t *testing.T) {
	g := newGuide(t, "c1")
	root, end := g.authority.Root(), time.Now().Add(-time.Minute)
	key := lineagetest.NewKey(t, false)
	// In the chain the highest intermediate is such an end to clients that trust it.
	g.write("client/x509ca/root.pem", string(lineagetest.PEM(root)))
	expired := g.authority.CrossSign(t, lineagetest.NewAuthority(t, "Gone", 0), end)
	g.write("client/x509ca/high.pem", string(lineagetest.PEM(g.authority.Chain()[1])))
	g.mustSwanctl("client", "--load-creds", "--noprompt")
	leaf := g.save(lineagetest.NewFiles(t, expired.Issue(t, key.Public(), []string{identity}, nil), expired.Chain(), key))
	g.renewed(leaf)
	if got := strings.Join(g.issuers(), " "); got != "tunnelcast-vpn.example-1.pem" {
		t.Errorf("x509ca holds %s", got)
	}
}

// TestWhatAReloadKeeps runs what the unit does on reload after a switch.
func TestWhatAReloadKeeps(t *testing.T) {
	t.Run("a key that became ECDSA in rsa", func(t *testing.T) {
		g := newGuide(t, "c1")
		g.save(g.issue(lineagetest.NewKey(t, true)))
		if err := os.Rename(filepath.Join(g.dir, "gw/private/vpn.pem"), filepath.Join(g.dir, "gw/rsa/vpn.pem")); err != nil {
			t.Fatal(err)
		}
		if _, _, err := g.hook(g.live); err != nil {
			t.Fatal(err)
		}
		leaf := g.renew()
		_, _, err := g.hook(g.live)
		command := "mv " + filepath.Join(g.dir, "gw/rsa/vpn.pem") + " " + filepath.Join(g.dir, "gw/private") + "/"
		if err == nil || !isFinding(err, rotation.KeyNotKept) || !strings.Contains(err.Error(), command) {
			t.Fatalf("the hook says %v, want %q", err, command)
		}
		if out, _, err := g.certhook(nil, "check", "--heal"); err == nil || !strings.Contains(out, command) {
			t.Errorf("check --heal says nothing of what it cannot heal: %v\n%s", err, out)
		}
		g.must("mv", strings.Fields(command)[1:]...)
		g.mustSwanctl("gw", "--load-all", "--noprompt")
		if !g.presented("c1").Equal(leaf) {
			t.Error("the remedy is none")
		}
		g.agrees()
	})
	t.Run("an encrypted key of the same names", func(t *testing.T) {
		g := newGuide(t, "c1")
		key := lineagetest.NewKey(t, false)
		other := g.authority.Issue(t, key.Public(), []string{identity}, nil)
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(lineagetest.KeyPEM(t, key))
		//lint:ignore SA1019 the form of encrypted keys that the library can write
		encrypted, err := x509.EncryptPEMBlock(rand.Reader, block.Type, der, []byte("secret"), x509.PEMCipherAES256)
		if err != nil {
			t.Fatal(err)
		}
		g.write("gw/private/other.pem", string(pem.EncodeToMemory(encrypted)))
		g.write("gw/x509/other.pem", string(lineagetest.PEM(other)))
		g.write("gw/swanctl.conf", g.conf("DIR/cert.pem")+"secrets { private-other { file = other.pem\n secret = secret } }\n")
		g.mustSwanctl("gw", "--load-all", "--noprompt")
		g.keeps(other)
		g.renewed(g.renew())
		g.keeps(other)
	})
	t.Run("a key in DER of the same names", func(t *testing.T) {
		g := newGuide(t, "c1")
		key := lineagetest.NewKey(t, false)
		other := g.authority.Issue(t, key.Public(), []string{identity}, nil)
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		g.write("gw/pkcs8/other.der", string(der))
		g.mustSwanctl("gw", "--load-all", "--noprompt")
		s, err := charon.Dial(t.Context(), g.socket("gw"))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.LoadCertificate(t.Context(), other.Raw); err != nil {
			t.Fatal(err)
		}
		g.keeps(other)
		g.renewed(g.renew())
		g.keeps(other)
	})
}

// AppArmor may keep swanctl, and so the next reload, from the key that certhook has
// loaded.
func TestADeniedKeyIsCritical(t *testing.T) {
	g := newGuide(t, "c1")
	kernel, access := pseudoTerminal(t)
	root := t.TempDir()
	dir := filepath.Join(root, appArmorDir)
	err := errors.Join(os.MkdirAll(dir, 0o755), os.Symlink(access, filepath.Join(dir, ".access")),
		os.WriteFile(filepath.Join(dir, "profiles"), []byte("/usr/sbin/swanctl (enforce)\n"), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		question := make([]byte, 4096)
		for t.Context().Err() == nil {
			n, err := kernel.Read(question)
			if err != nil { // nobody has the other end open
				<-time.After(time.Millisecond)
				continue
			}
			answer := "allow 0x00000004\n"
			if strings.Contains(string(question[:n]), "privkey") {
				answer = "allow 0x00000000\n"
			}
			kernel.WriteString(answer)
		}
	}()
	h := host{
		env:  hook.Env{Log: slog.New(slog.DiscardHandler), Result: slog.New(slog.DiscardHandler), Now: time.Now},
		cli:  cli{Vici: g.socket("gw"), SwanctlDir: filepath.Join(g.dir, "gw"), Unit: "strongswan.service"},
		root: root,
	}
	leaf := g.renew()
	for range 2 { // as long as it is so
		_, err := h.deploy(t.Context(), g.live)
		if !isFinding(err, rotation.KeyDenied) || hook.Status(err) != 1 || !strings.Contains(err.Error(), `archive/*/privkey*.pem r,"`) {
			t.Errorf("got %v", err)
		}
	}
	if !g.presented("c1").Equal(leaf) {
		t.Error("the next client does not see the new certificate")
	}
}

// firstCertificate returns the certificate that charon reads from a file.
func firstCertificate(path string) *x509.Certificate { return newReader().file(path).First }

// keeps fails the test unless charon holds the certificate with its key.
func (g *gateway) keeps(cert *x509.Certificate) {
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

// TestOtherClientsLayouts has what acme.sh, lego and Caddy write, and copies that an old
// hook makes.
func TestOtherClientsLayouts(t *testing.T) {
	t.Run("fullchain.pem and privkey.pem alone", func(t *testing.T) {
		g := newGateway(t, "DIR/fullchain.pem", "c1")
		for range 2 {
			leaf := g.renew()
			for _, name := range []string{"cert.pem", "chain.pem"} {
				if err := os.Remove(filepath.Join(g.live, name)); err != nil {
					t.Fatal(err)
				}
			}
			g.write("gw/swanctl.conf", strings.ReplaceAll(g.conf("DIR/fullchain.pem"), "chain.pem }", "fullchain.pem }"))
			g.renewed(leaf)
		}
	})
	t.Run("copies that an old hook has loaded", func(t *testing.T) {
		g := newGateway(t, "vpn.pem", "c1")
		for link, file := range map[string]string{"private": "privkey.pem", "x509": "cert.pem"} {
			if err := os.Remove(filepath.Join(g.dir, "gw", link, "vpn.pem")); err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(filepath.Join(g.live, file))
			if err != nil {
				t.Fatal(err)
			}
			g.write("gw/"+link+"/vpn.pem", string(text))
		}
		g.mustSwanctl("gw", "--load-all", "--noprompt")
		out, log, err := g.hook(g.live)
		if err != nil || out != "" || !strings.Contains(log, "charon serves a copy of the renewed certificate already") {
			t.Errorf("error %v, output %q, log %s", err, out, log)
		}
		g.renew()
		if _, _, err := g.hook(g.live); !isFinding(err, rotation.CopyServed) {
			t.Errorf("the copy is old, and the hook says %v", err)
		}
	})
}
