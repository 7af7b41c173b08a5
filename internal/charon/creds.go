package charon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/strongswan/govici/vici"
)

// credentialDeadline is how long charon may take over one question about
// credentials. It answers in milliseconds, unless an updown hook holds it.
const credentialDeadline = 5 * time.Second

// Certificate is an X.509 certificate that charon holds, from whatever source.
type Certificate struct {
	DER    []byte
	HasKey bool // charon holds the private key too
}

// Certificates returns every X.509 certificate that charon holds. Certificates
// cannot be unloaded one by one, so those of the past are among them.
func (s *Session) Certificates(ctx context.Context) ([]Certificate, error) {
	whole := ctx
	ctx, cancel := context.WithTimeout(whole, credentialDeadline)
	defer cancel()
	var certs []Certificate
	err := s.stream(ctx, "list-certs", "list-cert", value("type", "X509"), func(message []byte) error {
		var c Certificate
		for e, err := range elements(message) {
			switch {
			case err != nil:
				return err
			case e.kind != keyValue || e.depth > 0:
			case string(e.key) == "data":
				c.DER = bytes.Clone(e.value)
			case string(e.key) == "has_privkey":
				c.HasKey = string(e.value) == "yes"
			}
		}
		certs = append(certs, c)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("charon list-certs: %w", ended(whole, err))
	}
	return certs, nil
}

// Connections returns the names of the connections that charon has loaded.
func (s *Session) Connections(ctx context.Context) ([]string, error) {
	answer, err := s.callCredentials(ctx, "get-conns", nil)
	if err != nil {
		return nil, err
	}
	names, _ := answer.Get("conns").([]string)
	return names, nil
}

// LoadKey gives charon a private key in PEM and returns its id: the SHA-1 of the
// public key in hexadecimal digits. A key that it holds already is replaced.
func (s *Session) LoadKey(ctx context.Context, pem []byte) (id string, err error) {
	answer, err := s.callCredentials(ctx, "load-key", map[string]any{"type": "any", "data": string(pem)})
	if err != nil {
		return "", err
	}
	id, _ = answer.Get("id").(string)
	return id, nil
}

// Keys returns the ids of the private keys that charon was given over VICI.
func (s *Session) Keys(ctx context.Context) ([]string, error) {
	answer, err := s.callCredentials(ctx, "get-keys", nil)
	if err != nil {
		return nil, err
	}
	ids, _ := answer.Get("keys").([]string)
	return ids, nil
}

// UnloadKey makes charon forget a private key. Established SAs stay.
func (s *Session) UnloadKey(ctx context.Context, id string) error {
	_, err := s.callCredentials(ctx, "unload-key", map[string]any{"id": id})
	return err
}

// LoadCertificate gives charon the DER of an end entity's certificate, as a file
// in x509 would.
func (s *Session) LoadCertificate(ctx context.Context, der []byte) error {
	_, err := s.callCredentials(ctx, "load-cert", map[string]any{"type": "X509", "flag": "NONE", "data": string(der)})
	return err
}

func (s *Session) callCredentials(ctx context.Context, command string, arguments map[string]any) (*vici.Message, error) {
	whole := ctx
	ctx, cancel := context.WithTimeout(whole, credentialDeadline)
	defer cancel()
	request, err := message(arguments)
	if err != nil {
		return nil, fmt.Errorf("charon %s: %w", command, err)
	}
	session, err := s.govici(ctx)
	if err != nil {
		return nil, fmt.Errorf("charon %s: %w", command, ended(whole, err))
	}
	answer, err := session.Call(ctx, command, request)
	if err != nil {
		return nil, fmt.Errorf("charon %s: %w", command, ended(whole, err))
	}
	return answer, nil
}

func message(arguments map[string]any) (*vici.Message, error) {
	m := vici.NewMessage()
	for key, value := range arguments {
		if err := m.Set(key, value); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// ended puts what is meant in place of "context deadline exceeded", and of the read
// deadline that govici sets to the same moment. A call within whole whose own deadline
// passed had no answer; otherwise whole says why it ended.
func ended(whole context.Context, err error) error {
	if whole.Err() != nil {
		return context.Cause(whole)
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("no answer within %s: %w", credentialDeadline, context.DeadlineExceeded)
	}
	return err
}
