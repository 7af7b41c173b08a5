package main

import (
	"bytes"
	"cmp"
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
	"time"

	"tunnelcast/internal/charon"
	"tunnelcast/internal/lineage"
	"tunnelcast/internal/swanctl"
)

// errUnused says that a lineage is none of charon's; the others, that by a mistake
// it is not.
var (
	errUnused = errors.New("charon does not use this lineage")
	errCopy   = errors.New("charon serves a copy of its certificate")
	errCopied = errors.New("charon serves a copy of the renewed certificate already: " +
		"an old hook may have made it, and must go on doing so")
	errIPsec    = errors.New("not served from swanctl.conf")
	errNotNamed = errors.New("no connection")
)

// plan is what a switch to a lineage means on this host now.
type plan struct {
	dir      string
	use      use
	lineage  *lineage.Lineage
	archived map[string]bool // DER of all versions of its certificate
	chosen   []served        // connections for which charon picks the certificate by identity
	files    []issuerFile    // every issuer that clients need in a file of its own
	stale    []string        // files of a chain that was longer
	held     credentials     // what charon holds before the switch
	old      []oldKey        // keys of earlier versions that charon still holds
	kept     bool            // the key of the version before stays: a file has it, or it is the new one
	current  map[string]bool // DER of certificates of others that may be presented for the same names
	now      time.Time
	lacks    string // the first thing that is not as it should be; "" if nothing is to do
}

type issuerFile struct {
	path string
	cert *x509.Certificate
	pem  []byte
}

// issuerName is by what charon knows an issuer that a switch has loaded. It depends on
// the certificate, so that an issuer of the old chain stays until the old certificate
// is gone.
func (p plan) issuerName(cert *x509.Certificate) string {
	return p.issuerPrefix() + lineage.Fingerprint(cert)[:fingerprintDigits]
}

const fingerprintDigits = 16

func (p plan) issuerPrefix() string { return "tunnelcast-" + filepath.Base(p.dir) + "-" }

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
	}
	if !p.use.any() {
		return p, nil, h.unused(ctx, session, dir, named)
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
	if p.held, err = h.credentials(ctx, session); err != nil {
		return p, nil, err
	}
	loaded, err := session.Keys(ctx)
	if err != nil {
		return p, nil, err
	}
	h.compare(&p, loaded)
	return p, session, nil
}

// unused returns errUnused for a lineage that the configuration does not name,
// unless that is a mistake or somebody else's way. session is nil if charon does not
// run.
func (h *host) unused(ctx context.Context, session *charon.Session, dir string, named bool) error {
	var certs credentials
	var err error
	if session != nil {
		if certs, err = h.credentials(ctx, session); err != nil {
			return err
		}
	}
	if _, key := certs.holds(firstCertificate(leafFile(dir))); key {
		return fmt.Errorf("lineage %s: %w (certs = %s and a link to privkey.pem in %s need no copy)",
			dir, errCopied, leafFile(dir), filepath.Join(h.cli.SwanctlDir, "private"))
	}
	archived := archive(dir)
	for _, c := range certs {
		if c.key && archived[string(c.Raw)] {
			return fmt.Errorf("lineage %s: %w: name %s in certs of swanctl.conf and link privkey.pem into %s",
				dir, errCopy, leafFile(dir), filepath.Join(h.cli.SwanctlDir, "private"))
		}
	}
	if file := h.inIPsecConf(dir); file != "" {
		return fmt.Errorf("lineage %s: %w, it is in %s, which strongswan-starter reads: after a renewal "+
			"run ipsec rereadall and ipsec reload, or move the connection to swanctl.conf (charon-systemd)", dir, errIPsec, file)
	}
	if named {
		return fmt.Errorf("lineage %s: %w in %s names a file of it", dir, errNotNamed, filepath.Join(h.cli.SwanctlDir, "swanctl.conf"))
	}
	return errUnused
}

// inIPsecConf returns the file of strongSwan's older configuration that leads to a
// lineage, "" if none does.
func (h *host) inIPsecConf(dir string) string {
	conf := filepath.Join(h.root, "etc/ipsec.conf")
	text, _ := os.ReadFile(conf)
	for line := range strings.Lines(string(text)) {
		key, file, _ := strings.Cut(strings.TrimSpace(line), "=")
		if key = strings.TrimSpace(key); key != "leftcert" && key != "rightcert" {
			continue
		}
		file = strings.Trim(strings.TrimSpace(file), `"`)
		if !filepath.IsAbs(file) {
			file = filepath.Join(h.root, "etc/ipsec.d/certs", file)
		}
		if within(file, dir) {
			return conf
		}
	}
	return ""
}

