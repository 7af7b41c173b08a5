//go:build cgo

package main

import (
	"errors"
	"os"
	"time"

	"tunnelcast/internal/hook"
	"tunnelcast/internal/publish"
	"tunnelcast/internal/sandbox"
)

const (
	lockDir  = "/run/lock"
	lockName = "tunnelcast-recorddone"
)

// worker is a run that has lowered its priority, opened the job locks and entered the sandbox. It can
// reach no files but those in the directories that it was started for.
type worker struct {
	env       hook.Env
	slots     *publish.Slots
	faststart bool
	sweeping  bool
	progress  *progress // of a sweep; otherwise of the recording, once its size is known
	reported  map[lacking]bool

	calls            *calls
	onPublished      []string
	publishedTimeout time.Duration
}

// lacking is what a file system, by its device number, lacks.
type lacking struct {
	device uint64
	what   publish.Lack
}

// start begins the work of a run in the directories. The sandbox stays until the process ends.
func (h *host) start(dirs ...string) (*worker, error) {
	slots, err := publish.OpenSlots(lockDir, lockName, h.Jobs)
	if err != nil {
		h.env.Log.Warn("working without job locks", noJobLocks, "error", err)
	}
	h.env.Metrics.Begin(h.Metrics, metrics...)
	if _, err := os.Stat(h.Metrics); err == nil {
		dirs = append(dirs, h.Metrics)
	}
	if err := sandbox.LowerPriority(); err != nil {
		h.env.Log.Warn("working at ordinary priority", ordinaryPriority, "error", err)
	}
	h.calls = h.startCalls()
	if h.Sandbox {
		if err := sandbox.Restrict(dirs...); errors.Is(err, sandbox.ErrNoLandlock) {
			h.env.Log.Info("working without a sandbox", noSandbox, "error", err)
		} else if err != nil {
			slots.Close()
			return nil, err
		}
	}
	return &worker{env: h.env, slots: slots, faststart: h.Faststart, reported: map[lacking]bool{},
		calls: h.calls, onPublished: h.OnPublished, publishedTimeout: h.EventTimeout}, nil
}

// reportLacks logs what the file system lacks, once in a run.
func (w *worker) reportLacks(source *publish.Source) {
	for _, what := range source.Lacks() {
		if key := (lacking{source.Device(), what}); !w.reported[key] {
			w.reported[key] = true
			w.env.Log.Info("the file system has no "+string(what)+": "+what.Effect(), fileSystemLacks,
				"path", source.Dir, "lacks", string(what))
		}
	}
}
