package charon

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/strongswan/govici/vici"

	"tunnelcast/internal/lease"
)

// sa is what is read of one IKE_SA (list_ike in
// src/libcharon/plugins/vici/vici_query.c).
type sa struct {
	State       string   `vici:"state"`
	RemoteHost  string   `vici:"remote-host"`
	RemoteID    string   `vici:"remote-id"`
	EAPID       string   `vici:"remote-eap-id"`
	XAuthID     string   `vici:"remote-xauth-id"`
	Established string   `vici:"established"` // seconds since then
	VIPs        []string `vici:"remote-vips"`
}

// liveStates are those in which an IKE_SA has its virtual IPs. A rekeyed one has
// handed them to its successor; a deleted one gives them back.
var liveStates = []string{"ESTABLISHED", "REKEYING", "REKEYED"}

// Leases returns the live clients that have virtual IPs. It waits for every
// IKE_SA that is busy, so an answer is whole; anything less is an error.
//
// Virtual IPs are those of the IKE_SA and not the selectors of its CHILD_SAs,
// because a rekeyed CHILD_SA stays listed for some seconds. IKE_SAs that come or
// are rekeyed while charon goes through its table may be missing.
func (s *Session) Leases(ctx context.Context, now time.Time) ([]lease.Lease, error) {
	var leases []lease.Lease
	answer, err := s.stream(ctx, "list-sas", "list-sa", vici.NewMessage())
	if err != nil {
		return nil, fmt.Errorf("list IKE_SAs: %w", err)
	}
	for _, message := range answer {
		for _, connection := range message.Keys() {
			section, ok := message.Get(connection).(*vici.Message)
			if !ok {
				continue
			}
			l, ok, err := readSA(section, now)
			if err != nil {
				return nil, fmt.Errorf("list IKE_SAs: connection %s: %w", connection, err)
			}
			if ok {
				l.Connection = connection
				leases = append(leases, l)
			}
		}
	}
	return leases, nil
}

func readSA(section *vici.Message, now time.Time) (l lease.Lease, ok bool, err error) {
	var s sa
	if err := vici.UnmarshalMessage(section, &s); err != nil {
		return l, false, err
	}
	if len(s.VIPs) == 0 || !slices.Contains(liveStates, s.State) {
		return l, false, nil
	}
	l.Remote = s.RemoteHost
	// charon sends the EAP or XAuth identity only where it differs from the IKE
	// identity, so this is what the hook has in PLUTO_XAUTH_ID, else in
	// PLUTO_PEER_ID.
	l.Identity = s.RemoteID
	for _, id := range []string{s.XAuthID, s.EAPID} {
		if id != "" {
			l.Identity = id
		}
	}
	if s.Established != "" {
		seconds, err := strconv.ParseInt(s.Established, 10, 64)
		if err != nil {
			return l, false, fmt.Errorf("established %q is no number", s.Established)
		}
		l.Established = now.Add(-time.Duration(seconds) * time.Second)
	}
	for _, text := range s.VIPs {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return l, false, fmt.Errorf("virtual IP %q is no address", text)
		}
		l.Addresses = append(l.Addresses, addr.Unmap())
	}
	return l, true, nil
}

// Pools returns the ranges of charon's own pools. Addresses from elsewhere
// (RADIUS, DHCP, a database) are in none of them.
func (s *Session) Pools(ctx context.Context) (lease.Pools, error) {
	message, err := s.vici.Call(ctx, "get-pools", vici.NewMessage())
	if err != nil {
		return nil, fmt.Errorf("get pools: %w", err)
	}
	var pools lease.Pools
	for _, name := range message.Keys() {
		section, ok := message.Get(name).(*vici.Message)
		if !ok {
			continue
		}
		base, _ := section.Get("base").(string)
		size, _ := section.Get("size").(string)
		r, ok, err := poolRange(base, size)
		if err != nil {
			return nil, fmt.Errorf("get pools: pool %s: %w", name, err)
		}
		if ok {
			pools = append(pools, r)
		}
	}
	return pools, nil
}

// poolRange reads the first address of a pool and its size: charon has left out
// the network's own address and the broadcast address already (mem_pool_create
// in src/libcharon/attributes/mem_pool.c). The pool %config has size 0.
//
// Up to 5.9 a pool that is a whole network is told with the network's address
// for its base, and its first client gets the next one; a pool that looks like
// that has both.
func poolRange(base, size string) (r lease.Range, ok bool, err error) {
	n, err := strconv.ParseUint(size, 10, 32)
	if err != nil {
		return r, false, fmt.Errorf("size %q is no number", size)
	}
	if n == 0 {
		return r, false, nil
	}
	first, err := netip.ParseAddr(base)
	if err != nil {
		return r, false, fmt.Errorf("base %q is no address", base)
	}
	last := first.AsSlice()
	carry := n - 1
	if whole := n + 2; n > 2 && whole&(whole-1) == 0 && binary.BigEndian.Uint32(last[len(last)-4:])&uint32(whole-1) == 0 {
		carry = n
	}
	for i := len(last) - 1; i >= 0 && carry > 0; i-- {
		carry += uint64(last[i])
		last[i] = byte(carry)
		carry >>= 8
	}
	end, _ := netip.AddrFromSlice(last)
	if carry > 0 {
		return r, false, fmt.Errorf("%s and %s addresses more are too many", base, size)
	}
	return lease.Range{First: first, Last: end}, true, nil
}
