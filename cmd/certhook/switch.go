package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"tunnelcast/internal/charon"
	"tunnelcast/internal/hook"
)

// move is a switch under way.
type move struct {
	host    *host
	session *charon.Session
	plan    plan
	moved   bool           // a connection may have the new certificate
	undo    []func() error // of the steps so far
}

// switchTo takes the steps in the one order that has no gap: the new key before
// the certificate, the certificate before the old key goes. Until the proof any
// failure puts the files back and leaves the old key in place; connections that
// have moved by then have the new key.
func (h *host) switchTo(ctx context.Context, s *charon.Session, p plan) error {
	m := &move{host: h, session: s, plan: p}
	for _, step := range []func(context.Context) error{
		m.loadKey,
		m.loadIssuers,
		h.swanctl.LoadAuthorities,
		m.loadConnections,
		m.prove,
	} {
		if err := step(ctx); err != nil {
			return m.rollBack(err)
		}
	}
	if err := m.forgetOld(ctx); err != nil {
		return fmt.Errorf("charon serves the new certificate, but %w", err)
	}
	return nil
}

func (m *move) rollBack(err error) error {
	for _, undo := range slices.Backward(m.undo) {
		if failed := undo(); failed != nil {
			err = fmt.Errorf("%w; roll back: %w", err, failed)
		}
	}
	return err
}

func (m *move) loadKey(ctx context.Context) error {
	key := m.plan.lineage.Key
	before, err := m.session.Keys(ctx)
	if err != nil {
		return err
	}
	id, err := m.session.LoadKey(ctx, key.PEM())
	if err != nil {
		return fmt.Errorf("%w (the %s; ECDSA needs charon's plugin openssl, in libstrongswan-standard-plugins)", err, key)
	}
	if !slices.Contains(before, key.ID()) {
		m.undo = append(m.undo, func() error {
			if m.moved {
				return nil
			}
			// Also when the deadline is what failed.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			return m.session.UnloadKey(ctx, id)
		})
	}
	if id != key.ID() {
		return fmt.Errorf("charon took the key %s for %q", key.ID(), id)
	}
	return nil
}

func (m *move) loadIssuers(ctx context.Context) error {
	for _, f := range m.plan.files {
		putBack, err := replace(f.path, f.pem)
		if err != nil {
			return err
		}
		m.undo = append(m.undo, putBack)
		if err := m.session.LoadIssuer(ctx, f.cert.Raw); err != nil {
			return err
		}
	}
	return nil
}

// loadConnections brings the new certificate: swanctl sends it along with the
// connections that name it. One that is used through x509 alone is nobody's
// there.
func (m *move) loadConnections(ctx context.Context) error {
	m.moved = true
	if len(m.plan.use.connections) == 0 {
		if err := m.session.LoadCertificate(ctx, m.plan.lineage.Leaf.Raw); err != nil {
			return err
		}
	}
	return m.host.swanctl.LoadConnections(ctx)
}

var errNotProven = errors.New("charon has given no proof")

// unproven is an error of prove.
type unproven struct{ error }

func (unproven) Is(target error) bool { return target == errNotProven }
func (e unproven) Unwrap() error      { return e.error }

// prove asks charon whether the next client will see the new certificate; that
// it will not is critical.
//
// list-conns names certificates by their subjects, which are the same before and
// after. But where connections name the certificate's file, nobody except
// load-conn gives charon the leaf: that it is there, is theirs.
func (m *move) prove(ctx context.Context) error {
	leaf := m.plan.lineage.Leaf
	certs, err := m.session.Certificates(ctx)
	if err != nil {
		return hook.Critical(unproven{err})
	}
	loaded, err := m.session.Connections(ctx)
	if err != nil {
		return hook.Critical(unproven{err})
	}
	fail := func(format string, args ...any) error {
		return hook.Critical(unproven{fmt.Errorf("%s; it holds %s", fmt.Sprintf(format, args...), holding(certs, leaf))})
	}
	held, key := holds(certs, leaf)
	if !held {
		return fail("charon did not get %s: another path in certs of swanctl.conf, or AppArmor keeps swanctl from reading it", describe(leaf))
	}
	if !key {
		return fail("charon has lost the key of %s: something ran swanctl --load-creds, which did not find it in %s, or AppArmor denies swanctl the rule %q",
			describe(leaf), filepath.Join(m.host.swanctl.Dir, "private"), appArmorRule)
	}
	for _, issuer := range m.plan.lineage.Issuers {
		if held, _ := holds(certs, issuer); !held {
			return fail("charon did not get the issuer %s", describe(issuer))
		}
	}
	for _, c := range m.plan.use.connections {
		if !slices.Contains(loaded, c.name) {
			return fail("charon did not load the connection %s", c.name)
		}
		// The file may have changed since it was checked.
		if err := presents(c.file, leaf); err != nil {
			return fail("connection %s: %v", c.name, err)
		}
	}
	return nil
}

// forgetOld ends the old pair. Not by swanctl --load-creds, which would also throw
// out whatever AppArmor keeps it from reading.
func (m *move) forgetOld(ctx context.Context) error {
	for _, old := range m.plan.old {
		if err := m.session.UnloadKey(ctx, old.id); err != nil {
			return fmt.Errorf("keeps the old key: %w", err)
		}
	}
	return m.plan.removeStale()
}

func (p plan) removeStale() error {
	for _, path := range p.stale {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("an issuer's file of the old chain stays: %w", err)
		}
	}
	return nil
}

// replace publishes a file whole or not at all and returns how to take that
// back.
func replace(path string, text []byte) (undo func() error, err error) {
	before, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("replace: %w", err)
	}
	existed := err == nil
	if existed && bytes.Equal(before, text) {
		return func() error { return nil }, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := renameio.WriteFile(path, text, 0o644, renameio.IgnoreUmask()); err != nil {
		return nil, fmt.Errorf("write %s: %w", path, err)
	}
	return func() error {
		if existed {
			return renameio.WriteFile(path, before, 0o644, renameio.IgnoreUmask())
		}
		return os.Remove(path)
	}, nil
}

// holding lists the certificates of the leaf's names that charon holds.
func holding(certs []charon.Certificate, leaf *x509.Certificate) string {
	var all []string
	for _, c := range certs {
		cert, err := x509.ParseCertificate(c.DER)
		if err != nil || cert.IsCA || !slices.Equal(cert.DNSNames, leaf.DNSNames) {
			continue
		}
		key := "without key"
		if c.HasKey {
			key = "with key"
		}
		all = append(all, describe(cert)+" "+key)
	}
	if len(all) == 0 {
		return "no certificate of these names"
	}
	return strings.Join(all, ", ")
}
