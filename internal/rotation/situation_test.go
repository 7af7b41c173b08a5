package rotation_test

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"tunnelcast/internal/lineage"
	"tunnelcast/internal/lineage/lineagetest"
	"tunnelcast/internal/rotation"
)

const (
	vpn  = "vpn.example"
	live = "/le/live/vpn"
)

// situation is a host with one lineage. As made by newSituation, certbot has renewed the
// lineage and charon serves the version before.
type situation struct {
	t         testing.TB
	authority *lineagetest.Authority
	snapshot  *rotation.Snapshot
	lineage   *rotation.Lineage
	now       time.Time

	old, renewed       *x509.Certificate
	oldKey, renewedKey lineage.Key
	labels             []string // pairs of a text and what stands for it in a golden plan
}

// certs are what all situations of a test have in common: keys and certificates take long to
// make.
type certs struct {
	authority, gone        *lineagetest.Authority // gone has signed an intermediate of authority
	oldSigner, newSigner   crypto.Signer
	rsaSigner, otherSigner crypto.Signer
	old, renewed, rsa      *x509.Certificate
}

func newCerts(t testing.TB) *certs {
	authority := lineagetest.NewAuthority(t, "CA", 2)
	c := &certs{
		authority: authority,
		gone:      authority.CrossSign(t, lineagetest.NewAuthority(t, "Gone", 0), time.Now().Add(time.Hour)),
		oldSigner: lineagetest.NewKey(t, false), newSigner: lineagetest.NewKey(t, false),
		rsaSigner: lineagetest.NewKey(t, true), otherSigner: lineagetest.NewKey(t, false),
	}
	c.old = authority.Issue(t, c.oldSigner.Public(), []string{vpn}, func(cert *x509.Certificate) {
		cert.NotBefore, cert.NotAfter = time.Now().Add(-60*24*time.Hour), time.Now().Add(30*24*time.Hour)
	})
	c.renewed = authority.Issue(t, c.newSigner.Public(), []string{vpn}, nil)
	c.rsa = authority.Issue(t, c.rsaSigner.Public(), []string{vpn}, nil)
	return c
}

