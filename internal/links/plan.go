package links

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Plan returns what is to be changed in the kernel so that it has exactly the routes and rules of the settings. An
// error is a contradiction that only shows on this host; then nothing may be changed.
func (s Sections) Plan(host Host) (Plan, error) {
	var plan Plan
	var routes []wantedRoute
	var rules []wantedRule
	for _, name := range s.Names() {
		link, err := s.Link(host, name)
		if err != nil {
			plan.problem(name, false, "%v", err)
			continue
		}
		section := s[name]
		if link == nil || !link.Up {
			if section.Table != 0 || len(section.Routes) > 0 {
				plan.problem(name, true, "the link is down")
			}
			continue
		}
		if section.Table != 0 {
			r, from := section.sourceRouting(&plan, name, host, *link)
			routes, rules = append(routes, r...), append(rules, from...)
		}
		more, err := section.routes(&plan, name, host, *link)
		if err != nil {
			return Plan{}, fmt.Errorf("link.%s: %w", name, err)
		}
		routes = append(routes, more...)
	}
	plan.compare(host, routes, rules)
	return plan, nil
}

// wantedRoute is a route of the settings and the section that asks for it.
type wantedRoute struct {
	Route
	section, dev, reason string
}

type wantedRule struct {
	Rule
	section, reason string
}

func (p *Plan) problem(section string, waiting bool, format string, args ...any) {
	p.Problems = append(p.Problems, Problem{Section: section, Text: fmt.Sprintf(format, args...), Waiting: waiting})
}

// Link returns the link that a section is about: the one of that name, otherwise the one with that ipparam; nil if
// there is none.
func (s Sections) Link(h Host, name string) (*Link, error) {
	for i := range h.Links {
		if h.Links[i].Name == name {
			return &h.Links[i], nil
		}
	}
	var found *Link
	for i := range h.Links {
		link := &h.Links[i]
		if link.Param != name {
			continue
		}
		if _, named := s[link.Name]; named {
			return nil, fmt.Errorf("the ipparam is that of %s, which has a section of its own", link.Name)
		}
		if found != nil {
			return nil, fmt.Errorf("%s and %s have the same ipparam: give each its own", found.Name, link.Name)
		}
		found = link
	}
	return found, nil
}

// dev returns the name of the link with an index, or an empty string.
func (h Host) dev(index int) string {
	for _, link := range h.Links {
		if link.Index == index {
			return link.Name
		}
	}
	return ""
}

// sourceRouting returns the default route of the section's table and the rules that lead to it, for each family in
// which the link has an address.
func (s Section) sourceRouting(plan *Plan, name string, host Host, link Link) ([]wantedRoute, []wantedRule) {
	var routes []wantedRoute
	var rules []wantedRule
	addressed := false
	for _, ipv6 := range []bool{false, true} {
		var from []netip.Addr
		for _, a := range link.Addresses {
			if a.Is6() == ipv6 && !a.Tentative && a.IsGlobalUnicast() && !slices.Contains(from, a.Addr) {
				from = append(from, a.Addr)
			}
		}
		if len(from) == 0 {
			continue
		}
		addressed = true
		to := unspecified(from[0])
		via, ok := host.nextHop(link, ipv6)
		if !ok {
			plan.problem(
				name,
				false,
				"no next hop is known for %s through %s: the link has neither a peer nor a default "+
					"route, and it is not point-to-point",
				to,
				link.Name,
			)
			continue
		}
		route := Route{Table: s.Table, To: to, Via: via, Link: link.Index, Protocol: Protocol}
		if other, taken := host.foreign(route); taken {
			plan.problem(name, false, "table %d has a default route %s that is not ours: choose another table",
				s.Table, host.describe(other))
			continue
		}
		routes = append(routes, wantedRoute{route, name, link.Name, "answers from " + link.Name})
		for _, addr := range from {
			rules = append(rules, wantedRule{
				Rule{
					Priority: s.priority(),
					From:     netip.PrefixFrom(addr, addr.BitLen()),
					Table:    s.Table,
					Protocol: Protocol,
					IPv6:     ipv6,
				},
				name, "address of " + link.Name,
			})
		}
	}
	if !addressed {
		plan.problem(name, true, "%s has no address yet", link.Name)
	}
	return routes, rules
}

