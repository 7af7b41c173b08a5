package links

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// DefaultPriority of rules. It is before charon's own rule, whose priority is 220 (charon.routing_table_prio in
// strongswan.conf(5)), and before the main table's.
const DefaultPriority = 200

// Section is one [link.NAME] of the settings.
type Section struct {
	Table    int // 0: no source routing
	Priority int // of the rules; 0: DefaultPriority
	Routes   []netip.Prefix
	Name     string // that follows the link's addresses, a fully qualified name; empty: none
	Target   Target
	// Remove: Name is removed while no link that it follows is up.
	Remove bool
	// AllowPrivate: Name may have addresses that are not reachable from everywhere.
	AllowPrivate bool
}

// Target says where and how a name is published.
type Target struct {
	Zone   string // fully qualified
	Server string // host:port
	Key    string // file, or the word none
	TTL    time.Duration
}

// Sections are the sections by name: the name of a network interface, or the ipparam of pppd's options.
type Sections map[string]Section

// Names returns the sections' names in order.
func (s Sections) Names() []string { return slices.Sorted(maps.Keys(s)) }

// Of returns the first section whose name is this one.
func (s Sections) Of(name string) string {
	for _, section := range s.Names() {
		if s[section].Name == name {
			return section
		}
	}
	return ""
}

// reservedTables have another owner.
var reservedTables = map[int]string{
	0: "the kernel's", 253: "the kernel's (default)", MainTable: "the kernel's (main)", 255: "the kernel's (local)",
	220: "charon's",
}

// Check returns the first contradiction in the settings.
func (s Sections) Check() error {
	tables := map[int]string{}
	routes := map[netip.Prefix]string{}
	names := map[string]string{}
	for _, name := range s.Names() {
		section := s[name]
		if err := checkSectionName(name); err != nil {
			return err
		}
		if err := section.check(); err != nil {
			return fmt.Errorf("link.%s: %w", name, err)
		}
		if section.Table != 0 {
			if other, used := tables[section.Table]; used {
				return fmt.Errorf("link.%s and link.%s have the same table %d: each link needs a table of its own",
					other, name, section.Table)
			}
			tables[section.Table] = name
		}
		for _, route := range section.Routes {
			if other, used := routes[route]; used {
				return fmt.Errorf("link.%s and link.%s have the same route %s", other, name, route)
			}
			routes[route] = name
		}
		if section.Name != "" {
			other, used := names[section.Name]
			if used && (s[other].Target != section.Target || s[other].Remove != section.Remove ||
				s[other].AllowPrivate != section.AllowPrivate) {
				return fmt.Errorf("link.%s and link.%s have the same name %s but other settings for it",
					other, name, strings.TrimSuffix(section.Name, "."))
			}
			names[section.Name] = cmp.Or(other, name)
		}
	}
	return nil
}

func checkSectionName(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return fmt.Errorf("link.%q: not a valid interface name", name)
	case strings.ContainsAny(name, "/ \t\n\r\x00"):
		return fmt.Errorf("link.%q: an interface name or an ipparam has no slash and no space", name)
	}
	return nil
}

func (s Section) check() error {
	if owner, reserved := reservedTables[s.Table]; reserved && s.Table != 0 {
		return fmt.Errorf("table %d is %s: choose another number, such as 200", s.Table, owner)
	}
	switch {
	case s.Table == 0 && s.Priority != 0:
		return errors.New("priority without table: it is the priority of the rule that leads to the table")
	case s.Table < 0 || int64(s.Table) > 1<<32-1:
		return fmt.Errorf("table %d: must be between 1 and 4294967295", s.Table)
	case s.Priority < 0 || s.Priority > 32765:
		return fmt.Errorf("priority %d: must be between 1 and 32765, before the main table's rule", s.Priority)
	case s.Table == 0 && len(s.Routes) == 0 && s.Name == "":
		return errors.New("nothing follows from this link: set table, routes or name")
	}
	for i, route := range s.Routes {
		if route != route.Masked() {
			return fmt.Errorf("route %s: the network is %s", route, route.Masked())
		}
		if slices.Contains(s.Routes[:i], route) {
			return fmt.Errorf("route %s is there twice", route)
		}
	}
	if s.Name != "" && s.Name != s.Target.Zone && !strings.HasSuffix(s.Name, "."+s.Target.Zone) {
		return fmt.Errorf("name %s is outside the zone %s: set zone for this link",
			strings.TrimSuffix(s.Name, "."), strings.TrimSuffix(s.Target.Zone, "."))
	}
	return nil
}

// priority returns the priority of the section's rules.
func (s Section) priority() int { return cmp.Or(s.Priority, DefaultPriority) }