// firstCertificate returns the certificate that charon reads from a file; an empty
// one, which is equal to none, if there is none.
func firstCertificate(file string) *x509.Certificate {
	text, err := os.ReadFile(file)
	if err == nil {
		if certs, err := lineage.ParseCertificates(text); err == nil {
			return certs[0]
		}
	}
	return &x509.Certificate{}
}

// compare completes a plan by what charon holds; keys are those that VICI clients have
// loaded.
func (h *host) compare(p *plan, keys []string) {
	leaf := p.lineage.Leaf
	p.archived, p.now = archive(p.dir), h.env.Now()
	h.findOld(p, keys)
	p.findChosen()
	_, served := p.held.holds(leaf)
	switch {
	case !served:
		p.lacks = "charon does not serve what is on disk"
	case slices.ContainsFunc(p.files, func(f issuerFile) bool { return !f.installed(p.held) }):
		p.lacks = "charon lacks an issuer as a file of its own, so clients that trust only the root may refuse it"
	case len(p.stale) > 0:
		p.lacks = "the issuers of an earlier, longer chain are still in " + filepath.Dir(p.stale[0])
	case len(p.old) > 0:
		p.lacks = "charon still holds the key of an earlier certificate"
	default:
		if err := cmp.Or(p.showsOther(p.held), h.sendsOther(*p, p.held)); err != nil {
			p.lacks = err.Error()
		}
	}
}

// findOld finds the keys that charon is to forget: those of earlier versions that no
// file has and that nothing else uses. Where files may have any key, because they are
// encrypted, only those that certbot knows to be old are.
func (h *host) findOld(p *plan, keys []string) {
	onDisk, elsewhere := h.keysOnDisk(), h.elsewhere(p.dir)
	p.current = make(map[string]bool)
	for der := range elsewhere {
		p.current[der] = !p.archived[der]
	}
	var newest time.Time
	for _, cert := range p.held.earlier(p.archived, p.lineage.Leaf) {
		id, err := lineage.KeyID(cert)
		if err != nil || p.current[string(cert.Raw)] {
			continue
		}
		keep := id == p.lineage.Key.ID() || !slices.Contains(keys, id) || onDisk.files[id] != "" || elsewhere[string(cert.Raw)] ||
			len(onDisk.unknown) > 0 && !p.archived[string(cert.Raw)]
		if cert.NotBefore.After(newest) { // of two, the one that charon has first is the newer
			newest, p.kept = cert.NotBefore, keep
		}
		// Several certificates may have had the key (certbot --reuse-key).
		if !keep && !slices.Contains(p.oldIDs(), id) {
			p.old = append(p.old, oldKey{id, cert})
		}
	}
}

// findChosen finds the connections for which charon picks the certificate by
// identity, now a version of the lineage's.
func (p *plan) findChosen() {
	leaf := p.lineage.Leaf
	earlier := p.held.earlier(p.archived, leaf)
	for _, c := range p.use.byIdentity {
		if c.identity == "" && len(lineage.Names(leaf)) > 0 {
			c.identity = lineage.Names(leaf)[0]
		}
		if lineage.Holds(leaf, c.identity) != nil {
			continue
		}
		shown := p.held.shows(c.identity)
		if p.use.inX509 || shown != nil && (shown.Equal(leaf) || slices.ContainsFunc(earlier, shown.Equal)) {
			p.chosen = append(p.chosen, c)
		}
	}
}

func (p plan) oldIDs() []string {
	var ids []string
	for _, old := range p.old {
		ids = append(ids, old.id)
	}
	return ids
}

// elsewhere returns the DER of the certificates that the configuration leads to and
// that are not of the lineage now: their keys are in use.
func (h *host) elsewhere(dir string) map[string]bool {
	files := filesIn(h.cli.SwanctlDir, "x509")
	if conf, err := swanctl.Read(h.cli.SwanctlDir); err == nil {
		for _, c := range conf.LocalAuths() {
			files = append(files, c.Certs...)
		}
	}
	all := make(map[string]bool)
	for _, file := range files {
		all[string(firstCertificate(file).Raw)] = true
	}
	return all
}

// showsOther says which of the connections that leave the choice to charon would
// present another certificate than the leaf, or than a current one of the same names,
// which a host with an RSA and an ECDSA certificate has. Keys of the ids gone count as
// unloaded.
func (p plan) showsOther(certs credentials, gone ...string) error {
	for _, c := range p.chosen {
		switch shown := certs.shows(c.identity, gone...); {
		case shown == nil:
			return fmt.Errorf("charon has no certificate with a key for connection %s", c.name)
		case !shown.Equal(p.lineage.Leaf) && (!p.current[string(shown.Raw)] || p.now.After(shown.NotAfter)):
			return fmt.Errorf("charon presents %s for connection %s, which leaves the choice to charon, "+
				"because it has that key too (certs = %s in its local section)",
				describe(shown), c.name, leafFile(p.dir))
		}
	}
	return nil
}

