package main

import (
	"tunnelcast/internal/hook"
	"tunnelcast/internal/retention"
)

var (
	archiveBytes    = hook.Metric{Name: "tunnelcast_archiveprune_archive_bytes", Help: "What the recordings that stay take of the disk."}
	oldestRecording = hook.Metric{Name: "tunnelcast_archiveprune_oldest_recording_timestamp_seconds", Help: "When the oldest recording that stays was last written to, in Unix time; none if there is no recording."}
	removedTotal    = hook.Metric{Name: "tunnelcast_archiveprune_removed_total", Help: "Recordings removed."}
	removedBytes    = hook.Metric{Name: "tunnelcast_archiveprune_removed_bytes_total", Help: "What came free with the recordings removed."}
	notRemovedTotal = hook.Metric{Name: "tunnelcast_archiveprune_not_removed_total", Help: "Files and directories that could not be looked at or removed."}
)

// beginMetrics forgets the archives of earlier runs, unless a person has named
// directories for this one.
func beginMetrics(m *hook.Metrics, c cli) {
	if c.DryRun {
		return
	}
	m.Begin(c.Metrics, archiveBytes, oldestRecording, removedTotal, removedBytes, notRemovedTotal)
	if !c.named && !c.Prune.OnlyMinFree { // which may have left archives out
		m.Reset(archiveBytes)
		m.Reset(oldestRecording)
	}
}

// countMetrics adds what a run has done, however it ended.
func countMetrics(m *hook.Metrics, r *report) {
	m.Add(removedTotal, float64(r.Removed))
	m.Add(removedBytes, float64(r.Freed))
	m.Add(notRemovedTotal, float64(r.Failed))
}

// stock is what stays of an archive.
type stock struct {
	files  int
	bytes  int64
	oldest int64 // ModTime of the oldest
}

func (s *stock) add(r retention.Recording) {
	if s.files == 0 || r.ModTime < s.oldest {
		s.oldest = r.ModTime
	}
	s.files++
	s.bytes += r.Bytes
}

// tell does nothing if s is nil: what stays is not known.
func (s *stock) tell(m *hook.Metrics, archive string) {
	if s == nil {
		return
	}
	m.Set(archiveBytes, float64(s.bytes), "archive", archive)
	if s.files > 0 {
		m.Set(oldestRecording, float64(s.oldest/1e9), "archive", archive)
	}
}
