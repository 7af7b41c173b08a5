package main

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tunnelcast/internal/charon"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/lineage/lineagetest"
	"tunnelcast/internal/rotation"
)

// TestWhatAReloadKeeps does what a reload of the unit does, after a switch.
func TestWhatAReloadKeeps(t *testing.T) {
	t.Run("a key that became ECDSA in rsa", func(t *testing.T) {
		g := newGuide(t, "c1")
		g.save(g.issue(lineagetest.NewKey(t, true)))
		private, rsa := filepath.Join(g.dir, "gw/private/vpn.pem"), filepath.Join(g.dir, "gw/rsa/vpn.pem")
		if err := os.Rename(private, rsa); err != nil {
			t.Fatal(err)
		}
		if _, _, err := g.hook(g.live); err != nil {
			t.Fatal(err)
		}
		leaf := g.renew()
		_, _, err := g.hook(g.live)
		command := "mv " + rsa + " " + filepath.Dir(private) + "/"
		wantFinding(t, err, 1, rotation.KeyNotKept, command)
		if out, _, err := g.certhook(nil, "check", "--heal"); err == nil || !strings.Contains(out, command) {
			t.Errorf("check --heal does not name what it cannot heal: %v\n%s", err, out)
		}
		g.must("mv", strings.Fields(command)[1:]...)
		g.mustSwanctl("gw", "--load-all", "--noprompt")
		if !g.presented("c1").Equal(leaf) {
			t.Error("the remedy does not help")
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
		secrets := "secrets { private-other { file = other.pem\n secret = secret } }\n"
		g.write("gw/swanctl.conf", g.conf("DIR/cert.pem")+secrets)
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

// AppArmor may keep swanctl from reading the key that certhook has loaded, so that the next
// reload would lose it.
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
	for range 2 { // in every run, until it is mended
		_, err := h.deploy(t.Context(), g.live)
		wantFinding(t, err, 1, rotation.KeyDenied, "archive/*/privkey*.pem r,`")
	}
	if !g.presented("c1").Equal(leaf) {
		t.Error("the next client does not see the new certificate")
	}
}
