package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"tunnelcast/internal/hook"
	"tunnelcast/internal/rotation"
)

// move carries out a plan.
//
// Until the proof any failure undoes the steps, so that the old pair goes on serving.
// Once a connection may have the new certificate, it needs the key and the issuers, and
// they stay.
//
// A move loads nothing but what the lineage changes. swanctl's own commands would unload
// connections and authorities of other VICI clients, close and restart tunnels of
// connections that did not change, and fail at a broken connection of somebody else.
type move struct {
	host     *host
	snapshot *hostSnapshot
	plan     *rotation.Plan
	issuers  issuerDir

	unwritten bool                          // names in x509ca that a power cut might undo
	loaded    bool                          // charon may have the leaf
	accepted  bool                          // charon has accepted a connection
	proven    bool                          // Prove has succeeded
	cameUp    bool                          // a tunnel that was down, so its connection needs the old key
	undo      []func(context.Context) error // the steps so far
	refused   []string                      // connections that charon did not accept
	refusals  []error                       // why
	left      []error                       // what was left undone, each hook.ErrSome
	choice    error                         // of ProveChoice
}

// run takes the steps of a plan. after is what is wrong although charon has the new pair.
func (m *move) run(ctx context.Context) (after, err error) {
	for _, f := range m.plan.Left {
		m.left = append(m.left, failure(f))
	}
	if err := m.takeAll(ctx); err != nil {
		if m.proven {
			return nil, fmt.Errorf("charon serves the new certificate, but %w", err)
		}
		return nil, m.rollBack(ctx, err)
	}
	if !m.loaded { // all connections stay as they are
		return nil, together(m.left...)
	}
	var broken []error
	for _, f := range m.snapshot.Broken(m.plan.Lineage) {
		broken = append(broken, failure(f))
	}
	return together(slices.Concat(m.left, []error{m.choice}, broken)...), nil
}

func (m *move) takeAll(ctx context.Context) error {
	for _, step := range m.plan.Steps {
		switch {
		case step.Action == rotation.Prove && !m.loaded:
			return m.commit() // a tunnel came up, and no other connection was to move
		case step.AllMoved && len(m.left) > 0, step.Action == rotation.UnloadKey && m.cameUp:
			continue
		}
		if m.unwritten && step.Action != rotation.Write && step.Action != rotation.Remove {
			if err := m.commit(); err != nil {
				return err
			}
		}
		if err := m.take(ctx, step); err != nil {
			return err
		}
	}
	return m.commit()
}

func (m *move) commit() error {
	if !m.unwritten {
		return nil
	}
	m.unwritten = false
	return m.issuers.commit()
}

func (m *move) take(ctx context.Context, step rotation.Step) error {
	session := m.snapshot.session
	switch step.Action {
	case rotation.LoadKey:
		return m.loadKey(ctx, step)
	case rotation.Write:
		return m.write(step)
	case rotation.LoadIssuer:
		if err := session.LoadIssuer(ctx, step.Name, step.Cert.Raw); err != nil {
			return err
		}
		if step.New {
			m.undo = append(m.undo, func(ctx context.Context) error { return session.UnloadIssuer(ctx, step.Name) })
		}
		return nil
	case rotation.LoadAuthority:
		return m.loadAuthority(ctx, step.Name)
	case rotation.LoadConnection:
		return m.loadConnection(ctx, step)
	case rotation.LoadCertificate:
		if err := m.allRefused(); err != nil {
			return err
		}
		m.loaded = true
		return session.LoadCertificate(ctx, step.Cert.Raw)
	case rotation.FlushCache:
		if err := m.allRefused(); err != nil {
			return err
		}
		return session.FlushCertificates(ctx)
	case rotation.Prove:
		return m.prove(ctx)
	case rotation.UnloadKey:
		if err := session.UnloadKey(ctx, step.Name); err != nil {
			return fmt.Errorf("keeps the old key: %w", err)
		}
	case rotation.UnloadIssuer:
		if err := session.UnloadIssuer(ctx, step.Name); err != nil {
			return fmt.Errorf("keeps an issuer of the old chain: %w", err)
		}
	case rotation.Remove:
		m.unwritten = true
		return m.issuers.remove(filepath.Base(step.Name))
	case rotation.ProveChoice:
		m.choice = m.proveChoice(ctx)
	}
	return nil
}

// rollBack undoes the steps.
func (m *move) rollBack(ctx context.Context, err error) error {
	// Also when the deadline is what failed.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if m.loaded && m.mayServe(ctx) {
		return err
	}
	for _, undo := range slices.Backward(m.undo) {
		if failed := undo(ctx); failed != nil {
			err = fmt.Errorf("%w; roll back: %w", err, failed)
		}
	}
	return err
}

// mayServe reports whether charon holds the leaf, or that cannot be known.
func (m *move) mayServe(ctx context.Context) bool {
	held, err := credentials(ctx, m.snapshot.session)
	return err != nil || slices.ContainsFunc(held, func(c rotation.Credential) bool { return c.Equal(m.plan.Leaf()) })
}

