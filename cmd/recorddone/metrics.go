//go:build cgo

package main

import (
	"time"

	"tunnelcast/internal/hook"
	"tunnelcast/internal/recording"
)

// The metrics of the hook and of sweep.
var (
	metricRecordings = hook.Metric{Name: "tunnelcast_recorddone_recordings_total", Help: "MP4 files published."}
	metricBytes      = hook.Metric{Name: "tunnelcast_recorddone_bytes_total", Help: "Bytes of the MP4 files published."}
	metricSeconds    = hook.Metric{Name: "tunnelcast_recorddone_recorded_seconds_total", Help: "Length of the recordings published."}

	metricWorkSeconds = hook.Metric{Name: "tunnelcast_recorddone_work_seconds_total", Help: "Time spent on recordings."}
	metricDropped     = hook.Metric{Name: "tunnelcast_recorddone_packets_dropped_total", Help: "Packets that are in no MP4 file; their FLV stays."}
	metricMoved       = hook.Metric{Name: "tunnelcast_recorddone_packets_moved_total", Help: "Packets whose time was wrong and was corrected; their FLV stays."}
	metricKept        = hook.Metric{Name: "tunnelcast_recorddone_kept_total", Help: "Times that a recording stayed FLV."}

	metrics = []hook.Metric{
		metricRecordings, metricBytes, metricSeconds, metricWorkSeconds, metricDropped, metricMoved, metricKept,
	}
)

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
