package rotation_test

import (
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"tunnelcast/internal/lineage"
	"tunnelcast/internal/rotation"
)

var update = flag.Bool("update", false, "write the plans into testdata/plans.txt")

// situations are changes of the host of newSituation, with the reason that Decide is to
// give. The plans themselves are in testdata/plans.txt.
var situations = []struct {
	name   string
	change func(s *situation, c *certs)
	want   rotation.Kind
}{
	{"renewed", func(*situation, *certs) {}, rotation.NotServed},
	{"renewed, with an authority that names its chain", func(s *situation, _ *certs) {
		chain := s.file(live+"/chain.pem", s.authority.Chain()[0])
		s.snapshot.Authorities = []rotation.Authority{{Name: "letsencrypt", File: chain}, {Name: "elsewhere"}}
	}, rotation.NotServed},
	{"renewed, issuers on disk differ", func(s *situation, _ *certs) {
		s.snapshot.X509CA[0].Text = []byte("cut")
		s.snapshot.X509CA = s.snapshot.X509CA[:1]
	}, rotation.NotServed},
	{"renewed, the issuers are new", func(s *situation, c *certs) {
		s.snapshot.Charon.Authorities = append(s.snapshot.Charon.Authorities, issuerName(c.gone.Root()),
			"tunnelcast-vpn-2-0123456789abcdef", "tunnelcast-vpn-short", "of-another-client")
		s.label(lineage.Fingerprint(c.gone.Root())[:16], "GONE")
	}, rotation.NotServed},
	{"charon serves it", func(s *situation, _ *certs) { s.switched() }, rotation.Current},

	{"not used", func(s *situation, _ *certs) {
		s.snapshot.Sections, s.snapshot.Charon.Certificates = nil, nil
	}, rotation.Unused},
	{"not used, charon does not run", func(s *situation, _ *certs) {
		s.snapshot.Sections, s.snapshot.Charon = nil, nil
	}, rotation.Unused},
	{"not used, but required", func(s *situation, _ *certs) {
		s.snapshot.Sections, s.lineage.Required = nil, true
		s.snapshot.Charon.Certificates = nil
	}, rotation.NotNamed},
	{"a copy of it is served", func(s *situation, _ *certs) {
		s.snapshot.Sections = nil
		s.hold(s.renewed, true)
	}, rotation.Copied},
	{"an old copy of it is served", func(s *situation, _ *certs) {
		s.snapshot.Sections = []rotation.Section{{Connection: "rw", Certs: []*rotation.File{
			s.file("/etc/swanctl/x509/copy.pem", s.old)}}}
	}, rotation.CopyServed},
	{"in ipsec.conf", func(s *situation, _ *certs) {
		s.snapshot.Sections, s.snapshot.Charon.Certificates = nil, nil
		s.snapshot.IPsec = []*rotation.File{s.certFile()}
	}, rotation.IPsec},
	{"in ipsec.conf, and charon has loaded it from there", func(s *situation, _ *certs) {
		s.snapshot.Sections = nil
		s.snapshot.IPsec = []*rotation.File{s.certFile()}
		s.hold(s.renewed, true)
	}, rotation.IPsec},
	{"in ipsec.conf, and charon has the one before", func(s *situation, _ *certs) {
		s.snapshot.Sections = nil
		s.snapshot.IPsec = []*rotation.File{s.certFile()}
		s.hold(s.old, true)
	}, rotation.IPsec},

	{"key of another certificate", func(s *situation, _ *certs) {
		s.lineage.Pair, s.lineage.Fault = nil, errors.New("privkey.pem does not belong to cert.pem")
	}, rotation.Invalid},
	{"expired", func(s *situation, _ *certs) {
		s.lineage.Pair.Leaf.NotAfter = s.now.Add(-time.Second)
		s.label(s.lineage.Pair.Leaf.NotAfter.UTC().Format(time.RFC3339), "NOW")
	}, rotation.Invalid},
	{"another identity", func(s *situation, _ *certs) {
		s.snapshot.Sections[0].Identity = "www.example"
	}, rotation.Invalid},
	{"certs names an archived version", func(s *situation, _ *certs) {
		s.snapshot.Sections[0].Certs[0] = s.file("/le/archive/vpn/cert1.pem", s.old)
	}, rotation.Invalid},
	{"certs names a file that is gone", func(s *situation, _ *certs) {
		gone := s.file(live+"/cert.pem", nil)
		gone.ReadError = errors.New("open cert.pem: no such file")
		s.snapshot.Sections[0].Certs[0] = gone
	}, rotation.Invalid},
	{"certs names a damaged file", func(s *situation, _ *certs) {
		damaged := s.file(live+"/cert.pem", nil)
		damaged.Malformed = errors.New("no certificate found")
		s.snapshot.Sections[0].Certs[0] = damaged
	}, rotation.Invalid},

	{"charon does not run", func(s *situation, _ *certs) {
		s.snapshot.Charon, s.snapshot.X509CA = nil, s.snapshot.X509CA[:1]
		s.snapshot.X509CA = append(s.snapshot.X509CA, s.file("/etc/swanctl/x509ca/tunnelcast-vpn-3.pem", nil))
	}, rotation.Stopped},

	{"charon lacks the key", func(s *situation, _ *certs) {
		s.switched()
		s.snapshot.Charon.Certificates[0].HasKey = false
	}, rotation.NotServed},
	{"charon lacks an issuer", func(s *situation, _ *certs) {
		s.switched()
		s.snapshot.Charon.Certificates = s.snapshot.Charon.Certificates[:3]
	}, rotation.IssuerMissing},
	{"an issuer's file is gone", func(s *situation, _ *certs) {
		s.switched()
		s.snapshot.X509CA = s.snapshot.X509CA[1:]
	}, rotation.IssuerMissing},
	{"the chain was longer", func(s *situation, _ *certs) {
		s.switched()
		s.snapshot.X509CA = append(s.snapshot.X509CA, s.file("/etc/swanctl/x509ca/tunnelcast-vpn-3.pem", nil),
			s.file("/etc/swanctl/x509ca/tunnelcast-vpn-2-1.pem", nil)) // of the lineage vpn-2
	}, rotation.IssuersStale},
	{"an old key is left", func(s *situation, _ *certs) {
		s.switched()
		s.snapshot.Charon.Certificates[1].HasKey = true
		s.snapshot.Charon.Keys = append(s.snapshot.Charon.Keys, s.oldKey.ID())
	}, rotation.KeyHeld},
	{"charon picks another certificate", func(s *situation, c *certs) {
		s.switched()
		s.unnamed(vpn)
		other := s.issue(c.otherSigner, func(cert *x509.Certificate) { cert.DNSNames = append(cert.DNSNames, "b") })
		s.inX509()
		s.snapshot.Charon.Certificates = slices.Insert(s.snapshot.Charon.Certificates, 0,
			rotation.Credential{Certificate: other, HasKey: true})
		s.label(lineage.Describe(other), "another certificate")
	}, rotation.OtherShown},
	{"charon sends another chain", func(s *situation, c *certs) {
		s.switched()
		gone := c.gone.Chain()[1]
		s.snapshot.Charon.Certificates = slices.Insert(s.snapshot.Charon.Certificates, 0,
			rotation.Credential{Certificate: gone})
		s.snapshot.X509CA = append(s.snapshot.X509CA, s.file("/etc/swanctl/x509ca/old.pem", gone))
	}, rotation.OtherSent},

	{"a file has the old key", func(s *situation, _ *certs) {
		s.snapshot.Keys = append(s.snapshot.Keys, rotation.KeyFile{Path: "backup.pem", Key: s.oldKey, Loaded: true})
	}, rotation.NotServed},
	{"a file has the old key, and swanctl does not load it", func(s *situation, _ *certs) {
		s.snapshot.Keys = append(s.snapshot.Keys, rotation.KeyFile{Path: "rsa/old.pem", Key: s.oldKey})
	}, rotation.NotServed},
	{"the old key is not from VICI", func(s *situation, _ *certs) { s.snapshot.Charon.Keys = nil }, rotation.NotServed},
	{"the key is the same", func(s *situation, c *certs) {
		s.lineage.Pair.Leaf = s.issue(c.oldSigner, nil)
		s.lineage.Pair.Key, s.lineage.Leaf = s.oldKey, s.lineage.Pair.Leaf
		s.renewed = s.lineage.Pair.Leaf
		s.snapshot.Sections[0].Certs[0] = s.certFile()
		s.label(lineage.Describe(s.renewed), "the renewed certificate")
	}, rotation.NotServed},
	{"files may have any key, the old version is archived", func(s *situation, _ *certs) {
		s.snapshot.OpaqueKeys = []string{"/etc/swanctl/pkcs12/a.p12"}
	}, rotation.NotServed},
	{"files may have any key, the old version is not archived", func(s *situation, _ *certs) {
		s.snapshot.OpaqueKeys, s.lineage.Archived = []string{"/etc/swanctl/pkcs12/a.p12"}, nil
	}, rotation.NotServed},
	{"another connection uses the old version", func(s *situation, _ *certs) {
		s.snapshot.Sections = append(s.snapshot.Sections, rotation.Section{Connection: "old", Identity: vpn,
			Certs: []*rotation.File{s.file("/etc/swanctl/x509/old.pem", s.old)}})
		s.lineage.Archived = nil
	}, rotation.NotServed},
	{"another connection uses a certificate with the old key", func(s *situation, c *certs) {
		s.snapshot.Sections = append(s.snapshot.Sections, rotation.Section{Connection: "old", Identity: vpn,
			Certs: []*rotation.File{s.file("/etc/swanctl/x509/old.pem", s.issue(c.oldSigner, nil))}})
	}, rotation.NotServed},
	{"beside an RSA lineage of the same names", func(s *situation, c *certs) {
		rsa := c.rsa
		s.hold(rsa, true)
		s.snapshot.Charon.Keys = append(s.snapshot.Charon.Keys, parseKey(s.t, c.rsaSigner).ID())
	}, rotation.NotServed},
	{"two versions before had one key", func(s *situation, c *certs) {
		s.hold(s.issue(c.oldSigner, nil), true)
	}, rotation.NotServed},

	{"through x509 alone", func(s *situation, _ *certs) { s.inX509() }, rotation.NotServed},
	{"two connections, one leaves the choice to charon", func(s *situation, _ *certs) {
		s.unnamed(vpn, "", "www.example")
	}, rotation.NotServed},

	{"charon starts the tunnel, which is down", func(s *situation, _ *certs) { s.starts(false) }, rotation.NotServed},
	{"charon starts the tunnel, which is up", func(s *situation, _ *certs) { s.starts(true) }, rotation.NotServed},
	{"the tunnel is up, and the connection is new in swanctl.conf", func(s *situation, _ *certs) {
		s.starts(true)
		s.snapshot.Charon.Connections = nil
	}, rotation.NotServed},
	{"the tunnel is up, no identity, the same subject", func(s *situation, _ *certs) {
		s.starts(true)
		s.snapshot.Sections[0].Identity = ""
	}, rotation.NotServed},
	{"the tunnel is up, and charon keeps the old key", func(s *situation, _ *certs) {
		s.starts(true)
		s.snapshot.Charon.Keys = nil
	}, rotation.NotServed},
	{"the tunnel is up, charon keeps the old key, which ends soon", func(s *situation, c *certs) {
		s.starts(true)
		s.snapshot.Charon.Keys = nil
		s.old = s.issue(c.oldSigner, func(cert *x509.Certificate) { cert.NotAfter = s.now.Add(47 * time.Hour) })
		s.snapshot.Charon.Certificates[0].Certificate = s.old
	}, rotation.NotServed},
	{"one tunnel is up and needs the old key, another connection moves", func(s *situation, c *certs) {
		s.starts(true)
		s.snapshot.Sections[0].Identity = ""
		s.old = s.issue(c.oldSigner, func(cert *x509.Certificate) { cert.Subject.Organization = []string{"before"} })
		s.snapshot.Charon.Certificates[0].Certificate = s.old
		s.label(s.old.NotAfter.UTC().Format(time.RFC3339), "ITS END")
		s.snapshot.Sections = append(s.snapshot.Sections, rotation.Section{Connection: "second", Identity: vpn,
			Certs: []*rotation.File{s.certFile()}})
	}, rotation.NotServed},
}

