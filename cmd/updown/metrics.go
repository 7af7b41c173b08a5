package main

import (
	"tunnelcast/internal/hook"
	"tunnelcast/internal/lease"
)

// The metrics of sync. The hook has none, because charon waits for it.
var (
	metricClients = hook.Metric{Name: "tunnelcast_updown_clients",
		Help: "VPN clients that are connected and have a virtual IP."}
	metricNames = hook.Metric{Name: "tunnelcast_updown_names",
		Help: "Names in the zone that this gateway has given to clients."}
	metricAdded = hook.Metric{Name: "tunnelcast_updown_names_added_total",
		Help: "Addresses that sync added to the zone, which no hook had."}
	metricRemoved = hook.Metric{Name: "tunnelcast_updown_names_removed_total",
		Help: "Addresses that sync removed from the zone."}

	metricSessions = hook.Metric{Name: "tunnelcast_updown_sessions",
		Help: "IKE_SAs that charon has, by state."}
	metricEnded = hook.Metric{Name: "tunnelcast_updown_sessions_ended_total",
		Help: "Sessions that sync ended, by the limit that they exceeded."}
	metricBytes = hook.Metric{Name: "tunnelcast_updown_session_bytes_total",
		Help: "Bytes that sessions carried, from (in) and to (out) the clients."}
	metricEvents = hook.Metric{Name: "tunnelcast_updown_events_total",
		Help: "Calls of the program of on-event."}
	metricEventsFailed = hook.Metric{Name: "tunnelcast_updown_events_failed_total",
		Help: "Calls of the program of on-event that failed."}

	metrics = []hook.Metric{metricClients, metricNames, metricAdded, metricRemoved,
		metricSessions, metricEnded, metricBytes, metricEvents, metricEventsFailed}
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
