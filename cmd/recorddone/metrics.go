//go:build cgo

package main

import (
	"time"

	"tunnelcast/internal/hook"
	"tunnelcast/internal/recording"
)

// What the hook and the sweep count.
var (
	recordings      = hook.Metric{Name: "tunnelcast_recorddone_recordings_total", Help: "MP4 files published."}
	recordedBytes   = hook.Metric{Name: "tunnelcast_recorddone_bytes_total", Help: "Bytes of the MP4 files published."}
	recordedSeconds = hook.Metric{Name: "tunnelcast_recorddone_recorded_seconds_total", Help: "Length of the recordings published."}
	workSeconds     = hook.Metric{Name: "tunnelcast_recorddone_work_seconds_total", Help: "Time spent on recordings."}
	droppedPackets  = hook.Metric{Name: "tunnelcast_recorddone_packets_dropped_total", Help: "Packets that are in no MP4 file; their FLV stays."}
	movedPackets    = hook.Metric{Name: "tunnelcast_recorddone_packets_moved_total", Help: "Packets whose time was wrong and was corrected; their FLV stays."}
	keptRecordings  = hook.Metric{Name: "tunnelcast_recorddone_kept_total", Help: "Times that a recording stayed FLV."}

	metrics = []hook.Metric{recordings, recordedBytes, recordedSeconds, workSeconds, droppedPackets, movedPackets, keptRecordings}
)

func (w *worker) countPublished(path string, length time.Duration) {
	w.env.Metrics.Add(recordings, 1)
	w.env.Metrics.Add(recordedBytes, float64(size(path)))
	w.env.Metrics.Add(recordedSeconds, length.Seconds())
}

func (w *worker) countLosses(survey recording.Survey) {
	w.env.Metrics.Add(droppedPackets, float64(survey.Dropped()))
	w.env.Metrics.Add(movedPackets, float64(survey.Moved()))
	w.env.Metrics.Add(keptRecordings, 1)
}