func TestDecide(t *testing.T) {
	c := newCerts(t)
	var plans strings.Builder
	seen := map[rotation.Action]bool{}
	kinds := map[rotation.Kind]bool{}
	for _, test := range situations {
		t.Run(test.name, func(t *testing.T) {
			s := newSituation(t, c)
			test.change(s, c)
			plan := s.decide()
			if plan.Reason.Kind != test.want {
				t.Errorf("the reason is of kind %d, want %d: %v", plan.Reason.Kind, test.want, plan.Reason)
			}
			s.checkInvariants(plan)
			fmt.Fprintf(&plans, "# %s\n%s\n", test.name, s.text(plan))
			kinds[plan.Reason.Kind] = true
			for _, step := range plan.Steps {
				seen[step.Action] = true
			}
		})
	}
	const golden = "testdata/plans.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(plans.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got := plans.String(); got != string(want) {
		t.Errorf("the plans differ from %s (go test ./internal/rotation -update):\n%s",
			golden, firstDifference(got, string(want)))
	}
	for _, action := range []rotation.Action{
		rotation.LoadKey, rotation.Write, rotation.LoadIssuer, rotation.LoadAuthority, rotation.LoadConnection,
		rotation.Keep, rotation.LoadCertificate, rotation.FlushCache, rotation.Prove, rotation.UnloadKey,
		rotation.UnloadIssuer, rotation.Remove, rotation.ProveChoice,
	} {
		if !seen[action] {
			t.Errorf("no plan has the step %s", action)
		}
	}
	for _, kind := range []rotation.Kind{
		rotation.Current, rotation.Unused, rotation.Copied, rotation.IPsec, rotation.Stopped, rotation.Invalid,
		rotation.CopyServed, rotation.NotNamed, rotation.NotServed, rotation.IssuerMissing, rotation.IssuersStale,
		rotation.KeyHeld, rotation.OtherShown, rotation.OtherSent,
	} {
		if !kinds[kind] {
			t.Errorf("no plan has a reason of kind %d", kind)
		}
	}
}

// TestEveryPairOfSituations has the invariants of plans on hosts on which two things are
// out of the ordinary.
func TestEveryPairOfSituations(t *testing.T) {
	c := newCerts(t)
	for i, first := range situations {
		for _, second := range situations[i:] {
			s := newSituation(t, c)
			ok := func() (ok bool) {
				// A change may need what the other has taken away.
				defer func() { ok = recover() == nil }()
				first.change(s, c)
				second.change(s, c)
				return true
			}()
			if !ok {
				continue
			}
			s.checkInvariants(s.decide())
			if t.Failed() {
				t.Fatalf("%s, and %s:\n%s", first.name, second.name, s.text(s.decide()))
			}
		}
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("line %d\ngot  %s\nwant %s", i+1, g[i], w[i])
		}
	}
	return fmt.Sprintf("got %d lines, want %d", len(g), len(w))
}
