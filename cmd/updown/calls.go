package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"time"

	"tunnelcast/internal/hook"
	"tunnelcast/internal/program"
	"tunnelcast/internal/session"
)

// eventQueue is where sync leaves the calls of the program of on-event.
//
// tunnelcast-events.path watches it and starts tunnelcast-events.service, which
// makes the calls with `updown events`. A queue and a unit of its own, rather than
// a transient unit for each event: the calls stay in order and apart, what waits
// is visible as files, no call is lost or made twice if sync, the service or
// systemd is killed, and sync's sandbox needs no way to start anything.
func eventQueue(runDir string) program.Queue { return program.Queue(filepath.Join(runDir, "events")) }

// eventVars are what the program finds in its environment.
func eventVars(e session.Event) []string {
	s := e.Session
	return []string{
		"TUNNELCAST_EVENT=" + string(e.Kind),
		"TUNNELCAST_IDENTITY=" + s.Identity,
		"TUNNELCAST_NAME=" + s.Name,
		"TUNNELCAST_ADDRESS=" + addresses(s),
		"TUNNELCAST_FROM=" + s.Remote,
		"TUNNELCAST_SINCE=" + s.Since.UTC().Format(time.RFC3339),
		"TUNNELCAST_BYTES_IN=" + strconv.FormatUint(s.In, 10),
		"TUNNELCAST_BYTES_OUT=" + strconv.FormatUint(s.Out, 10),
		"TUNNELCAST_REASON=" + e.Reason,
		"TUNNELCAST_LINK=",
	}
}

// tellPending puts the pending events into the queue. They stay pending while the
// program is one that must not be called.
func (s *sessions) tellPending(memory *sessionMemory, queue program.Queue) error {
	if err := program.Check(s.OnEvent); err != nil {
		return fmt.Errorf("%d events wait: %w", len(memory.Pending), err)
	}
	last, err := queue.Last()
	if err != nil {
		return err
	}
	for _, event := range memory.Pending {
		if event.Number <= last { // put by a run that was killed, and told since
			continue
		}
		if err := queue.Room(); err != nil {
			return err
		}
		call := program.Call{Command: s.OnEvent, Timeout: s.EventTimeout, Vars: event.Vars}
		if err := queue.Put(event.Number, call); err != nil {
			return err
		}
	}
	memory.Pending = nil
	return memory.save(s.runDir)
}

// runEvents makes the calls that wait in the queue. It reads no settings: each call
// has what it needs.
func runEvents(ctx context.Context, env hook.Env, queue program.Queue) error {
	err := queue.Drain(ctx, func(ctx context.Context, call program.Call) error {
		return call.Run(ctx, func(line string) { sayOutput(env, call, line) })
	}, func(call program.Call, err error) { sayCalled(env, call, err) })
	if err != nil && !errors.Is(err, context.Canceled) {
		// The path unit starts the service again at once while calls wait.
		select {
		case <-ctx.Done():
		case <-time.After(eventsPause):
		}
		return fmt.Errorf("on-event: %w", err)
	}
	return nil
}

// eventsPause is between two runs that could not use the queue.
const eventsPause = 10 * time.Second

func sayOutput(env hook.Env, call program.Call, line string) {
	env.Log.Info(line, programOutput,
		"event", call.Var("TUNNELCAST_EVENT"), "identity", call.Var("TUNNELCAST_IDENTITY"))
}

func sayCalled(env hook.Env, call program.Call, err error) {
	event, identity := call.Var("TUNNELCAST_EVENT"), call.Var("TUNNELCAST_IDENTITY")
	if err != nil {
		env.Log.Warn("the program of on-event failed", programFailed, "event", event, "identity", identity,
			"program", call.Program(), "cause", err)
		return
	}
	env.Log.Info("event told", eventTold, "event", event, "identity", identity, "program", call.Program())
}

// testEvent calls the program of on-event once, for an event that is made up, and
// prints what it prints.
func (s *sessions) testEvent(ctx context.Context, w io.Writer) error {
	if len(s.OnEvent) == 0 {
		return hook.Usagef(`on-event is not set: on-event = ["/etc/tunnelcast/notify"] in updown.toml`)
	}
	example := session.Event{Kind: session.Connected, Reason: "test", Session: session.Example(s.env.Now())}
	call := program.Call{Command: s.OnEvent, Timeout: s.EventTimeout, Vars: eventVars(example)}
	for _, v := range call.Vars {
		fmt.Fprintln(w, v)
	}
	began := s.env.Now()
	err := call.Run(ctx, func(line string) { fmt.Fprintln(w, "| "+line) })
	if err != nil {
		return fmt.Errorf("on-event: %s: %w", s.OnEvent[0], err)
	}
	fmt.Fprintf(w, "done in %s\n", s.env.Now().Sub(began).Round(time.Millisecond))
	return nil
}
