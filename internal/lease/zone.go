package lease

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"
)

// RR is a resource record of one of the types that matter here. It is comparable.
type RR struct {
	Owner  string     // fully qualified, lower case, ends in a dot
	Type   string     // "A", "AAAA", "PTR", "CNAME", ...
	Addr   netip.Addr // of A and AAAA
	Target string     // of PTR; fully qualified, lower case
}

// Address returns the A or AAAA of an address.
func Address(owner string, addr netip.Addr) RR {
	if addr.Is4() {
		return RR{Owner: owner, Type: "A", Addr: addr}
	}
	return RR{Owner: owner, Type: "AAAA", Addr: addr}
}

// Owner is what exists at a name.
type Owner struct {
	Name  string
	InUse bool // some RR exists, perhaps of a type that is not in Holds
	Holds []RR
	Apex  bool // the zone's own name, which has NS records and is no delegation
}

// Change lists the records to add to and remove from one zone. It may be applied
// only while each of Seen still has exactly the addresses and pointers that are
// listed there, and no CNAME, DNAME or delegation.
type Change struct {
	Zone        string
	Seen        []Owner // every owner name of Add and Renew
	Add, Remove []RR
	Renew       []RR // exist with another TTL, and get the new one
}

// Empty reports whether there is nothing to do.
func (c Change) Empty() bool { return len(c.Add) == 0 && len(c.Remove) == 0 && len(c.Renew) == 0 }

// Done returns the zones as they are after the changes.
func Done(zones map[string][]RR, changes []Change) map[string][]RR {
	after := map[string][]RR{}
	for zone, rrs := range zones {
		after[zone] = rrs
	}
	for _, change := range changes {
		gone := map[RR]bool{}
		for _, rr := range change.Remove {
			gone[rr] = true
		}
		var rrs []RR
		for _, rr := range after[change.Zone] {
			if !gone[rr] {
				rrs = append(rrs, rr)
			}
		}
		after[change.Zone] = append(rrs, change.Add...)
	}
	return after
}

// FQDN returns the name of a zone in a setting in the form used here.
func FQDN(name string) string { return lower(strings.TrimSuffix(name, ".")) + "." }

// CheckZone returns an error unless a setting is the name of a zone: labels of
// letters, digits, hyphens and underscores, and slashes for RFC 2317.
func CheckZone(name string) error {
	name = strings.TrimSuffix(FQDN(name), ".")
	if len(name) > 253 {
		return fmt.Errorf("zone %q is longer than 253 octets", name)
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_/") != "" {
			return fmt.Errorf("%q is not the name of a zone", name)
		}
	}
	return nil
}

func compareRR(a, b RR) int {
	if c := strings.Compare(a.Owner, b.Owner); c != 0 {
		return c
	}
	return cmp.Or(strings.Compare(a.Type, b.Type), a.Addr.Compare(b.Addr), strings.Compare(a.Target, b.Target))
}
