// Package lineage decides whether the files of one certbot lineage belong together, so that
// an IKE daemon can serve them: live/NAME/{cert,chain,fullchain,privkey}.pem.
//
// certbot changes the four links one after the other (certbot/_internal/storage.py), so a
// reader can see a new certificate with the old key.
package lineage

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"
)

// The files of a lineage, by certbot's names.
const (
	leafFile      = "cert.pem"
	chainFile     = "chain.pem"
	fullchainFile = "fullchain.pem"
	keyFile       = "privkey.pem"
)

// Lineage is a certificate, its key and its issuers that belong together.
type Lineage struct {
	Leaf    *x509.Certificate
	Issuers []*x509.Certificate // Issuers[0] signed Leaf, each next one signed the one before
	Key     Key
}

// Read reads a lineage's directory. It checks that the key belongs to the leaf, that every
// certificate of the chain signed the one before and that the certificate files agree; it
// does not check that the leaf is valid now. Other ACME clients write fullchain.pem and
// privkey.pem alone: cert.pem and chain.pem may both be absent, but must not be dangling
// links. An error names the file and what is wrong with it, in one line.
func Read(dir fs.FS) (*Lineage, error) {
	full, err := readCertificates(dir, fullchainFile)
	var leaf, issuers []*x509.Certificate
	switch {
	case !absent(dir, leafFile) || !absent(dir, chainFile):
		var leafErr, chainErr error
		leaf, leafErr = readCertificates(dir, leafFile)
		issuers, chainErr = readCertificates(dir, chainFile)
		err = cmp.Or(leafErr, chainErr, err)
	case err == nil:
		leaf, issuers = full[:1], full[1:]
	}
	if err != nil {
		return nil, err
	}
	if len(leaf) != 1 {
		return nil, fmt.Errorf("%s holds %d certificates instead of one", leafFile, len(leaf))
	}
	text, err := readFile(dir, keyFile)
	if err != nil {
		return nil, err
	}
	key, err := ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", keyFile, err)
	}
	l := &Lineage{Leaf: leaf[0], Issuers: issuers, Key: key}
	if err := l.agree(full); err != nil {
		return nil, fmt.Errorf("%w%s", err, differentVersions(dir))
	}
	return l, nil
}

// absent reports whether there is neither a file nor a link of that name.
func absent(dir fs.FS, name string) bool {
	_, err := fs.Lstat(dir, name)
	return errors.Is(err, fs.ErrNotExist)
}

// agree returns an error if one file contradicts another.
func (l *Lineage) agree(full []*x509.Certificate) error {
	if l.Leaf.IsCA {
		return fmt.Errorf("%s is the certificate of an authority", leafFile)
	}
	if id, err := KeyID(l.Leaf); err != nil {
		return fmt.Errorf("%s: %w", leafFile, err)
	} else if id != l.Key.ID() {
		return fmt.Errorf("%s does not belong to %s", keyFile, leafFile)
	}
	child, of := l.Leaf, leafFile
	for i, issuer := range l.Issuers {
		if err := child.CheckSignatureFrom(issuer); err != nil {
			return fmt.Errorf("certificate %d of %s did not sign %s: %w", i+1, chainFile, of, err)
		}
		child, of = issuer, fmt.Sprintf("certificate %d", i+1)
	}
	want := append([]*x509.Certificate{l.Leaf}, l.Issuers...)
	if len(full) != len(want) {
		return fmt.Errorf("%s holds %d certificates, %s and %s together %d",
			fullchainFile, len(full), leafFile, chainFile, len(want))
	}
	for i := range want {
		if !full[i].Equal(want[i]) {
			return fmt.Errorf("certificate %d of %s is not that of %s and %s", i+1, fullchainFile, leafFile, chainFile)
		}
	}
	return nil
}

// ValidAt returns why the leaf, or an issuer that clients need, is not valid at a time.
func (l *Lineage) ValidAt(now time.Time) error {
	for i, cert := range append([]*x509.Certificate{l.Leaf}, l.Needed(now)...) {
		what := leafFile
		if i > 0 {
			what = fmt.Sprintf("certificate %d of %s", i, chainFile)
		}
		if now.Before(cert.NotBefore) {
			return fmt.Errorf("%s is not valid before %s", what, cert.NotBefore.UTC().Format(time.RFC3339))
		}
		if now.After(cert.NotAfter) {
			return fmt.Errorf("%s expired at %s", what, cert.NotAfter.UTC().Format(time.RFC3339))
		}
	}
	return nil
}

// Needed returns the issuers that clients need: all but an expired end of the chain. Such an
// end is a root signed by an older root, and clients trust the newer root itself. The issuer
// that signed the leaf is always needed.
func (l *Lineage) Needed(now time.Time) []*x509.Certificate {
	needed := l.Issuers
	for len(needed) > 1 && now.After(needed[len(needed)-1].NotAfter) {
		needed = needed[:len(needed)-1]
	}
	return needed
}

// Fingerprint returns the SHA-256 of a certificate's DER in hexadecimal digits.
func Fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}

// KeyID returns the id by which charon knows a certificate's key: the SHA-1 of the
// subjectPublicKey bit string in hexadecimal digits (KEYID_PUBKEY_SHA1, RFC 5280 section
// 4.2.1.2 method 1).
func KeyID(cert *x509.Certificate) (string, error) {
	return keyID(cert.RawSubjectPublicKeyInfo)
}

func keyID(spki []byte) (string, error) {
	var info struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(spki, &info); err != nil {
		return "", fmt.Errorf("parse public key: %w", err)
	}
	sum := sha1.Sum(info.Key.Bytes)
	return hex.EncodeToString(sum[:]), nil
}

