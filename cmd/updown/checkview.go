package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"tunnelcast/internal/ddns"
	"tunnelcast/internal/lease"
	"tunnelcast/internal/swanctl"
)

// viewTimeout is the deadline of one question of checkView.
const viewTimeout = 3 * time.Second

// checkView looks up the RR that was just added as a client does: unsigned, at the DNS
// servers in the pools of swanctl.conf, or if there are none at the server in the
// settings, from an address of this host in the pool's network if it has one. A named
// with views may answer that question from another zone than the one that the update
// changed.
func (h *host) checkView(ctx context.Context, pools lease.Pools, rr lease.RR) (lines []result) {
	host, port, _ := net.SplitHostPort(h.Server)
	var asked []*ddns.Server
	var nameservers []netip.Addr
	if conf, err := swanctl.Read(h.SwanctlDir); err == nil { // checkLine reports an unreadable file
		nameservers = conf.Nameservers()
	}
	for _, addr := range nameservers {
		s := &ddns.Server{Addr: net.JoinHostPort(addr.String(), h.clientPort)}
		if addr.String() == host {
			s.Addr = net.JoinHostPort(host, port)
		}
		asked = append(asked, s)
	}
	if len(asked) == 0 {
		own := &ddns.Server{Addr: h.Server}
		if addr, err := netip.ParseAddr(host); err == nil {
			own.From = beside(pools, addr)
		}
		asked = append(asked, own)
	}
	for _, s := range asked {
		askCtx, cancel := context.WithTimeout(ctx, viewTimeout)
		seen, err := s.Lookup(askCtx, rr.Owner)
		there := err == nil && slices.Contains(seen.Holds, rr)
		later := err == nil && !there && h.isElsewhere(s.Addr) && s.Knows(askCtx, h.rules.Zone)
		cancel()
		line := result{what: fmt.Sprintf("what clients see of zone %s at %s, %s", h.rules.Zone, s.Addr, rr.Type)}
		if s.From.IsValid() {
			line.what += " asked for from " + s.From.String()
		}
		switch {
		case there:
		case later:
			line.unknown = true
			line.what += ": it has the zone, and new names later, as a secondary or a cache does"
		case errors.Is(err, ddns.ErrRefused) && len(nameservers) == 0 && !s.From.IsValid():
			// allow-query may permit the clients and not this host.
			line.unknown = true
			line.what = fmt.Sprintf("what clients see of zone %s: %v", h.rules.Zone, err)
		case err != nil:
			line.err = err
		default:
			line.err = errors.New("a name that was just added is not there")
		}
		line.remedy = "clients may be in another view of named than updates: match-clients in named.conf"
		switch {
		case line.unknown:
			line.remedy = fmt.Sprintf("on a client: `dig SOA %s`", h.rules.Zone)
		case len(nameservers) > 0 && (errors.Is(err, ddns.ErrNoReply) || errors.Is(err, syscall.ECONNREFUSED)):
			line.remedy = "listen-on in named.conf, or dns in the pool's section in swanctl.conf"
		case len(nameservers) > 0:
			line.remedy += ", or dns in the pool's section in swanctl.conf names another server"
		}
		lines = append(lines, line)
	}
	return lines
}

// isElsewhere reports whether a DNS server is another one than that of the settings. Two addresses of this host are
// those of one named.
func (h *host) isElsewhere(server string) bool {
	if addr, err := netip.ParseAddrPort(h.Server); err == nil && !isOwn(h.Server) {
		return server != addr.String()
	}
	return server != h.Server && !isOwn(server)
}

// isOwn reports whether an address with a port is one of this host.
func isOwn(hostPort string) bool {
	addrPort, err := netip.ParseAddrPort(hostPort)
	return err == nil && ownAddresses()(addrPort.Addr())
}

// ownAddresses returns a function that reports whether an address is this host's.
func ownAddresses() func(netip.Addr) bool {
	interfaces, err := net.InterfaceAddrs()
	return func(addr netip.Addr) bool {
		return err != nil || slices.ContainsFunc(interfaces, func(a net.Addr) bool {
			prefix, err := netip.ParsePrefix(a.String())
			return err == nil && prefix.Addr().Unmap() == addr
		})
	}
}

// beside returns an address of this host in the network of a pool, of the same family as
// server. named probably applies the same view to it as to the clients.
func beside(pools lease.Pools, server netip.Addr) netip.Addr {
	local, _ := net.InterfaceAddrs()
	for _, r := range pools {
		bits := 24
		if r.First.Is6() {
			bits = 64
		}
		network, _ := r.First.Prefix(bits)
		for _, l := range local {
			prefix, err := netip.ParsePrefix(l.String())
			if addr := prefix.Addr().Unmap(); err == nil && network.Contains(addr) && addr.BitLen() == server.BitLen() {
				return addr
			}
		}
	}
	return netip.Addr{}
}
