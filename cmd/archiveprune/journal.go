package main

import (
	"log/slog"
	"strconv"

	"tunnelcast/internal/archive"
	"tunnelcast/internal/retention"
)

// journal writes what is removed to the journal: an entry for each of the first recordings, and then
// entries for many, because journald drops entries beyond its rate limit (RateLimitBurst=,
// journald.conf(5)). On a dry run it writes what would be removed.
type journal struct {
	result  *slog.Logger
	dryRun  bool
	entries int
	lists   [retention.Reasons]list
}

// list holds the paths of an entry, separated by commas.
type list struct {
	paths []byte
	count int
}

func (j *journal) add(f *archive.File, reason retention.Reason, bytes int64) {
	const (
		alone = 100      // entries
		most  = 16 << 10 // bytes of a list
	)
	if j.entries < alone {
		j.entries++
		if j.dryRun {
			j.result.Info("recording would be removed", wouldBeRemoved,
				"path", f.Path(), "reason", reason.String(), "would_free", bytes)
		} else {
			j.result.Info("recording removed", recordingRemoved,
				"path", f.Path(), "reason", reason.String(), "freed", bytes)
		}
		return
	}
	l := &j.lists[reason]
	if l.count > 0 {
		l.paths = append(l.paths, ',')
	}
	// Not f.Path(), which would make a string for each of a million.
	begin := len(l.paths)
	l.paths = f.AppendPath(l.paths)
	if !plain(l.paths[begin:]) {
		l.paths = strconv.AppendQuote(l.paths[:begin], f.Path())
	}
	l.count++
	if len(l.paths) >= most {
		j.flushOne(reason)
	}
}

// plain reports whether a path needs no quotes in a list. Quoting all of them would take as long as
// looking at the files.
func plain(path []byte) bool {
	for _, c := range path {
		if c <= ' ' || c > '~' || c == '"' || c == '\\' || c == '=' || c == ',' {
			return false
		}
	}
	return true
}

func (j *journal) flushOne(reason retention.Reason) {
	l := &j.lists[reason]
	if l.count == 0 {
		return
	}
	if j.dryRun {
		j.result.Info("recordings would be removed", wouldBeRemovedToo,
			"count", l.count, "reason", reason.String(), "paths", string(l.paths))
	} else {
		j.result.Info("recordings removed", recordingsRemoved,
			"count", l.count, "reason", reason.String(), "paths", string(l.paths))
	}
	l.paths, l.count = l.paths[:0], 0
}

// flush writes the lists.
func (j *journal) flush() {
	for reason := range j.lists {
		j.flushOne(retention.Reason(reason))
	}
}
