// Package lineagetest makes certificates and lays them out in directories as certbot does.
package lineagetest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Authority is a root with the intermediates below it, the lowest last.
type Authority struct {
	certs []*x509.Certificate
	keys  []crypto.Signer
}

// NewAuthority makes a root and a number of intermediates.
func NewAuthority(t testing.TB, name string, intermediates int) *Authority {
	t.Helper()
	a := &Authority{}
	for i := range intermediates + 1 {
		key := NewKey(t, false)
		template := &x509.Certificate{
			SerialNumber:          serial(t),
			Subject:               pkix.Name{Organization: []string{"Test"}, CommonName: fmt.Sprintf("%s %d", name, i)},
			NotBefore:             time.Now().Add(-time.Hour),
			NotAfter:              time.Now().Add(10 * 365 * 24 * time.Hour),
			IsCA:                  true,
			BasicConstraintsValid: true,
			KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}
		parent, signer := template, key
		if i > 0 {
			parent, signer = a.certs[i-1], a.keys[i-1]
		}
		a.certs = append(a.certs, sign(t, template, parent, key.Public(), signer))
		a.keys = append(a.keys, key)
	}
	return a
}

// CrossSign returns the authority as signed by another root: the highest intermediate has the
// same subject and key, another issuer, and the given end.
func (a *Authority) CrossSign(t testing.TB, by *Authority, end time.Time) *Authority {
	t.Helper()
	b := &Authority{certs: slices.Clone(a.certs), keys: slices.Clone(a.keys)}
	b.certs[0], b.keys[0] = by.certs[0], by.keys[0]
	template := *a.certs[1]
	template.SerialNumber, template.NotAfter, template.AuthorityKeyId = serial(t), end, nil
	b.certs[1] = sign(t, &template, b.certs[0], a.keys[1].Public(), b.keys[0])
	return b
}

// Sibling returns an authority with the same root and one other intermediate.
func (a *Authority) Sibling(t testing.TB, name string) *Authority {
	t.Helper()
	key := NewKey(t, false)
	template := *a.certs[1]
	template.SerialNumber, template.SubjectKeyId, template.AuthorityKeyId = serial(t), nil, nil
	template.Subject, template.RawSubject = pkix.Name{CommonName: name}, nil
	cert := sign(t, &template, a.certs[0], key.Public(), a.keys[0])
	return &Authority{certs: []*x509.Certificate{a.certs[0], cert}, keys: []crypto.Signer{a.keys[0], key}}
}

// Root returns the root's certificate.
func (a *Authority) Root() *x509.Certificate { return a.certs[0] }

// Chain returns what certbot writes to chain.pem: the intermediates, the lowest first.
func (a *Authority) Chain() []*x509.Certificate {
	var chain []*x509.Certificate
	for i := len(a.certs) - 1; i > 0; i-- {
		chain = append(chain, a.certs[i])
	}
	return chain
}

// Issue makes a certificate for a public key, valid for 90 days. change, which may be nil,
// edits the template.
func (a *Authority) Issue(
	t testing.TB, public crypto.PublicKey, names []string, change func(*x509.Certificate),
) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: serial(t),
		Subject:      pkix.Name{CommonName: names[0]},
		DNSNames:     names,
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(90 * 24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if change != nil {
		change(template)
	}
	last := len(a.certs) - 1
	return sign(t, template, a.certs[last], public, a.keys[last])
}

// NewKey makes an ECDSA P-256 key, or an RSA 2048 one.
func NewKey(t testing.TB, isRSA bool) crypto.Signer {
	t.Helper()
	if isRSA {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Files are the contents of a lineage's files, by certbot's names.
type Files map[string][]byte

// NewFiles returns a certificate, its chain and its key by certbot's names.
func NewFiles(t testing.TB, leaf *x509.Certificate, chain []*x509.Certificate, key crypto.Signer) Files {
	t.Helper()
	return Files{
		"cert.pem":      PEM(leaf),
		"chain.pem":     PEM(chain...),
		"fullchain.pem": PEM(append([]*x509.Certificate{leaf}, chain...)...),
		"privkey.pem":   KeyPEM(t, key),
	}
}

// Renew makes a new key and certificate for the names.
func (a *Authority) Renew(t testing.TB, names ...string) Files {
	t.Helper()
	key := NewKey(t, false)
	return NewFiles(t, a.Issue(t, key.Public(), names, nil), a.Chain(), key)
}

// Save writes a version of a lineage below a directory such as /etc/letsencrypt, points the
// links to it and returns the live directory.
func (f Files) Save(t testing.TB, letsencrypt, name string, version int) string {
	t.Helper()
	live, archive := filepath.Join(letsencrypt, "live", name), filepath.Join(letsencrypt, "archive", name)
	for _, dir := range []string{live, archive} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for file, text := range f {
		numbered := fmt.Sprintf("%s%d.pem", strings.TrimSuffix(file, ".pem"), version)
		if err := os.WriteFile(filepath.Join(archive, numbered), text, 0o600); err != nil {
			t.Fatal(err)
		}
		link := filepath.Join(live, file)
		if err := os.Remove(link); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join("..", "..", "archive", name, numbered), link); err != nil {
			t.Fatal(err)
		}
	}
	return live
}

// PEM encodes certificates.
func PEM(certs ...*x509.Certificate) []byte {
	var text []byte
	for _, c := range certs {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return text
}

// KeyPEM encodes a private key as certbot writes it.
func KeyPEM(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func serial(t testing.TB) *big.Int {
	t.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func sign(
	t testing.TB, template, parent *x509.Certificate, public crypto.PublicKey, signer crypto.Signer,
) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
