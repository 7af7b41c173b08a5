// Package recording knows what a recording is: its names, and what an FLV file holds.
//
// nginx-rtmp makes the names (ngx_rtmp_record_module.c): record_path, the percent-encoded name of
// the stream, perhaps a time, and record_suffix. Whoever publishes chooses the name of the stream:
// the name of the file may begin with '-' or '.' and may fill all of the 255 bytes that a file
// system allows.
//
// Walk surveys the content, which is whatever a publisher sent: what can become MP4, in how many
// parts, with which times, and what would be lost. It never panics, and its work and memory are
// bounded by the length of the file.
package recording

import (
	"crypto/sha256"
	"fmt"
	"iter"
	"path"
	"strings"
	"unicode/utf8"
)

// Kind is what a file in an archive is, by its name.
type Kind int

const (
	Other  Kind = iota
	FLV         // as nginx-rtmp wrote it
	MP4         // published
	Hidden      // work of recorddone in progress, or what a killed run left
)

// KindOf returns the kind of the file with this base name.
func KindOf(name string) Kind {
	switch {
	case strings.HasPrefix(name, hiddenPrefix) && strings.HasSuffix(name, hiddenWork), IsHiddenSource(name):
		return Hidden
	case strings.HasSuffix(name, ".flv"):
		return FLV
	case strings.HasSuffix(name, ".mp4"):
		return MP4
	}
	return Other
}

// Hidden names are short, whatever the recording is called, because its own name may leave no room
// for additions.
const (
	hiddenPrefix = ".recorddone-"
	hiddenWork   = ".part"
	hiddenSource = ".done"
)

// HiddenName returns the name under which part number part (from 1) of the recording flv is written
// until it is complete. It is the same in every run, so that a run replaces the work of a killed one.
func HiddenName(flv string, part int) string {
	return fmt.Sprintf("%s%s-%d%s", hiddenPrefix, digest(flv), part, hiddenWork)
}

// HiddenSource returns the name of the recording flv between its last check and its removal.
func HiddenSource(flv string) string {
	return hiddenPrefix + digest(flv) + hiddenSource
}

// IsHiddenSource reports whether a hidden name is that of a recording that was about to be removed,
// perhaps the only copy. Other hidden names are unfinished work.
func IsHiddenSource(name string) bool {
	return strings.HasPrefix(name, hiddenPrefix) && strings.HasSuffix(name, hiddenSource)
}

// RecoveredNames returns the names, best first, for a recording that was about to be removed and
// has the name hidden, when it becomes a recording again.
func RecoveredNames(hidden string) iter.Seq[string] {
	base := "recovered-" + strings.Trim(strings.TrimSuffix(hidden, hiddenSource), ".")
	return func(yield func(string) bool) {
		for name, n := base, 1; yield(name + ".flv"); n++ {
			name = fmt.Sprintf("%s-%d", base, n)
		}
	}
}

func digest(name string) string {
	sum := sha256.Sum256([]byte(name))
	return fmt.Sprintf("%x", sum[:8])
}

// maxName is NAME_MAX of Linux's file systems, in bytes.
const maxName = 255

// MP4Names returns the names, best first, under which part number part (from 1) of the recording flv
// may be published: NAME.mp4, NAME-1.mp4, NAME-2.mp4 and so on; from NAME-2.mp4 for the second part,
// NAME-3.mp4 for the third. None is longer than 255 bytes.
func MP4Names(flv string, part int) iter.Seq[string] {
	base := strings.TrimSuffix(flv, path.Ext(flv))
	if base == "" {
		base = flv
	}
	first := part
	if part == 1 {
		first = 0
	}
	return func(yield func(string) bool) {
		for n := first; ; n++ {
			end := ".mp4"
			if n > 0 {
				end = fmt.Sprintf("-%d.mp4", n)
			}
			if !yield(shorten(base, maxName-len(end)) + end) {
				return
			}
		}
	}
}

// shorten cuts s to at most limit bytes, but not within a character or a percent code of nginx.
func shorten(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	s = s[:limit]
	if i := strings.LastIndexByte(s, '%'); i >= 0 && i > len(s)-3 {
		s = s[:i]
	}
	return s
}
