package lease

import (
	"fmt"
	"net/netip"
	"strings"
)

// maxIdentity is the length at which charon cuts an identity (BUF_LEN in
// src/libstrongswan/utils/identification.c). An identity of that length may be the
// beginning of a longer one.
const maxIdentity = 511

// label returns the DNS label of an identity: the one that Names has for it,
// otherwise the identity, or a DN's CN, in lower case and without the realm after
// "@", the domain before "\" and the zone's own name at the end. The rest must be
// one label of RFC 1123 section 2.1: 1 to 63 letters, digits and hyphens, with no
// hyphen at either end. Anything else is an error, because a name that was changed
// until it fits could be someone else's. With Mend, each run of other characters
// first becomes one hyphen.
func (r Rules) label(identity string) (string, error) {
	if len(identity) >= maxIdentity {
		return "", fmt.Errorf("identity of %d bytes: charon may have cut it", len(identity))
	}
	if label, ok := r.Names.labels[IdentityKey(identity)]; ok {
		return label, nil
	}
	// charon prints "?" for an unprintable byte (chunk_printable in
	// src/libstrongswan/utils/chunk.c), so two identities may look like this one. A
	// distinguished name was issued by a CA, and its O may have an umlaut.
	if strings.Contains(identity, "?") && !strings.Contains(identity, "=") {
		return "", fmt.Errorf("identity %q: some of it cannot be printed (%s)", identity, namesHint)
	}
	if _, err := netip.ParseAddr(identity); err == nil {
		return "", fmt.Errorf("identity %q: an IP address, not a user name "+
			"(`eap_id = %%any` in the connection's remote section)", identity)
	}
	name := identity
	if strings.Contains(name, "=") {
		cn, err := commonName(name)
		if err != nil {
			return "", fmt.Errorf("identity %q: %w (%s)", identity, err, namesHint)
		}
		name = cn
	}
	// Only the outermost "@" and "\" are removed: a user name has no second one.
	if i := strings.LastIndexByte(name, '@'); i >= 0 {
		name = name[:i]
	}
	if i := strings.IndexByte(name, '\\'); i >= 0 {
		name = name[i+1:]
	}
	label := lower(name)
	if inZone, ok := strings.CutSuffix(strings.TrimSuffix(label, "."), "."+strings.TrimSuffix(r.Zone, ".")); ok {
		label = inZone
	}
	hint := namesHint
	if r.Mend && !strings.Contains(label, "?") {
		label = mended(label)
	} else if !r.Mend {
		hint += ", mend = true"
	}
	if !isLabel(label) {
		return "", fmt.Errorf("identity %q: %q is not one DNS label (%s)", identity, label, hint)
	}
	if owner, ok := r.Names.owners[label]; ok {
		return "", fmt.Errorf("identity %q: the name %s is listed for %q ([names] in updown.toml)",
			identity, label, owner)
	}
	return label, nil
}

const namesHint = "[names] in updown.toml gives an identity its name"

// mended returns the lower-case name with one hyphen in place of each run of
// characters that a label cannot have. It keeps such a run at an end, too: without
// it "jos\u00e9" would become "jos", which may be someone else's name.
func mended(name string) string {
	var b strings.Builder
	inRun := false
	for _, c := range name {
		other := (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-'
		switch {
		case !other:
			b.WriteRune(c)
		case !inRun:
			b.WriteByte('-')
		}
		inRun = other
	}
	return b.String()
}

// commonName returns the only CN of a distinguished name in charon's notation,
// "C=CH, O=x, CN=alice". charon escapes nothing, so a value with a separator shows as
// a part without "=" or as a second CN, and is an error.
func commonName(dn string) (string, error) {
	var names []string
	for part := range strings.SplitSeq(dn, ", ") {
		key, value, ok := strings.Cut(part, "=")
		if !ok {
			return "", fmt.Errorf("%q is not a part of a distinguished name: "+
				"charon does not escape a comma inside a value", part)
		}
		if key == "" || value == "" {
			return "", fmt.Errorf("not a distinguished name")
		}
		if strings.EqualFold(key, "CN") {
			names = append(names, value)
		}
	}
	if len(names) != 1 {
		return "", fmt.Errorf("%d common names where one is needed", len(names))
	}
	return names[0], nil
}

// lower maps ASCII letters only: Unicode would map the Kelvin sign to "k".
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + ('a' - 'A')
		}
	}
	return string(b)
}

func isLabel(s string) bool {
	if len(s) < 1 || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}
