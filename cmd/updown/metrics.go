package main

import (
	"tunnelcast/internal/hook"
	"tunnelcast/internal/lease"
)

// The metrics of sync. The hook has none, because charon waits for it.
var (
	metricClients = hook.Metric{Name: "tunnelcast_updown_clients", Help: "VPN clients that are connected and have a virtual IP."}
	metricNames   = hook.Metric{Name: "tunnelcast_updown_names", Help: "Names in the zone that this gateway has given to clients."}
	metricAdded   = hook.Metric{Name: "tunnelcast_updown_names_added_total", Help: "Addresses that sync added to the zone, which no hook had."}
	metricRemoved = hook.Metric{Name: "tunnelcast_updown_names_removed_total", Help: "Addresses that sync removed from the zone."}

	metrics = []hook.Metric{metricClients, metricNames, metricAdded, metricRemoved}
)

// countNames returns how many names in the forward zone have a known address.
func countNames(known map[lease.RR]bool, forward []lease.RR) int {
	owners := map[string]bool{}
	for _, rr := range forward {
		if known[rr] {
			owners[rr.Owner] = true
		}
	}
	return len(owners)
}
