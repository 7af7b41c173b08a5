package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"tunnelcast/internal/archive"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/retention"
)

// report counts what a run does and prints it: a line for each recording on a
// dry run, an object for each with json, and at the end one line for all. Its
// methods may be called by several goroutines.
type report struct {
	dryRun, json bool
	log, result  *slog.Logger
	dirs         []string
	out          *bufio.Writer
	policy       retention.Policy

	mu      sync.Mutex
	items   []item // of a dry run, which prints them oldest first
	warned  int
	Removed int
	Freed   retention.Bytes
	Kept    int
	size    retention.Bytes // of those kept
	Failed  int
}

// item is one recording that goes, as json has it.
type item struct {
	Path     string    `json:"path"`
	Reason   string    `json:"reason"` // the limit
	Modified time.Time `json:"modified"`
	Age      int64     `json:"age_seconds"`
	Bytes    int64     `json:"bytes"` // that its removal frees
}

// summary is the last object.
type summary struct {
	DryRun    bool  `json:"dry_run"`
	Removed   int   `json:"removed"`
	Freed     int64 `json:"freed_bytes"`
	Kept      int   `json:"kept"`
	KeptBytes int64 `json:"kept_bytes"`
	Failed    int   `json:"failed"`
}

// failure is one that should have gone and did not.
type failure struct {
	Path  string `json:"path"`
	Error string `json:"error"`
}

func newReport(env hook.Env, c cli) *report {
	return &report{dryRun: c.DryRun, json: c.Prune.Format == "json", log: env.Log, result: env.Result, dirs: c.Prune.Dirs, out: bufio.NewWriter(env.Stdout), policy: c.policy()}
}

func (r *report) remove(f *archive.File, reason retention.Reason, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Removed++
	r.Freed += retention.Bytes(f.Bytes)
	if !r.dryRun && !r.json {
		return
	}
	it := item{f.Path(), reason.String(), f.ModTime().UTC(), int64(now.Sub(f.ModTime()) / time.Second), f.Bytes}
	if r.dryRun {
		r.items = append(r.items, it)
	} else {
		r.object(it)
	}
}

func (r *report) keep(n int, bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Kept += n
	r.size += retention.Bytes(bytes)
}

func (r *report) fail(path string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Failed++
	if r.json {
		r.object(failure{path, err.Error()})
	}
	if r.mayWarn() {
		r.log.Warn("not removed", notRemoved, "path", path, "cause", err.Error())
	}
}

func (r *report) future(f *archive.File) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mayWarn() {
		r.log.Warn("kept although its age is unknown: it is from the future", fromTheFuture, "path", f.Path(), "modified", f.ModTime().UTC().Format(time.RFC3339))
	}
}

// mayWarn lets the first few be logged; a read-protected archive would have a
// million.
func (r *report) mayWarn() bool {
	const most = 20
	r.warned++
	if r.warned == most+1 {
		r.log.Warn("more of this is counted and not logged", notLogged)
	}
	return r.warned <= most
}

// object writes one line of json. What could not be written is finish's error.
func (r *report) object(v any) {
	line, err := json.Marshal(v)
	if err != nil {
		panic(err) // no value here has what json cannot hold
	}
	r.out.Write(append(line, '\n'))
}

// finish prints what is left to print. Its error says that some failed, or that
// the output could not be written.
func (r *report) finish() error {
	slices.SortFunc(r.items, func(a, b item) int {
		if c := a.Modified.Compare(b.Modified); c != 0 {
			return c
		}
		return strings.Compare(a.Path, b.Path)
	})
	for _, it := range r.items {
		if r.json {
			r.object(it)
			continue
		}
		fmt.Fprintf(r.out, "%s  %s old, %s: %s\n", printable(it.Path), age(it.Age), retention.Bytes(it.Bytes), r.why(it.Reason))
	}
	switch {
	case r.json:
		r.object(summary{r.dryRun, r.Removed, int64(r.Freed), r.Kept, int64(r.size), r.Failed})
	case r.dryRun:
		fmt.Fprintf(r.out, "would remove %d, free %s, keep %d (%s), fail %d\n", r.Removed, r.Freed, r.Kept, r.size, r.Failed)
	default:
		fmt.Fprintf(r.out, "removed %d, freed %s, kept %d (%s), failed %d\n", r.Removed, r.Freed, r.Kept, r.size, r.Failed)
	}
	if !r.dryRun {
		r.result.Info("archive pruned", archivePruned, "archive", strings.Join(r.dirs, " "), "removed", r.Removed, "freed", int64(r.Freed), "kept", r.Kept, "failed", r.Failed)
	}
	if err := r.out.Flush(); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	if r.Failed > 0 {
		return fmt.Errorf("could not remove %d: %w", r.Failed, hook.ErrSome)
	}
	return nil
}

// why adds the limit's value to its name.
func (r *report) why(reason string) string {
	switch reason {
	case retention.TooOld.String():
		return reason + " " + r.policy.MaxAge.String()
	case retention.TooMuch.String():
		return reason + " " + r.policy.MaxSize.String()
	case retention.TooLittleFree.String():
		return reason + " " + r.policy.MinFree.String()
	}
	return reason
}

// age writes seconds with their two largest units.
func age(seconds int64) string {
	d, h, m := seconds/86400, seconds/3600%24, seconds/60%60
	switch {
	case d > 0:
		return fmt.Sprintf("%dd %dh", d, h)
	case h > 0:
		return fmt.Sprintf("%dh %dm", h, m)
	}
	return fmt.Sprintf("%dm %ds", m, seconds%60)
}

// printable keeps a publisher's file name from writing to the terminal anything
// but itself.
func printable(path string) string {
	if quoted := strconv.Quote(path); quoted != `"`+path+`"` {
		return quoted
	}
	return path
}
