package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"tunnelcast/internal/charon"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/lease"
	"tunnelcast/internal/program"
	"tunnelcast/internal/session"
)

// sessions is the part of sync that comes after the names: it ends sessions that
// exceed a limit, has the events told and counts. It works on a list of its own,
// which it asks charon for when the names are right.
type sessions struct {
	sessionSettings
	policy session.Policy
	runDir string
	env    hook.Env

	list      func(context.Context) (charon.Sessions, error)
	terminate func(ctx context.Context, id string) error
	stopped   func(ctx context.Context, silence error) error // nil if charon does not run, as with live
	nameOf    func(identity string, addr netip.Addr) string  // "" if this gateway gave it none
	leftOut   func([]lease.Lease) map[string]string          // connections whose clients are none of ours
}

const (
	// endingTime is how long one run may spend on ending sessions. charon calls a
	// hook for each; the names of those that are gone wait for the next run.
	endingTime = 20 * time.Second
	// maxPending is how many events are kept while the program cannot be called.
	maxPending = 1000
)

// sessions returns what follows the sessions of this gateway.
func (h *host) sessions() *sessions {
	known, _ := h.memory.Load() // the names' part of sync reports an error
	nameOf := func(identity string, addr netip.Addr) string {
		owner, err := h.rules.Name(identity)
		if err != nil || !known[lease.Address(owner, addr)] {
			return ""
		}
		return strings.TrimSuffix(owner, ".")
	}
	return &sessions{
		sessionSettings: h.sessionSettings,
		policy:          h.policy,
		runDir:          h.RunDir,
		env:             h.env,
		list:            h.listSessions,
		terminate:       h.endSession,
		stopped:         h.confirmStopped,
		nameOf:          nameOf,
		leftOut:         h.leftOut,
	}
}

// followSessions ends sessions and reports events if a setting asks for it.
func (h *host) followSessions(ctx context.Context, dryRun bool) error {
	if !h.used(h.policy, h.Metrics) {
		return nil
	}
	return h.sessions().follow(ctx, dryRun)
}

// follow looks at the sessions once. What could not be done is in the error, which
// wraps hook.ErrSome.
func (s *sessions) follow(ctx context.Context, dryRun bool) error {
	listed, err := s.listLive(ctx)
	if err != nil {
		return fmt.Errorf("%w: sessions: %w", hook.ErrSome, err)
	}
	now := s.env.Now()
	memory, failed := loadSessions(s.runDir, now)
	if failed != nil {
		failed = fmt.Errorf("%w: what the last run knew of the sessions is lost: %w", hook.ErrSome, failed)
	}
	before := memory.Sessions
	memory.Sessions = session.Follow(before, listed.Live, now)
	s.setNames(memory.Sessions)
	plan := s.policy.Plan(memory.Sessions, now)
	if dryRun {
		printEnds(s.env.Stdout, plan)
		return failed
	}
	failed = combine(failed, s.end(ctx, plan, memory.Sessions, now))
	events := session.Events(before, memory.Sessions)
	queue := eventQueue(s.runDir)
	if len(s.OnEvent) == 0 {
		events, memory.Pending = nil, nil
	}
	for _, event := range events {
		if err := memory.add(eventVars(event), queue); err != nil {
			failed = combine(failed, fmt.Errorf("%w: on-event: %w", hook.ErrSome, err))
			break
		}
	}
	if n := len(memory.Pending) - maxPending; n > 0 {
		memory.Pending = memory.Pending[n:]
		s.env.Log.Warn("events are dropped: the program of on-event cannot be called, and too many wait", eventsDropped,
			"count", n)
	}
	s.countSessions(listed, before, &memory, queue)
	if err := memory.save(s.runDir); err != nil {
		return combine(failed, fmt.Errorf("%w: remember the sessions: %w", hook.ErrSome, err))
	}
	if len(memory.Pending) > 0 {
		if err := s.tellPending(&memory, queue); err != nil {
			failed = combine(failed, fmt.Errorf("%w: on-event: %w", hook.ErrSome, err))
		}
	}
	return failed
}

