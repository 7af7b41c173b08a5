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

	"tunnelcast/internal/charon"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/swanctl"
)

// move is a switch under way.
type move struct {
	host    *host
	session *charon.Session
	plan    plan
	moved   bool                          // a connection may have the new certificate
	undo    []func(context.Context) error // of the steps so far
	refused []string                      // connections that charon cannot load
	left    []error                       // what was left undone, each hook.ErrSome
}

// switchTo takes the steps in the one order that has no gap: the new key before
// the certificate, the certificate before the old key goes. Until the proof any
// failure puts the files back and leaves the old key in place; connections that
// have moved by then have the new key.
//
// Nothing is loaded but what the lineage changes: swanctl's own commands would
// unload connections and authorities of other VICI clients, close and restart
// tunnels of connections that did not change, and fail for a connection that is
// none of ours.
//
// after is what is wrong although charon has the new pair.
func (h *host) switchTo(ctx context.Context, s *charon.Session, p plan) (after, err error) {
	m := &move{host: h, session: s, plan: p}
	for _, step := range []func(context.Context) error{
		m.loadKey,
		m.loadIssuers,
		m.loadAuthorities,
		m.loadConnections,
		m.prove,
	} {
		if err := step(ctx); err != nil {
			return nil, m.rollBack(ctx, err)
		}
	}
	if m.stays() {
		return nil, together(m.left...)
	}
	if err := m.forgetOld(ctx); err != nil {
		return nil, fmt.Errorf("charon serves the new certificate, but %w", err)
	}
	return together(append(m.left, m.proveChoice(ctx), h.othersBroken(p))...), nil
}

// faults are several errors in one line. If one of them is a failure of the whole,
// so are they.
type faults []error

// together returns the errors that are not nil as one.
func together(errs ...error) error {
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	return faults(errs)
}

func (f faults) Error() string {
	var texts []string
	for _, err := range f {
		texts = append(texts, err.Error())
	}
	return strings.Join(texts, "; ")
}

func (f faults) Unwrap() []error {
	whole := slices.DeleteFunc(slices.Clone(f), func(err error) bool { return errors.Is(err, hook.ErrSome) })
	if len(whole) > 0 {
		return whole
	}
	return f
}

// rollBack undoes the steps. Once a connection has the new certificate it needs the
// key and the issuers, in charon and in the files of its next start.
func (m *move) rollBack(ctx context.Context, err error) error {
	// Also when the deadline is what failed.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if m.moved {
		certs, listErr := m.host.credentials(ctx, m.session)
		if held, _ := certs.holds(m.plan.lineage.Leaf); held || listErr != nil {
			return err
		}
	}
	for _, undo := range slices.Backward(m.undo) {
		if failed := undo(ctx); failed != nil {
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
		m.undo = append(m.undo, func(ctx context.Context) error { return m.session.UnloadKey(ctx, id) })
	}
	if id != key.ID() {
		return fmt.Errorf("charon took the key %s for %q", key.ID(), id)
	}
	return nil
}

// loadIssuers adds the issuers. Those of the old chain stay: the old certificate is
// served still.
func (m *move) loadIssuers(ctx context.Context) error {
	before, err := m.session.Authorities(ctx)
	if err != nil {
		return err
	}
	dir := newIssuerDir(m.host.cli.SwanctlDir)
	for _, f := range m.plan.files {
		putBack, err := dir.put(filepath.Base(f.path), f.pem)
		if err != nil {
			return err
		}
		m.undo = append(m.undo, func(context.Context) error { return putBack() })
	}
	if err := dir.commit(); err != nil {
		return err
	}
	for _, f := range m.plan.files {
		name := m.plan.issuerName(f.cert)
		if err := m.session.LoadIssuer(ctx, name, f.cert.Raw); err != nil {
			return err
		}
		if !slices.Contains(before, name) {
			m.undo = append(m.undo, func(ctx context.Context) error { return m.session.UnloadIssuer(ctx, name) })
		}
	}
	return nil
}

