package charon

import (
	"bytes"
	"context"
	"fmt"

	"tunnelcast/internal/vici"
)

// Certificate is an X.509 certificate that charon holds, wherever it came from.
type Certificate struct {
	DER    []byte
	HasKey bool // charon holds the private key too
}

// Certificates returns every X.509 certificate that charon holds. A certificate
// cannot be unloaded, so earlier ones are among them.
func (s *Session) Certificates(ctx context.Context) ([]Certificate, error) {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	var certs []Certificate
	err := s.stream(ctx, "list-certs", "list-cert", func(message vici.Message) error {
		c, err := readCertificate(message)
		certs = append(certs, c)
		return err
	}, vici.Value("type", "X509"))
	if err != nil {
		return nil, fmt.Errorf("charon list-certs: %w", err)
	}
	return certs, nil
}

func readCertificate(message vici.Message) (c Certificate, err error) {
	for e, err := range message.Elements() {
		switch {
		case err != nil:
			return Certificate{}, err
		case e.Kind != vici.KeyValue || e.Depth > 0:
		case string(e.Key) == "data":
			c.DER = bytes.Clone(e.Value)
		case string(e.Key) == "has_privkey":
			c.HasKey = string(e.Value) == "yes"
		}
	}
	return c, nil
}

// LoadKey loads a private key in PEM and returns its id: the SHA-1 of the public key
// in hexadecimal digits. If charon holds the key already, it is replaced.
func (s *Session) LoadKey(ctx context.Context, pem []byte) (id string, err error) {
	response, err := s.call(ctx, "load-key", vici.Value("type", "any"), vici.Value("data", string(pem)))
	if err != nil {
		return "", err
	}
	return response.Value("id")
}

// Keys returns the ids of the private keys that were loaded over VICI.
func (s *Session) Keys(ctx context.Context) ([]string, error) {
	return s.callList(ctx, "get-keys", "keys")
}

// UnloadKey unloads a private key. Established SAs stay.
func (s *Session) UnloadKey(ctx context.Context, id string) error {
	_, err := s.call(ctx, "unload-key", vici.Value("id", id))
	return err
}

// LoadCertificate loads the DER of an end entity certificate, as a file in x509 would
// be. charon forgets it only when it restarts.
func (s *Session) LoadCertificate(ctx context.Context, der []byte) error {
	_, err := s.call(ctx, "load-cert",
		vici.Value("type", "X509"), vici.Value("flag", "NONE"), vici.Value("data", string(der)))
	return err
}

// FlushCertificates empties charon's cache of verified certificates. charon looks
// there first, so it chooses an earlier certificate from the cache as long as it has
// that one's key. CRLs and OCSP responses stay.
func (s *Session) FlushCertificates(ctx context.Context) error {
	_, err := s.call(ctx, "flush-certs", vici.Value("type", "X509"))
	return err
}

// LoadIssuer loads the DER of a CA certificate as an authority of that name, so that
// UnloadIssuer can unload it. charon forgets one that load-cert or a file in x509ca
// brought only when it restarts.
func (s *Session) LoadIssuer(ctx context.Context, name string, der []byte) error {
	_, err := s.call(ctx, "load-authority", vici.Section(name, vici.Value("cacert", string(der))))
	return err
}

// UnloadIssuer unloads an authority.
func (s *Session) UnloadIssuer(ctx context.Context, name string) error {
	_, err := s.call(ctx, "unload-authority", vici.Value("name", name))
	return err
}

// LoadAuthority loads an authority of swanctl.conf
// ([tunnelcast/internal/swanctl.Config.AuthorityMessage]).
func (s *Session) LoadAuthority(ctx context.Context, authority vici.Message) error {
	_, err := s.callMessage(ctx, "load-authority", authority)
	return err
}

// Authorities returns the names of the authorities and issuers that are loaded.
func (s *Session) Authorities(ctx context.Context) ([]string, error) {
	return s.callList(ctx, "get-authorities", "authorities")
}
