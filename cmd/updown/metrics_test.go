package main

import (
	"net/netip"
	"testing"

	"tunnelcast/internal/lease"
)

func TestCountNames(t *testing.T) {
	at := func(name, addr string) lease.RR {
		return lease.Address(name+".example.", netip.MustParseAddr(addr))
	}
	known := map[lease.RR]bool{at("alice", "10.0.0.100"): true, at("alice", "fd00::1"): true,
		at("bob", "10.0.0.103"): true, at("gone", "10.0.0.102"): true}
	zone := []lease.RR{
		{Owner: "example.", Type: "SOA"}, at("ns", "10.0.0.1"), at("printer", "10.0.0.150"), // not ours
		at("alice", "10.0.0.100"), at("alice", "10.0.0.101"), at("alice", "fd00::1"), // one name
		at("gone", "10.0.0.102"),
	}
	if got := countNames(known, zone); got != 2 {
		t.Errorf("%d names, want alice and gone", got)
	}
}