// listLive returns no sessions if charon does not run, and leaves out the clients of
// connections that are none of ours.
func (s *sessions) listLive(ctx context.Context) (charon.Sessions, error) {
	ctx, cancel := context.WithTimeout(ctx, charonTimeout)
	defer cancel()
	listed, err := s.list(ctx)
	if errors.Is(err, charon.ErrNotRunning) {
		return charon.Sessions{}, s.stopped(ctx, err)
	}
	if err != nil {
		return listed, err
	}
	var leases []lease.Lease
	for _, sa := range listed.Live {
		leases = append(leases, lease.Lease{Connection: sa.Connection})
	}
	without := s.leftOut(leases)
	live := listed.Live[:0]
	for _, sa := range listed.Live {
		if _, out := without[sa.Connection]; !out {
			live = append(live, sa)
		}
	}
	listed.Live = live
	return listed, nil
}

func (s *sessions) setNames(sessions []session.Session) {
	for i := range sessions {
		for _, addr := range sessions[i].Addresses {
			if name := s.nameOf(sessions[i].Identity, addr); name != "" {
				sessions[i].Name = name
				break
			}
		}
	}
}

// printEnds lists the sessions that a run would end, for a dry run.
func printEnds(w io.Writer, plan []session.End) {
	for _, end := range plan {
		fmt.Fprintf(w, "; would end the session of %q, %s from %s: %s\n", end.Session.Identity, addresses(end.Session),
			end.Session.Remote,
			end.Reason)
	}
}

// end ends the sessions of a plan and marks them as ended. Those that it has no time
// for are left to the next run.
func (s *sessions) end(ctx context.Context, plan []session.End, all []session.Session, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, endingTime)
	defer cancel()
	for n, end := range plan {
		var err error
		for _, id := range end.Session.IDs {
			if err = s.terminate(ctx, id); err != nil && !errors.Is(err, charon.ErrNoSession) {
				break
			}
		}
		if err != nil && !errors.Is(err, charon.ErrNoSession) {
			return fmt.Errorf("%w: %d of %d sessions to end are left, the first is of %q: %w", hook.ErrSome,
				len(plan)-n, len(plan), end.Session.Identity, err)
		}
		for i := range all {
			if session.Same(all[i], end.Session) {
				all[i].Ended = end.Reason
			}
		}
		if err != nil { // it was gone already
			continue
		}
		s.env.Metrics.Add(metricEnded, 1, "limit", string(end.Limit))
		s.env.Log.Info("session ended", sessionEnded, "identity", end.Session.Identity, "name", end.Session.Name,
			"address", addresses(end.Session), "from", end.Session.Remote, "age",
			end.Session.Age(now).Truncate(time.Second),
			"bytes-in", end.Session.In, "bytes-out", end.Session.Out, "limit", string(end.Limit), "reason", end.Reason)
	}
	return nil
}

func addresses(s session.Session) string {
	texts := make([]string, len(s.Addresses))
	for i, addr := range s.Addresses {
		texts[i] = addr.String()
	}
	return strings.Join(texts, " ")
}

// countSessions sets the metrics.
func (s *sessions) countSessions(listed charon.Sessions, before []session.Session, memory *sessionMemory,
	queue program.Queue) {
	s.env.Metrics.Reset(metricSessions)
	for state, n := range listed.States {
		s.env.Metrics.Set(metricSessions, float64(n), "state", strings.ToLower(state))
	}
	in, out := session.Carried(before, memory.Sessions)
	s.env.Metrics.Add(metricBytes, float64(in), "direction", "in")
	s.env.Metrics.Add(metricBytes, float64(out), "direction", "out")
	made, failed := queue.Counts()
	s.env.Metrics.Add(metricEvents, float64(made-min(made, memory.Made)))
	s.env.Metrics.Add(metricEventsFailed, float64(failed-min(failed, memory.Failed)))
	memory.Made, memory.Failed = made, failed
}
