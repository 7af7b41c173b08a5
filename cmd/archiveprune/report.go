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

// report counts what a run does and prints it: on a dry run a line for each recording, with json an object
// for each, and at the end one line for all. The journal gets the name of everything that is removed.
// Several goroutines may call its methods.
type report struct {
	dryRun, json bool
	unseen       bool // the unit discards what is printed
	log, result  *slog.Logger
	dirs         []string
	out          *bufio.Writer

	mu      sync.Mutex
	items   []item   // of a dry run, which prints them oldest first
	alone   []string // its lines for what is left alone
	warned  int
	Removed int
	Freed   retention.Bytes
	Kept    int
	size    retention.Bytes // of the recordings kept
	Failed  int
	left    [leftKinds]int
	emptied int // directories removed
	streams int

	journal journal
}

// leftKind says why something is left alone. Everything but leftInUse was not to be removed anyway.
type leftKind uint8

const (
	leftInUse leftKind = iota
	leftOther
	leftExcluded
	leftMount
	leftLostAndFound
	leftKinds
)

// text returns what a dry run and json have for one thing.
func (l leftKind) text() string {
	return [...]string{"in use", "not a recording", "excluded", "another file system", "system directory"}[l]
}

// count returns what the summary has for n things.
func (l leftKind) count(n int) string {
	if n == 1 {
		return "1 " + [...]string{"in use", "not a recording", "excluded", "other file system", "system directory"}[l]
	}
	many := [...]string{"in use", "not recordings", "excluded", "other file systems", "system directories"}
	return fmt.Sprint(n, " ", many[l])
}

// item is a recording or a directory that is removed, as json has it.
type item struct {
	name
	Directory bool      `json:"directory,omitempty"`
	Reason    string    `json:"reason"` // the limit
	Modified  time.Time `json:"modified"`
	Age       int64     `json:"age_seconds"`
	Bytes     int64     `json:"bytes"` // that its removal frees
	limit     string    // the reason, and the value of the limit
}

// name is a path. In JSON, bytes that are not UTF-8 are replaced; such a path is there a second time, in
// base64.
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

// failure is a recording that could not be removed, or a directory that could not be read.
type failure struct {
	name
	Error string `json:"error"`
}

// alone is a file or directory that is left alone.
type alone struct {
	name
	Kept string `json:"kept"`
}

// archiveFailure is an archive with which a run could not go on.
type archiveFailure struct {
	Archive string `json:"archive"`
	Error   string `json:"error"`
}

func newReport(env hook.Env, c cli, dirs []string) *report {
	return &report{
		dryRun: c.DryRun, json: c.Prune.Format == "json", unseen: env.IsUnit(),
		log: env.Log, result: env.Result, dirs: dirs, out: bufio.NewWriter(env.Stdout),
		journal: journal{result: env.Result, dryRun: c.DryRun},
	}
}

// remove counts a recording that is removed, and the bytes that this frees.
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

// removeDir counts an empty directory that is removed.
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

// leave counts something that is left alone. path is called only if it is needed.
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

// keep counts recordings that stay.
func (r *report) keep(n int, bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Kept += n
	r.size += retention.Bytes(bytes)
}

// sawStreams counts streams.
func (r *report) sawStreams(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.streams += n
}

// fail counts something that could not be removed or read.
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

// archiveFailed prints, with json, the error that the run returns for an archive.
func (r *report) archiveFailed(dir string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.json {
		r.object(archiveFailure{dir, err.Error()})
	}
}

// future warns of a recording from the future.
func (r *report) future(f *archive.File) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mayWarn() {
		r.log.Warn("kept although its age is unknown: it is from the future", fromTheFuture,
			"path", f.Path(), "modified", f.Modified().UTC().Format(time.RFC3339))
	}
}

// mayWarn reports whether to log another warning. An archive that is read-only would have a million.
func (r *report) mayWarn() bool {
	const most = 20
	r.warned++
	if r.warned == most+1 {
		r.log.Warn("more of this is counted and not logged", notLogged)
	}
	return r.warned <= most
}

// object writes one line of json. finish returns the error of writing.
func (r *report) object(v any) {
	line, err := json.Marshal(v)
	if err != nil {
		panic(err) // all values are of types that json can encode
	}
	r.out.Write(append(line, '\n'))
}

// finish prints the rest. It returns an error if some could not be removed, or if the output could not be
// written.
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
			fmt.Fprintf(r.out, "%s  %s old, %s: %s\n",
				printable(it.Path), age(it.Age), retention.Bytes(it.Bytes), it.limit)
		}
	}
	switch {
	case r.json:
		r.object(summary{
			DryRun: r.dryRun, Removed: r.Removed, Freed: int64(r.Freed), Kept: r.Kept, KeptBytes: int64(r.size),
			Failed: r.Failed, InUse: r.left[leftInUse], Other: r.left[leftOther], Excluded: r.left[leftExcluded],
			Mounts: r.left[leftMount], LostFound: r.left[leftLostAndFound],
			Directories: r.emptied, Streams: r.streams,
		})
	case r.dryRun:
		fmt.Fprintf(r.out, "would remove %d, free %s, keep %d (%s), fail %d",
			r.Removed, r.Freed, r.Kept, r.size, r.Failed)
	default:
		fmt.Fprintf(r.out, "removed %d, freed %s, kept %d (%s), failed %d",
			r.Removed, r.Freed, r.Kept, r.size, r.Failed)
	}
	if !r.json {
		if rest := r.rest(); rest != "" {
			fmt.Fprintf(r.out, "; %s", rest)
		}
		fmt.Fprintln(r.out)
	}
	r.logSummary()
	if err := r.out.Flush(); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	if r.Failed > 0 {
		return hook.With(fmt.Errorf("could not remove %d: %w", r.Failed, hook.ErrSome), someNotRemoved)
	}
	return nil
}

// logSummary writes the summary to the journal.
func (r *report) logSummary() {
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

// rest returns the end of the summary: what else the archive has.
func (r *report) rest() string {
	var rest []string
	add := func(n int, one, many string) {
		switch {
		case n == 1:
			rest = append(rest, "1 "+one)
		case n > 1:
			rest = append(rest, fmt.Sprint(n, " ", many))
		}
	}
	for kind, n := range r.left {
		if n > 0 {
			rest = append(rest, leftKind(kind).count(n))
		}
	}
	add(r.emptied, "empty directory", "empty directories")
	add(r.streams, "stream", "streams")
	return strings.Join(rest, ", ")
}

// removeEmptyDirs is the reason to remove a directory: the name of the setting.
const removeEmptyDirs = "remove-empty-dirs"

// limit returns a reason with the value of its limit.
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

// age returns a number of seconds in its two largest units.
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

// printable returns the path, in quotes if it has anything that a terminal might interpret: publishers
// choose the names.
func printable(path string) string {
	if quoted := strconv.Quote(path); quoted != `"`+path+`"` {
		return quoted
	}
	return path
}
