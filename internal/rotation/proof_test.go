package rotation_test

import (
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"

	"tunnelcast/internal/lineage"
	"tunnelcast/internal/rotation"
)

// evidence is what charon holds after the steps before the proof, all of which it took.
func (s *situation) evidence() rotation.Evidence {
	return rotation.Evidence{
		Certificates: append(slices.Clone(s.snapshot.Charon.Certificates),
			rotation.Credential{Certificate: s.renewed, HasKey: true}),
		Connections: []string{"rw"},
		Files:       map[string]*rotation.File{live + "/cert.pem": s.certFile()},
	}
}

func TestVerify(t *testing.T) {
	c := newCerts(t)
	for name, test := range map[string]struct {
		host   func(s *situation)
		change func(s *situation, e *rotation.Evidence)
		want   string // in the finding; "" if charon has given proof
	}{
		"all is well": {},
		"charon did not get the certificate": {
			change: func(s *situation, e *rotation.Evidence) { e.Certificates = s.snapshot.Charon.Certificates },
			want: "charon did not get the renewed certificate: certs in swanctl.conf names another path; " +
				"it holds the old certificate with key",
		},
		"charon holds nothing": {
			change: func(_ *situation, e *rotation.Evidence) { e.Certificates = nil },
			want:   "; it holds no certificate of these names",
		},
		"charon lost the key": {
			change: func(_ *situation, e *rotation.Evidence) { e.Certificates[len(e.Certificates)-1].HasKey = false },
			want:   "charon has lost the key of the renewed certificate: something ran `swanctl --load-creds`",
		},
		"charon did not get an issuer": {
			change: func(_ *situation, e *rotation.Evidence) { e.Certificates = slices.Delete(e.Certificates, 1, 2) },
			want:   "charon did not get the issuer issuer 1; it holds",
		},
		"charon did not load the connection": {
			change: func(_ *situation, e *rotation.Evidence) { e.Connections = []string{"other"} },
			want:   "charon did not load the connection rw",
		},
		"the connection was refused, and that is known": {
			change: func(_ *situation, e *rotation.Evidence) { e.Connections, e.Refused = nil, []string{"rw"} },
		},
		"the file has changed since": {
			change: func(s *situation, e *rotation.Evidence) {
				e.Files[live+"/cert.pem"] = s.file(live+"/cert.pem", s.old)
			},
			want: "connection rw: /le/live/vpn/cert.pem does not begin with the certificate of cert.pem",
		},
		"the file has gone since": {
			change: func(_ *situation, e *rotation.Evidence) {
				e.Files[live+"/cert.pem"] = &rotation.File{ReadError: errors.New("no such file")}
			},
			want: "connection rw: no such file",
		},
		"charon picks another certificate": {
			host: func(s *situation) { s.unnamed(vpn) },
			change: func(s *situation, e *rotation.Evidence) {
				other := s.issue(c.otherSigner, nil)
				s.label(lineage.Describe(other), "another")
				e.Certificates = slices.Insert(e.Certificates, 0, rotation.Credential{Certificate: other, HasKey: true})
			},
			want: "charon presents another for connection any1",
		},
		"the old certificate comes first, and its key goes": {host: func(s *situation) { s.unnamed(vpn) }},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSituation(t, c)
			if test.host != nil {
				test.host(s)
			}
			plan, e := s.decide(), s.evidence()
			if test.change != nil {
				test.change(s, &e)
			}
			s.wantFinding(plan.Verify(e), rotation.NotProven, test.want)
		})
	}
}

// wantFinding fails the test unless a finding has the kind and the text; without a text,
// there must be none.
func (s *situation) wantFinding(got rotation.Finding, kind rotation.Kind, text string) {
	s.t.Helper()
	if text == "" {
		if got.Kind != rotation.Current {
			s.t.Errorf("got %v", got)
		}
		return
	}
	line := strings.NewReplacer(s.labels...).Replace(got.Error())
	if got.Kind != kind || !strings.Contains(line, text) {
		s.t.Errorf("got  kind %d: %s\nwant kind %d: %s", got.Kind, line, kind, text)
	}
	if !errors.Is(got, rotation.Finding{Kind: kind}) {
		s.t.Error("errors.Is does not find the kind")
	}
}

