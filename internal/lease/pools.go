package lease

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Range is a range of addresses, including both ends.
type Range struct{ First, Last netip.Addr }

// String returns the notation that ParsePools reads.
func (r Range) String() string { return r.First.String() + "-" + r.Last.String() }

// Pools are the addresses that the gateway assigns to its clients.
type Pools []Range

// ParsePools reads addresses, CIDR prefixes and ranges "first-last", the
// notations of swanctl.conf's pools.
func ParsePools(texts []string) (Pools, error) {
	var pools Pools
	for _, text := range texts {
		r, err := parseRange(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("pool %q: %w", text, err)
		}
		pools = append(pools, r)
	}
	return pools, nil
}

func parseRange(text string) (Range, error) {
	if first, last, ok := strings.Cut(text, "-"); ok {
		a, err := parseAddr(first)
		if err != nil {
			return Range{}, err
		}
		b, err := parseAddr(last)
		if err != nil {
			return Range{}, err
		}
		if a.BitLen() != b.BitLen() || b.Less(a) {
			return Range{}, fmt.Errorf("the last address precedes the first")
		}
		return Range{a, b}, nil
	}
	if !strings.Contains(text, "/") {
		a, err := parseAddr(text)
		return Range{a, a}, err
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return Range{}, err
	}
	prefix = prefix.Masked()
	last := prefix.Addr().AsSlice()
	for bit := prefix.Bits(); bit < len(last)*8; bit++ {
		last[bit/8] |= 0x80 >> (bit % 8)
	}
	end, _ := netip.AddrFromSlice(last)
	return Range{prefix.Addr(), end}, nil
}

func parseAddr(text string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(strings.TrimSpace(text))
	if err == nil && addr.Zone() != "" {
		err = fmt.Errorf("an address with a zone is local to one link")
	}
	return addr, err
}

// Contains reports whether addr is in one of the pools.
func (p Pools) Contains(addr netip.Addr) bool {
	return slices.ContainsFunc(p, func(r Range) bool {
		return addr.BitLen() == r.First.BitLen() && !addr.Less(r.First) && !r.Last.Less(addr)
	})
}

// Strings returns the pools in the notation that ParsePools reads.
func (p Pools) Strings() []string {
	texts := make([]string, len(p))
	for i, r := range p {
		texts[i] = r.String()
	}
	return texts
}
