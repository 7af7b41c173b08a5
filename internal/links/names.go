package links

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Record is what a name should have in one address family.
type Record struct {
	Name   string // fully qualified
	Target Target
	IPv6   bool         // AAAA, otherwise A
	Addrs  []netip.Addr // sorted; empty: the name is to have none
	Links  []string     // that are up, whose addresses these are
}

// Records returns what the names that follow links should have, a list for each name. A family in which no link has an
// address is left out, unless the name is to be removed.
func (s Sections) Records(host Host) ([][]Record, []Problem) {
	var all [][]Record
	var problems []Problem
	byName := map[string][]string{}
	var order []string
	for _, section := range s.Names() {
		if name := s[section].Name; name != "" {
			if byName[name] == nil {
				order = append(order, name)
			}
			byName[name] = append(byName[name], section)
		}
	}
	for _, name := range order {
		sections := byName[name]
		setting := s[sections[0]]
		up := false
		var records []Record
		var refused []Problem
		for _, ipv6 := range []bool{false, true} {
			record := Record{Name: name, Target: setting.Target, IPv6: ipv6}
			for _, section := range sections {
				link, err := s.Link(host, section)
				if err != nil || link == nil || !link.Up {
					continue
				}
				up = true
				addrs, why := publishable(*link, ipv6, setting.AllowPrivate)
				if why != "" {
					text := fmt.Sprintf("%s is not given to %s: set allow-private if it is wanted there",
						why, strings.TrimSuffix(name, "."))
					refused = append(refused, Problem{Section: section, Text: text, Waiting: true})
				}
				if len(addrs) > 0 {
					record.Addrs = append(record.Addrs, addrs...)
					record.Links = append(record.Links, link.Name)
				}
			}
			slices.SortFunc(record.Addrs, netip.Addr.Compare)
			record.Addrs = slices.Compact(record.Addrs)
			if len(record.Addrs) > 0 {
				records = append(records, record)
			}
		}
		if len(records) == 0 {
			for i := range refused {
				refused[i].Waiting = false
			}
		}
		problems = append(problems, refused...)
		if !up && setting.Remove {
			records = []Record{
				{Name: name, Target: setting.Target},
				{Name: name, Target: setting.Target, IPv6: true},
			}
		}
		if len(records) > 0 {
			all = append(all, records)
		}
	}
	return all, problems
}

// publishable returns the addresses of a link that a name may have, and, if there is none, why an address that
// exists may not be published.
func publishable(link Link, ipv6, allowPrivate bool) (addrs []netip.Addr, why string) {
	scopes := map[string][]netip.Addr{}
	for _, a := range link.Addresses {
		if a.Is6() != ipv6 || a.Tentative || a.Temporary {
			continue
		}
		scope := Scope(a.Addr)
		scopes[scope] = append(scopes[scope], a.Addr)
	}
	if addrs := scopes[""]; len(addrs) > 0 {
		return addrs, ""
	}
	for _, scope := range []string{private, shared, documentation, special, linkLocal} {
		found := scopes[scope]
		switch {
		case len(found) == 0:
		case scope == linkLocal && ipv6:
			// Every link has one. It is of no use in DNS: without the interface nobody can connect to it.
		case allowPrivate:
			return found, ""
		default:
			return nil, fmt.Sprintf("%s of %s, %s,", found[0], link.Name, scope)
		}
	}
	return nil, ""
}

// Scopes that are not reachable from everywhere, as they appear in messages.
const (
	private       = "a private address"
	shared        = "an address shared by a provider's customers (RFC 6598)"
	documentation = "an address for documentation"
	special       = "a special-purpose address"
	linkLocal     = "a link-local address"
	unusable      = "not the address of a host"
)

// special-purpose prefixes (IANA's registries for IPv4 and IPv6, RFC 6890) that are not globally reachable.
var scopes = []struct {
	prefix netip.Prefix
	scope  string
}{
	{netip.MustParsePrefix("100.64.0.0/10"), shared},
	{netip.MustParsePrefix("192.0.2.0/24"), documentation},
	{netip.MustParsePrefix("198.51.100.0/24"), documentation},
	{netip.MustParsePrefix("203.0.113.0/24"), documentation},
	{netip.MustParsePrefix("2001:db8::/32"), documentation},
	{netip.MustParsePrefix("3fff::/20"), documentation},
	{netip.MustParsePrefix("192.0.0.0/24"), special}, // DS-Lite's own end has 192.0.0.2
	{netip.MustParsePrefix("198.18.0.0/15"), special},
	{netip.MustParsePrefix("0.0.0.0/8"), special},
	{netip.MustParsePrefix("240.0.0.0/4"), special},
	{netip.MustParsePrefix("100::/64"), special},
	{netip.MustParsePrefix("fec0::/10"), private},
}

// Scope returns an empty string for an address that can be reached from everywhere, otherwise the kind of address
// that it is.
func Scope(addr netip.Addr) string {
	switch {
	case addr.IsLinkLocalUnicast():
		return linkLocal
	case addr.IsLoopback(), addr.IsMulticast(), addr.IsUnspecified():
		return unusable
	case addr.IsPrivate():
		return private
	}
	for _, s := range scopes {
		if s.prefix.Contains(addr) {
			return s.scope
		}
	}
	return ""
}
