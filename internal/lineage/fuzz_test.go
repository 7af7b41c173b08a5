package lineage_test

import (
	"maps"
	"strings"
	"testing"

	"tunnelcast/internal/lineage"
	"tunnelcast/internal/lineage/lineagetest"
)

// Whatever is in the files of a lineage, only the pair that the authority has signed is
// accepted.
func FuzzRead(f *testing.F) {
	authority := lineagetest.NewAuthority(f, "CA", 1)
	good := authority.Renew(f, "vpn.example")
	f.Add(good["cert.pem"], good["privkey.pem"], "vpn.example")
	f.Fuzz(func(t *testing.T, cert, key []byte, identity string) {
		files := maps.Clone(good)
		files["cert.pem"], files["privkey.pem"] = cert, key
		l, err := lineage.Read(mapFS(files))
		if err != nil {
			return
		}
		lineage.Holds(l.Leaf, identity)
		if l.Leaf.Subject.CommonName != "vpn.example" {
			t.Errorf("accepted %v", l.Leaf.Subject)
		}
	})
}

// A chain that is read can be written and read again. A file with a damaged certificate is
// not a shorter chain.
func FuzzParseCertificates(f *testing.F) {
	f.Fuzz(func(t *testing.T, text []byte) {
		certs, err := lineage.ParseCertificates(text)
		if err != nil {
			if len(certs) > 0 || strings.Contains(err.Error(), "\n") {
				t.Errorf("%d certificates and the error %q", len(certs), err)
			}
			return
		}
		if begun := strings.Count(string(text), "-----BEGIN "); len(certs) == 0 || len(certs) != begun {
			t.Errorf("%d certificates of %d blocks", len(certs), begun)
		}
		again, err := lineage.ParseCertificates(lineagetest.PEM(certs...))
		if err != nil || len(again) != len(certs) {
			t.Fatalf("read again: %d certificates of %d, error %v", len(again), len(certs), err)
		}
		for i, cert := range certs {
			if !again[i].Equal(cert) {
				t.Errorf("certificate %d differs when it is read again", i+1)
			}
			lineage.Describe(cert)
			lineage.Holds(cert, "vpn.example")
		}
	})
}

// A key that is read has an id, and neither it nor an error prints what is in the file.
func FuzzParseKey(f *testing.F) {
	for _, rsa := range []bool{false, true} {
		f.Add(lineagetest.KeyPEM(f, lineagetest.NewKey(f, rsa)))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		key, err := lineage.ParseKey(text)
		if err == nil && len(key.ID()) != 40 {
			t.Errorf("id %q", key.ID())
		}
		said := key.String()
		if err != nil {
			said = err.Error()
		}
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSpace(line)
			if len(line) >= 32 && !strings.HasPrefix(line, "-----") && strings.Contains(said, line) {
				t.Errorf("%q quotes the file", said)
			}
		}
	})
}