func TestVerifyChoice(t *testing.T) {
	c := newCerts(t)
	s := newSituation(t, c)
	s.unnamed(vpn)
	plan, held := s.decide(), s.evidence().Certificates
	s.wantFinding(plan.VerifyChoice(held), rotation.NotProven,
		"charon presents the old certificate for connection any1")
	held[0].HasKey = false
	s.wantFinding(plan.VerifyChoice(held), rotation.Current, "")
	s.wantFinding(plan.VerifyChoice(held[:1]), rotation.NotProven, "no certificate with a key for connection any1")

	gone := c.gone.Chain()[1]
	held = slices.Insert(held, 0, rotation.Credential{Certificate: gone})
	s.wantFinding(plan.VerifyChoice(held), rotation.OtherSent, "CA 1 signed by Gone 0 in place of that by CA 0")
}

func TestSurvives(t *testing.T) {
	c := newCerts(t)
	for name, test := range map[string]struct {
		change func(s *situation)
		kind   rotation.Kind
		want   string
	}{
		"all is well": {func(*situation) {}, rotation.Current, ""},
		"no file has the key": {
			func(s *situation) { s.snapshot.Keys = nil },
			rotation.KeyNotKept,
			"the next reload of strongswan.service loses the key: no file in /etc/swanctl/private holds it " +
				"(`ln -s /le/live/vpn/privkey.pem /etc/swanctl/private/vpn.pem`)",
		},
		"the key is in the wrong directory": {
			func(s *situation) {
				s.snapshot.Keys[0].Path, s.snapshot.Keys[0].Loaded = "/etc/swanctl/rsa/vpn.pem", false
			},
			rotation.KeyNotKept,
			"from rsa swanctl loads RSA keys only, which this ECDSA P-256 key NEWKEY is not " +
				"(`mv /etc/swanctl/rsa/vpn.pem /etc/swanctl/private/`)",
		},
		"AppArmor denies the key": {
			func(s *situation) {
				s.snapshot.Keys[0].Access = rotation.Access{
					Denied: "/le/archive/vpn/privkey2.pem", Rule: "/le/archive/*/privkey*.pem r,",
				}
			},
			rotation.KeyDenied,
			"it does not let swanctl read /le/archive/vpn/privkey2.pem: " +
				"it lacks the line `/le/archive/*/privkey*.pem r,`",
		},
		"AppArmor denies the certificate": {
			func(s *situation) {
				s.snapshot.Sections[0].Certs[0].Access = rotation.Access{Denied: "/le/archive/vpn/cert2.pem"}
			},
			rotation.KeyDenied, "it does not let swanctl read /le/archive/vpn/cert2.pem",
		},
		"AppArmor cannot be asked": {
			func(s *situation) { s.snapshot.Keys[0].Access = rotation.Access{Err: errors.New("read-only")} },
			rotation.Current, "",
		},
		"another certificate of an issuer": {
			func(s *situation) {
				gone := c.gone.Chain()[1]
				s.snapshot.X509CA = append(s.snapshot.X509CA, s.file("/etc/swanctl/x509ca/old.pem", gone))
			},
			rotation.RivalIssuer,
			"may send another certificate of CA 1, signed by Gone 0: it is in /etc/swanctl/x509ca/old.pem",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSituation(t, c)
			test.change(s)
			var got rotation.Finding
			if lost := s.decide().Survives(); len(lost) > 0 {
				got = lost[0]
			}
			s.wantFinding(got, test.kind, test.want)
		})
	}
}

func TestBroken(t *testing.T) {
	s := newSituation(t, newCerts(t))
	gone := &rotation.File{Path: "/le/live/gone/cert.pem", Hops: []string{"/le/live/gone/cert.pem"},
		ReadError: errors.New("open /le/live/gone/cert.pem: no such file")}
	old := rotation.Section{Connection: "old", Certs: []*rotation.File{gone}}
	s.snapshot.Sections = append(s.snapshot.Sections, old)
	s.snapshot.Sections[0].Certs[0].ReadError = errors.New("its own")
	broken := s.snapshot.Broken(s.lineage)
	if len(broken) != 1 {
		t.Fatalf("got %v, want the connection old alone", broken)
	}
	s.wantFinding(broken[0], rotation.OtherBroken,
		"the next reload of strongswan.service (`swanctl --load-all`) "+
			"fails at connection old: certs: open /le/live/gone/cert.pem: no such file")
	if all := s.snapshot.Broken(nil); len(all) != 2 {
		t.Errorf("without an exception: got %v, want two", all)
	}
}

