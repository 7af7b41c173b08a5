//go:build cgo

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"tunnelcast/internal/hook"
	"tunnelcast/internal/program"
	"tunnelcast/internal/units"
)

// calls is another process of this program that has the program of on-published called. It is started
// before this process enters its sandbox, which is for good, and receives the calls through a pipe.
//
// Where the package's units are, it puts each call into a queue, and tunnelcast-published.service makes
// it: outside nginx's control group, which a restart of nginx kills, and outside the sandbox of the
// sweep's unit. Otherwise it makes the calls itself.
type calls struct {
	cmd  *exec.Cmd
	pipe io.WriteCloser
}

// startCalls returns nil if on-published is not set or cannot be called. No recording depends on it.
func (h *host) startCalls() *calls {
	if len(h.OnPublished) == 0 {
		return nil
	}
	if err := program.Check(h.OnPublished); err != nil {
		h.env.Log.Warn("the program of on-published is not called", publishedRefused, "cause", err)
		return nil
	}
	c := &calls{cmd: exec.Command("/proc/self/exe", "--config", os.DevNull, "--queue", h.Queue, "published")}
	c.cmd.Args[0] = os.Args[0]
	c.cmd.Stderr = os.Stderr
	var err error
	if c.pipe, err = c.cmd.StdinPipe(); err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		h.env.Log.Warn("the program of on-published is not called", publishedRefused, "cause", err)
		return nil
	}
	return c
}

// finish waits until all calls are made, or are in the queue. The caller holds no lock.
func (c *calls) finish() {
	if c != nil {
		c.pipe.Close()
		_ = c.cmd.Wait() // it logs what fails
	}
}

// tellPublished has the program called for one MP4.
func (w *worker) tellPublished(path, source string, length time.Duration) {
	if w.calls == nil {
		return
	}
	text, err := json.Marshal(publishedCall(w.onPublished, w.publishedTimeout, path, source, length, size(path)))
	if err == nil {
		_, err = w.calls.pipe.Write(append(text, '\n'))
	}
	if err != nil {
		w.env.Log.Warn("the program of on-published is not called", publishedRefused, "path", path, "cause", err)
	}
}

func publishedCall(command []string, timeout time.Duration, path, source string, length time.Duration,
	bytes int64) program.Call {
	return program.Call{Command: command, Timeout: timeout, Vars: []string{
		"TUNNELCAST_PATH=" + path,
		"TUNNELCAST_SOURCE=" + source,
		"TUNNELCAST_SECONDS=" + strconv.FormatFloat(length.Seconds(), 'f', 3, 64),
		"TUNNELCAST_BYTES=" + strconv.FormatInt(bytes, 10),
	}}
}

// published is the other process. It reads all calls at once, so that the sender never waits for one.
func (h *host) published(ctx context.Context, from io.Reader) error {
	queue := program.Queue(h.Queue)
	// The unit runs as the user of the hook and could not read what another one adds.
	info, err := os.Stat(h.Queue)
	queued := err == nil && info.Sys().(*syscall.Stat_t).Uid == uint32(os.Geteuid())
	received := make(chan program.Call, 10_000)
	go func() {
		defer close(received)
		for lines := bufio.NewScanner(from); lines.Scan(); {
			var call program.Call
			if json.Unmarshal(lines.Bytes(), &call) == nil {
				received <- call
			}
		}
	}()
	for call := range received {
		if queued {
			if err := queue.Add(call); err == nil {
				continue
			} else if errors.Is(err, program.ErrFull) {
				h.reportCall(call, err)
				continue
			}
			queued = false
		}
		h.reportCall(call, call.Run(ctx, func(line string) { h.reportOutput(call, line) }))
	}
	return nil
}

// makeCalls makes the calls that wait in the queue.
func (h *host) makeCalls(ctx context.Context) error {
	err := program.Queue(h.Queue).Drain(ctx, func(ctx context.Context, call program.Call) error {
		return call.Run(ctx, func(line string) { h.reportOutput(call, line) })
	}, h.reportCall)
	if err == nil || ctx.Err() != nil {
		return nil
	}
	// The path unit starts the service again at once while calls wait.
	select {
	case <-ctx.Done():
	case <-time.After(callsPause):
	}
	return fmt.Errorf("on-published: %w", err)
}

// callsPause is between two runs that could not use the queue.
const callsPause = 10 * time.Second

func (h *host) reportOutput(call program.Call, line string) {
	h.env.Log.Info(line, publishedOutput, "path", call.Var("TUNNELCAST_PATH"))
}

func (h *host) reportCall(call program.Call, err error) {
	if err != nil {
		h.env.Log.Warn("the program of on-published failed", publishedFailed, "path", call.Var("TUNNELCAST_PATH"),
			"program", call.Program(), "cause", err)
		return
	}
	h.env.Log.Info("publication told", publishedTold, "path", call.Var("TUNNELCAST_PATH"), "program", call.Program())
}

// testEvent calls the program once, for an MP4 that is made up, and prints what it prints.
func (h *host) testEvent(ctx context.Context) error {
	if len(h.OnPublished) == 0 {
		return hook.Usagef(`on-published is not set: on-published = ["/etc/tunnelcast/published"] in recorddone.toml`)
	}
	call := publishedCall(h.OnPublished, h.EventTimeout, "/nonexistent/test.mp4", "/nonexistent/test.flv", time.Minute,
		1_000_000)
	for _, v := range call.Vars {
		fmt.Fprintln(h.env.Stdout, v)
	}
	began := h.env.Now()
	if err := call.Run(ctx, func(line string) { fmt.Fprintln(h.env.Stdout, "| "+line) }); err != nil {
		return fmt.Errorf("on-published: %s: %w", h.OnPublished[0], err)
	}
	fmt.Fprintf(h.env.Stdout, "done in %s\n", h.env.Now().Sub(began).Round(time.Millisecond))
	return nil
}

// checkCalls checks what on-published needs. It prints nothing without that setting.
func (h *host) checkCalls(ctx context.Context, checks *hook.Checks) {
	if len(h.OnPublished) == 0 {
		return
	}
	what := "on-published " + h.OnPublished[0]
	if waiting, err := program.Queue(h.Queue).Waiting(); err == nil {
		made, failed := program.Queue(h.Queue).Counts()
		what += fmt.Sprintf(": called %d times since boot, failed %d, %d wait", made, failed, waiting)
	}
	checks.Say(what, program.Check(h.OnPublished), "`tunnelcast-recorddone check --test-event` calls it once")
	remedy, err := units.Check(ctx, publishedPath)
	checks.Say("unit "+publishedPath, err, remedy)
}

const publishedPath = "tunnelcast-published.path"