var errOtherIssuer = errors.New("charon sends another chain")

// sendsOther says that charon sends another certificate in place of an issuer: one
// of the same subject and key, which it holds too and cannot be told to forget.
func (h *host) sendsOther(p plan, certs credentials) error {
	chain := certs.sends(p.lineage.Leaf)
	for i, f := range p.files {
		if i >= len(chain) || chain[i].Equal(f.cert) || !sameIssuer(chain[i], f.cert) {
			continue
		}
		remedy := "systemctl restart " + h.cli.Unit
		for file := range h.rivals(p) {
			remedy = "rm " + file + " && " + remedy
		}
		return fmt.Errorf("%w: %s signed by %s in place of that by %s, so clients that trust only the root of chain.pem "+
			"refuse it; charon forgets it only when it restarts (%s)",
			errOtherIssuer, f.cert.Subject.CommonName, chain[i].Issuer.CommonName, f.cert.Issuer.CommonName, remedy)
	}
	return nil
}

// rivals returns the files in x509ca that hold another certificate of an issuer's
// subject and key. Which of them charon sends after its next start is left to the
// order in which the directory is read.
func (h *host) rivals(p plan) map[string]*x509.Certificate {
	all := make(map[string]*x509.Certificate)
	for _, file := range filesIn(h.cli.SwanctlDir, "x509ca") {
		ours := slices.ContainsFunc(p.files, func(f issuerFile) bool { return f.path == file })
		if ours || slices.Contains(p.stale, file) {
			continue
		}
		cert := firstCertificate(file)
		if slices.ContainsFunc(p.files, func(f issuerFile) bool { return sameIssuer(cert, f.cert) }) {
			all[file] = cert
		}
	}
	return all
}

// installed says whether charon holds the issuer now and finds it when it starts.
func (f issuerFile) installed(certs credentials) bool {
	held, _ := certs.holds(f.cert)
	text, err := os.ReadFile(f.path)
	return held && err == nil && bytes.Equal(text, f.pem)
}

// issuerFiles gives each issuer a file, since strongSwan reads only the first
// certificate of one, and finds the files of a longer chain of the past.
func (h *host) issuerFiles(p plan) (files []issuerFile, stale []string, err error) {
	name := filepath.Base(p.dir)
	dir := filepath.Join(h.cli.SwanctlDir, "x509ca")
	for i, cert := range p.lineage.Needed(h.env.Now()) {
		files = append(files, issuerFile{
			path: filepath.Join(dir, fmt.Sprintf("tunnelcast-%s-%d.pem", name, i+1)),
			cert: cert,
			pem:  pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}),
		})
	}
	// Not a glob: tunnelcast-vpn-*.pem would be another lineage's files too.
	ours := regexp.MustCompile(`^tunnelcast-` + regexp.QuoteMeta(name) + `-[0-9]+\.pem$`)
	for _, path := range filesIn(h.cli.SwanctlDir, "x509ca") {
		wanted := slices.ContainsFunc(files, func(f issuerFile) bool { return f.path == path })
		if ours.MatchString(filepath.Base(path)) && !wanted {
			stale = append(stale, path)
		}
	}
	return files, stale, nil
}

// dryRun prints what deploy would do.
func (h *host) dryRun(ctx context.Context, dir string) error {
	dir, err := named(dir)
	if err != nil {
		return err
	}
	p, session, err := h.prepare(ctx, dir)
	if errors.Is(err, errUnused) || errors.Is(err, errCopied) || errors.Is(err, errIPsec) || errors.Is(err, charon.ErrNotRunning) {
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
		fmt.Fprintf(h.env.Stdout, "%-14s "+format+"\n", append([]any{what}, args...)...)
	}
	say("load-key", "%s", p.lineage.Key)
	for _, f := range p.files {
		say("write", "%s: %s", f.path, describe(f.cert))
		say("load-cert", "%s", describe(f.cert))
	}
	for _, name := range p.use.authorities {
		say("load-authority", "%s", name)
	}
	for _, name := range p.connections() {
		unless := ""
		if p.sectionsOf(name)[0].starts {
			unless = ", unless charon finds the certificate without it: its tunnel is closed otherwise"
		}
		say("load-conn", "%s%s", name, unless)
	}
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