// routes returns the section's routes through the link.
func (s Section) routes(plan *Plan, name string, host Host, link Link) ([]wantedRoute, error) {
	var routes []wantedRoute
	for _, to := range s.Routes {
		ipv6 := to.Addr().Is6()
		if !slices.ContainsFunc(link.Addresses, func(a Address) bool { return a.Is6() == ipv6 && !a.Tentative }) {
			plan.problem(name, true, "route %s: %s has no address of that family yet", to, link.Name)
			continue
		}
		via, ok := host.nextHop(link, ipv6)
		if !ok {
			plan.problem(
				name,
				false,
				"route %s: no next hop is known through %s: the link has neither a peer nor a default "+
					"route, and it is not point-to-point",
				to,
				link.Name,
			)
			continue
		}
		if to.IsSingleIP() &&
			(to.Addr() == via || slices.ContainsFunc(link.Addresses,
				func(a Address) bool { return a.Peer == to.Addr() })) {
			return nil, fmt.Errorf(
				"route %s is its own gateway: it is the peer of %s, to which the kernel has a route",
				to,
				link.Name,
			)
		}
		route := Route{Table: MainTable, To: to, Via: via, Link: link.Index, Protocol: Protocol}
		if other, taken := host.foreign(route); taken {
			plan.problem(name, false, "route %s: there is one %s that is not ours", to, host.describe(other))
			continue
		}
		routes = append(routes, wantedRoute{route, name, link.Name, "route of " + link.Name})
	}
	return routes, nil
}

// nextHop returns the address through which a link leads to other networks: none for a link that needs none,
// otherwise the peer of its address, otherwise the next hop of a default route that somebody else made through the
// link (a DHCP client, a router advertisement).
func (h Host) nextHop(link Link, ipv6 bool) (netip.Addr, bool) {
	for _, a := range link.Addresses {
		if a.Is6() == ipv6 && a.Peer.IsValid() && !a.Peer.IsUnspecified() && a.Peer != a.Addr && !a.Tentative &&
			!(link.Device && a.Peer.IsLinkLocalUnicast()) {
			return a.Peer, true
		}
	}
	if link.Device {
		return netip.Addr{}, true
	}
	for _, r := range h.Routes {
		if r.Link == link.Index && r.Protocol != Protocol && r.To.Bits() == 0 && r.To.Addr().Is6() == ipv6 &&
			r.Via.IsValid() {
			return r.Via, true
		}
	}
	return netip.Addr{}, false
}

// foreign returns a route to the same destination in the same table that somebody else made and that leads elsewhere.
func (h Host) foreign(want Route) (Route, bool) {
	var found Route
	for _, r := range h.Routes {
		if r.Protocol == Protocol || r.Table != want.Table || r.To != want.To {
			continue
		}
		if r.same(want) {
			return Route{}, false
		}
		found = r
	}
	return found, found.To.IsValid()
}

// TableUsed returns an error that names what leads to a table, or from it elsewhere than through the link with
// this index, and is not ours.
func (h Host) TableUsed(table, link int) error {
	for _, r := range h.Routes {
		if r.Table == table && r.Protocol != Protocol && r.Link != link {
			return fmt.Errorf("it has a route %s %s that is not ours", r.To, h.describe(r))
		}
	}
	for _, r := range h.Rules {
		if r.Table == table && r.Protocol != Protocol {
			return fmt.Errorf(
				"a rule with the priority %d leads to it that is not ours (protocol %d)",
				r.Priority,
				r.Protocol,
			)
		}
	}
	return nil
}

// describe returns where a route leads and who made it.
func (h Host) describe(r Route) string {
	var words []string
	if r.Via.IsValid() {
		words = append(words, "via "+r.Via.String())
	}
	if dev := h.dev(r.Link); dev != "" {
		words = append(words, "dev "+dev)
	}
	return strings.Join(append(words, fmt.Sprintf("(protocol %d)", r.Protocol)), " ")
}

// compare adds the steps from what the kernel has to what is wanted.
func (p *Plan) compare(host Host, routes []wantedRoute, rules []wantedRule) {
	var removals []Step
	kept := make([]bool, len(host.Routes))
	for _, want := range routes {
		if i := slices.IndexFunc(host.Routes, want.Route.same); i >= 0 {
			kept[i] = true
			continue
		}
		step := Step{Op: Add, Route: &want.Route, Dev: want.dev, Reason: want.reason}
		if i := slices.IndexFunc(host.Routes, want.Route.replaces); i >= 0 {
			kept[i] = true
			step.Op, step.Reason = Replace, want.reason+", whose next hop changed"
		}
		p.Steps = append(p.Steps, step)
	}
	for i, have := range host.Routes {
		if have.Protocol == Protocol && !kept[i] {
			removals = append(
				removals,
				Step{Op: Remove, Route: &have, Dev: host.dev(have.Link), Reason: "no configured link leads there"},
			)
		}
	}
	keptRules := make([]bool, len(host.Rules))
	for _, want := range rules {
		if i := slices.IndexFunc(host.Rules, want.Rule.same); i >= 0 {
			keptRules[i] = true
			continue
		}
		p.Steps = append(p.Steps, Step{Op: Add, Rule: &want.Rule, Reason: want.reason})
	}
	for i, have := range host.Rules {
		if have.Protocol == Protocol && !keptRules[i] {
			p.Steps = append(p.Steps, Step{Op: Remove, Rule: &have, Reason: "no configured link has this address"})
		}
	}
	// After the rules: a rule that leads to an empty table falls through to the next one.
	p.Steps = append(p.Steps, removals...)
}
