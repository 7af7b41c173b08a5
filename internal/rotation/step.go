package rotation

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"tunnelcast/internal/lineage"
)

// Action is what a step does.
type Action string

// The actions, in the order in which a plan has them.
const (
	LoadKey         Action = "load-key"       // the new key
	Write           Action = "write"          // an issuer's file
	LoadIssuer      Action = "load-issuer"    // as an authority named Name
	LoadAuthority   Action = "load-authority" // of swanctl.conf
	LoadConnection  Action = "load-conn"      // of swanctl.conf, which brings the leaf
	Keep            Action = "keep"           // a connection as it is
	LoadCertificate Action = "load-cert"      // the leaf, where no connection brings it
	FlushCache      Action = "flush-certs"    // of verified certificates
	Prove           Action = "prove"          // Plan.Verify
	UnloadKey       Action = "unload-key"     // of an earlier certificate
	UnloadIssuer    Action = "unload-issuer"  // of an earlier chain
	Remove          Action = "remove"         // the file of an issuer of an earlier chain
	ProveChoice     Action = "prove-choice"   // Plan.VerifyChoice
)

// Step is one step of a plan.
type Step struct {
	Action Action
	Name   string            // of a connection, an authority, an issuer or a file; the id of a key
	Cert   *x509.Certificate // of an issuer, the leaf or the earlier certificate of a key
	Text   []byte            // of a file
	Why    string            // the reason, where it does not follow from that of the plan

	New      bool // charon does not hold it before; a rollback unloads it again
	Restarts bool // closes and restarts the connection's tunnel
	WhenDown bool // would close a tunnel, and is planned because there was none
	AllMoved bool // only if charon accepted every connection
}

// String returns the step as a line without its end.
func (s Step) String() string {
	var what []string
	if s.Name != "" {
		what = append(what, s.Name)
	}
	if s.Cert != nil {
		what = append(what, lineage.Describe(s.Cert))
	}
	text := fmt.Sprintf("%-14s %s", s.Action, strings.Join(what, ": "))
	if s.Why != "" {
		text += ", " + s.Why
	}
	return strings.TrimRight(text, " ")
}

// addSteps fills in the steps of a plan for a charon that runs.
func (p *Plan) addSteps() {
	pair, charon := p.Lineage.Pair, p.snapshot.Charon
	p.add(Step{Action: LoadKey, Name: pair.Key.String(), New: !slices.Contains(charon.Keys, pair.Key.ID())})
	p.Steps = append(p.Steps, p.writeIssuers()...)
	for _, i := range p.issuers {
		isNew := !slices.Contains(charon.Authorities, i.name)
		p.add(Step{Action: LoadIssuer, Name: i.name, Cert: i.cert, New: isNew})
	}
	for _, name := range p.use.authorities {
		p.add(Step{Action: LoadAuthority, Name: name})
	}
	if p.addConnections(); !p.moves { // all of them are left
		return
	}
	p.add(Step{Action: FlushCache})
	p.add(Step{Action: Prove, Cert: pair.Leaf, Why: "with its key and issuers"})
	if len(p.Left) == 0 {
		for _, old := range p.old {
			p.add(Step{Action: UnloadKey, Name: old.id, Cert: old.cert})
		}
		p.addOldIssuers()
	}
	p.Steps = append(p.Steps, p.removeStale()...)
	p.add(Step{Action: ProveChoice})
}

func (p *Plan) add(s Step) { p.Steps = append(p.Steps, s) }

func (p *Plan) writeIssuers() []Step {
	var steps []Step
	for _, i := range p.issuers {
		if !p.onDisk(i) {
			steps = append(steps, Step{Action: Write, Name: i.file, Cert: i.cert, Text: i.text})
		}
	}
	return steps
}

func (p *Plan) removeStale() []Step {
	var steps []Step
	for _, file := range p.stale {
		steps = append(steps, Step{Action: Remove, Name: file.Path})
	}
	return steps
}

// restartWithin is how long before the end of the certificate that charon presents a
// tunnel is closed for the new one, where it cannot be had otherwise.
const restartWithin = 48 * time.Hour

