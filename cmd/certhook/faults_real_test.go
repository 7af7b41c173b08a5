package main

import (
	"crypto/x509"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tunnelcast/internal/lineage/lineagetest"
)

// TestFaultsLeaveTheOldPairServing breaks a renewal, or what charon answers, in one way after
// the other.
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
	corrupt := []byte("-----BEGIN PRIVATE KEY-----\nMIG\n")
	for _, fault := range []struct {
		name  string
		files lineagetest.Files
		lost  string // what one of the links pointed to: cert, privkey
		args  []string
		want  string // in the error
	}{
		{"key corrupt", with("privkey.pem", corrupt), "", nil, "privkey.pem: damaged or truncated"},
		{"key of another certificate", with("privkey.pem", issue(nil)["privkey.pem"]), "", nil,
			"privkey.pem does not belong to cert.pem"},
		{"key dangling", issue(nil), "privkey", nil, "read privkey.pem: dangling link"},
		{"certificate dangling", issue(nil), "cert", nil, "read cert.pem: dangling link"},
		{"links to different versions", lineagetest.Files{"cert.pem": issue(nil)["cert.pem"]}, "", nil,
			"links point to different versions"},
		{"chain truncated", with("chain.pem", chain[:len(chain)-40]), "", nil, "chain.pem: damaged or truncated"},
		{"chain unreadable", with("chain.pem", []byte("\x00")), "", nil, "chain.pem: no certificate"},
		{"chain of another authority", with("chain.pem", lineagetest.PEM(other.Chain()...)), "", nil,
			"did not sign cert.pem"},
		{"expired", issue(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), "", nil,
			"expired at"},
		{"not yet valid", issue(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }), "", nil,
			"not valid before"},
		{"wrong name", issue(func(c *x509.Certificate) { c.DNSNames = []string{"www.example"} }), "", nil,
			`the identity "vpn.example" is not among`},
		{"charon refuses the key", issue(nil), "", refuse("load-key"), "charon load-key: "},
		{"charon refuses an issuer", issue(nil), "", refuse("load-authority"), "charon load-authority: "},
		{"charon refuses the connection", issue(nil), "", refuse("load-conn"), "no memory"},
		{"charon accepts the connection, and does not load it", issue(nil), "",
			[]string{"--vici", g.between(t, "load-conn", "")}, "charon did not get vpn.example"},
		{"charon cannot list certificates", issue(nil), "", refuse("list-certs"), "no memory"},
		{"VICI hangs", issue(nil), "", []string{"--vici", hungSocket(t)}, "no answer within 5s"},
	} {
		t.Run(fault.name, func(t *testing.T) {
			old := g.presented("c1")
			files, was := g.issuers(), readAll(t, filepath.Join(g.dir, "gw/x509ca"))
			g.save(fault.files)
			if fault.lost != "" {
				g.removeArchived(fault.lost)
			}
			_, log, err := g.hook(g.live, fault.args...)
			wantError(t, err, 1, fault.want)
			if err != nil && strings.Contains(err.Error(), "\n") || log != "" {
				t.Errorf("more than one line: %q, log %q", err, log)
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
		t.Errorf("after all faults a good renewal returns %v", err)
	}
}
