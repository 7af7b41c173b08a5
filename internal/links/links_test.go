package links

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// ppp is a point-to-point link with one address and peer in each pair.
func ppp(name string, index int, pairs ...string) Link {
	l := Link{Name: name, Index: index, Up: true, Device: true}
	for i := 0; i < len(pairs); i += 2 {
		l.Addresses = append(l.Addresses, Address{Addr: addr(pairs[i]), Peer: addr(pairs[i+1])})
	}
	return l
}

// card is an Ethernet link with addresses.
func card(name string, index int, addrs ...string) Link {
	l := Link{Name: name, Index: index, Up: true}
	for _, a := range addrs {
		l.Addresses = append(l.Addresses, Address{Addr: addr(a)})
	}
	return l
}

func ours(table int, to, via string, link int) Route {
	r := Route{Table: table, To: prefix(to), Link: link, Protocol: Protocol}
	if via != "" {
		r.Via = addr(via)
	}
	return r
}

func by(protocol int, r Route) Route { r.Protocol = protocol; return r }

func from(a string, table, priority int) Rule {
	p := addr(a)
	return Rule{
		Priority: priority,
		From:     netip.PrefixFrom(p, p.BitLen()),
		Table:    table,
		Protocol: Protocol,
		IPv6:     p.Is6(),
	}
}

// text prints a plan as its commands, then its problems.
func text(p Plan) string {
	var b strings.Builder
	for _, s := range p.Steps {
		fmt.Fprintln(&b, s.Command())
	}
	for _, problem := range p.Problems {
		kind := "problem"
		if problem.Waiting {
			kind = "waiting"
		}
		fmt.Fprintf(&b, "%s: %s\n", kind, problem)
	}
	return b.String()
}

