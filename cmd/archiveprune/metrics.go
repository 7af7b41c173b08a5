package main

import (
	"tunnelcast/internal/hook"
	"tunnelcast/internal/retention"
)

var (
	metricBytes = hook.Metric{
		Name: "tunnelcast_archiveprune_archive_bytes",
		Help: "What the recordings that stay take of the disk.",
	}
	metricOldest = hook.Metric{
		Name: "tunnelcast_archiveprune_oldest_recording_timestamp_seconds",
		Help: "When the oldest recording that stays was last written to, in Unix time; none if there is no recording.",
	}
	metricRemoved = hook.Metric{
		Name: "tunnelcast_archiveprune_removed_total",
		Help: "Recordings removed.",
	}
	metricRemovedBytes = hook.Metric{
		Name: "tunnelcast_archiveprune_removed_bytes_total",
		Help: "What came free with the recordings removed.",
	}
	metricNotRemoved = hook.Metric{
		Name: "tunnelcast_archiveprune_not_removed_total",
		Help: "Files and directories that could not be looked at or removed.",
	}

	metrics = []hook.Metric{metricBytes, metricOldest, metricRemoved, metricRemovedBytes, metricNotRemoved}
)

// beginMetrics forgets the archives of earlier runs, unless this run may not have all of them.
func (h *host) beginMetrics() {
	if h.DryRun {
		return
	}
	m := h.env.Metrics
	m.Begin(h.Metrics, metrics...)
	if !h.named && !h.Prune.OnlyMinFree {
		m.Reset(metricBytes)
		m.Reset(metricOldest)
	}
}

// countRun adds what a run has done, however it ended.
func countRun(m *hook.Metrics, r *report) {
	m.Add(metricRemoved, float64(r.Removed))
	m.Add(metricRemovedBytes, float64(r.Freed))
	m.Add(metricNotRemoved, float64(r.Failed))
}

// stock is what stays of an archive.
type stock struct {
	files  int
	bytes  int64
	oldest int64 // when it was last written to, in nanoseconds since 1970
}

func (s *stock) add(r retention.Recording) {
	if s.files == 0 || r.ModTime < s.oldest {
		s.oldest = r.ModTime
	}
	s.files++
	s.bytes += r.Bytes
}

// count sets the gauges of an archive. It does nothing if s is nil, because what stays is then not known.
func (s *stock) count(m *hook.Metrics, archive string) {
	if s == nil {
		return
	}
	m.Set(metricBytes, float64(s.bytes), "archive", archive)
	if s.files > 0 {
		m.Set(metricOldest, float64(s.oldest/1e9), "archive", archive)
	}
}