func TestServed(t *testing.T) {
	c := newCerts(t)
	old := func(s *situation) *x509.Certificate { return s.old }
	renewed := func(s *situation) *x509.Certificate { return s.renewed }
	none := func(*situation) *x509.Certificate { return nil }
	for name, test := range map[string]struct {
		change func(s *situation)
		want   func(s *situation) *x509.Certificate // nil: none
		agree  bool
	}{
		"renewed":   {func(*situation) {}, old, false},
		"switched":  {(*situation).switched, renewed, true},
		"none held": {func(s *situation) { s.snapshot.Charon.Certificates = nil }, none, false},
		"by identity, the old one": {
			func(s *situation) { s.inX509(); s.unnamed(vpn) }, old, false,
		},
		"by identity, the new one": {
			func(s *situation) { s.switched(); s.inX509(); s.unnamed(vpn) }, renewed, true,
		},
		"by identity, another lineage's": {
			func(s *situation) {
				s.switched()
				s.inX509()
				s.unnamed(vpn)
				rsa := c.rsa
				s.snapshot.X509 = append(s.snapshot.X509, s.file("/etc/swanctl/x509/rsa.pem", rsa))
				s.snapshot.Charon.Certificates = slices.Insert(s.snapshot.Charon.Certificates, 0,
					rotation.Credential{Certificate: rsa, HasKey: true})
			},
			func(s *situation) *x509.Certificate { return s.snapshot.X509[1].First }, true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSituation(t, c)
			test.change(s)
			var want []*x509.Certificate
			if cert := test.want(s); cert != nil {
				want = append(want, cert)
			}
			shown, agree := s.decide().Served()
			if !slices.EqualFunc(shown, want, (*x509.Certificate).Equal) || agree != test.agree {
				t.Errorf("got %d certificates, agree %v; want agree %v", len(shown), agree, test.agree)
			}
		})
	}
}

func TestNotLoaded(t *testing.T) {
	s := newSituation(t, newCerts(t))
	if got := s.decide().NotLoaded(); got != "" {
		t.Errorf("got %q, want none", got)
	}
	s.snapshot.Charon.Connections = nil
	if got := s.decide().NotLoaded(); got != "rw" {
		t.Errorf("got %q, want rw", got)
	}
}

func TestIssuerOf(t *testing.T) {
	for file, want := range map[string]string{
		"tunnelcast-vpn-1.pem":               "vpn",
		"tunnelcast-vpn-2-1.pem":             "vpn-2",
		"tunnelcast-vpn.example-0001-12.pem": "vpn.example-0001",
		"tunnelcast-vpn.pem":                 "",
		"tunnelcast-vpn-x.pem":               "",
		"tunnelcast-vpn-.pem":                "",
		"tunnelcast--1.pem":                  "",
		"tunnelcast-1.pem":                   "",
		"tunnelcast-vpn-1.pem~":              "",
		"vpn-1.pem":                          "",
		"":                                   "",
	} {
		if got := rotation.IssuerOf(file); got != want {
			t.Errorf("%s: got %q, want %q", file, got, want)
		}
	}
}

// BenchmarkDecide decides about one of a hundred lineages, each with a connection, an
// issuer's file and a certificate in charon, and twelve archived versions.
func BenchmarkDecide(b *testing.B) {
	s := newSituation(b, newCerts(b))
	for range 99 {
		section := s.snapshot.Sections[0]
		section.Certs = []*rotation.File{s.file("/le/live/other/cert.pem", s.old)}
		s.snapshot.Sections = append(s.snapshot.Sections, section)
		s.snapshot.X509CA = append(s.snapshot.X509CA, s.file("/etc/swanctl/x509ca/tunnelcast-other-1.pem", s.old))
		s.hold(s.old, true)
	}
	for range 12 {
		s.lineage.Archived = append(s.lineage.Archived, s.old)
	}
	b.ReportAllocs()
	for b.Loop() {
		if s.decide().Reason.Kind != rotation.NotServed {
			b.Fatal("another reason")
		}
	}
}
