package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"tunnelcast/internal/charon"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/lineage"
	"tunnelcast/internal/units"
)

// plan is what a switch to a lineage means on this host now.
type plan struct {
	dir     string
	use     use
	lineage *lineage.Lineage
	files   []issuerFile // every issuer in a file of its own
	stale   []string     // files of a chain that was longer
	old     []oldKey     // keys of earlier versions that charon still holds
	done    bool         // charon has it all and nothing old
}

type issuerFile struct {
	path string
	pem  []byte
}

type oldKey struct {
	id   string
	cert *x509.Certificate
}

// deploy moves charon to a lineage's certificate if it uses the lineage. It
// returns what came of it in one line. After an error charon serves the
// old pair, or the new one where the error says so.
func (h *host) deploy(ctx context.Context, dir string) (outcome string, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("read lineage: %w", err)
	}
	log := h.env.Log.With("lineage", dir)
	lock, err := h.lock(ctx)
	switch {
	case errors.Is(err, fs.ErrNotExist): // no strongSwan: prepare goes on to say so
	case err != nil:
		return "", err
	default:
		defer lock.Close()
	}

	start := time.Now()
	p, session, err := h.prepare(ctx, dir)
	switch {
	case errors.Is(err, errUnused):
		return err.Error(), nil
	case errors.Is(err, charon.ErrNotRunning):
		return h.charonDown(ctx, p, err)
	case err != nil:
		return "", err
	}
	defer session.Close()
	if p.done {
		return fmt.Sprintf("charon serves %s already: nothing to do", describe(p.lineage.Leaf)), h.survives(p)
	}
	if err := h.switchTo(ctx, session, p); err != nil {
		return "", fmt.Errorf("lineage %s: %w", dir, err)
	}
	log.Info("charon serves the new certificate", "serial", p.lineage.Leaf.SerialNumber.Text(16),
		"until", p.lineage.Leaf.NotAfter.UTC().Format(time.RFC3339), "took", time.Since(start).Round(time.Millisecond))
	return "charon serves " + describe(p.lineage.Leaf), errors.Join(h.reloadUnits(ctx), h.survives(p))
}

// dryRun prints what deploy would do.
func (h *host) dryRun(ctx context.Context, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("read lineage: %w", err)
	}
	p, session, err := h.prepare(ctx, dir)
	if errors.Is(err, errUnused) || errors.Is(err, charon.ErrNotRunning) {
		fmt.Fprintf(h.env.Stdout, "nothing to do: %v\n", err)
		return nil
	}
	if err != nil {
		return err
	}
	defer session.Close()
	if p.done {
		fmt.Fprintf(h.env.Stdout, "nothing to do: charon serves %s already\n", describe(p.lineage.Leaf))
		return nil
	}
	say := func(what, format string, args ...any) {
		fmt.Fprintf(h.env.Stdout, "%-12s "+format+"\n", append([]any{what}, args...)...)
	}
	say("load-key", "%s", p.lineage.Key)
	for i, f := range p.files {
		say("write", "%s: %s", f.path, describe(p.lineage.Issuers[i]))
		say("load-cert", "%s", describe(p.lineage.Issuers[i]))
	}
	say("swanctl", "--load-authorities")
	say("swanctl", "--load-conns")
	say("prove", "charon holds %s with its key and issuers", describe(p.lineage.Leaf))
	for _, old := range p.old {
		say("unload-key", "%s of %s", old.id, describe(old.cert))
	}
	for _, path := range p.stale {
		say("remove", "%s", path)
	}
	for _, unit := range h.cli.ReloadUnits {
		say("reload", "%s", unit)
	}
	return nil
}

// prepare looks at everything and changes nothing. errUnused and
// charon.ErrNotRunning come only after the lineage was found good; the plan
// then goes as far as it can without charon.
func (h *host) prepare(ctx context.Context, dir string) (plan, *charon.Session, error) {
	p := plan{dir: dir}
	ours, named := h.listed(dir)
	if !ours {
		return p, nil, errUnused
	}
	var err error
	if p.use, err = h.uses(dir); err != nil {
		return p, nil, err
	}
	if p.lineage, err = h.read(dir, p.use); err != nil {
		return p, nil, err
	}
	if p.files, p.stale, err = h.issuerFiles(p); err != nil {
		return p, nil, err
	}
	session, err := charon.Dial(ctx, h.cli.Vici)
	if err != nil {
		return p, nil, err
	}
	certs, err := session.Certificates(ctx)
	if err == nil {
		err = h.ask(&p, certs, named)
	}
	if err != nil {
		session.Close()
		return p, nil, err
	}
	return p, session, nil
}

