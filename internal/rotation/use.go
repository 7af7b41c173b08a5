package rotation

import (
	"fmt"
	"path"
	"slices"

	"tunnelcast/internal/lineage"
)

// use is how swanctl's configuration uses one lineage.
type use struct {
	named       []namedSection // name a file of the lineage
	unnamed     []Section      // name no certificate, so charon picks one by identity
	inX509      bool           // a file in x509 is the lineage's, so charon may pick it
	authorities []string       // name a file of the lineage
}

// namedSection is a section with the one of its files that is the lineage's.
type namedSection struct {
	Section
	file *File
}

func (s *Snapshot) use(l *Lineage) use {
	u := use{inX509: slices.ContainsFunc(s.X509, l.has)}
	for _, section := range s.Sections {
		for _, file := range section.Certs {
			if l.has(file) {
				u.named = append(u.named, namedSection{section, file})
			}
		}
		if len(section.Certs) == 0 && !section.NotInFiles {
			u.unnamed = append(u.unnamed, section)
		}
	}
	for _, a := range s.Authorities {
		if l.has(a.File) {
			u.authorities = append(u.authorities, a.Name)
		}
	}
	return u
}

func (u use) any() bool { return len(u.named) > 0 || u.inX509 }

// connections returns the names of the connections that name the lineage.
func (u use) connections() []string {
	var names []string
	for _, section := range u.named {
		if !slices.Contains(names, section.Connection) {
			names = append(names, section.Connection)
		}
	}
	return names
}

// of returns the sections of one connection that name the lineage.
func (u use) of(connection string) []namedSection {
	return slices.DeleteFunc(slices.Clone(u.named), func(s namedSection) bool { return s.Connection != connection })
}

// unused returns why no connection uses a lineage: it is not charon's, charon uses it in another
// way, or the configuration is wrong.
func (s *Snapshot) unused(l *Lineage) Finding {
	private := path.Join(s.Dir, "private")
	// Before what charon holds: from ipsec.conf it has the certificate with its key, too.
	if slices.ContainsFunc(s.IPsec, l.has) {
		return find(IPsec, "not served from swanctl.conf but from %s, which strongswan-starter reads: "+
			"after a renewal run `ipsec rereadall` and `ipsec reload`, or move the connection to swanctl.conf "+
			"(charon-systemd)", s.IPsecConf)
	}
	if s.Charon != nil {
		held := s.Charon.Certificates
		if l.Leaf != nil {
			if _, key := held.holds(l.Leaf); key {
				return find(Copied, "charon serves a copy of the renewed certificate already: "+
					"an old hook may have made it, and must go on doing so (certs = %s and a link to privkey.pem "+
					"in %s need no copy)", l.LeafFile, private)
			}
		}
		if slices.ContainsFunc(held, func(c Credential) bool { return c.HasKey && l.isVersion(c.Certificate) }) {
			return find(CopyServed, "charon serves a copy of its certificate: name %s in certs of "+
				"swanctl.conf and link privkey.pem into %s", l.LeafFile, private)
		}
	}
	if l.Required {
		return find(NotNamed, "no connection in %s names a file of it", path.Join(s.Dir, "swanctl.conf"))
	}
	return find(Unused, "charon does not use this lineage")
}

// presents returns an error if a file that a connection names does not begin with the leaf.
// charon reads only the first certificate in a file.
func presents(file *File, l *lineage.Lineage) error {
	switch {
	case file.ReadError != nil:
		return file.ReadError
	case file.Malformed != nil:
		return fmt.Errorf("%s: %w", file.Path, file.Malformed)
	case !file.First.Equal(l.Leaf):
		return fmt.Errorf("%s does not begin with the certificate of cert.pem (certs in swanctl.conf should name "+
			"live/NAME/cert.pem)", file.Path)
	}
	return nil
}
