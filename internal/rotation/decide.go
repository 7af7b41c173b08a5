package rotation

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"tunnelcast/internal/lineage"
)

// Plan is what is to be done about one lineage.
type Plan struct {
	Lineage *Lineage
	Reason  Finding // why there are steps, or none
	Steps   []Step
	Left    []Finding // connections that keep their earlier certificate

	snapshot *Snapshot
	now      time.Time

	use     use
	issuers []issuer
	stale   []*File         // files of a chain that was longer
	old     []oldKey        // keys to unload
	kept    bool            // the key of the version before stays loaded, or is the new one
	chosen  []Section       // sections for which charon picks a version of the lineage by identity
	others  map[string]bool // DER of others' certificates that charon may present for the same names
	moves   bool            // a step loads the leaf
}

// issuer is an issuer that clients need. It has a file of its own, because swanctl reads only
// the first certificate of a file.
type issuer struct {
	cert *x509.Certificate
	file string
	text []byte
	name string // by which charon knows it
}

type oldKey struct {
	id   string
	cert *x509.Certificate
}

// Decide returns the plan for one lineage. It does not change its arguments, and the
// plan refers to them.
func Decide(s *Snapshot, l *Lineage, now time.Time) *Plan {
	p := &Plan{Lineage: l, snapshot: s, now: now, use: s.use(l)}
	if !p.use.any() {
		p.Reason = s.unused(l)
		return p
	}
	if err := p.Invalid(); err != nil {
		p.Reason = Finding{Invalid, err}
		return p
	}
	p.findIssuers()
	if s.Charon == nil {
		p.Reason = find(Stopped, "charon is not running")
		p.Steps = slices.Concat(p.writeIssuers(), p.removeStale())
		return p
	}
	p.findOldKeys()
	p.findChosen()
	if p.Reason = p.reason(); p.Reason.Kind != Current {
		p.addSteps()
	}
	return p
}

// Invalid returns why what is on disk cannot be served.
func (p *Plan) Invalid() error {
	pair := p.Lineage.Pair
	if pair == nil {
		return p.Lineage.Fault
	}
	if err := pair.ValidAt(p.now); err != nil {
		return err
	}
	for _, section := range p.use.named {
		err := lineage.Holds(pair.Leaf, section.Identity)
		if err == nil {
			err = presents(section.file, pair)
		}
		if err != nil {
			return fmt.Errorf("connection %s: %w", section.Connection, err)
		}
	}
	return nil
}

// prefix is how the names of the issuers begin that this program loads for a lineage.
func (l *Lineage) prefix() string { return "tunnelcast-" + path.Base(l.Dir) + "-" }

const fingerprintDigits = 16

// findIssuers finds the issuers that clients need, and the files of issuers that they need no
// longer. An issuer's name depends on its certificate, so that those of the old chain stay
// loaded until the old certificate is not served any more.
func (p *Plan) findIssuers() {
	dir := path.Join(p.snapshot.Dir, "x509ca")
	for i, cert := range p.Lineage.Pair.Needed(p.now) {
		p.issuers = append(p.issuers, issuer{
			cert: cert,
			file: path.Join(dir, fmt.Sprintf("%s%d.pem", p.Lineage.prefix(), i+1)),
			text: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}),
			name: p.Lineage.prefix() + lineage.Fingerprint(cert)[:fingerprintDigits],
		})
	}
	for _, file := range p.snapshot.X509CA {
		if IssuerOf(path.Base(file.Path)) == path.Base(p.Lineage.Dir) && !p.isIssuerFile(file) {
			p.stale = append(p.stale, file)
		}
	}
}

// IssuerOf returns the name of the lineage for which this program wrote an issuer's file
// of this name, or "".
func IssuerOf(file string) string {
	name, ours := strings.CutPrefix(file, "tunnelcast-")
	name, pem := strings.CutSuffix(name, ".pem")
	// The number comes last: tunnelcast-vpn-2-1.pem is of the lineage vpn-2.
	dash := strings.LastIndexByte(name, '-')
	if !ours || !pem || dash < 1 || name[dash+1:] == "" || strings.Trim(name[dash+1:], "0123456789") != "" {
		return ""
	}
	return name[:dash]
}

