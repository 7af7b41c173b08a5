// Package iproute reads links, addresses, routes and rules from the kernel and changes those that are ours, in the
// network namespace of this process. It is the door to rtnetlink(7).
package iproute

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"tunnelcast/internal/links"
)

// Read returns what the kernel has. Loopback is left out. A dump that something changed in the middle of it is read
// again, a few times.
func Read() (links.Host, error) {
	var host links.Host
	var err error
	for range 5 {
		if host, err = read(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return links.Host{}, fmt.Errorf("read links and routes from the kernel: %w", err)
	}
	return host, nil
}

func read() (links.Host, error) {
	var host links.Host
	all, err := netlink.LinkList()
	if err != nil {
		return host, err
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return host, err
	}
	byLink := map[int][]links.Address{}
	for _, a := range addrs {
		byLink[a.LinkIndex] = append(byLink[a.LinkIndex], address(a))
	}
	for _, l := range all {
		attrs := l.Attrs()
		if attrs.Flags&net.FlagLoopback != 0 {
			continue
		}
		host.Links = append(host.Links, links.Link{
			Name:      attrs.Name,
			Index:     attrs.Index,
			Up:        up(attrs.RawFlags),
			Device:    attrs.Flags&net.FlagPointToPoint != 0 || attrs.RawFlags&unix.IFF_NOARP != 0,
			Addresses: byLink[attrs.Index],
		})
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		err := netlink.RouteListFilteredIter(
			family,
			&netlink.Route{Table: unix.RT_TABLE_UNSPEC},
			netlink.RT_FILTER_TABLE,
			func(r netlink.Route) bool {
				if r.Table != unix.RT_TABLE_LOCAL {
					host.Routes = append(host.Routes, route(r))
				}
				return true
			},
		)
		if err != nil {
			return host, err
		}
		rules, err := netlink.RuleList(family)
		if err != nil {
			return host, err
		}
		for _, r := range rules {
			host.Rules = append(host.Rules, rule(r, family == netlink.FAMILY_V6))
		}
	}
	return host, nil
}

// up reports whether a link is switched on and has a carrier. The operational state follows the carrier up to a
// second later (net/core/link_watch.c), so it is not asked.
func up(flags uint32) bool { return flags&unix.IFF_UP != 0 && flags&unix.IFF_LOWER_UP != 0 }

func address(a netlink.Addr) links.Address {
	addr := links.Address{
		Addr:      toAddr(a.IP),
		Tentative: a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0,
		Temporary: a.Flags&(unix.IFA_F_TEMPORARY|unix.IFA_F_DEPRECATED) != 0,
	}
	// In IPv4 the library returns the network of an ordinary address as its peer's.
	if a.Peer != nil {
		if peer := toAddr(a.Peer.IP); peer != addr.Addr {
			addr.Peer = peer
		}
	}
	// IFA_F_TEMPORARY is IFA_F_SECONDARY in IPv4, where it says something else.
	if addr.Is4() {
		addr.Temporary = false
	}
	return addr
}

func route(r netlink.Route) links.Route {
	to := toPrefix(r.Dst)
	if !to.IsValid() {
		to = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if r.Family == netlink.FAMILY_V6 {
			to = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
	}
	return links.Route{
		Table: r.Table, To: to, Via: toAddr(r.Gw), Link: r.LinkIndex, Protocol: int(r.Protocol), Metric: r.Priority,
	}
}

// rule leaves the source of a rule out that looks at more than the source: such a rule is never equal to one of ours.
func rule(r netlink.Rule, ipv6 bool) links.Rule {
	from := toPrefix(r.Src)
	if r.Invert || r.Dst != nil || r.Mark != 0 || r.Tos != 0 || r.IifName != "" || r.OifName != "" || r.IPProto != 0 ||
		r.Sport != nil || r.Dport != nil || r.UIDRange != nil || r.Goto >= 0 || r.SuppressPrefixlen >= 0 ||
		r.SuppressIfgroup >= 0 {
		from = netip.Prefix{}
	}
	return links.Rule{Priority: r.Priority, From: from, Table: r.Table, Protocol: int(r.Protocol), IPv6: ipv6}
}

func toAddr(ip net.IP) netip.Addr {
	addr, _ := netip.AddrFromSlice(ip)
	return addr.Unmap()
}

func toPrefix(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(toAddr(n.IP), bits)
}

func fromPrefix(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// Apply carries out one step. A step that the kernel has already made is no error.
func Apply(ctx context.Context, step links.Step) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	var err error
	switch {
	case step.Rule != nil:
		err = applyRule(step)
	default:
		err = applyRoute(step)
	}
	switch {
	case step.Op == links.Add && errors.Is(err, unix.EEXIST):
		return nil
	case step.Op == links.Remove && (errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) || errors.Is(err,
		unix.ENODEV)):
		return nil
	case err != nil:
		return fmt.Errorf("%s: %w", step.Command(), err)
	}
	return nil
}

func applyRoute(step links.Step) error {
	r := &netlink.Route{
		Table: step.Route.Table, Dst: fromPrefix(step.Route.To), LinkIndex: step.Route.Link, Protocol: links.Protocol,
		Priority: step.Route.Metric,
	}
	if step.Route.Via.IsValid() {
		r.Gw = step.Route.Via.AsSlice()
		// The next hop is on the link even where the kernel has no route to it: it makes none for the peer of an
		// IPv6 address that is older than its link's start, and a DHCP server may name a router outside the
		// address's network.
		r.Flags = int(netlink.FLAG_ONLINK)
	} else if step.Route.To.Addr().Is4() {
		r.Scope = netlink.SCOPE_LINK
	}
	switch step.Op {
	case links.Add:
		return netlink.RouteAdd(r)
	case links.Replace:
		return netlink.RouteReplace(r)
	}
	return netlink.RouteDel(r)
}

func applyRule(step links.Step) error {
	r := netlink.NewRule()
	r.Priority, r.Table, r.Src, r.Protocol = step.Rule.Priority, step.Rule.Table, fromPrefix(
		step.Rule.From,
	), links.Protocol
	r.Family = netlink.FAMILY_V4
	if step.Rule.IPv6 {
		r.Family = netlink.FAMILY_V6
	}
	if step.Op == links.Add {
		return netlink.RuleAdd(r)
	}
	return netlink.RuleDel(r)
}

// ReversePathFilter returns what the kernel does with IPv4 packets that would not be answered through the link on
// which they came in: 0 nothing, 1 it drops them, 2 it drops only what has no answer at all (RFC 3704). The
// stricter of the link's own setting and the one for all links holds (Documentation/networking/ip-sysctl.rst).
func ReversePathFilter(link string) (int, error) {
	own, err := sysctl("net/ipv4/conf/" + link + "/rp_filter")
	if err != nil {
		return 0, err
	}
	all, err := sysctl("net/ipv4/conf/all/rp_filter")
	return max(own, all), err
}

// Forwarding reports whether the kernel passes packets on that come in on a link.
func Forwarding(link string, ipv6 bool) (bool, error) {
	family := "ipv4"
	if ipv6 {
		family = "ipv6"
	}
	value, err := sysctl("net/" + family + "/conf/" + link + "/forwarding")
	return value != 0, err
}

func sysctl(name string) (int, error) {
	text, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}
