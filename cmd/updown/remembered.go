package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"tunnelcast/internal/file"
	"tunnelcast/internal/program"
	"tunnelcast/internal/session"
)

// sessionMemory is what a run of sync keeps of the sessions for the next one, in
// the file sessions of /run/tunnelcast. charon does not remember it: an IKE_SA has
// the time of its last rekeying, not that of the login. A boot ends all sessions,
// and the file is gone with them; a restart of charon ends them too, and the file
// knows which they were.
type sessionMemory struct {
	Clock    time.Time         `json:"clock"` // when the host was booted, by its clock then
	Sessions []session.Session `json:"sessions"`

	// Events that are to be told, and the number of the last one. An event is
	// written here with the sessions that it is the difference of, and put into the
	// queue afterwards; the queue drops one that it has seen. So each is told once,
	// wherever a run is killed.
	Pending []pendingEvent `json:"pending"`
	Number  uint64         `json:"number"`

	// Calls of the program that have been counted in the metrics.
	Made   uint64 `json:"made"`
	Failed uint64 `json:"failed"`
}

// pendingEvent is an event that is not in the queue yet.
type pendingEvent struct {
	Number uint64   `json:"number"`
	Vars   []string `json:"vars"`
}

func (m *sessionMemory) add(vars []string, queue program.Queue) error {
	// If the file was lost, the queue still knows which numbers it has had.
	last, err := queue.Last()
	if err != nil {
		return err
	}
	m.Number = max(m.Number, last) + 1
	m.Pending = append(m.Pending, pendingEvent{m.Number, vars})
	return nil
}

func memoryFile(runDir string) string { return filepath.Join(runDir, "sessions") }

// loadSessions returns an empty memory if there is none.
func loadSessions(runDir string, now time.Time) (m sessionMemory, err error) {
	text, err := os.ReadFile(memoryFile(runDir))
	if err == nil {
		if err = json.Unmarshal(text, &m); err != nil {
			err = fmt.Errorf("%s: %w", memoryFile(runDir), err)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return sessionMemory{}, err
	}
	for i, s := range m.Sessions {
		if m.Sessions[i].Identity, err = strconv.Unquote(s.Identity); err != nil {
			return sessionMemory{}, fmt.Errorf("%s: the identity %s is not in quotes", memoryFile(runDir), s.Identity)
		}
	}
	booted := bootTime(now)
	// A host without a battery for its clock may learn the time long after it has
	// booted. The sessions' ages must not change with it.
	if d := booted.Sub(m.Clock); !m.Clock.IsZero() && !booted.IsZero() && d.Abs() > clockStep {
		session.Shift(m.Sessions, d)
	}
	m.Clock = booted
	return m, err
}

// clockStep is more than reading the uptime, in whole seconds, can be wrong.
const clockStep = 5 * time.Second

func bootTime(now time.Time) time.Time {
	var info syscall.Sysinfo_t
	if err := syscall.Sysinfo(&info); err != nil {
		return time.Time{}
	}
	return now.Add(-time.Duration(info.Uptime) * time.Second).Round(0)
}

func (m sessionMemory) save(runDir string) error {
	// JSON would replace what is not UTF-8.
	m.Sessions = slices.Clone(m.Sessions)
	for i, s := range m.Sessions {
		m.Sessions[i].Identity = strconv.Quote(s.Identity)
	}
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		return err
	}
	return file.Replace(memoryFile(runDir), text, 0o600, file.InMemory)
}
