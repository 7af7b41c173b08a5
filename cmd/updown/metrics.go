package main

import (
	"tunnelcast/internal/hook"
	"tunnelcast/internal/lease"
)

// What sync counts. The hook does not: charon waits for it.
var (
	clients = hook.Metric{Name: "tunnelcast_updown_clients", Help: "VPN clients that are connected and have a virtual IP."}
	names   = hook.Metric{Name: "tunnelcast_updown_names", Help: "Names in the zone that this gateway has given to clients."}
	added   = hook.Metric{Name: "tunnelcast_updown_names_added_total", Help: "Addresses that sync added to the zone, which no hook had."}
	removed = hook.Metric{Name: "tunnelcast_updown_names_removed_total", Help: "Addresses that sync removed from the zone."}

	metrics = []hook.Metric{clients, names, added, removed}
)

// held counts the names that have an address that is ours.
func held(known map[lease.RR]bool, forward []lease.RR) int {
	owners := map[string]bool{}
	for _, rr := range forward {
		if known[rr] {
			owners[rr.Owner] = true
		}
	}
	return len(owners)
}