func (p *Plan) isIssuerFile(file *File) bool {
	return slices.ContainsFunc(p.issuers, func(i issuer) bool { return i.file == file.Path })
}

// onDisk reports whether an issuer's file exists with its contents.
func (p *Plan) onDisk(i issuer) bool {
	return slices.ContainsFunc(p.snapshot.X509CA, func(f *File) bool {
		return f.Path == i.file && f.ReadError == nil && bytes.Equal(f.Text, i.text)
	})
}

// findOldKeys finds the keys to unload: those of earlier versions that are in no file and that
// nothing else uses. Where files may have any key, because they are encrypted, only the keys
// of archived versions are unloaded.
func (p *Plan) findOldKeys() {
	s, l := p.snapshot, p.Lineage
	p.others = make(map[string]bool)
	var configured []string // ids of the keys of certificates that the configuration leads to
	for _, cert := range s.certificates() {
		p.others[string(cert.Raw)] = !l.isVersion(cert)
		if id, err := lineage.KeyID(cert); err == nil {
			configured = append(configured, id)
		}
	}
	var newest time.Time
	for _, cert := range s.Charon.Certificates.earlier(l, l.Pair.Leaf) {
		id, err := lineage.KeyID(cert)
		if err != nil || p.others[string(cert.Raw)] {
			continue
		}
		keep := id == l.Pair.Key.ID() || !slices.Contains(s.Charon.Keys, id) || s.keyFile(id) != nil ||
			slices.Contains(configured, id) || len(s.OpaqueKeys) > 0 && !l.isVersion(cert)
		if cert.NotBefore.After(newest) { // of two, the one that charon has first is the newer
			newest, p.kept = cert.NotBefore, keep
		}
		// Several certificates may have had the key (certbot --reuse-key).
		if !keep && !slices.Contains(p.oldIDs(), id) {
			p.old = append(p.old, oldKey{id, cert})
		}
	}
}

// certificates returns the certificates that the configuration leads to.
func (s *Snapshot) certificates() []*x509.Certificate {
	files := slices.Clone(s.X509)
	for _, section := range s.Sections {
		files = append(files, section.Certs...)
	}
	var all []*x509.Certificate
	for _, f := range files {
		if f.First != nil {
			all = append(all, f.First)
		}
	}
	return all
}

// keyFile returns the file from which swanctl loads a key, or nil.
func (s *Snapshot) keyFile(id string) *KeyFile {
	for i := range s.Keys {
		if k := &s.Keys[i]; k.Loaded && k.Key.ID() == id {
			return k
		}
	}
	return nil
}

func (p *Plan) oldIDs() []string {
	var ids []string
	for _, old := range p.old {
		ids = append(ids, old.id)
	}
	return ids
}

// findChosen finds the sections for which charon picks the certificate by identity, and now
// picks a version of the lineage.
func (p *Plan) findChosen() {
	leaf, held := p.Lineage.Pair.Leaf, p.snapshot.Charon.Certificates
	earlier := held.earlier(p.Lineage, leaf)
	for _, section := range p.use.unnamed {
		if names := lineage.Names(leaf); section.Identity == "" && len(names) > 0 {
			section.Identity = names[0]
		}
		if lineage.Holds(leaf, section.Identity) != nil {
			continue
		}
		shown := held.shows(section.Identity)
		if p.use.inX509 || shown != nil && (shown.Equal(leaf) || slices.ContainsFunc(earlier, shown.Equal)) {
			p.chosen = append(p.chosen, section)
		}
	}
}

