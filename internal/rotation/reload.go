package rotation

import (
	"fmt"
	"path"
	"strings"
)

// Remedy returns what to do about a file that AppArmor denies.
func (a Access) Remedy() string {
	const load = "`apparmor_parser -r /etc/apparmor.d/usr.sbin.swanctl`"
	if a.Denied != "" && a.Rule == "" {
		return "remove the deny rule, which no other rule outweighs, and run " + load
	}
	return "add the line to /etc/apparmor.d/local/usr.sbin.swanctl and run " + load
}

// Survives returns what would be lost by the next reload of charon's unit, which loads
// everything from files. The lineage must be valid.
func (p *Plan) Survives() []Finding {
	var lost []Finding
	key, unit := p.Lineage.Pair.Key, p.snapshot.Unit
	if p.snapshot.keyFile(key.ID()) == nil {
		private := path.Join(p.snapshot.Dir, "private")
		why := fmt.Sprintf("no file in %s holds it (`ln -s %s/privkey.pem %[1]s/%[3]s.pem`)",
			private, p.Lineage.Dir, path.Base(p.Lineage.Dir))
		for _, k := range p.snapshot.Keys {
			if k.Key.ID() == key.ID() {
				kind := path.Base(path.Dir(k.Path))
				why = fmt.Sprintf("%s holds it, and from %s swanctl loads %s keys only, which this %s is not "+
					"(`mv %[1]s %[5]s/`)", k.Path, kind, strings.ToUpper(kind), key, private)
			}
		}
		lost = append(lost, find(KeyNotKept,
			"charon serves it now, but the next reload of %s loses the key: %s", unit, why))
	}
	if access := p.Access(); access.Denied != "" {
		lost = append(lost, find(KeyDenied, "charon serves it now, but AppArmor's profile of swanctl is in the way "+
			"of the next reload of %s: %w (%s)", unit, access, access.Remedy()))
	}
	for _, rival := range p.rivals() {
		lost = append(lost, find(RivalIssuer, "charon sends its issuers now, but the next reload or restart of %s may "+
			"send another certificate of %s, signed by %s: it is in %s, left by something else (`rm %[4]s`)",
			unit, rival.First.Subject.CommonName, rival.First.Issuer.CommonName, rival.Path))
	}
	return lost
}

// Access returns the first file that leads to the lineage and that swanctl may not read,
// or of which that is not known. A copy of the key in private may be readable where the
// lineage's own is not.
func (p *Plan) Access() Access {
	var all []Access
	if p.Lineage.Pair != nil {
		if k := p.snapshot.keyFile(p.Lineage.Pair.Key.ID()); k != nil {
			all = append(all, k.Access)
		}
	}
	for _, section := range p.use.named {
		all = append(all, section.file.Access)
	}
	for _, a := range all {
		if a != (Access{}) {
			return a
		}
	}
	return Access{}
}

// Error implements error.
func (a Access) Error() string {
	if a.Err != nil {
		return a.Err.Error()
	}
	if a.Rule == "" {
		return fmt.Sprintf("it does not let swanctl read %s: a deny rule forbids that", a.Denied)
	}
	return fmt.Sprintf("it does not let swanctl read %s: it lacks the line `%s`", a.Denied, a.Rule)
}

// Unwrap returns why AppArmor gave no answer.
func (a Access) Unwrap() error { return a.Err }

// Broken returns the connections that name a file that cannot be read. The next reload of
// charon's unit fails at them, and its next start ends there. Files of the lineage except,
// which may be nil, do not count.
func (s *Snapshot) Broken(except *Lineage) []Finding {
	var all []Finding
	for _, section := range s.Sections {
		for _, file := range section.Certs {
			if file.ReadError == nil || except != nil && except.has(file) {
				continue
			}
			all = append(all, find(OtherBroken, "the next reload of %s (`swanctl --load-all`) fails at connection %s: "+
				"certs: %w (`certbot certificates` lists what there is)", s.Unit, section.Connection, file.ReadError))
		}
	}
	return all
}
