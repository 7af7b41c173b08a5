//go:build cgo

package main

import (
	"time"

	"tunnelcast/internal/hook"
)

// What the hook and the sweep count.
var (
	recordings      = hook.Metric{Name: "tunnelcast_recorddone_recordings_total", Help: "MP4 files published."}
	recordedBytes   = hook.Metric{Name: "tunnelcast_recorddone_bytes_total", Help: "Bytes of the MP4 files published."}
	recordedSeconds = hook.Metric{Name: "tunnelcast_recorddone_recorded_seconds_total", Help: "Length of the recordings published."}
	workSeconds     = hook.Metric{Name: "tunnelcast_recorddone_work_seconds_total", Help: "Time spent on recordings."}
	keptRecordings  = hook.Metric{Name: "tunnelcast_recorddone_kept_total", Help: "Times that a recording stayed FLV."}

	metrics = []hook.Metric{recordings, recordedBytes, recordedSeconds, workSeconds, keptRecordings}
)

func (w *worker) countPublished(path string, length time.Duration) {
	w.env.Metrics.Add(recordings, 1)
	w.env.Metrics.Add(recordedBytes, float64(size(path)))
	w.env.Metrics.Add(recordedSeconds, length.Seconds())
}