func parseKey(t testing.TB, signer crypto.Signer) lineage.Key {
	t.Helper()
	key, err := lineage.ParseKey(lineagetest.KeyPEM(t, signer))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newSituation(t testing.TB, c *certs) *situation {
	now := time.Now()
	s := &situation{t: t, authority: c.authority, now: now}
	s.oldKey, s.renewedKey = parseKey(t, c.oldSigner), parseKey(t, c.newSigner)
	old, renewed := *c.old, *c.renewed
	s.old, s.renewed = &old, &renewed
	issuers := c.authority.Chain()
	s.lineage = &rotation.Lineage{
		Dir: live, Dirs: []string{live, "/le/archive/vpn"}, LeafFile: live + "/cert.pem", Leaf: s.renewed,
		Pair:     &lineage.Lineage{Leaf: s.renewed, Issuers: issuers, Key: s.renewedKey},
		Archived: []*x509.Certificate{s.old, s.renewed},
	}
	s.snapshot = &rotation.Snapshot{
		Dir: "/etc/swanctl", Unit: "strongswan.service", IPsecConf: "/etc/ipsec.conf",
		Sections: []rotation.Section{{Connection: "rw", Identity: vpn, Certs: []*rotation.File{s.certFile()}}},
		Keys:     []rotation.KeyFile{{Path: "/etc/swanctl/private/vpn.pem", Key: s.renewedKey, Loaded: true}},
		Charon: &rotation.Charon{
			Certificates: rotation.Credentials{{Certificate: s.old, HasKey: true}},
			Keys:         []string{s.oldKey.ID()}, Connections: []string{"rw"}, Up: map[string]bool{},
		},
	}
	for i, issuer := range issuers {
		s.snapshot.X509CA = append(s.snapshot.X509CA,
			s.file(fmt.Sprintf("/etc/swanctl/x509ca/tunnelcast-vpn-%d.pem", i+1), issuer))
		s.hold(issuer, false)
		s.snapshot.Charon.Authorities = append(s.snapshot.Charon.Authorities, issuerName(issuer))
		s.label(lineage.Fingerprint(issuer)[:16], fmt.Sprintf("ISSUER%d", i+1))
		s.label(lineage.Describe(issuer), fmt.Sprintf("issuer %d", i+1))
	}
	s.label(lineage.Describe(s.old), "the old certificate")
	s.label(lineage.Describe(s.renewed), "the renewed certificate")
	s.label(s.oldKey.ID(), "OLDKEY")
	s.label(s.renewedKey.ID(), "NEWKEY")
	s.label(s.old.NotAfter.UTC().Format(time.RFC3339), "ITS END")
	return s
}

func issuerName(cert *x509.Certificate) string {
	return "tunnelcast-vpn-" + lineage.Fingerprint(cert)[:16]
}

func (s *situation) label(text, stands string) { s.labels = append(s.labels, text, stands) }

func (s *situation) issue(signer crypto.Signer, change func(*x509.Certificate)) *x509.Certificate {
	s.t.Helper()
	return s.authority.Issue(s.t, signer.Public(), []string{vpn}, change)
}

func (s *situation) file(file string, first *x509.Certificate) *rotation.File {
	f := &rotation.File{Path: file, Hops: []string{file}, First: first}
	if first != nil {
		f.Text = lineagetest.PEM(first)
	}
	return f
}

// certFile is the lineage's cert.pem, with its link.
func (s *situation) certFile() *rotation.File {
	f := s.file(live+"/cert.pem", s.renewed)
	f.Hops = append(f.Hops, "/le/archive/vpn/cert2.pem")
	return f
}

// hold has charon hold a certificate, after those that it holds already.
func (s *situation) hold(cert *x509.Certificate, key bool) {
	s.snapshot.Charon.Certificates = append(s.snapshot.Charon.Certificates,
		rotation.Credential{Certificate: cert, HasKey: key})
}

// switched has charon serve the renewed certificate.
func (s *situation) switched() {
	c := s.snapshot.Charon
	c.Certificates[0].HasKey = false
	c.Certificates = slices.Insert(c.Certificates, 0, rotation.Credential{Certificate: s.renewed, HasKey: true})
	c.Keys = []string{s.renewedKey.ID()}
}

// starts has charon start the tunnel of the connection rw itself.
func (s *situation) starts(up bool) {
	s.snapshot.Sections[0].Starts = true
	s.snapshot.Charon.Up["rw"] = up
}

// unnamed has connections that leave the choice of the certificate to charon.
func (s *situation) unnamed(identities ...string) {
	for i, identity := range identities {
		connection := fmt.Sprintf("any%d", i+1)
		s.snapshot.Sections = append(s.snapshot.Sections, rotation.Section{Connection: connection, Identity: identity})
		s.snapshot.Charon.Connections = append(s.snapshot.Charon.Connections, connection)
	}
}

func (s *situation) inX509() {
	s.snapshot.Sections[0].Certs = nil
	link := s.certFile()
	link.Path = "/etc/swanctl/x509/vpn.pem"
	s.snapshot.X509 = append(s.snapshot.X509, link)
}

func (s *situation) decide() *rotation.Plan { return rotation.Decide(s.snapshot, s.lineage, s.now) }

// text returns a plan as text in which labels stand for what differs from run to run.
func (s *situation) text(plan fmt.Stringer) string {
	return strings.NewReplacer(s.labels...).Replace(plan.String())
}

// model is charon while the steps of a plan are taken.
type model struct {
	*situation
	held rotation.Credentials
}

func (m *model) take(step rotation.Step) {
	setKey := func(id string, has bool) {
		for i := range m.held {
			if keyID, err := lineage.KeyID(m.held[i].Certificate); err == nil && keyID == id {
				m.held[i].HasKey = has
			}
		}
	}
	switch step.Action {
	case rotation.LoadIssuer:
		m.held = append(m.held, rotation.Credential{Certificate: step.Cert})
	case rotation.LoadConnection, rotation.LoadCertificate:
		m.held = append(m.held, rotation.Credential{Certificate: m.renewed, HasKey: true})
	case rotation.UnloadKey:
		setKey(step.Name, false)
	case rotation.LoadKey:
		setKey(m.lineage.Pair.Key.ID(), true)
	}
}

// presentable reports whether charon has a valid certificate with a key for an identity.
func (m *model) presentable(identity string) bool {
	return slices.ContainsFunc(m.held, func(c rotation.Credential) bool {
		return c.HasKey && m.now.Before(c.NotAfter) && lineage.Holds(c.Certificate, identity) == nil
	})
}

// checkInvariants takes the steps of a plan and fails the test if one of them could cost a
// login, or does what no plan may do.
func (s *situation) checkInvariants(plan *rotation.Plan) {
	s.t.Helper()
	if again := s.decide(); again.String() != plan.String() {
		s.t.Errorf("a second decision differs:\n%s%s", plan, again)
	}
	if strings.Contains(plan.Reason.Error(), "\n") {
		s.t.Errorf("the reason has more than one line: %q", plan.Reason)
	}
	if s.snapshot.Charon == nil {
		for _, step := range plan.Steps {
			if step.Action != rotation.Write && step.Action != rotation.Remove {
				s.t.Errorf("charon does not run, and a step is %s", step)
			}
		}
		return
	}
	m := &model{s, slices.Clone(s.snapshot.Charon.Certificates)}
	before := slices.Clone(m.held)
	served := map[string]bool{}
	for _, section := range s.snapshot.Sections {
		served[section.Identity] = m.presentable(section.Identity)
	}
	proven, moved := false, false
	for _, step := range plan.Steps {
		m.take(step)
		switch step.Action {
		case rotation.Prove:
			proven = true
		case rotation.UnloadKey:
			s.checkUnload(step)
		case rotation.LoadConnection:
			moved = true
			if !slices.Contains(plan.Connections(), step.Name) {
				s.t.Errorf("the connection %s does not name the lineage", step.Name)
			}
		case rotation.LoadCertificate:
			moved = true
		}
		late := []rotation.Action{rotation.UnloadKey, rotation.UnloadIssuer, rotation.Remove, rotation.ProveChoice}
		if slices.Contains(late, step.Action) != proven && step.Action != rotation.Prove {
			s.t.Errorf("%s is on the wrong side of the proof", step)
		}
		for i, c := range before {
			if !proven && c.HasKey && !m.held[i].HasKey {
				s.t.Errorf("before the proof %s takes the key of %s", step, lineage.Describe(c.Certificate))
			}
		}
		for _, section := range s.snapshot.Sections {
			if served[section.Identity] && !m.presentable(section.Identity) {
				s.t.Errorf("after %s connection %s has no certificate", step, section.Connection)
			}
		}
	}
	if proven != moved {
		s.t.Errorf("the plan brings the certificate: %v, and proves it: %v\n%s", moved, proven, plan)
	}
	if len(plan.Steps) > 0 && plan.Steps[0].Action != rotation.LoadKey {
		s.t.Errorf("the first step is %s, want the new key", plan.Steps[0])
	}
}

// checkUnload fails the test unless the proof has replaced a key.
func (s *situation) checkUnload(step rotation.Step) {
	s.t.Helper()
	fail := func(why string) { s.t.Errorf("%s, but %s", step, why) }
	if step.Name == s.lineage.Pair.Key.ID() {
		fail("it is the key of what is on disk")
	}
	if !slices.Contains(s.snapshot.Charon.Keys, step.Name) {
		fail("no VICI client has loaded it")
	}
	for _, k := range s.snapshot.Keys {
		if k.Loaded && k.Key.ID() == step.Name {
			fail("the file " + k.Path + " has it")
		}
	}
	if !slices.Equal(lineage.Names(step.Cert), lineage.Names(s.lineage.Pair.Leaf)) &&
		!slices.ContainsFunc(s.lineage.Archived, step.Cert.Equal) {
		fail("its certificate is not one of the lineage's")
	}
	files := slices.Clone(s.snapshot.X509)
	for _, section := range s.snapshot.Sections {
		files = append(files, section.Certs...)
	}
	for _, file := range files {
		if file.First == nil {
			continue
		}
		if id, err := lineage.KeyID(file.First); err == nil && id == step.Name {
			fail("the configuration has its certificate in " + path.Base(file.Path))
		}
	}
}