func TestPlan(t *testing.T) {
	source := Sections{"ppp0": {Table: 200}}
	const up = "ip -4 route add default via 192.0.2.1 dev ppp0 table 200 onlink protocol 116\n" +
		"ip -4 rule add from 203.0.113.5 lookup 200 priority 200 protocol 116\n"
	for name, test := range map[string]struct {
		sections Sections
		host     Host
		want     string
	}{
		"no link":          {source, Host{}, "waiting: link.ppp0: the link is down\n"},
		"the link came up": {source, Host{Links: []Link{ppp("ppp0", 5, "203.0.113.5", "192.0.2.1")}}, up},
		"a link that no section names": {source, Host{Links: []Link{ppp("ppp1", 5, "203.0.113.5", "192.0.2.1")}},
			"waiting: link.ppp0: the link is down\n"},
		"the section names an ipparam": {Sections{"home": {Table: 200}}, Host{Links: []Link{
			{Name: "ppp0", Param: "home", Index: 5, Up: true, Device: true,
				Addresses: []Address{{Addr: addr("203.0.113.5"), Peer: addr("192.0.2.1")}}}}}, up},
		"one ipparam twice": {Sections{"home": {Table: 200}}, Host{Links: []Link{
			{Name: "ppp0", Param: "home", Index: 5, Up: true}, {Name: "ppp1", Param: "home", Index: 6, Up: true}}},
			"problem: link.home: ppp0 and ppp1 have the same ipparam: give each its own\n"},
		"nothing to do": {source, Host{
			Links:  []Link{ppp("ppp0", 5, "203.0.113.5", "192.0.2.1")},
			Routes: []Route{ours(200, "0.0.0.0/0", "192.0.2.1", 5)},
			Rules:  []Rule{from("203.0.113.5", 200, 200)},
		}, ""},
		"another address": {source, Host{
			Links:  []Link{ppp("ppp0", 5, "203.0.113.77", "192.0.2.1")},
			Routes: []Route{ours(200, "0.0.0.0/0", "192.0.2.1", 5)},
			Rules:  []Rule{from("203.0.113.5", 200, 200)},
		}, "ip -4 rule add from 203.0.113.77 lookup 200 priority 200 protocol 116\n" +
			"ip -4 rule del from 203.0.113.5 lookup 200 priority 200 protocol 116\n"},
		"another peer": {source, Host{
			Links:  []Link{ppp("ppp0", 5, "203.0.113.5", "192.0.2.9")},
			Routes: []Route{ours(200, "0.0.0.0/0", "192.0.2.1", 5)},
			Rules:  []Rule{from("203.0.113.5", 200, 200)},
		}, "ip -4 route replace default via 192.0.2.9 dev ppp0 table 200 onlink protocol 116\n"},
		"the interface is a new one": {source, Host{
			Links: []Link{ppp("ppp0", 9, "203.0.113.5", "192.0.2.1")},
			Rules: []Rule{from("203.0.113.5", 200, 200)},
		}, "ip -4 route add default via 192.0.2.1 dev ppp0 table 200 onlink protocol 116\n"},
		"rules of three reconnects are left": {source, Host{
			Links:  []Link{ppp("ppp0", 5, "203.0.113.5", "192.0.2.1")},
			Routes: []Route{ours(200, "0.0.0.0/0", "192.0.2.1", 5)},
			Rules: []Rule{from("203.0.113.3", 200, 200), from("203.0.113.5", 200, 200), from("203.0.113.5", 200, 200),
				from("203.0.113.4", 200, 200)},
		}, "ip -4 rule del from 203.0.113.3 lookup 200 priority 200 protocol 116\n" +
			"ip -4 rule del from 203.0.113.5 lookup 200 priority 200 protocol 116\n" +
			"ip -4 rule del from 203.0.113.4 lookup 200 priority 200 protocol 116\n"},
		"the link went down": {source, Host{Rules: []Rule{from("203.0.113.5", 200, 200)}},
			"ip -4 rule del from 203.0.113.5 lookup 200 priority 200 protocol 116\nwaiting: link.ppp0: the link " +
				"is down\n"},
		"the section is gone": {Sections{}, Host{
			Links:  []Link{ppp("ppp0", 5, "203.0.113.5", "192.0.2.1")},
			Routes: []Route{ours(200, "0.0.0.0/0", "192.0.2.1", 5)},
			Rules:  []Rule{from("203.0.113.5", 200, 200)},
		}, "ip -4 rule del from 203.0.113.5 lookup 200 priority 200 protocol 116\n" +
			"ip -4 route del default via 192.0.2.1 dev ppp0 table 200 onlink protocol 116\n"},
		"a rule of somebody else with our source": {source, Host{
			Links:  []Link{ppp("ppp0", 5, "203.0.113.5", "192.0.2.1")},
			Routes: []Route{ours(200, "0.0.0.0/0", "192.0.2.1", 5)},
			Rules:  []Rule{{Priority: 100, From: prefix("203.0.113.5/32"), Table: 99, Protocol: 3}},
		}, "ip -4 rule add from 203.0.113.5 lookup 200 priority 200 protocol 116\n"},
		"somebody else has the table": {source, Host{
			Links:  []Link{ppp("ppp0", 5, "203.0.113.5", "192.0.2.1"), card("eth0", 2)},
			Routes: []Route{by(4, ours(200, "0.0.0.0/0", "10.9.9.1", 2))},
		}, "problem: link.ppp0: table 200 has a default route via 10.9.9.1 dev eth0 (protocol 4) that is not " +
			"ours: choose another table\n"},
		"a DHCP client has made the same route": {Sections{"eth1": {Table: 201}}, Host{
			Links: []Link{card("eth1", 3, "203.0.113.9")},
			Routes: []Route{by(16, ours(MainTable, "0.0.0.0/0", "203.0.113.1", 3)), by(16, ours(201, "0.0.0.0/0",
				"203.0.113.1", 3))},
		}, "ip -4 rule add from 203.0.113.9 lookup 201 priority 200 protocol 116\n"},
		"a card with DHCP": {Sections{"eth1": {Table: 201, Priority: 90}}, Host{
			Links:  []Link{card("eth1", 3, "203.0.113.9")},
			Routes: []Route{by(16, ours(MainTable, "0.0.0.0/0", "203.0.113.1", 3))},
		}, "ip -4 route add default via 203.0.113.1 dev eth1 table 201 onlink protocol 116\n" +
			"ip -4 rule add from 203.0.113.9 lookup 201 priority 90 protocol 116\n"},
		"a card without a gateway": {Sections{"eth1": {Table: 201}}, Host{Links: []Link{card("eth1", 3,
			"203.0.113.9")}},
			"problem: link.eth1: no next hop is known for 0.0.0.0/0 through eth1: the link has neither a peer " +
				"nor a default route, and it is not point-to-point\n"},
		"both families": {source, Host{Links: []Link{ppp("ppp0", 5, "203.0.113.5", "192.0.2.1", "fe80::1",
			"fe80::2", "2001:db8::5", "fe80::2")}},
			"ip -4 route add default via 192.0.2.1 dev ppp0 table 200 onlink protocol 116\n" +
				"ip -6 route add default dev ppp0 table 200 protocol 116\n" +
				"ip -4 rule add from 203.0.113.5 lookup 200 priority 200 protocol 116\n" +
				"ip -6 rule add from 2001:db8::5 lookup 200 priority 200 protocol 116\n"},
		"only a link-local address": {source, Host{Links: []Link{ppp("ppp0", 5, "fe80::1", "fe80::2")}},
			"waiting: link.ppp0: ppp0 has no address yet\n"},
		"a tunnel without a peer": {Sections{"wg0": {Table: 202}}, Host{Links: []Link{{Name: "wg0", Index: 7,
			Up: true, Device: true,
			Addresses: []Address{{Addr: addr("10.8.0.2")}}}}},
			"ip -4 route add default dev wg0 table 202 protocol 116\nip -4 rule add from 10.8.0.2 lookup 202 " +
				"priority 200 protocol 116\n"},
		"routes through the peer": {Sections{"ppp0": {Routes: []netip.Prefix{prefix("192.168.2.0/24"),
			prefix("fd00:2::/64")}}},
			Host{Links: []Link{ppp("ppp0", 5, "10.0.1.1", "10.0.1.2", "fe80::1", "fe80::2")}},
			"ip -4 route add 192.168.2.0/24 via 10.0.1.2 dev ppp0 onlink protocol 116\nip -6 route add " +
				"fd00:2::/64 dev ppp0 protocol 116\n"},
		"a route before IPv6 is up": {Sections{"ppp0": {Routes: []netip.Prefix{prefix("fd00:2::/64")}}},
			Host{Links: []Link{ppp("ppp0", 5, "10.0.1.1", "10.0.1.2")}},
			"waiting: link.ppp0: route fd00:2::/64: ppp0 has no address of that family yet\n"},
		"a route that somebody else has": {Sections{"ppp0": {Routes: []netip.Prefix{prefix("192.168.2.0/24")}}},
			Host{Links: []Link{ppp("ppp0", 5, "10.0.1.1", "10.0.1.2"), card("eth0", 2)},
				Routes: []Route{by(2, ours(MainTable, "192.168.2.0/24", "", 2))}},
			"problem: link.ppp0: route 192.168.2.0/24: there is one dev eth0 (protocol 2) that is not ours\n"},
		"a tentative address": {source, Host{Links: []Link{{Name: "ppp0", Index: 5, Up: true, Device: true,
			Addresses: []Address{{Addr: addr("2001:db8::5"), Tentative: true}}}}},
			"waiting: link.ppp0: ppp0 has no address yet\n"},
	} {
		t.Run(name, func(t *testing.T) {
			plan, err := test.sections.Plan(test.host)
			if got := text(plan); got != test.want || err != nil {
				t.Errorf("got\n%swant\n%serror %v", got, test.want, err)
			}
		})
	}
}

