package main

import (
	"net/netip"
	"testing"

	"tunnelcast/internal/lease"
)

func TestHeldCountsClientsNames(t *testing.T) {
	pools, err := lease.ParsePools([]string{"10.0.0.100-10.0.0.200", "fd00::/64"})
	if err != nil {
		t.Fatal(err)
	}
	rules := lease.Rules{Zone: "example.", Pools: pools}
	at := func(name, addr string) lease.RR {
		return lease.Address(name+".example.", netip.MustParseAddr(addr))
	}
	zones := map[string][]lease.RR{
		"example.": {
			{Owner: "example.", Type: "SOA"}, at("ns", "10.0.0.1"), // not ours
			at("alice", "10.0.0.100"), at("alice", "10.0.0.101"), at("alice", "fd00::1"), // one name
			at("gone", "10.0.0.102"),
		},
		"0.0.10.in-addr.arpa.": {{Owner: "100.0.0.10.in-addr.arpa.", Type: "PTR", Target: "alice.example."}},
	}
	if got := held(rules, zones, nil); got != 2 {
		t.Errorf("%d names before, want 2", got)
	}
	changes := []lease.Change{
		{Zone: "example.", Add: []lease.RR{at("bob", "10.0.0.103")}, Remove: []lease.RR{at("gone", "10.0.0.102"), at("alice", "10.0.0.101")}},
		{Zone: "0.0.10.in-addr.arpa.", Remove: zones["0.0.10.in-addr.arpa."]},
	}
	if got := held(rules, zones, changes); got != 2 {
		t.Errorf("%d names after, want alice and bob", got)
	}
}
