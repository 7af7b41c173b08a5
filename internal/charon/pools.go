package charon

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"

	"tunnelcast/internal/lease"
	"tunnelcast/internal/vici"
)

// Pools returns the address ranges of charon's own pools. Addresses that clients get
// from elsewhere (RADIUS, DHCP, a database) are in none of them.
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

func readPools(response vici.Message) (pools lease.Pools, err error) {
	var base, size, name string
	for e, err := range response.Elements() {
		switch {
		case err != nil:
			return nil, err
		case e.Depth == 0 && e.Kind == vici.SectionStart:
			name, base, size = string(e.Key), "", ""
		case e.Depth == 0 && e.Kind == vici.SectionEnd:
			r, ok, err := poolRange(base, size)
			if err != nil {
				return nil, fmt.Errorf("pool %s: %w", name, err)
			}
			if ok {
				pools = append(pools, r)
			}
		case e.Depth != 1 || e.Kind != vici.KeyValue:
		case string(e.Key) == "base":
			base = string(e.Value)
		case string(e.Key) == "size":
			size = string(e.Value)
		}
	}
	return pools, nil
}

// poolRange returns the range of a pool, given its first address and its size. charon
// has already excluded the network and broadcast addresses (mem_pool_create in
// src/libcharon/attributes/mem_pool.c). The pool %config has size 0 and no range.
//
// For a pool that is a whole network, strongSwan up to 5.9 reports the network address
// as the first, although it assigns the addresses from the next one on. A pool that
// looks like that gets one address more, because it may be either.
func poolRange(base, size string) (r lease.Range, ok bool, err error) {
	n, err := strconv.ParseUint(size, 10, 32)
	if err != nil {
		return r, false, fmt.Errorf("size %q is not a number", size)
	}
	if n == 0 {
		return r, false, nil
	}
	first, err := netip.ParseAddr(base)
	if err != nil || first.Zone() != "" {
		return r, false, fmt.Errorf("base %q is not an address", base)
	}
	last := first.AsSlice()
	carry := n - 1
	low := binary.BigEndian.Uint32(last[len(last)-4:])
	if whole := n + 2; n > 1 && whole&(whole-1) == 0 && low&uint32(whole-1) == 0 {
		carry = n
	}
	for i := len(last) - 1; i >= 0 && carry > 0; i-- {
		carry += uint64(last[i])
		last[i] = byte(carry)
		carry >>= 8
	}
	if carry > 0 {
		return r, false, fmt.Errorf("size %s from %s on exceeds the address space", size, base)
	}
	end, _ := netip.AddrFromSlice(last)
	return lease.Range{First: first, Last: end}, true, nil
}
