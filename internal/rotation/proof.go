package rotation

import (
	"fmt"
	"path"
	"slices"

	"tunnelcast/internal/lineage"
)

// Evidence is what charon holds after the steps before Prove.
type Evidence struct {
	Certificates Credentials
	Connections  []string
	Files        map[string]*File // those that connections name, read again, by their paths
	Refused      []string         // connections that charon did not accept
}

// Verify returns why the next client might not be shown the new certificate.
//
// list-conns names certificates by their subjects, which do not change. But if a
// connection names the certificate file, only load-conn can have loaded the leaf;
// finding it proves that the connection uses it.
func (p *Plan) Verify(e Evidence) Finding {
	pair := p.Lineage.Pair
	fail := func(format string, args ...any) Finding {
		return find(NotProven, "%s; it holds %s", fmt.Sprintf(format, args...), e.Certificates.describe(pair.Leaf))
	}
	held, key := e.Certificates.holds(pair.Leaf)
	switch {
	case !held:
		return fail("charon did not get %s: certs in swanctl.conf names another path", lineage.Describe(pair.Leaf))
	case !key:
		return fail("charon has lost the key of %s: something ran `swanctl --load-creds`, "+
			"which did not find it in %s, or AppArmor keeps swanctl from reading it",
			lineage.Describe(pair.Leaf), path.Join(p.snapshot.Dir, "private"))
	}
	for _, issuer := range p.issuers {
		if held, _ := e.Certificates.holds(issuer.cert); !held {
			return fail("charon did not get the issuer %s", lineage.Describe(issuer.cert))
		}
	}
	for _, section := range p.use.named {
		if slices.Contains(e.Refused, section.Connection) {
			continue
		}
		if !slices.Contains(e.Connections, section.Connection) {
			return fail("charon did not load the connection %s", section.Connection)
		}
		// The file may have changed since it was checked.
		file := e.Files[section.file.Path]
		if file == nil {
			file = section.file
		}
		if err := presents(file, pair); err != nil {
			return fail("connection %s: %v", section.Connection, err)
		}
	}
	if f := p.otherShown(e.Certificates, p.oldIDs()...); f.Kind != Current {
		return fail("%v", f)
	}
	return Finding{}
}

// VerifyChoice returns a finding if charon, without the old keys, chooses the wrong certificate
// for a connection that names none, or the wrong chain. A login that began before may have put
// the old certificate into charon's cache again, so the caller should flush it and ask again.
func (p *Plan) VerifyChoice(held Credentials) Finding {
	if f := p.otherShown(held); f.Kind != Current {
		return find(NotProven, "%w", f)
	}
	return p.otherSent(held)
}