func (m *move) loadKey(ctx context.Context, step rotation.Step) error {
	key := m.plan.Lineage.Pair.Key
	id, err := m.snapshot.session.LoadKey(ctx, key.PEM())
	if err != nil {
		return fmt.Errorf("%w (the %s; ECDSA needs charon's plugin openssl, in libstrongswan-standard-plugins)",
			err, key)
	}
	if step.New {
		m.undo = append(m.undo, func(ctx context.Context) error { return m.snapshot.session.UnloadKey(ctx, id) })
	}
	if id != key.ID() {
		return fmt.Errorf("charon loaded the key %s as %q", key.ID(), id)
	}
	return nil
}

func (m *move) write(step rotation.Step) error {
	putBack, err := m.issuers.put(filepath.Base(step.Name), step.Text)
	if err != nil {
		return err
	}
	m.unwritten = true
	m.undo = append(m.undo, func(context.Context) error { return putBack() })
	return nil
}

// loadAuthority loads an authority of swanctl.conf that names a file of the lineage. The
// issuers are in charon already, so one that fails costs no login.
func (m *move) loadAuthority(ctx context.Context, name string) error {
	message, err := m.snapshot.conf.AuthorityMessage(name)
	if err == nil {
		err = m.snapshot.session.LoadAuthority(ctx, message)
	}
	if err != nil {
		err = fmt.Errorf("%w: charon serves the new certificate, but authority %s of swanctl.conf: %w",
			hook.ErrSome, name, err)
		m.left = append(m.left, hook.With(err, leftUndone))
	}
	return ctx.Err()
}

// loadConnection loads a connection. If charon refuses one, the move goes on as long as charon
// accepts another.
func (m *move) loadConnection(ctx context.Context, step rotation.Step) error {
	session := m.snapshot.session
	switch {
	case step.Restarts:
		warning := "the tunnel of connection " + step.Name + " is closed and started again: its certificate ends soon"
		m.host.env.Log.Warn(warning, tunnelRestarted,
			"lineage", m.plan.Lineage.Dir, "connection", step.Name)
	case step.WhenDown:
		up, err := session.Up(ctx, step.Name)
		if err != nil {
			return err
		}
		if up {
			err := fmt.Errorf("%w: connection %s goes on with its earlier certificate, because its tunnel came up "+
				"during this run; the daily check tries again", hook.ErrSome, step.Name)
			m.left = append(m.left, hook.With(err, leftUndone))
			m.refused = append(m.refused, step.Name)
			m.cameUp = true
			return nil
		}
	}
	m.loaded = true
	message, err := m.snapshot.conf.ConnectionMessage(step.Name)
	if err == nil {
		err = session.LoadConnection(ctx, message)
	}
	switch {
	case err == nil:
		m.accepted = true
	case ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded):
		return err
	default:
		m.refused = append(m.refused, step.Name)
		m.refusals = append(m.refusals, fmt.Errorf("connection %s: %w", step.Name, err))
	}
	return nil
}

// allRefused returns an error if charon refused every connection, and notes those that it
// refused otherwise.
func (m *move) allRefused() error {
	if len(m.refusals) > 0 && !m.accepted {
		return together(m.refusals...)
	}
	for _, err := range m.refusals {
		err = fmt.Errorf("%w: charon serves the new certificate, but not by %w", hook.ErrSome, err)
		m.left = append(m.left, hook.With(err, leftUndone))
	}
	m.refusals = nil
	return nil
}

// prove asks charon whether the next client will be shown the new certificate. If not,
// that is critical.
func (m *move) prove(ctx context.Context) error {
	held, err := credentials(ctx, m.snapshot.session)
	if err != nil {
		return unproven(err)
	}
	connections, err := m.snapshot.session.Connections(ctx)
	if err != nil {
		return unproven(err)
	}
	evidence := rotation.Evidence{
		Certificates: held, Connections: connections, Refused: m.refused, Files: map[string]*rotation.File{},
	}
	again := newReader()
	for _, path := range m.plan.Files() {
		evidence.Files[path] = again.file(path)
	}
	if f := m.plan.Verify(evidence); f.Kind != rotation.Current {
		return failure(f)
	}
	m.proven = true
	return nil
}

// unproven is the failure of a proof that charon could not be asked for.
func unproven(err error) error { return failure(rotation.Finding{Kind: rotation.NotProven, Err: err}) }

// proveChoice asks what charon chooses now that the old keys are gone. A login that began
// before the switch may have put the old certificate into charon's cache again.
func (m *move) proveChoice(ctx context.Context) error {
	const tries = 5
	for try := 1; ; try++ {
		if err := m.snapshot.session.FlushCertificates(ctx); err != nil {
			return unproven(err)
		}
		held, err := credentials(ctx, m.snapshot.session)
		if err != nil {
			return unproven(err)
		}
		f := m.plan.VerifyChoice(held)
		if f.Kind == rotation.Current {
			return nil
		}
		if try == tries {
			return failure(f)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