// Key is a private key. It is printed as its kind and id; no way of formatting it prints the
// secret.
type Key struct {
	pem  []byte
	kind string // "ECDSA P-256", "RSA 2048"
	id   string
}

// ParseKey parses an unencrypted ECDSA or RSA private key in any of the forms that
// charon reads, PEM or DER. Errors never quote the text.
func ParseKey(text []byte) (Key, error) {
	if key := parseDER(text); key != nil {
		return newKey(key, text)
	}
	blocks, err := decodePEM(text)
	if err != nil {
		return Key{}, err
	}
	for _, block := range blocks {
		var key any
		switch block.Type {
		case "EC PARAMETERS": // what openssl ecparam writes before the key
			continue
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "ENCRYPTED PRIVATE KEY":
			return Key{}, errors.New("the private key is encrypted")
		default:
			return Key{}, fmt.Errorf("a PEM block %q is not a private key", block.Type)
		}
		if err != nil {
			if block.Headers["Proc-Type"] != "" {
				return Key{}, errors.New("the private key is encrypted")
			}
			// The cause may quote bytes of the key.
			return Key{}, errors.New("the private key cannot be parsed")
		}
		return newKey(key, text)
	}
	return Key{}, errors.New("no private key found")
}

// parseDER returns the private key in DER that a text is, or nil.
func parseDER(text []byte) any {
	if key, err := x509.ParsePKCS8PrivateKey(text); err == nil {
		return key
	}
	if key, err := x509.ParseECPrivateKey(text); err == nil {
		return key
	}
	if key, err := x509.ParsePKCS1PrivateKey(text); err == nil {
		return key
	}
	return nil
}

func newKey(key any, text []byte) (Key, error) {
	k := Key{pem: text}
	var public crypto.PublicKey
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		k.kind, public = "ECDSA "+key.Params().Name, key.Public()
	case *rsa.PrivateKey:
		k.kind, public = fmt.Sprintf("RSA %d", key.N.BitLen()), key.Public()
	default:
		return Key{}, fmt.Errorf("a private key of type %T is neither ECDSA nor RSA", key)
	}
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return Key{}, fmt.Errorf("encode public key: %w", err)
	}
	k.id, err = keyID(spki)
	return k, err
}

// PEM returns the secret itself, as in the file.
func (k Key) PEM() []byte { return k.pem }

// RSA reports whether it is an RSA key. Otherwise it is an ECDSA key.
func (k Key) RSA() bool { return strings.HasPrefix(k.kind, "RSA ") }

// ID returns what KeyID returns for a certificate with this key.
func (k Key) ID() string { return k.id }

// String implements fmt.Stringer.
func (k Key) String() string { return fmt.Sprintf("%s key %s", k.kind, k.id) }

// Format implements fmt.Formatter, so that no verb reaches the secret.
func (k Key) Format(f fmt.State, _ rune) { fmt.Fprint(f, k.String()) }

// MarshalText implements encoding.TextMarshaler.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// ParseCertificates parses all certificates of a PEM file. charon reads only the first of
// them (strongSwan src/libstrongswan/plugins/pem/pem_builder.c).
func ParseCertificates(text []byte) ([]*x509.Certificate, error) {
	blocks, err := decodePEM(text)
	if err != nil {
		return nil, err
	}
	var certs []*x509.Certificate
	for _, block := range blocks {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("a PEM block %q is not a certificate", block.Type)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(certs)+1, err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("no certificate found")
	}
	return certs, nil
}

// decodePEM returns all blocks of a text. A block without an end, which pem.Decode skips, is
// an error: a truncated file must not pass for a shorter chain.
func decodePEM(text []byte) ([]*pem.Block, error) {
	var blocks []*pem.Block
	for begun := strings.Count(string(text), "-----BEGIN "); ; {
		block, rest := pem.Decode(text)
		if block == nil {
			if len(blocks) != begun {
				return nil, fmt.Errorf("damaged or truncated: %d of %d PEM blocks are complete", len(blocks), begun)
			}
			return blocks, nil
		}
		blocks, text = append(blocks, block), rest
	}
}

func readCertificates(dir fs.FS, name string) ([]*x509.Certificate, error) {
	text, err := readFile(dir, name)
	if err != nil {
		return nil, err
	}
	certs, err := ParseCertificates(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return certs, nil
}

// readFile reads a file. If its name is a dangling link, the error says so.
func readFile(dir fs.FS, name string) ([]byte, error) {
	text, err := fs.ReadFile(dir, name)
	if err == nil {
		return text, nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		if target, err := fs.ReadLink(dir, name); err == nil {
			return nil, fmt.Errorf("read %s: dangling link to %s", name, target)
		}
	}
	if cause := new(fs.PathError); errors.As(err, &cause) {
		err = cause.Err
	}
	return nil, fmt.Errorf("read %s: %w", name, err)
}

// differentVersions explains files that disagree, if their links point to different versions:
// cert3.pem and privkey2.pem.
func differentVersions(dir fs.FS) string {
	var targets []string
	versions := make(map[string]bool)
	for _, name := range []string{leafFile, keyFile, chainFile, fullchainFile} {
		target, err := fs.ReadLink(dir, name)
		if err != nil {
			return ""
		}
		target = path.Base(target)
		targets = append(targets, target)
		stem := strings.TrimSuffix(name, ".pem")
		versions[strings.TrimSuffix(strings.TrimPrefix(target, stem), ".pem")] = true
	}
	if len(versions) == 1 {
		return ""
	}
	return fmt.Sprintf(" (certbot's links point to different versions: %s)", strings.Join(targets, ", "))
}