// forgetIssuers unloads those of earlier chains, unless a connection goes on with its
// earlier certificate.
func (m *move) forgetIssuers(ctx context.Context) error {
	loaded, err := m.session.Authorities(ctx)
	if err != nil {
		return err
	}
	for _, name := range loaded {
		digits, ours := strings.CutPrefix(name, m.plan.issuerPrefix())
		wanted := slices.ContainsFunc(m.plan.files, func(f issuerFile) bool { return m.plan.issuerName(f.cert) == name })
		// The prefix of vpn is one of vpn-2 too.
		if !ours || wanted || len(digits) != fingerprintDigits || strings.Contains(digits, "-") || len(m.left) > 0 {
			continue
		}
		if err := m.session.UnloadIssuer(ctx, name); err != nil {
			return fmt.Errorf("keeps an issuer of the old chain: %w", err)
		}
	}
	return nil
}

// loadAuthorities loads the authorities of swanctl.conf that name a file of the
// lineage. The issuers are in charon already, so one that fails costs no login.
func (m *move) loadAuthorities(ctx context.Context) error {
	for _, name := range m.plan.use.authorities {
		if err := m.loadAuthority(ctx, name); err != nil {
			m.left = append(m.left, fmt.Errorf("%w: charon serves the new certificate, but authority %s of swanctl.conf: %w",
				hook.ErrSome, name, err))
		}
	}
	return ctx.Err()
}

func (m *move) loadAuthority(ctx context.Context, name string) error {
	conf, err := swanctl.Read(m.host.cli.SwanctlDir)
	if err != nil {
		return err
	}
	message, err := conf.AuthorityMessage(name)
	if err != nil {
		return err
	}
	return m.session.LoadAuthority(ctx, message)
}

func (m *move) loadConnection(ctx context.Context, name string) error {
	conf, err := swanctl.Read(m.host.cli.SwanctlDir)
	if err != nil {
		return err
	}
	message, err := conf.ConnectionMessage(name)
	if err != nil {
		return err
	}
	return m.session.LoadConnection(ctx, message)
}

// stays reports that all connections go on with the old pair, for the sake of their
// tunnels.
func (m *move) stays() bool { return len(m.left) > 0 && !m.moved }

// connections returns the names of the connections that name the lineage.
func (p plan) connections() []string {
	var names []string
	for _, c := range p.use.connections {
		if !slices.Contains(names, c.name) {
			names = append(names, c.name)
		}
	}
	return names
}

// soon is how long before the end of the certificate that charon presents a tunnel
// is closed for the new one, where it cannot be had otherwise.
const soon = 48 * time.Hour

