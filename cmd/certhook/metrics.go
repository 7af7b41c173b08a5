package main

import (
	"path/filepath"
	"time"

	"tunnelcast/internal/hook"
)

// What the hook and check --heal count.
var (
	notAfter = hook.Metric{Name: "tunnelcast_certhook_not_after_timestamp_seconds", Help: "When the certificate on disk expires, in Unix time."}
	agree    = hook.Metric{Name: "tunnelcast_certhook_agree", Help: "1 if charon serves the certificate on disk, else 0."}
	switches = hook.Metric{Name: "tunnelcast_certhook_switches_total", Help: "Moves of charon to another certificate."}

	metrics = []hook.Metric{notAfter, agree, switches}
)

// count notes what a lineage is like. Its label is certbot's name of it.
func (h *host) count(until time.Time, dir string, agrees bool) {
	name := filepath.Base(dir)
	value := 0.0
	if agrees {
		value = 1
	}
	h.env.Metrics.Set(notAfter, float64(until.Unix()), "lineage", name)
	h.env.Metrics.Set(agree, value, "lineage", name)
}
