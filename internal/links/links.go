// Package links decides which routes, rules and DNS records follow from the network links that are up. It compares
// what the settings ask for with what the kernel has and returns the difference.
//
// Every route and rule that this program adds carries the protocol number [Protocol], so the kernel itself remembers
// which ones are ours. Routes and rules with another number are never changed or removed.
package links

import (
	"fmt"
	"net/netip"
	"strings"
)

// Protocol marks our routes and rules (rtm_protocol in rtnetlink(7), FRA_PROTOCOL in linux/fib_rules.h). It belongs to
// no daemon in linux/rtnetlink.h or in the rt_protos of iproute2 6.15 (Debian 13).
const Protocol = 116

// MainTable is the kernel's main routing table (RT_TABLE_MAIN).
const MainTable = 254

// Host is what the kernel has.
type Host struct {
	Links  []Link
	Routes []Route // of all tables, by whoever made them
	Rules  []Rule
}

// Link is one network interface.
type Link struct {
	Name  string
	Param string // pppd's ipparam, if a hook reported one; otherwise empty
	Index int
	Up    bool
	// Device reports that packets need no next hop: the link is point-to-point or does no address resolution.
	Device    bool
	Addresses []Address
}

// Address is one address of a link.
type Address struct {
	netip.Addr
	Peer netip.Addr // the other end of a point-to-point address; invalid if there is none
	// Tentative addresses may not be used yet (RFC 4862, or duplicate address detection failed).
	Tentative bool
	// Temporary addresses change every day (RFC 8981); deprecated ones are about to go. Neither is published.
	Temporary bool
}

// Route is a route to one destination with a single next hop.
type Route struct {
	Table    int
	To       netip.Prefix
	Via      netip.Addr // invalid: directly through the link
	Link     int        // the link's index
	Protocol int
	Metric   int // the kernel's choice for routes of ours
}

// Rule selects a routing table by source address.
type Rule struct {
	Priority int
	From     netip.Prefix
	Table    int
	Protocol int
	IPv6     bool // the rule is of IPv6; From is invalid for a rule without a source
}

// same reports whether two routes lead to the same place.
func (r Route) same(other Route) bool {
	return r.Table == other.Table && r.To == other.To && r.Via == other.Via && r.Link == other.Link
}

// replaces reports whether another route is ours and has the same destination in the same table.
func (r Route) replaces(other Route) bool {
	return other.Protocol == Protocol && r.Table == other.Table && r.To == other.To
}

// same reports whether two rules select the same packets for the same table.
func (r Rule) same(other Rule) bool {
	return r.From == other.From && r.Table == other.Table && r.Priority == other.Priority
}

// Op is the operation of a Step.
type Op int

// Operations. Replace changes the next hop of a route of ours in one step, so that the destination always has a
// route.
const (
	Add Op = iota
	Replace
	Remove
)

// String returns the verb of ip(8).
func (o Op) String() string { return [...]string{"add", "replace", "del"}[o] }

// Step is one change in the kernel: of a route or of a rule.
type Step struct {
	Op     Op
	Route  *Route
	Rule   *Rule
	Dev    string // name of the route's link; empty if the link is gone
	Reason string
}

// Command returns the ip(8) command that makes the same change.
func (s Step) Command() string {
	var b strings.Builder
	if s.Rule != nil {
		r := s.Rule
		fmt.Fprintf(&b, "ip %s rule %s from %s lookup %d priority %d protocol %d",
			family(r.From.Addr()), s.Op, r.From.Addr(), r.Table, r.Priority, Protocol)
		return b.String()
	}
	r := s.Route
	to := r.To.String()
	if r.To.Bits() == 0 {
		to = "default"
	}
	fmt.Fprintf(&b, "ip %s route %s %s", family(r.To.Addr()), s.Op, to)
	if r.Via.IsValid() {
		fmt.Fprintf(&b, " via %s", r.Via)
	}
	if s.Dev != "" {
		fmt.Fprintf(&b, " dev %s", s.Dev)
	}
	if r.Table != MainTable {
		fmt.Fprintf(&b, " table %d", r.Table)
	}
	if r.Via.IsValid() {
		b.WriteString(" onlink")
	}
	fmt.Fprintf(&b, " protocol %d", Protocol)
	return b.String()
}

func family(addr netip.Addr) string {
	if addr.Is4() {
		return "-4"
	}
	return "-6"
}

// Problem is something that the settings ask for and that cannot be had now.
type Problem struct {
	Section string // of the settings
	Text    string
	// Waiting: the link is down or lacks an address, so there is nothing to repair.
	Waiting bool
}

// String returns the problem with its section, if it has one.
func (p Problem) String() string {
	if p.Section == "" {
		return p.Text
	}
	return "link." + p.Section + ": " + p.Text
}

// Plan is the difference between the settings and the kernel. Steps are in the order in which they are to be carried
// out: additions before removals, and a table has its route before a rule leads to it.
type Plan struct {
	Steps    []Step
	Problems []Problem
}

// unspecified returns the default route's destination in the family of addr.
func unspecified(addr netip.Addr) netip.Prefix {
	if addr.Is4() {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}
