package main

import (
	"tunnelcast/internal/hook"
	"tunnelcast/internal/lease"
)

// What sync counts. The hook does not: charon waits for it.
var (
	clients = hook.Metric{Name: "tunnelcast_updown_clients", Help: "VPN clients that are connected and have a virtual IP."}
	names   = hook.Metric{Name: "tunnelcast_updown_names", Help: "Names in the zone that have an address of the gateway's pools."}
	added   = hook.Metric{Name: "tunnelcast_updown_names_added_total", Help: "Addresses that sync added to the zone, which no hook had."}
	removed = hook.Metric{Name: "tunnelcast_updown_names_removed_total", Help: "Addresses that sync removed from the zone."}

	metrics = []hook.Metric{clients, names, added, removed}
)

// held counts the clients' names in the zone after the changes.
func held(rules lease.Rules, zones map[string][]lease.RR, changes []lease.Change) int {
	addresses := make(map[string]int, len(zones[rules.Zone]))
	count := func(rrs []lease.RR, n int) {
		for _, rr := range rrs {
			if rr.Addr.IsValid() && rules.Pools.Contains(rr.Addr) {
				addresses[rr.Owner] += n
			}
		}
	}
	count(zones[rules.Zone], 1)
	for _, change := range changes {
		if change.Zone == rules.Zone {
			count(change.Add, 1)
			count(change.Remove, -1)
		}
	}
	total := 0
	for _, n := range addresses {
		if n > 0 {
			total++
		}
	}
	return total
}