// loadConnections brings the new certificate with the connections that name it.
// One that is used through x509 alone is in none of them.
//
// charon closes the tunnels of a connection that it starts itself when its
// certificate changes. So such a connection is left as it is where charon will find
// the new certificate by identity as soon as the old key is gone.
func (m *move) loadConnections(ctx context.Context) error {
	loaded, err := m.session.Connections(ctx)
	if err != nil {
		return err
	}
	leaf := m.plan.lineage.Leaf
	var quiet []served
	var refused []error
	done := false
	for _, name := range m.plan.connections() {
		sections := m.plan.sectionsOf(name)
		if sections[0].starts && slices.Contains(loaded, name) {
			up, err := m.session.Up(ctx, name)
			if err != nil {
				return err
			}
			ends, mayStay := m.keepsUp(sections)
			switch {
			case up && mayStay:
				quiet = append(quiet, sections...)
				continue
			case up && ends.Sub(m.host.env.Now()) > soon:
				m.left = append(m.left, fmt.Errorf("%w: connection %s goes on with its earlier certificate, until %s, "+
					"because charon keeps that one's key and would close the tunnel with the certificate's change "+
					"(start_action = start): swanctl --load-conns closes it and starts it anew",
					hook.ErrSome, name, ends.UTC().Format(time.RFC3339)))
				continue
			case up:
				m.host.env.Log.Warn("the tunnel of connection "+name+" is closed and started anew: its certificate ends soon",
					tunnelRestarted, "lineage", m.plan.dir, "connection", name)
			}
		}
		m.moved = true
		switch err := m.loadConnection(ctx, name); {
		case err == nil:
			done = true
		case ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded):
			return err
		default:
			refused = append(refused, fmt.Errorf("connection %s: %w", name, err))
			m.refused = append(m.refused, name)
		}
	}
	if len(refused) > 0 && !done {
		return together(refused...)
	}
	for _, err := range refused {
		m.left = append(m.left, fmt.Errorf("%w: charon serves the new certificate, but not by %w", hook.ErrSome, err))
	}
	if len(quiet) > 0 || m.plan.use.inX509 {
		m.moved = true
		if err := m.session.LoadCertificate(ctx, leaf.Raw); err != nil {
			return err
		}
	}
	for _, c := range quiet {
		if c.identity != "" {
			m.plan.chosen = append(m.plan.chosen, c)
		}
	}
	return m.session.FlushCertificates(ctx)
}

// sectionsOf returns the local sections of one connection that name the lineage.
func (p plan) sectionsOf(connection string) []served {
	var all []served
	for _, c := range p.use.connections {
		if c.name == connection {
			all = append(all, c)
		}
	}
	return all
}

// keepsUp reports whether charon will find the new certificate by itself for a
// connection that has the one before; otherwise, when that ends. Without a local id
// the subject is what charon looks for.
func (m *move) keepsUp(sections []served) (ends time.Time, ok bool) {
	leaf := m.plan.lineage.Leaf
	earlier := m.plan.held.earlier(m.plan.archived, leaf)
	_, has := m.plan.held.holds(leaf) // then the connection has it too
	ok = has || !m.plan.kept
	var newest time.Time
	for _, cert := range earlier {
		if cert.NotBefore.After(newest) {
			newest, ends = cert.NotBefore, cert.NotAfter
		}
	}
	for _, c := range sections {
		if c.identity == "" {
			ok = ok && len(leaf.Subject.Names) > 0 && !slices.ContainsFunc(earlier, func(cert *x509.Certificate) bool {
				return !bytes.Equal(cert.RawSubject, leaf.RawSubject)
			})
			continue
		}
		// A certificate of somebody else may come first when the old keys are gone.
		shown := m.plan.held.shows(c.identity, m.plan.oldIDs()...)
		ok = ok && (shown == nil || shown.Equal(leaf) || sameNames(shown, leaf))
	}
	return ends, ok
}

var errNotProven = errors.New("charon has given no proof")

// unproven is an error of prove.
type unproven struct{ error }

func (unproven) Is(target error) bool { return target == errNotProven }
func (e unproven) Unwrap() error      { return e.error }

// prove asks charon whether the next client will be shown the new certificate; that
// it will not is critical.
//
// list-conns names certificates by their subjects, which are the same before and
// after. But where connections name the certificate's file, nobody except
// load-conn gives charon the leaf: if charon holds it, they have it.
func (m *move) prove(ctx context.Context) error {
	leaf := m.plan.lineage.Leaf
	certs, err := m.host.credentials(ctx, m.session)
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
	held, key := certs.holds(leaf)
	if !held && m.stays() {
		return nil
	}
	if !held {
		return fail("charon did not get %s: certs in swanctl.conf names another path", describe(leaf))
	}
	if !key {
		return fail("charon has lost the key of %s: something ran swanctl --load-creds, which did not find it in %s, "+
			"or AppArmor keeps swanctl from reading it",
			describe(leaf), filepath.Join(m.host.cli.SwanctlDir, "private"))
	}
	for _, f := range m.plan.files {
		if held, _ := certs.holds(f.cert); !held {
			return fail("charon did not get the issuer %s", describe(f.cert))
		}
	}
	for _, c := range m.plan.use.connections {
		if slices.Contains(m.refused, c.name) {
			continue
		}
		if !slices.Contains(loaded, c.name) {
			return fail("charon did not load the connection %s", c.name)
		}
		// The file may have changed since it was checked.
		if err := presents(c.file, leaf); err != nil {
			return fail("connection %s: %v", c.name, err)
		}
	}
	if err := m.plan.showsOther(certs, m.plan.oldIDs()...); err != nil {
		return fail("%v", err)
	}
	return nil
}