func TestPlanRefuses(t *testing.T) {
	sections := Sections{"ppp0": {Table: 200, Routes: []netip.Prefix{prefix("10.0.1.2/32")}}}
	plan, err := sections.Plan(Host{Links: []Link{ppp("ppp0", 5, "10.0.1.1", "10.0.1.2")}})
	if err == nil || !strings.Contains(err.Error(), "link.ppp0: route 10.0.1.2/32 is its own gateway") ||
		len(plan.Steps) > 0 {
		t.Errorf("got %v and %d steps", err, len(plan.Steps))
	}
}

func TestCheck(t *testing.T) {
	home := Target{Zone: "example.", Server: "127.0.0.1:53"}
	for want, sections := range map[string]Sections{
		"link.a and link.b have the same table 200": {"a": {Table: 200}, "b": {Table: 200}},
		"link.a and link.b have the same route " +
			"10.0.0.0/8": {"a": {Routes: []netip.Prefix{prefix("10.0.0.0/8")}},
			"b": {Routes: []netip.Prefix{prefix("10.0.0.0/8")}}},
		"link.a and link.b have the same name h.example": {"a": {Name: "h.example.", Target: home},
			"b": {Name: "h.example.", Target: home, Remove: true}},
		`link."a/b": an interface name or an ipparam has no slash`: {"a/b": {Table: 200}},
		`link."": not a valid interface name`:                      {"": {Table: 200}},
		"link.a: table 254 is the kernel's (main)":                 {"a": {Table: 254}},
		"link.a: table 220 is charon's":                            {"a": {Table: 220}},
		"link.a: table -1: must be between 1":                      {"a": {Table: -1}},
		"link.a: priority 32766: must be between 1":                {"a": {Table: 200, Priority: 32766}},
		"link.a: priority without table": {"a": {Priority: 5, Name: "example.",
			Target: home}},
		"link.a: nothing follows from this link": {"a": {}},
		"link.a: route 10.0.0.1/8: the network is " +
			"10.0.0.0/8": {"a": {Routes: []netip.Prefix{prefix("10.0.0.1/8")}}},
		"link.a: route 10.0.0.0/8 is there " +
			"twice": {"a": {Routes: []netip.Prefix{prefix("10.0.0.0/8"), prefix("10.0.0.0/8")}}},
		"link.a: name home.example.net is outside the zone example": {"a": {Name: "home.example.net.", Target: home}},
		"link.a: name badexample is outside the zone example":       {"a": {Name: "badexample.", Target: home}},
	} {
		if err := sections.Check(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	good := Sections{
		"ppp0":   {Table: 200, Name: "home.example.", Target: home},
		"eth0":   {Name: "home.example.", Target: home},
		"office": {Routes: []netip.Prefix{prefix("192.168.2.0/24"), prefix("0.0.0.0/0")}},
	}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
}

func TestRecords(t *testing.T) {
	target := Target{Zone: "example.", Server: "127.0.0.1:53", TTL: time.Minute}
	one := Sections{"ppp0": {Name: "home.example.", Target: target}}
	for name, test := range map[string]struct {
		sections Sections
		links    []Link
		want     string
	}{
		"down": {one, nil, ""},
		"up":   {one, []Link{ppp("ppp0", 5, "8.8.4.4", "192.0.2.1")}, "home.example. A 8.8.4.4\n"},
		"both families": {one, []Link{ppp("ppp0", 5, "8.8.4.4", "192.0.2.1", "2a00::1", "fe80::1", "fe80::2",
			"fe80::1")}, "home.example. A 8.8.4.4\nhome.example. AAAA 2a00::1\n"},
		"a provider's address": {one, []Link{ppp("ppp0", 5, "100.64.3.2", "192.0.2.1")},
			"problem: link.ppp0: 100.64.3.2 of ppp0, an address shared by a provider's customers (RFC 6598), is " +
				"not given to home.example: set allow-private if it is wanted there\n"},
		"a private IPv4 address beside IPv6": {one, []Link{ppp("ppp0", 5, "192.168.1.2", "192.0.2.1", "2a00::1",
			"fe80::1")},
			"home.example. AAAA 2a00::1\nwaiting: link.ppp0: 192.168.1.2 of ppp0, a private address, is not " +
				"given to home.example: set allow-private if it is wanted there\n"},
		"documentation": {one, []Link{ppp("ppp0", 5, "203.0.113.5", "192.0.2.1")},
			"problem: link.ppp0: 203.0.113.5 of ppp0, an address for documentation, is not given to " +
				"home.example: set allow-private if it is wanted there\n"},
		"DS-Lite": {one, []Link{ppp("ppp0", 5, "192.0.0.2", "192.0.0.1")},
			"problem: link.ppp0: 192.0.0.2 of ppp0, a special-purpose address, is not given to home.example: " +
				"set allow-private if it is wanted there\n"},
		"allowed": {Sections{"ppp0": {Name: "home.example.", Target: target, AllowPrivate: true}},
			[]Link{ppp("ppp0", 5, "203.0.113.5", "192.0.2.1", "fe80::2", "fe80::1")},
			"home.example. A 203.0.113.5\n"},
		"allowed, a private prefix": {
			Sections{"ppp0": {Name: "home.example.", Target: target, AllowPrivate: true}},
			[]Link{ppp("ppp0", 5, "169.254.7.7", "192.0.2.1", "fe80::2", "fe80::1", "fd00::7", "fe80::1")},
			"home.example. A 169.254.7.7\nhome.example. AAAA fd00::7\n"},
		"a public one is better": {Sections{"eth0": {Name: "home.example.", Target: target, AllowPrivate: true}},
			[]Link{card("eth0", 2, "fd00::1", "2a00::1", "fe80::2", "10.0.0.1")},
			"home.example. A 10.0.0.1\nhome.example. AAAA 2a00::1\n"},
		"temporary addresses": {one, []Link{{Name: "ppp0", Up: true, Addresses: []Address{{Addr: addr("2a00::77"),
			Temporary: true}, {Addr: addr("2a00::1")},
			{Addr: addr("2a00::2"), Tentative: true}}}}, "home.example. AAAA 2a00::1\n"},
		"two links": {Sections{"ppp0": {Name: "home.example.", Target: target}, "eth0": {Name: "home.example.",
			Target: target}},
			[]Link{ppp("ppp0", 5, "8.8.4.4", "192.0.2.1"), card("eth0", 2, "2a00::1")},
			"home.example. A 8.8.4.4\nhome.example. AAAA 2a00::1\n"},
		"two links in one family": {Sections{"ppp0": {Name: "home.example.", Target: target},
			"ppp1": {Name: "home.example.", Target: target}},
			[]Link{ppp("ppp0", 5, "8.8.4.4", "192.0.2.1"), ppp("ppp1", 6, "1.1.1.1", "192.0.2.1")},
			"home.example. A 1.1.1.1 8.8.4.4\n"},
		"removed when down": {Sections{"ppp0": {Name: "home.example.", Target: target, Remove: true}}, nil,
			"home.example. A\nhome.example. AAAA\n"},
		"removed when all are down": {Sections{"ppp0": {Name: "home.example.", Target: target, Remove: true},
			"ppp1": {Name: "home.example.", Target: target, Remove: true}},
			[]Link{ppp("ppp1", 6, "1.1.1.1", "192.0.2.1")}, "home.example. A 1.1.1.1\n"},
	} {
		t.Run(name, func(t *testing.T) {
			records, problems := test.sections.Records(Host{Links: test.links})
			var b strings.Builder
			for _, r := range slices.Concat(records...) {
				rrtype := "A"
				if r.IPv6 {
					rrtype = "AAAA"
				}
				fmt.Fprintf(&b, "%s %s", r.Name, rrtype)
				for _, a := range r.Addrs {
					fmt.Fprintf(&b, " %s", a)
				}
				fmt.Fprintln(&b)
			}
			if got := b.String() + text(Plan{Problems: problems}); got != test.want {
				t.Errorf("got\n%swant\n%s", got, test.want)
			}
		})
	}
}

func TestScope(t *testing.T) {
	for _, public := range []string{"8.8.8.8", "100.63.255.255", "100.128.0.0", "172.15.0.1", "192.0.1.1",
		"2400:8500::1", "2002::1"} {
		if scope := Scope(addr(public)); scope != "" {
			t.Errorf("%s: %s", public, scope)
		}
	}
	for _, not := range []string{"10.0.0.1", "172.31.0.1", "192.168.0.1", "100.64.0.0", "100.127.255.255",
		"169.254.1.1", "127.0.0.1", "192.0.0.2",
		"192.0.2.1", "198.51.100.7", "203.0.113.9", "198.18.0.1", "0.0.0.0", "240.0.0.1", "224.0.0.1",
		"255.255.255.255", "fe80::1", "fd00::1",
		"fc00::1", "::1", "::", "2001:db8::1", "3fff::1", "ff02::1", "fec0::1"} {
		if Scope(addr(not)) == "" {
			t.Errorf("%s counts as reachable from everywhere", not)
		}
	}
}

// carryOut does to a host what the kernel would do. Adding what is there is an error, and so is removing what is not.
func carryOut(t interface{ Fatalf(string, ...any) }, host *Host, steps []Step) {
	for _, s := range steps {
		switch {
		case s.Rule != nil && s.Op == Add:
			if slices.Contains(host.Rules, *s.Rule) {
				t.Fatalf("%s: exists", s.Command())
			}
			host.Rules = append(host.Rules, *s.Rule)
		case s.Rule != nil:
			i := slices.Index(host.Rules, *s.Rule)
			if i < 0 || s.Rule.Protocol != Protocol {
				t.Fatalf("%s: not there or not ours", s.Command())
			}
			host.Rules = slices.Delete(host.Rules, i, i+1)
		default:
			i := slices.IndexFunc(
				host.Routes,
				func(r Route) bool { return r.Table == s.Route.Table && r.To == s.Route.To && r.Protocol == Protocol },
			)
			switch {
			case (s.Op == Add) == (i >= 0):
				t.Fatalf("%s: exists %t", s.Command(), i >= 0)
			case s.Op == Add:
				host.Routes = append(host.Routes, *s.Route)
			case s.Op == Replace:
				host.Routes[i] = *s.Route
			default:
				host.Routes = slices.Delete(host.Routes, i, i+1)
			}
		}
	}
}

// TestOrders takes links up and down and changes addresses, in any order, loses calls and stops runs midway. After
// one whole run the kernel has one rule per address of a link that is up, none besides, and everybody else's as
// they were.
func TestOrders(t *testing.T) {
	sections := Sections{"ppp0": {Table: 200}, "ppp1": {Table: 201, Routes: []netip.Prefix{prefix("192.168.2.0/24")}}}
	rapid.Check(t, func(t *rapid.T) {
		stranger := Rule{Priority: 100, From: prefix("203.0.113.1/32"), Table: 99, Protocol: 3}
		strange := by(4, ours(99, "0.0.0.0/0", "10.9.9.1", 2))
		host := Host{Links: []Link{card("eth0", 2, "10.9.9.2")}, Rules: []Rule{stranger}, Routes: []Route{strange}}
		index := 10
		for range rapid.IntRange(1, 30).Draw(t, "events") {
			n := rapid.IntRange(0, 1).Draw(t, "link")
			name := fmt.Sprintf("ppp%d", n)
			switch rapid.IntRange(0, 3).Draw(t, "event") {
			case 0, 1: // up, with another address; the kernel forgets the routes through the old interface
				i := slices.IndexFunc(host.Links, func(l Link) bool { return l.Name == name })
				if i >= 0 {
					old := host.Links[i].Index
					host.Links = slices.Delete(host.Links, i, i+1)
					host.Routes = slices.DeleteFunc(host.Routes, func(r Route) bool { return r.Link == old })
				}
				index++
				host.Links = append(
					host.Links,
					ppp(name, index, fmt.Sprintf("203.0.113.%d", rapid.IntRange(1, 4).Draw(t, "address")), "192.0.2.1"),
				)
			case 2: // down
				if i := slices.IndexFunc(host.Links, func(l Link) bool { return l.Name == name }); i >= 0 {
					old := host.Links[i].Index
					host.Links = slices.Delete(host.Links, i, i+1)
					host.Routes = slices.DeleteFunc(host.Routes, func(r Route) bool { return r.Link == old })
				}
			case 3: // a run that is stopped somewhere
				plan, err := sections.Plan(host)
				if err != nil {
					t.Fatal(err)
				}
				carryOut(t, &host, plan.Steps[:rapid.IntRange(0, len(plan.Steps)).Draw(t, "steps")])
			}
		}
		plan, err := sections.Plan(host)
		if err != nil {
			t.Fatal(err)
		}
		carryOut(t, &host, plan.Steps)
		if again, _ := sections.Plan(host); len(again.Steps) > 0 {
			t.Fatalf("a second run would do\n%s", text(again))
		}
		rules, routes := 1, 1
		for _, l := range host.Links {
			if s, ok := sections[l.Name]; ok {
				rules += 1
				routes += 1 + len(s.Routes)
			}
		}
		if len(host.Rules) != rules || len(host.Routes) != routes || !slices.Contains(host.Rules, stranger) ||
			!slices.Contains(host.Routes, strange) {
			t.Fatalf(
				"%d rules and %d routes, want %d and %d: %v",
				len(host.Rules),
				len(host.Routes),
				rules,
				routes,
				host,
			)
		}
	})
}

func ExampleSections_Plan() {
	sections := Sections{"ppp0": {Table: 200}}
	host := Host{
		Links: []Link{{Name: "ppp0", Index: 5, Up: true, Device: true,
			Addresses: []Address{{Addr: netip.MustParseAddr("203.0.113.77"), Peer: netip.MustParseAddr("192.0.2.1")}}}},
		// What the connection before this one left behind.
		Rules: []Rule{{Priority: 200, From: netip.MustParsePrefix("203.0.113.5/32"), Table: 200, Protocol: Protocol}},
	}
	plan, _ := sections.Plan(host)
	for _, step := range plan.Steps {
		fmt.Printf("%s # %s\n", step.Command(), step.Reason)
	}
	// Output:
	// ip -4 route add default via 192.0.2.1 dev ppp0 table 200 onlink protocol 116 # answers from ppp0
	// ip -4 rule add from 203.0.113.77 lookup 200 priority 200 protocol 116 # address of ppp0
	// ip -4 rule del from 203.0.113.5 lookup 200 priority 200 protocol 116 # no configured link has this address
}

func BenchmarkPlan(b *testing.B) {
	sections := Sections{"ppp0": {Table: 200}, "ppp1": {Table: 201}}
	host := Host{Links: []Link{ppp("ppp0", 5, "203.0.113.5", "192.0.2.1"), ppp("ppp1", 6, "203.0.113.6", "192.0.2.1")}}
	for b.Loop() {
		if _, err := sections.Plan(host); err != nil {
			b.Fatal(err)
		}
	}
}
