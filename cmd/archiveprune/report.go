package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"tunnelcast/internal/archive"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/retention"
)

// report counts what a run does and prints it: a line for each recording on a
// dry run, an object for each with json, and at the end one line for all. The
// journal gets the name of everything that is removed. Its methods may be called
// by several goroutines.
type report struct {
	dryRun, json bool
	unseen       bool // nobody reads what is printed: the unit discards it
	log, result  *slog.Logger
	dirs         []string
	out          *bufio.Writer

	mu      sync.Mutex
	items   []item // of a dry run, which prints them oldest first
	alone   []string
	warned  int
	Removed int
	Freed   retention.Bytes
	Kept    int
	size    retention.Bytes // of those kept
	Failed  int
	left    [leftKinds]int
	emptied int // directories
	streams int

	journal journal
}

// leftKind says why something is left alone. All but inUse were never to go.
type leftKind uint8

const (
	leftInUse leftKind = iota
	leftOther
	leftExcluded
	leftMount
	leftLostAndFound
	leftKinds
)

// text is what a dry run and json say of one, count what the summary says of n.
func (l leftKind) text() string {
	return [...]string{"in use", "not a recording", "excluded", "another file system", "system directory"}[l]
}

func (l leftKind) count(n int) string {
	if n == 1 {
		return "1 " + [...]string{"in use", "not a recording", "excluded", "other file system", "system directory"}[l]
	}
	many := [...]string{"in use", "not recordings", "excluded", "other file systems", "system directories"}
	return fmt.Sprint(n, " ", many[l])
}

// item is one recording that goes, as json has it, or a directory.
type item struct {
	name
	Directory bool      `json:"directory,omitempty"`
	Reason    string    `json:"reason"` // the limit
	Modified  time.Time `json:"modified"`
	Age       int64     `json:"age_seconds"`
	Bytes     int64     `json:"bytes"` // that its removal frees
	limit     string    // with its value
}

// name is where something is. JSON has no place for bytes that are not UTF-8; of
// such a path the whole is repeated as they are.
type name struct {
	Path  string `json:"path"`
	Bytes string `json:"path_base64,omitempty"`
}

func nameOf(path string) name {
	if utf8.ValidString(path) {
		return name{Path: path}
	}
	return name{path, base64.StdEncoding.EncodeToString([]byte(path))}
}

// summary is the last object.
type summary struct {
	DryRun      bool  `json:"dry_run"`
	Removed     int   `json:"removed"`
	Freed       int64 `json:"freed_bytes"`
	Kept        int   `json:"kept"`
	KeptBytes   int64 `json:"kept_bytes"`
	Failed      int   `json:"failed"`
	InUse       int   `json:"in_use"` // of those kept
	Other       int   `json:"not_recordings"`
	Excluded    int   `json:"excluded"`
	Mounts      int   `json:"other_file_systems"`
	LostFound   int   `json:"directories_of_root"` // lost+found of a file system
	Directories int   `json:"directories_removed"`
	Streams     int   `json:"streams,omitempty"` // with keep-last
}

// failure is one that should have gone and did not.
type failure struct {
	name
	Error string `json:"error"`
}

// alone is one that is left alone.
type alone struct {
	name
	Kept string `json:"kept"`
}

// archiveFailure is an archive of which not all could be done.
type archiveFailure struct {
	Archive string `json:"archive"`
	Error   string `json:"error"`
}

func newReport(env hook.Env, c cli) *report {
	r := &report{dryRun: c.DryRun, json: c.Prune.Format == "json", unseen: env.IsUnit(), log: env.Log, result: env.Result,
		dirs: c.Prune.Dirs, out: bufio.NewWriter(env.Stdout)}
	r.journal = journal{result: env.Result, dryRun: c.DryRun}
	return r
}

// remove counts a recording that goes, and bytes that this frees.
func (r *report) remove(f *archive.File, reason retention.Reason, bytes int64, policy retention.Policy, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Removed++
	r.Freed += retention.Bytes(bytes)
	if !r.dryRun || r.unseen {
		r.journal.add(f, reason, bytes)
	}
	if !r.dryRun && !r.json {
		return
	}
	it := item{name: nameOf(f.Path()), Reason: reason.String(), limit: limit(reason, policy),
		Modified: f.Modified().UTC(), Age: seconds(now.Sub(f.Modified())), Bytes: bytes}
	if r.dryRun {
		r.items = append(r.items, it)
	} else {
		r.object(it)
	}
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }

// removeDir counts an empty directory that goes.
func (r *report) removeDir(d *archive.Dir, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.emptied++
	if !r.dryRun {
		r.result.Info("empty directory removed", directoryRemoved, "path", d.Path)
	}
	if !r.dryRun && !r.json {
		return
	}
	it := item{name: nameOf(d.Path), Directory: true, Reason: removeEmptyDirs,
		Modified: d.Modified().UTC(), Age: seconds(now.Sub(d.Modified()))}
	if r.dryRun {
		r.items = append(r.items, it)
	} else {
		r.object(it)
	}
}