// proveChoice asks once more when the old key is gone, for what charon is left to
// choose: the certificate of connections that name none, and the chain. A login that
// began before the switch may have put the old certificate into charon's cache again.
func (m *move) proveChoice(ctx context.Context) error {
	const tries = 5
	for try := 1; ; try++ {
		if err := m.session.FlushCertificates(ctx); err != nil {
			return hook.Critical(unproven{err})
		}
		certs, err := m.host.credentials(ctx, m.session)
		if err != nil {
			return hook.Critical(unproven{err})
		}
		err = m.plan.showsOther(certs)
		if err == nil {
			err = m.host.sendsOther(m.plan, certs)
		}
		if err == nil {
			return nil
		}
		if try == tries {
			return hook.Critical(unproven{err})
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// forgetOld ends the old pair. Not by swanctl --load-creds, which would also throw
// out whatever AppArmor keeps it from reading.
func (m *move) forgetOld(ctx context.Context) error {
	for _, old := range m.plan.old {
		if err := m.session.UnloadKey(ctx, old.id); err != nil {
			return fmt.Errorf("keeps the old key: %w", err)
		}
	}
	if err := m.forgetIssuers(ctx); err != nil {
		return err
	}
	return removeStale(newIssuerDir(m.host.cli.SwanctlDir), m.plan)
}

// errOtherBroken is a fault of a connection that does not use the lineage.
var errOtherBroken = errors.New("charon serves the new certificate, but another connection is broken")

// othersBroken names the connections that do not use the lineage and that swanctl
// cannot load.
func (h *host) othersBroken(p plan) error {
	if err := h.broken(p.dir); err != nil {
		return fmt.Errorf("%w: %w: %w", hook.ErrSome, errOtherBroken, err)
	}
	return nil
}

// broken names the connections that name a file outside a directory that cannot be
// read: the next reload of charon's unit fails at them, and its next start ends there.
func (h *host) broken(except string) error {
	conf, err := swanctl.Read(h.cli.SwanctlDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var all []error
	for _, c := range conf.LocalAuths() {
		for _, file := range c.Certs {
			if except != "" && within(file, except) {
				continue
			}
			if _, err := os.ReadFile(file); err != nil {
				all = append(all, fmt.Errorf("the next reload of %s (swanctl --load-all) fails at connection %s: certs: %w "+
					"(certbot certificates lists what there is)", h.cli.Unit, c.Connection, err))
			}
		}
	}
	return together(all...)
}

func removeStale(dir issuerDir, p plan) error {
	if len(p.stale) == 0 {
		return nil
	}
	var names []string
	for _, path := range p.stale {
		names = append(names, filepath.Base(path))
	}
	if err := dir.remove(names); err != nil {
		return err
	}
	return dir.commit()
}

// holding lists the certificates of the leaf's names that charon holds.
func holding(certs credentials, leaf *x509.Certificate) string {
	var all []string
	for _, c := range certs {
		if c.IsCA || !slices.Equal(c.DNSNames, leaf.DNSNames) {
			continue
		}
		key := "without key"
		if c.key {
			key = "with key"
		}
		all = append(all, describe(c.Certificate)+" "+key)
	}
	if len(all) == 0 {
		return "no certificate of these names"
	}
	return strings.Join(all, ", ")
}