// ask completes a plan by what charon holds.
func (h *host) ask(p *plan, certs []charon.Certificate, named bool) error {
	if !p.use.any() {
		archived := archive(p.dir)
		for _, c := range certs {
			if c.HasKey && archived[string(c.DER)] {
				return fmt.Errorf("lineage %s: charon serves a copy of its certificate: name %s/cert.pem in certs of swanctl.conf and link privkey.pem into %s", p.dir, p.dir, filepath.Join(h.swanctl.Dir, "private"))
			}
		}
		if named {
			return fmt.Errorf("lineage %s: no connection in %s names a file of it", p.dir, filepath.Join(h.swanctl.Dir, "swanctl.conf"))
		}
		return errUnused
	}
	onDisk := h.keysOnDisk()
	for _, cert := range earlier(certs, p.dir, p.lineage.Leaf) {
		id, err := lineage.KeyID(cert)
		if err != nil || id == p.lineage.Key.ID() || slices.Contains(onDisk, id) {
			continue
		}
		// Several certificates may have had the key (certbot --reuse-key).
		if slices.ContainsFunc(p.old, func(o oldKey) bool { return o.id == id }) {
			continue
		}
		p.old = append(p.old, oldKey{id, cert})
	}
	_, served := holds(certs, p.lineage.Leaf)
	p.done = served && len(p.old) == 0 && len(p.stale) == 0
	for i, f := range p.files {
		held, _ := holds(certs, p.lineage.Issuers[i])
		text, err := os.ReadFile(f.path)
		p.done = p.done && held && err == nil && bytes.Equal(text, f.pem)
	}
	return nil
}

// issuerFiles gives each issuer a file, since strongSwan reads only the first
// certificate of one, and finds the files of a longer chain of the past.
func (h *host) issuerFiles(p plan) (files []issuerFile, stale []string, err error) {
	name := filepath.Base(p.dir)
	dir := filepath.Join(h.swanctl.Dir, "x509ca")
	for i, cert := range p.lineage.Issuers {
		files = append(files, issuerFile{
			path: filepath.Join(dir, fmt.Sprintf("tunnelcast-%s-%d.pem", name, i+1)),
			pem:  pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}),
		})
	}
	// Not a glob: tunnelcast-vpn-*.pem would be another lineage's files too.
	ours := regexp.MustCompile(`^tunnelcast-` + regexp.QuoteMeta(name) + `-[0-9]+\.pem$`)
	for _, path := range filesIn(h.swanctl.Dir, "x509ca") {
		wanted := slices.ContainsFunc(files, func(f issuerFile) bool { return f.path == path })
		if ours.MatchString(filepath.Base(path)) && !wanted {
			stale = append(stale, path)
		}
	}
	return files, stale, nil
}

// switchTo takes the steps in the one order that has no gap: the new key before
// the certificate, the certificate before the old key goes. Until the proof any
// failure puts the files back and leaves the old key in place; connections that
// are switched by then have the new key.
func (h *host) switchTo(ctx context.Context, s *charon.Session, p plan) (err error) {
	keys, err := s.Keys(ctx)
	if err != nil {
		return err
	}
	id, err := s.LoadKey(ctx, p.lineage.Key.PEM())
	if err != nil {
		return fmt.Errorf("%w (the %s; ECDSA needs charon's plugin openssl, in libstrongswan-standard-plugins)", err, p.lineage.Key)
	}
	switching := false
	var undo []func() error
	defer func() {
		if err == nil {
			return
		}
		for _, u := range slices.Backward(undo) {
			if failed := u(); failed != nil {
				err = fmt.Errorf("%w; roll back: %w", err, failed)
			}
		}
	}()
	if !slices.Contains(keys, p.lineage.Key.ID()) {
		undo = append(undo, func() error {
			if switching {
				return nil
			}
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			return s.UnloadKey(ctx, id)
		})
	}
	if id != p.lineage.Key.ID() {
		return fmt.Errorf("charon took the key %s for %q", p.lineage.Key.ID(), id)
	}
	for i, f := range p.files {
		put, err := replace(f.path, f.pem)
		if err != nil {
			return err
		}
		undo = append(undo, put)
		if err := s.LoadIssuer(ctx, p.lineage.Issuers[i].Raw); err != nil {
			return err
		}
	}
	if err := h.swanctl.LoadAuthorities(ctx); err != nil {
		return err
	}
	switching = true
	if len(p.use.connections) == 0 { // it is used through x509 alone
		if err := s.LoadCertificate(ctx, p.lineage.Leaf.Raw); err != nil {
			return err
		}
	}
	if err := h.swanctl.LoadConnections(ctx); err != nil {
		return err
	}
	if err := h.prove(ctx, s, p); err != nil {
		return hook.Critical(err)
	}
	undo = nil
	for _, old := range p.old {
		if err := s.UnloadKey(ctx, old.id); err != nil {
			return fmt.Errorf("charon serves the new certificate, but keeps the old key: %w", err)
		}
	}
	for _, path := range p.stale {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("charon serves the new certificate, but an issuer's file of the old chain stays: %w", err)
		}
	}
	return nil
}

