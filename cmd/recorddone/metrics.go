//go:build cgo

package main

import (
	"time"

	"tunnelcast/internal/hook"
	"tunnelcast/internal/recording"
)

// The metrics of the hook and of sweep.
var (
	metricRecordings  = metric("recordings_total", "MP4 files published.")
	metricBytes       = metric("bytes_total", "Bytes of the MP4 files published.")
	metricSeconds     = metric("recorded_seconds_total", "Length of the recordings published.")
	metricWorkSeconds = metric("work_seconds_total", "Time spent on recordings.")
	metricDropped     = metric("packets_dropped_total", "Packets that are in no MP4 file; their FLV stays.")
	metricMoved       = metric("packets_moved_total", "Packets whose wrong time was corrected; their FLV stays.")
	metricKept        = metric("kept_total", "Times that a recording stayed FLV.")

	metrics = []hook.Metric{
		metricRecordings, metricBytes, metricSeconds, metricWorkSeconds, metricDropped, metricMoved, metricKept,
	}
)

func metric(name, help string) hook.Metric {
	return hook.Metric{Name: "tunnelcast_recorddone_" + name, Help: help}
}

func (w *worker) countPublished(path string, length time.Duration) {
	w.env.Metrics.Add(metricRecordings, 1)
	w.env.Metrics.Add(metricBytes, float64(size(path)))
	w.env.Metrics.Add(metricSeconds, length.Seconds())
}

func (w *worker) countLosses(survey recording.Survey) {
	w.env.Metrics.Add(metricDropped, float64(survey.Dropped()))
	w.env.Metrics.Add(metricMoved, float64(survey.Moved()))
	w.env.Metrics.Add(metricKept, 1)
}
