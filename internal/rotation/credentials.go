package rotation

import (
	"bytes"
	"crypto/x509"
	"slices"
	"strings"

	"tunnelcast/internal/lineage"
)

// Credential is a certificate that charon holds.
type Credential struct {
	*x509.Certificate
	HasKey bool // charon holds the private key too
}

// Credentials are all certificates that charon holds, in the order in which it looks for
// one: the answer to list-certs comes from the same enumerator.
type Credentials []Credential

// holds reports whether a certificate and its key are among them.
func (all Credentials) holds(cert *x509.Certificate) (held, key bool) {
	for _, c := range all {
		if c.Equal(cert) {
			return true, c.HasKey
		}
	}
	return false, false
}

// shows returns the certificate that charon presents for a connection that names none,
// or none with a key: the first with a key that has the identity (get_private in
// src/libstrongswan/credentials/credential_manager.c), or nil. Keys with the ids in
// unloaded do not count.
func (all Credentials) shows(identity string, unloaded ...string) *x509.Certificate {
	for _, c := range all {
		if !c.HasKey || lineage.Holds(c.Certificate, identity) != nil {
			continue
		}
		if id, err := lineage.KeyID(c.Certificate); err == nil && !slices.Contains(unloaded, id) {
			return c.Certificate
		}
	}
	return nil
}

// sends returns the chain that charon sends with a certificate. charon builds it from
// all that it holds (build_trustchain, in the same file). A self-signed end is
// included, although charon does not send that.
func (all Credentials) sends(leaf *x509.Certificate) []*x509.Certificate {
	const longest = 7 // MAX_TRUST_PATH_LEN
	var chain []*x509.Certificate
	for current := leaf; len(chain) < longest; {
		i := slices.IndexFunc(all, func(c Credential) bool {
			return bytes.Equal(c.RawSubject, current.RawIssuer) && current.CheckSignatureFrom(c.Certificate) == nil
		})
		if i < 0 {
			break
		}
		current = all[i].Certificate
		chain = append(chain, current)
		if bytes.Equal(current.RawSubject, current.RawIssuer) {
			break
		}
	}
	return chain
}

// earlier returns the certificates with a key that are earlier versions of a lineage's
// leaf: the archived ones, and those with the same names and the same kind of key. A
// connection may have an RSA and an ECDSA certificate for the same names.
func (all Credentials) earlier(l *Lineage, leaf *x509.Certificate) []*x509.Certificate {
	var earlier []*x509.Certificate
	for _, c := range all {
		if !c.HasKey || c.IsCA || c.Equal(leaf) {
			continue
		}
		if l.isVersion(c.Certificate) ||
			c.PublicKeyAlgorithm == leaf.PublicKeyAlgorithm && sameNames(c.Certificate, leaf) {
			earlier = append(earlier, c.Certificate)
		}
	}
	return earlier
}

// describe lists the certificates with the names of a leaf.
func (all Credentials) describe(leaf *x509.Certificate) string {
	var texts []string
	for _, c := range all {
		if c.IsCA || !slices.Equal(c.DNSNames, leaf.DNSNames) {
			continue
		}
		key := "without key"
		if c.HasKey {
			key = "with key"
		}
		texts = append(texts, lineage.Describe(c.Certificate)+" "+key)
	}
	if len(texts) == 0 {
		return "no certificate of these names"
	}
	return strings.Join(texts, ", ")
}

func sameNames(a, b *x509.Certificate) bool {
	x, y := lineage.Names(a), lineage.Names(b)
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(x, y)
}

// sameIssuer reports whether two different certificates have one subject and key, as
// cross-signed ones do. charon takes one for the other.
func sameIssuer(a, b *x509.Certificate) bool {
	return a != nil && b != nil && !a.Equal(b) && bytes.Equal(a.RawSubject, b.RawSubject) &&
		bytes.Equal(a.RawSubjectPublicKeyInfo, b.RawSubjectPublicKeyInfo)
}
