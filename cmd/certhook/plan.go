package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"tunnelcast/internal/charon"
	"tunnelcast/internal/lineage"
)

// errUnused says that a lineage is none of charon's; the others, that by a mistake
// it is not.
var (
	errUnused   = errors.New("charon does not use this lineage")
	errCopy     = errors.New("charon serves a copy of its certificate")
	errNotNamed = errors.New("no connection")
)

// plan is what a switch to a lineage means on this host now.
type plan struct {
	dir     string
	use     use
	lineage *lineage.Lineage
	files   []issuerFile // every issuer in a file of its own
	stale   []string     // files of a chain that was longer
	old     []oldKey     // keys of earlier versions that charon still holds
	lacks   string       // the first thing that is not as it should be; "" if nothing is to do
}

type issuerFile struct {
	path string
	cert *x509.Certificate
	pem  []byte
}

type oldKey struct {
	id   string
	cert *x509.Certificate
}

// prepare looks at everything and changes nothing. What is wrong with a lineage
// that charon is known not to use is not said: certbot calls for every one.
// charon.ErrNotRunning comes only after the lineage was found good; the plan then
// goes as far as it can without charon.
func (h *host) prepare(ctx context.Context, dir string) (p plan, s *charon.Session, err error) {
	p.dir = dir
	ours, named := h.listed(dir)
	if !ours {
		return p, nil, errUnused
	}
	if err := isDirectory(dir); err != nil {
		return p, nil, err
	}
	if p.use, err = h.uses(dir); err != nil {
		return p, nil, err
	}
	session, down := charon.Dial(ctx, h.cli.Vici)
	if down == nil {
		defer func() {
			if err != nil {
				session.Close()
			}
		}()
		if !p.use.any() {
			return p, nil, h.unused(ctx, session, dir, named)
		}
	}
	if p.lineage, err = h.read(dir, p.use); err != nil {
		return p, nil, err
	}
	if p.files, p.stale, err = h.issuerFiles(p); err != nil {
		return p, nil, err
	}
	if down != nil {
		return p, nil, down
	}
	certs, err := session.Certificates(ctx)
	if err != nil {
		return p, nil, err
	}
	h.compare(&p, certs)
	return p, session, nil
}

// unused returns errUnused for a lineage that the configuration does not name,
// unless that is a mistake.
func (h *host) unused(ctx context.Context, session *charon.Session, dir string, named bool) error {
	certs, err := session.Certificates(ctx)
	if err != nil {
		return err
	}
	archived := archive(dir)
	for _, c := range certs {
		if c.HasKey && archived[string(c.DER)] {
			return fmt.Errorf("lineage %s: %w: name %s/cert.pem in certs of swanctl.conf and link privkey.pem into %s", dir, errCopy, dir, filepath.Join(h.swanctl.Dir, "private"))
		}
	}
	if named {
		return fmt.Errorf("lineage %s: %w in %s names a file of it", dir, errNotNamed, filepath.Join(h.swanctl.Dir, "swanctl.conf"))
	}
	return errUnused
}

// compare completes a plan by what charon holds.
func (h *host) compare(p *plan, certs []charon.Certificate) {
	onDisk := h.keysOnDisk()
	for _, cert := range earlier(certs, p.dir, p.lineage.Leaf) {
		id, err := lineage.KeyID(cert)
		if err != nil || id == p.lineage.Key.ID() || onDisk[id] != "" {
			continue
		}
		// Several certificates may have had the key (certbot --reuse-key).
		if slices.ContainsFunc(p.old, func(o oldKey) bool { return o.id == id }) {
			continue
		}
		p.old = append(p.old, oldKey{id, cert})
	}
	_, served := holds(certs, p.lineage.Leaf)
	switch {
	case !served:
		p.lacks = "charon does not serve what is on disk"
	case slices.ContainsFunc(p.files, func(f issuerFile) bool { return !f.installed(certs) }):
		p.lacks = "charon lacks an issuer as a file of its own, so clients that trust only the root may refuse it"
	case len(p.stale) > 0:
		p.lacks = "the issuers of an earlier, longer chain are still in " + filepath.Dir(p.stale[0])
	case len(p.old) > 0:
		p.lacks = "charon still holds the key of an earlier certificate"
	}
}

// installed says whether charon holds the issuer now and finds it when it starts.
func (f issuerFile) installed(certs []charon.Certificate) bool {
	held, _ := holds(certs, f.cert)
	text, err := os.ReadFile(f.path)
	return held && err == nil && bytes.Equal(text, f.pem)
}

// issuerFiles gives each issuer a file, since strongSwan reads only the first
// certificate of one, and finds the files of a longer chain of the past.
func (h *host) issuerFiles(p plan) (files []issuerFile, stale []string, err error) {
	name := filepath.Base(p.dir)
	dir := filepath.Join(h.swanctl.Dir, "x509ca")
	for i, cert := range p.lineage.Issuers {
		files = append(files, issuerFile{
			path: filepath.Join(dir, fmt.Sprintf("tunnelcast-%s-%d.pem", name, i+1)),
			cert: cert,
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
	if p.lacks == "" {
		fmt.Fprintf(h.env.Stdout, "nothing to do: charon serves %s already\n", describe(p.lineage.Leaf))
		return nil
	}
	say := func(what, format string, args ...any) {
		fmt.Fprintf(h.env.Stdout, "%-12s "+format+"\n", append([]any{what}, args...)...)
	}
	say("load-key", "%s", p.lineage.Key)
	for _, f := range p.files {
		say("write", "%s: %s", f.path, describe(f.cert))
		say("load-cert", "%s", describe(f.cert))
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

// describe names a certificate for a person: its subject is often empty.
func describe(cert *x509.Certificate) string {
	name := cert.Subject.CommonName
	if name == "" {
		name = strings.Join(lineage.Names(cert), ", ")
	}
	return fmt.Sprintf("%s (serial %s, until %s)", name, cert.SerialNumber.Text(16), cert.NotAfter.UTC().Format("2006-01-02 15:04Z"))
}
