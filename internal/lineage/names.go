package lineage

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Names returns the names of a certificate that a client may ask for: the DNS names, IP
// addresses and mail addresses in its subjectAltName.
func Names(cert *x509.Certificate) []string {
	names := append([]string(nil), cert.DNSNames...)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	return append(names, cert.EmailAddresses...)
}

// Holds returns an error if a certificate does not hold an identity, which is written as in
// swanctl.conf (identification_create_from_string of strongSwan). Every certificate holds an
// empty identity, %any, and those of types for which a certificate has no field.
//
// A wildcard for one label matches (RFC 6125 section 6.4.3), although not every client
// supports it: where it works today it must go on working.
func Holds(cert *x509.Certificate, identity string) error {
	kind, value := splitIdentity(identity)
	held := true
	switch kind {
	case anyone:
	case distinguishedName:
		held = sameName(cert.Subject, value)
	case address:
		held = holdsAddress(cert, value)
	case mail:
		held = holdsFold(cert.EmailAddresses, value)
	case dnsName:
		held = holdsFold(cert.DNSNames, value)
		if _, parent, ok := strings.Cut(value, "."); ok && !held {
			held = holdsFold(cert.DNSNames, "*."+parent)
		}
	}
	if !held {
		return fmt.Errorf("the identity %q is not among the certificate's names %s",
			identity, strings.Join(Names(cert), ", "))
	}
	return nil
}

type identityKind int

const (
	anyone identityKind = iota
	distinguishedName
	address
	mail
	dnsName
)

var identityPrefixes = map[string]identityKind{
	"asn1dn": distinguishedName,
	"ipv4":   address, "ipv6": address,
	"rfc822": mail, "email": mail, "userfqdn": mail,
	"fqdn": dnsName, "dns": dnsName,
	"keyid": anyone,
}

// splitIdentity follows src/libstrongswan/utils/identification.c.
func splitIdentity(identity string) (identityKind, string) {
	if prefix, value, ok := strings.Cut(identity, ":"); ok {
		if kind, known := identityPrefixes[strings.ToLower(prefix)]; known {
			return kind, value
		}
	}
	_, err := netip.ParseAddr(identity)
	switch {
	case slices.Contains([]string{"", "%any", "%any6", "0.0.0.0", "::"}, identity), strings.HasPrefix(identity, "@#"):
		return anyone, ""
	case strings.Contains(identity, "="):
		return distinguishedName, identity
	case err == nil:
		return address, identity
	case strings.HasPrefix(identity, "@@"):
		return mail, identity[2:]
	case strings.HasPrefix(identity, "@"):
		return dnsName, identity[1:]
	case strings.Contains(identity, "@"):
		return mail, identity
	default:
		return dnsName, identity
	}
}

func holdsFold(names []string, name string) bool {
	for _, n := range names {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}

func holdsAddress(cert *x509.Certificate, text string) bool {
	want, err := netip.ParseAddr(text)
	if err != nil {
		return false
	}
	for _, ip := range cert.IPAddresses {
		if got, ok := netip.AddrFromSlice(ip); ok && got.Unmap() == want.Unmap() {
			return true
		}
	}
	return false
}

// attributeNames are strongSwan's names of the attributes in the subjects of certificates
// from ACME authorities and small private ones.
var attributeNames = map[string]string{
	"2.5.4.3": "cn", "2.5.4.6": "c", "2.5.4.7": "l", "2.5.4.8": "st", "2.5.4.10": "o", "2.5.4.11": "ou",
	"1.2.840.113549.1.9.1": "e", "0.9.2342.19200300.100.1.25": "dc",
}

// sameName compares a subject with a DN as strongSwan writes it, in the order of the
// encoding: "C=CH, O=strongSwan, CN=moon".
func sameName(subject pkix.Name, text string) bool {
	var parts []string
	for _, attribute := range subject.Names {
		parts = append(parts, fmt.Sprintf("%s=%v", attributeNames[attribute.Type.String()], attribute.Value))
	}
	var want []string
	for _, part := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == '/' }) {
		key, value, _ := strings.Cut(part, "=")
		want = append(want, strings.ToLower(strings.TrimSpace(key))+"="+strings.Trim(value, ` "`))
	}
	return strings.EqualFold(strings.Join(parts, ","), strings.Join(want, ","))
}

// Describe returns a certificate's name, serial number and end for a message. The subject
// is often empty; then the names that clients ask for stand for it.
func Describe(cert *x509.Certificate) string {
	name := cert.Subject.CommonName
	if name == "" {
		name = strings.Join(Names(cert), ", ")
	}
	return fmt.Sprintf("%s (serial %s, until %s)", name, cert.SerialNumber.Text(16),
		cert.NotAfter.UTC().Format("2006-01-02 15:04Z"))
}