// prove asks charon whether the next client will see the new certificate.
//
// list-conns names certificates by their subjects, which are the same before and
// after. But where connections name the certificate's file, nobody except
// load-conn gives charon the leaf: that it is there, is theirs.
func (h *host) prove(ctx context.Context, s *charon.Session, p plan) error {
	certs, err := s.Certificates(ctx)
	if err != nil {
		return err
	}
	loaded, err := s.Connections(ctx)
	if err != nil {
		return err
	}
	fail := func(format string, args ...any) error {
		return fmt.Errorf("%s; it holds %s", fmt.Sprintf(format, args...), holding(certs, p.lineage.Leaf))
	}
	held, key := holds(certs, p.lineage.Leaf)
	if !held {
		return fail("charon did not get %s: another path in certs of swanctl.conf, or AppArmor keeps swanctl from reading it", describe(p.lineage.Leaf))
	}
	if !key {
		return fail("charon has lost the key of %s: something ran swanctl --load-creds, which did not find it in %s, or AppArmor denies swanctl the rule %q",
			describe(p.lineage.Leaf), filepath.Join(h.swanctl.Dir, "private"), appArmorRule)
	}
	for _, issuer := range p.lineage.Issuers {
		if held, _ := holds(certs, issuer); !held {
			return fail("charon did not get the issuer %s", describe(issuer))
		}
	}
	for _, c := range p.use.connections {
		if !slices.Contains(loaded, c.name) {
			return fail("charon did not load the connection %s", c.name)
		}
		// The file may have changed since it was checked.
		if err := presents(c.file, p.lineage.Leaf); err != nil {
			return fail("connection %s: %v", c.name, err)
		}
	}
	return nil
}

// appArmorRule is what swanctl's profile on Debian and Ubuntu lacks.
const appArmorRule = "/etc/letsencrypt/archive/*/privkey*.pem r,"

// survives says why the next reload or restart of charon's unit, which loads
// everything from files, would lose what was switched.
func (h *host) survives(p plan) error {
	if slices.Contains(h.keysOnDisk(), p.lineage.Key.ID()) {
		return nil
	}
	private := filepath.Join(h.swanctl.Dir, "private")
	return hook.Critical(fmt.Errorf("lineage %s: charon serves it now, but the next reload of %s loses the key: no file in %s holds it (ln -s %s/privkey.pem %s/%s.pem)",
		p.dir, h.cli.Unit, private, p.dir, private, filepath.Base(p.dir)))
}

// charonDown leaves charon's next start to find the issuers; its unit loads the
// rest itself.
func (h *host) charonDown(ctx context.Context, p plan, down error) (string, error) {
	if state, err := units.Get(ctx, h.cli.Unit); err == nil && state.Active == "active" {
		return "", fmt.Errorf("%w, although %s is active (vici names another socket?)", down, h.cli.Unit)
	}
	log := h.env.Log.With("lineage", p.dir)
	if !p.use.any() {
		log.Info("nothing to do: " + down.Error())
		return down.Error() + ": nothing to do", nil
	}
	for _, f := range p.files {
		if _, err := replace(f.path, f.pem); err != nil {
			return "", err
		}
	}
	for _, path := range p.stale {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("remove an issuer's file of the old chain: %w", err)
		}
	}
	log.Info(down.Error() + ": it loads the certificate when it starts")
	return down.Error() + ": it loads the certificate when it starts", h.reloadUnits(ctx)
}

// reloadUnits reloads the others that serve the certificate. A unit that does
// not run will read it when it starts.
func (h *host) reloadUnits(ctx context.Context) error {
	var failed []string
	for _, unit := range h.cli.ReloadUnits {
		state, err := units.Get(ctx, unit)
		if err == nil && state.Load == "not-found" {
			err = fmt.Errorf("reload %s: no such unit", unit)
		} else if err == nil && state.Stopped() {
			h.env.Log.Info("not reloaded, because it does not run", "unit", unit)
			continue
		}
		if err == nil {
			err = units.Reload(ctx, unit)
		}
		if err != nil {
			failed = append(failed, err.Error())
			continue
		}
		h.env.Log.Info("reloaded", "unit", unit)
	}
	if len(failed) > 0 {
		return fmt.Errorf("%w: the certificate is in place, but %s", hook.ErrSome, strings.Join(failed, "; "))
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

// describe names a certificate for a person: its subject is often empty.
func describe(cert *x509.Certificate) string {
	name := cert.Subject.CommonName
	if name == "" {
		name = strings.Join(lineage.Names(cert), ", ")
	}
	return fmt.Sprintf("%s (serial %s, until %s)", name, cert.SerialNumber.Text(16), cert.NotAfter.UTC().Format("2006-01-02 15:04Z"))
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
