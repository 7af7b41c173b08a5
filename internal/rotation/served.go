package rotation

import (
	"crypto/x509"
	"slices"

	"tunnelcast/internal/lineage"
)

// Served returns the certificates that charon presents for the connections that use a
// lineage, and whether these are what is on disk. charon must run and the lineage have a
// leaf.
func (p *Plan) Served() (shown []*x509.Certificate, agree bool) {
	leaf, held := p.Lineage.Leaf, p.snapshot.Charon.Certificates
	elsewhere := p.snapshot.certificates()
	agree = true
	add := func(cert *x509.Certificate) {
		if cert == nil {
			agree = false
			return
		}
		// A valid one of another lineage for the same names is as good.
		other := slices.ContainsFunc(elsewhere, cert.Equal) && !p.Lineage.isVersion(cert) && p.now.Before(cert.NotAfter)
		agree = agree && (cert.Equal(leaf) || other)
		if !slices.ContainsFunc(shown, cert.Equal) {
			shown = append(shown, cert)
		}
	}
	_, key := held.holds(leaf)
	switch {
	case len(p.use.named) > 0 && key:
		add(leaf)
	case len(p.use.named) > 0:
		if earlier := held.earlier(p.Lineage, leaf); len(earlier) > 0 {
			add(earlier[0])
		} else { // the names may be what changed
			add(held.shows(p.use.named[0].Identity))
		}
	}
	if p.use.inX509 {
		for _, section := range p.use.unnamed {
			if lineage.Holds(leaf, section.Identity) == nil {
				add(held.shows(section.Identity))
			}
		}
	}
	if len(shown) == 0 && key {
		add(leaf)
	}
	return shown, agree && key
}

// NotLoaded returns a connection that uses the lineage and that charon does not have: it
// refused it, or swanctl.conf has changed since. It returns "" if there is none.
func (p *Plan) NotLoaded() string {
	for _, name := range p.use.connections() {
		if !slices.Contains(p.snapshot.Charon.Connections, name) {
			return name
		}
	}
	return ""
}
