package charon

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"tunnelcast/internal/lease"
	"tunnelcast/internal/vici"
)

// sa is what is read of one IKE_SA (list_ike in
// src/libcharon/plugins/vici/vici_query.c), in the message's own bytes.
type sa struct {
	state       []byte
	remoteHost  []byte
	remoteID    []byte
	eapID       []byte
	xauthID     []byte
	established []byte // seconds since then
	vips        [][]byte
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
	err := s.stream(ctx, "list-sas", "list-sa", func(message vici.Message) (err error) {
		leases, err = appendLeases(leases, message, now)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list IKE_SAs: %w", err)
	}
	return leases, nil
}

// appendLeases reads the sections of an event, each an IKE_SA under the name of
// its connection, and appends those that are live and have virtual IPs.
func appendLeases(leases []lease.Lease, message vici.Message, now time.Time) ([]lease.Lease, error) {
	var s sa
	err := message.Sections(s.set, func(connection []byte) error {
		l, ok, err := s.lease(now)
		if err != nil {
			return fmt.Errorf("connection %s: %w", connection, err)
		}
		if ok {
			l.Connection = string(connection)
			leases = append(leases, l)
		}
		s = sa{vips: s.vips[:0]}
		return nil
	})
	return leases, err
}

func (s *sa) set(e vici.Element) {
	switch string(e.Key) {
	case "state":
		s.state = e.Value
	case "remote-host":
		s.remoteHost = e.Value
	case "remote-id":
		s.remoteID = e.Value
	case "remote-eap-id":
		s.eapID = e.Value
	case "remote-xauth-id":
		s.xauthID = e.Value
	case "established":
		s.established = e.Value
	case "remote-vips":
		if e.Kind == vici.ListItem {
			s.vips = append(s.vips, e.Value)
		}
	}
}

func (s *sa) lease(now time.Time) (l lease.Lease, ok bool, err error) {
	if len(s.vips) == 0 || !slices.Contains(liveStates, string(s.state)) {
		return l, false, nil
	}
	l.Remote = string(s.remoteHost)
	// charon sends an EAP or XAuth identity only if it differs from the IKE identity.
	l.Identity = lease.Identity(string(s.eapID), string(s.xauthID), string(s.remoteID))
	if len(s.established) > 0 {
		seconds, err := strconv.ParseInt(string(s.established), 10, 64)
		if err != nil {
			return l, false, fmt.Errorf("established %q is no number", s.established)
		}
		l.Established = now.Add(-time.Duration(seconds) * time.Second)
	}
	for _, text := range s.vips {
		addr, err := netip.ParseAddr(string(text))
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
	var response vici.Message
	err := s.do(ctx, func(c *vici.Client) (err error) {
		response, err = c.Call(ctx, "get-pools", nil)
		return err
	})
	var pools lease.Pools
	if err == nil {
		pools, err = readPools(response)
	}
	if err != nil {
		return nil, fmt.Errorf("get pools: %w", err)
	}
	return pools, nil
}

func readPools(response vici.Message) (lease.Pools, error) {
	var pools lease.Pools
	var base, size string
	set := func(e vici.Element) {
		switch {
		case e.Kind != vici.KeyValue:
		case string(e.Key) == "base":
			base = string(e.Value)
		case string(e.Key) == "size":
			size = string(e.Value)
		}
	}
	err := response.Sections(set, func(name []byte) error {
		r, ok, err := poolRange(base, size)
		if err != nil {
			return fmt.Errorf("pool %s: %w", name, err)
		}
		if ok {
			pools = append(pools, r)
		}
		base, size = "", ""
		return nil
	})
	return pools, err
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
	if whole := n + 2; n > 1 && whole&(whole-1) == 0 && binary.BigEndian.Uint32(last[len(last)-4:])&uint32(whole-1) == 0 {
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