// leave counts something that is left alone; path is asked where it is.
func (r *report) leave(why leftKind, path func() string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.left[why]++
	switch {
	case r.json:
		r.object(alone{nameOf(path()), why.text()})
	case r.dryRun:
		r.alone = append(r.alone, "left: "+printable(path())+": "+why.text())
	}
}

func (r *report) keep(n int, bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Kept += n
	r.size += retention.Bytes(bytes)
}

func (r *report) sawStreams(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.streams += n
}

func (r *report) fail(path string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Failed++
	if r.json {
		r.object(failure{nameOf(path), err.Error()})
	}
	if r.mayWarn() {
		r.log.Warn("not removed", notRemoved, "path", path, "cause", err.Error())
	}
}

// archiveFailed is for json, of which every run prints a summary; the error is
// the run's own.
func (r *report) archiveFailed(dir string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.json {
		r.object(archiveFailure{dir, err.Error()})
	}
}

func (r *report) future(f *archive.File) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mayWarn() {
		r.log.Warn("kept although its age is unknown: it is from the future", fromTheFuture,
			"path", f.Path(), "modified", f.Modified().UTC().Format(time.RFC3339))
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
	r.journal.flush()
	slices.SortFunc(r.items, func(a, b item) int {
		if c := a.Modified.Compare(b.Modified); c != 0 {
			return c
		}
		return strings.Compare(a.Path, b.Path)
	})
	slices.Sort(r.alone)
	for _, line := range r.alone {
		fmt.Fprintln(r.out, line)
	}
	for _, it := range r.items {
		switch {
		case r.json:
			r.object(it)
		case it.Directory:
			fmt.Fprintf(r.out, "%s  %s old, empty directory: %s\n", printable(it.Path), age(it.Age), it.Reason)
		default:
			fmt.Fprintf(r.out, "%s  %s old, %s: %s\n", printable(it.Path), age(it.Age), retention.Bytes(it.Bytes), it.limit)
		}
	}
	switch {
	case r.json:
		r.object(summary{r.dryRun, r.Removed, int64(r.Freed), r.Kept, int64(r.size), r.Failed,
			r.left[leftInUse], r.left[leftOther], r.left[leftExcluded], r.left[leftMount], r.left[leftLostAndFound],
			r.emptied, r.streams})
	case r.dryRun:
		fmt.Fprintf(r.out, "would remove %d, free %s, keep %d (%s), fail %d", r.Removed, r.Freed, r.Kept, r.size, r.Failed)
	default:
		fmt.Fprintf(r.out, "removed %d, freed %s, kept %d (%s), failed %d", r.Removed, r.Freed, r.Kept, r.size, r.Failed)
	}
	if !r.json {
		if rest := r.rest(); rest != "" {
			fmt.Fprintf(r.out, "; %s", rest)
		}
		fmt.Fprintln(r.out)
	}
	r.tell()
	if err := r.out.Flush(); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	if r.Failed > 0 {
		return fmt.Errorf("could not remove %d: %w", r.Failed, hook.ErrSome)
	}
	return nil
}

// tell writes the summary to the journal.
func (r *report) tell() {
	left := slog.Attr{}
	if rest := r.rest(); rest != "" {
		left = slog.String("left", rest)
	}
	dirs := strings.Join(r.dirs, " ")
	switch {
	case !r.dryRun:
		r.result.Info("archive pruned", archivePruned, "archive", dirs,
			"removed", r.Removed, "freed", int64(r.Freed), "kept", r.Kept, "failed", r.Failed, left)
	case r.unseen:
		r.result.Info("nothing was removed: this was a dry run", onlyLooked, "archive", dirs,
			"would_remove", r.Removed, "would_free", int64(r.Freed), "would_keep", r.Kept, "would_fail", r.Failed, left)
	}
}

// rest is the end of the summary: what else there is.
func (r *report) rest() string {
	var rest []string
	for kind, n := range r.left {
		if n > 0 {
			rest = append(rest, leftKind(kind).count(n))
		}
	}
	switch {
	case r.emptied == 1:
		rest = append(rest, "1 empty directory")
	case r.emptied > 1:
		rest = append(rest, fmt.Sprint(r.emptied, " empty directories"))
	}
	switch {
	case r.streams == 1:
		rest = append(rest, "1 stream")
	case r.streams > 1:
		rest = append(rest, fmt.Sprint(r.streams, " streams"))
	}
	return strings.Join(rest, ", ")
}

// removeEmptyDirs is the reason why a directory goes: the setting.
const removeEmptyDirs = "remove-empty-dirs"

// limit adds to a reason the value of the limit.
func limit(reason retention.Reason, policy retention.Policy) string {
	switch reason {
	case retention.TooOld:
		return reason.String() + " " + policy.MaxAge.String()
	case retention.TooMuch:
		return reason.String() + " " + policy.MaxSize.String()
	case retention.TooLittleFree:
		return reason.String() + " " + policy.MinFree.String()
	}
	return reason.String()
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
