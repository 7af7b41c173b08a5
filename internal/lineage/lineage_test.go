package lineage_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"tunnelcast/internal/lineage"
	"tunnelcast/internal/lineage/lineagetest"
)

// mapFS is the directory that files make.
func mapFS(files lineagetest.Files) fstest.MapFS {
	dir := fstest.MapFS{}
	for name, text := range files {
		dir[name] = &fstest.MapFile{Data: text}
	}
	return dir
}

func TestReadTakesWhatCertbotWrites(t *testing.T) {
	for name, test := range map[string]struct {
		rsa           bool
		intermediates int
		kind          string
	}{
		"ECDSA, two issuers": {false, 2, "ECDSA P-256"},
		"RSA, one issuer":    {true, 1, "RSA 2048"},
	} {
		t.Run(name, func(t *testing.T) {
			authority := lineagetest.NewAuthority(t, "CA", test.intermediates)
			key := lineagetest.NewKey(t, test.rsa)
			leaf := authority.Issue(t, key.Public(), []string{"vpn.example"}, nil)
			l, err := lineage.Read(mapFS(lineagetest.NewFiles(t, leaf, authority.Chain(), key)))
			if err != nil {
				t.Fatal(err)
			}
			kind := strings.HasPrefix(l.Key.String(), test.kind+" key ")
			if !l.Leaf.Equal(leaf) || len(l.Issuers) != test.intermediates || !kind {
				t.Errorf("got leaf %v, %d issuers, %v", l.Leaf.Subject, len(l.Issuers), l.Key)
			}
			if id, err := lineage.KeyID(leaf); err != nil || id != l.Key.ID() || len(id) != 40 {
				t.Errorf("key id %q of the leaf, %q of the key, error %v", id, l.Key.ID(), err)
			}
			if err := l.ValidAt(time.Now()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestReadRefuses(t *testing.T) {
	authority, other := lineagetest.NewAuthority(t, "CA", 2), lineagetest.NewAuthority(t, "Other", 2)
	key, otherKey := lineagetest.NewKey(t, false), lineagetest.NewKey(t, false)
	names := []string{"vpn.example"}
	leaf := authority.Issue(t, key.Public(), names, nil)
	good := lineagetest.NewFiles(t, leaf, authority.Chain(), key)
	chain := authority.Chain()
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	encrypted := pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")})
	broken := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})

	for name, test := range map[string]struct {
		file string
		text []byte // nil: the file is absent
		want string
	}{
		"leaf absent":      {"cert.pem", nil, "read cert.pem: file does not exist"},
		"chain absent":     {"chain.pem", nil, "read chain.pem: file does not exist"},
		"fullchain absent": {"fullchain.pem", nil, "read fullchain.pem: file does not exist"},
		"key absent":       {"privkey.pem", nil, "read privkey.pem: file does not exist"},
		"leaf empty":       {"cert.pem", []byte{}, "cert.pem: no certificate found"},
		"leaf truncated": {
			"cert.pem", good["cert.pem"][:100],
			"cert.pem: damaged or truncated: 0 of 1 PEM blocks are complete",
		},
		"leaf not DER": {"cert.pem", broken, "cert.pem: certificate 1: x509: malformed certificate"},
		"leaf with its chain": {
			"cert.pem", good["fullchain.pem"],
			"cert.pem holds 3 certificates instead of one",
		},
		"leaf is an authority's": {
			"cert.pem", lineagetest.PEM(chain[0]),
			"cert.pem is the certificate of an authority",
		},
		"leaf of another key": {
			"cert.pem", lineagetest.PEM(authority.Issue(t, otherKey.Public(), names, nil)),
			"privkey.pem does not belong to cert.pem",
		},
		"another leaf with the key": {
			"cert.pem", lineagetest.PEM(authority.Issue(t, key.Public(), names, nil)),
			"certificate 1 of fullchain.pem is not that of cert.pem and chain.pem",
		},
		"chain empty": {"chain.pem", []byte{}, "chain.pem: no certificate found"},
		"chain shorter": {
			"chain.pem", lineagetest.PEM(chain[0]),
			"fullchain.pem holds 3 certificates, cert.pem and chain.pem together 2",
		},
		"chain truncated in its second": {
			"chain.pem", good["chain.pem"][:len(good["chain.pem"])-30],
			"chain.pem: damaged or truncated: 1 of 2 PEM blocks are complete",
		},
		"chain in the wrong order": {
			"chain.pem", lineagetest.PEM(chain[1], chain[0]),
			"certificate 1 of chain.pem did not sign cert.pem",
		},
		"chain of another authority": {
			"chain.pem", lineagetest.PEM(other.Chain()...),
			"certificate 1 of chain.pem did not sign cert.pem",
		},
		"chain ends in another": {
			"chain.pem", lineagetest.PEM(chain[0], other.Chain()[1]),
			"certificate 2 of chain.pem did not sign certificate 1",
		},
		"chain holds a key": {
			"chain.pem", good["privkey.pem"],
			`chain.pem: a PEM block "PRIVATE KEY" is not a certificate`,
		},
		"fullchain of another": {
			"fullchain.pem", lineagetest.PEM(append([]*x509.Certificate{leaf}, other.Chain()...)...),
			"certificate 2 of fullchain.pem is not that of cert.pem and chain.pem",
		},
		"key empty": {"privkey.pem", []byte{}, "privkey.pem: no private key found"},
		"key truncated": {
			"privkey.pem", good["privkey.pem"][:60],
			"privkey.pem: damaged or truncated: 0 of 1 PEM blocks are complete",
		},
		"key of another": {
			"privkey.pem", lineagetest.KeyPEM(t, otherKey),
			"privkey.pem does not belong to cert.pem",
		},
		"key of another kind": {
			"privkey.pem", lineagetest.KeyPEM(t, lineagetest.NewKey(t, true)),
			"privkey.pem does not belong to cert.pem",
		},
		"key neither ECDSA nor RSA": {
			"privkey.pem", lineagetest.KeyPEM(t, edKey),
			"privkey.pem: a private key of type ed25519.PrivateKey is neither ECDSA nor RSA",
		},
		"key encrypted": {"privkey.pem", encrypted, "privkey.pem: the private key is encrypted"},
		"key not DER": {
			"privkey.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("secret")}),
			"privkey.pem: the private key cannot be parsed",
		},
		"key file with a certificate": {
			"privkey.pem", good["cert.pem"],
			`privkey.pem: a PEM block "CERTIFICATE" is not a private key`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			files := maps.Clone(good)
			if files[test.file] = test.text; test.text == nil {
				delete(files, test.file)
			}
			_, err := lineage.Read(mapFS(files))
			if err == nil || !strings.HasPrefix(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

func TestReadExplainsLinks(t *testing.T) {
	authority := lineagetest.NewAuthority(t, "CA", 1)
	le := t.TempDir()
	live := authority.Renew(t, "vpn.example").Save(t, le, "vpn", 1)
	renewed := authority.Renew(t, "vpn.example")

	lineagetest.Files{"cert.pem": renewed["cert.pem"]}.Save(t, le, "vpn", 2)
	_, err := lineage.Read(os.DirFS(live))
	want := "privkey.pem does not belong to cert.pem (certbot's links point to different versions: " +
		"cert2.pem, privkey1.pem, chain1.pem, fullchain1.pem)"
	if fmt.Sprint(err) != want {
		t.Errorf("links to different versions:\ngot  %v\nwant %s", err, want)
	}
	renewed.Save(t, le, "vpn", 2)
	if err := os.Remove(filepath.Join(le, "archive/vpn/privkey2.pem")); err != nil {
		t.Fatal(err)
	}
	_, err = lineage.Read(os.DirFS(live))
	if want := "read privkey.pem: dangling link to ../../archive/vpn/privkey2.pem"; fmt.Sprint(err) != want {
		t.Errorf("dangling:\ngot  %v\nwant %s", err, want)
	}
	_, err = lineage.Read(unreadable{mapFS(renewed)})
	if want := "read privkey.pem: permission denied"; fmt.Sprint(err) != want {
		t.Errorf("unreadable:\ngot  %v\nwant %s", err, want)
	}
}

// unreadable is a lineage whose key may not be read.
type unreadable struct{ fstest.MapFS }

func (u unreadable) Open(name string) (fs.File, error) {
	if name == "privkey.pem" {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return u.MapFS.Open(name)
}

func (u unreadable) ReadFile(name string) ([]byte, error) {
	if name == "privkey.pem" {
		_, err := u.Open(name)
		return nil, err
	}
	return u.MapFS.ReadFile(name)
}

func TestValidAt(t *testing.T) {
	authority := lineagetest.NewAuthority(t, "CA", 1)
	l, err := lineage.Read(mapFS(authority.Renew(t, "vpn.example")))
	if err != nil {
		t.Fatal(err)
	}
	from, to := l.Leaf.NotBefore, l.Leaf.NotAfter
	for name, test := range map[string]struct {
		now  time.Time
		want string
	}{
		"first second":     {from, ""},
		"last second":      {to, ""},
		"just before":      {from.Add(-time.Second), "cert.pem is not valid before " + from.UTC().Format(time.RFC3339)},
		"just after":       {to.Add(time.Second), "cert.pem expired at " + to.UTC().Format(time.RFC3339)},
		"the issuer's end": {l.Issuers[0].NotAfter.Add(time.Second), "cert.pem expired"},
	} {
		err := l.ValidAt(test.now)
		if (err == nil) != (test.want == "") || err != nil && !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
	l.Issuers[0].NotAfter = from
	if err := l.ValidAt(to); err == nil || !strings.HasPrefix(err.Error(), "certificate 1 of chain.pem expired") {
		t.Errorf("expired issuer: got %v", err)
	}
}

func TestKeyFormsAndNoneOfThemPrinted(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8 := lineagetest.KeyPEM(t, key)
	parameters := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 5, 0x2b, 0x81, 4, 0, 0x22}})
	ec := append(parameters, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1})...)
	a, err := lineage.ParseKey(pkcs8)
	if err != nil {
		t.Fatal(err)
	}
	b, err := lineage.ParseKey(ec)
	if err != nil || a.ID() != b.ID() {
		t.Errorf("SEC 1 with parameters returns %v, error %v; PKCS #8 returns %v", b, err, a)
	}
	want := "ECDSA P-384 key " + a.ID()
	l := &lineage.Lineage{Key: a}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		if got := fmt.Sprintf(verb, a); got != want {
			t.Errorf("%s prints %q", verb, got)
		}
		if got := fmt.Sprintf(verb, l); strings.Contains(got, "PRIVATE") {
			t.Errorf("%s of a lineage prints the key", verb)
		}
	}
	if got, err := json.Marshal(a); err != nil || string(got) != `"`+want+`"` {
		t.Errorf("JSON %s, error %v", got, err)
	}
}

func TestHolds(t *testing.T) {
	authority := lineagetest.NewAuthority(t, "CA", 0)
	names := []string{"vpn.example", "*.wild.example"}
	cert := authority.Issue(t, lineagetest.NewKey(t, false).Public(), names, func(c *x509.Certificate) {
		c.Subject.Organization = []string{"Example"}
		c.IPAddresses = append(c.IPAddresses, []byte{192, 0, 2, 1})
		c.EmailAddresses = []string{"vpn@example"}
	})
	for identity, want := range map[string]bool{
		"vpn.example": true, "VPN.Example": true, "fqdn:vpn.example": true,
		"@vpn.example": true, "dns:vpn.example": true, "www.example": false, "example": false,
		"vpn.example.": false, "vpn.example.org": false, "a.wild.example": true,
		"a.b.wild.example": false, "wild.example": false, "192.0.2.1": true,
		"ipv4:192.0.2.1": true, "192.0.2.2": false, "2001:db8::1": false, "vpn@example": true,
		"@@vpn@example": true, "email:vpn@example": true, "x@example": false,
		"O=Example, CN=vpn.example": true, "o=example,cn=VPN.example": true,
		"CN=vpn.example": false, "CN=vpn.example, O=Example": false,
		"asn1dn:O=Example, CN=vpn.example": true, "": true, "%any": true, "@#0123": true,
		"keyid:0123": true,
	} {
		err := lineage.Holds(cert, identity)
		if (err == nil) != want {
			t.Errorf("%q: got %v, want held %v", identity, err, want)
		}
	}
	err := lineage.Holds(cert, "www.example")
	want := `the identity "www.example" is not among the certificate's names ` +
		"vpn.example, *.wild.example, 192.0.2.1, vpn@example"
	if fmt.Sprint(err) != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}