// addConnections adds the steps that bring the leaf. A lineage that is used through x509
// alone is in no connection.
//
// charon closes the tunnels of a connection that it starts itself when its certificate
// changes. Such a connection is kept as it is if charon will find the leaf by identity
// when the old key is gone.
func (p *Plan) addConnections() {
	charon, leaf := p.snapshot.Charon, p.Lineage.Pair.Leaf
	byIdentity := p.use.inX509
	for _, name := range p.use.connections() {
		sections := p.use.of(name)
		step := Step{Action: LoadConnection, Name: name}
		if sections[0].Starts && slices.Contains(charon.Connections, name) {
			end, found := p.findsLeaf(sections)
			switch up := charon.Up[name]; {
			case up && found:
				p.add(Step{Action: Keep, Name: name, Why: "because charon finds the certificate without it, " +
					"and would close its tunnel otherwise"})
				byIdentity = true
				for _, section := range sections {
					if section.Identity != "" {
						p.chosen = append(p.chosen, section.Section)
					}
				}
				continue
			case up && end.Sub(p.now) > restartWithin:
				left := find(Stays, "connection %s goes on with its earlier certificate, until %s, because charon "+
					"keeps that one's key and would close the tunnel with the certificate's change "+
					"(start_action = start): `swanctl --load-conns` closes it and starts it again",
					name, end.UTC().Format(time.RFC3339))
				p.Left = append(p.Left, left)
				p.add(Step{Action: Keep, Name: name, Why: "with its earlier certificate until " +
					end.UTC().Format(time.RFC3339)})
				continue
			case up:
				step.Restarts = true
				step.Why = "which closes its tunnel and starts it again, because its certificate ends soon"
			default:
				step.WhenDown = true
			}
		}
		p.moves = true
		p.add(step)
	}
	if byIdentity {
		p.moves = true
		p.add(Step{Action: LoadCertificate, Cert: leaf})
	}
}

// findsLeaf reports whether charon will find the leaf by itself for a connection that
// has the version before; otherwise, when that one ends. Without a local id charon looks
// for the subject.
func (p *Plan) findsLeaf(sections []namedSection) (end time.Time, found bool) {
	leaf, held := p.Lineage.Pair.Leaf, p.snapshot.Charon.Certificates
	earlier := held.earlier(p.Lineage, leaf)
	_, served := held.holds(leaf) // then the connection has it too
	found = served || !p.kept
	var newest time.Time
	for _, cert := range earlier {
		if cert.NotBefore.After(newest) {
			newest, end = cert.NotBefore, cert.NotAfter
		}
	}
	for _, section := range sections {
		if section.Identity == "" {
			found = found && len(leaf.Subject.Names) > 0 &&
				!slices.ContainsFunc(earlier, func(cert *x509.Certificate) bool {
					return !bytes.Equal(cert.RawSubject, leaf.RawSubject)
				})
			continue
		}
		// A certificate of somebody else may come first when the old keys are gone.
		shown := held.shows(section.Identity, p.oldIDs()...)
		found = found && (shown == nil || shown.Equal(leaf) || sameNames(shown, leaf))
	}
	return end, found
}

// addOldIssuers adds the issuers of earlier chains that charon is to forget.
func (p *Plan) addOldIssuers() {
	for _, name := range p.snapshot.Charon.Authorities {
		digits, ours := strings.CutPrefix(name, p.Lineage.prefix())
		wanted := slices.ContainsFunc(p.issuers, func(i issuer) bool { return i.name == name })
		// The prefix of vpn is one of vpn-2 too.
		if ours && !wanted && len(digits) == fingerprintDigits && !strings.Contains(digits, "-") {
			p.add(Step{Action: UnloadIssuer, Name: name, AllMoved: true})
		}
	}
}

// String returns the plan with its reason, one step to a line.
func (p *Plan) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "because %v\n", p.Reason)
	for _, step := range p.Steps {
		fmt.Fprintln(&text, step)
	}
	return text.String()
}