// reason returns the first thing that is not as it should be.
func (p *Plan) reason() Finding {
	held := p.snapshot.Charon.Certificates
	_, served := held.holds(p.Lineage.Pair.Leaf)
	lacking := func(i issuer) bool {
		held, _ := held.holds(i.cert)
		return !held || !p.onDisk(i)
	}
	switch {
	case !served:
		return find(NotServed, "charon does not serve what is on disk")
	case slices.ContainsFunc(p.issuers, lacking):
		return find(IssuerMissing, "charon lacks an issuer as a file of its own, so clients that trust only the root "+
			"may refuse it")
	case len(p.stale) > 0:
		return find(IssuersStale, "the issuers of an earlier, longer chain are still in %s",
			path.Join(p.snapshot.Dir, "x509ca"))
	case len(p.old) > 0:
		return find(KeyHeld, "charon still holds the key of an earlier certificate")
	}
	if f := p.otherShown(held); f.Kind != Current {
		return f
	}
	return p.otherSent(held)
}

// otherShown returns a finding if charon picks, for a chosen section, neither the leaf nor a
// valid certificate of another lineage for the same names, which a host with an RSA and an
// ECDSA certificate has. Keys with the ids in unloaded do not count.
func (p *Plan) otherShown(held Credentials, unloaded ...string) Finding {
	for _, c := range p.chosen {
		switch shown := held.shows(c.Identity, unloaded...); {
		case shown == nil:
			return find(OtherShown, "charon has no certificate with a key for connection %s", c.Connection)
		case !shown.Equal(p.Lineage.Pair.Leaf) && (!p.others[string(shown.Raw)] || p.now.After(shown.NotAfter)):
			return find(OtherShown, "charon presents %s for connection %s, which leaves the choice to charon, "+
				"because it has that key too (certs = %s in its local section)",
				lineage.Describe(shown), c.Connection, p.Lineage.LeafFile)
		}
	}
	return Finding{}
}

// otherSent returns a finding if charon sends, in place of an issuer, another certificate with
// the same subject and key. charon holds both, and certificates cannot be unloaded.
func (p *Plan) otherSent(held Credentials) Finding {
	chain := held.sends(p.Lineage.Pair.Leaf)
	for i, issuer := range p.issuers {
		if i >= len(chain) || !sameIssuer(chain[i], issuer.cert) {
			continue
		}
		remedy := "`systemctl restart " + p.snapshot.Unit + "`"
		for _, rival := range p.rivals() {
			remedy = "`rm " + rival.Path + "`; " + remedy
		}
		return find(OtherSent, "charon sends another chain: %s signed by %s in place of that by %s, so clients that "+
			"trust only the root of chain.pem refuse it; charon forgets it only when it restarts (%s)",
			issuer.cert.Subject.CommonName, chain[i].Issuer.CommonName, issuer.cert.Issuer.CommonName, remedy)
	}
	return Finding{}
}

// rivals returns the files in x509ca with another certificate of an issuer's subject and
// key. Which of the two charon sends after its next start depends on the order in which
// the directory is read.
func (p *Plan) rivals() []*File {
	var all []*File
	for _, file := range p.snapshot.X509CA {
		if p.isIssuerFile(file) || slices.Contains(p.stale, file) {
			continue
		}
		if slices.ContainsFunc(p.issuers, func(i issuer) bool { return sameIssuer(file.First, i.cert) }) {
			all = append(all, file)
		}
	}
	return all
}

// Files returns the paths of the lineage's files that connections name.
func (p *Plan) Files() []string {
	var paths []string
	for _, section := range p.use.named {
		paths = append(paths, section.file.Path)
	}
	return paths
}

// Connections returns the names of the connections that name the lineage.
func (p *Plan) Connections() []string { return p.use.connections() }

// Leaf returns the certificate that the plan moves charon to, nil for a lineage that is
// not used or not valid.
func (p *Plan) Leaf() *x509.Certificate {
	if p.Reason.Kind == Invalid || p.Lineage.Pair == nil {
		return nil
	}
	return p.Lineage.Pair.Leaf
}
