package main

import (
	"path/filepath"
	"time"

	"tunnelcast/internal/hook"
)

// What the hook and check --heal report.
var (
	metricNotAfter = hook.Metric{
		Name: "tunnelcast_certhook_not_after_timestamp_seconds",
		Help: "When the certificate on disk expires, in Unix time.",
	}
	metricAgree = hook.Metric{
		Name: "tunnelcast_certhook_agree",
		Help: "1 if charon serves the certificate on disk, else 0.",
	}
	metricSwitches = hook.Metric{
		Name: "tunnelcast_certhook_switches_total",
		Help: "Moves of charon to another certificate.",
	}

	metrics = []hook.Metric{metricNotAfter, metricAgree, metricSwitches}
)

// setMetrics sets those of one lineage, whose label is certbot's name of it.
func (h *host) setMetrics(dir string, notAfter time.Time, agree bool) {
	name := filepath.Base(dir)
	value := 0.0
	if agree {
		value = 1
	}
	h.env.Metrics.Set(metricNotAfter, float64(notAfter.Unix()), "lineage", name)
	h.env.Metrics.Set(metricAgree, value, "lineage", name)
}
