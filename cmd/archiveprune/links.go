package main

import (
	"sync"
	"sync/atomic"

	"tunnelcast/internal/archive"
	"tunnelcast/internal/retention"
)

// links holds what is known of files that have several names. Such a file takes its bytes of the disk
// once, and they come free with the last name, if all names are in the archive.
type links struct {
	any   atomic.Bool // so that an archive without such files needs no lock
	mu    sync.Mutex
	files map[inode]*linked
}

type inode struct{ dev, ino uint64 }

type linked struct {
	links uint32 // names of the file when it was first seen
	names uint32 // of these, how many were seen
	gone  uint32 // of these, how many were removed
	kept  bool   // a name that stays was counted
	bytes int64
	id    uint64 // of its Recording
	index int    // of its Recording, while these are listed
}

// of returns what is known of f, or nil if it has one name. The caller holds l.mu.
func (l *links) of(f *archive.File) *linked {
	key := inode{f.Dev, f.Ino}
	file := l.files[key]
	if file == nil && f.Links > 1 {
		if l.files == nil {
			l.files = make(map[inode]*linked)
		}
		file = &linked{links: f.Links, bytes: f.Bytes, id: f.Place(), index: -1}
		l.files[key] = file
		l.any.Store(true)
	}
	return file
}

// may reports whether f may have, or have had, another name.
func (l *links) may(f *archive.File) bool { return f.Links > 1 || l.any.Load() }

// removed returns how many bytes come free with the removal of this name of f.
func (l *links) removed(f *archive.File) int64 {
	return l.bytes(f, func(file *linked) (counts bool) {
		file.gone++
		return file.gone >= file.links
	})
}

// kept returns how many bytes f takes of the disk, or 0 if another name of f was counted.
func (l *links) kept(f *archive.File) int64 {
	return l.bytes(f, func(file *linked) (counts bool) {
		counts = !file.kept
		file.kept = true
		return counts
	})
}

// bytes returns the bytes of f, or 0 if f has several names and this one does not count.
func (l *links) bytes(f *archive.File, counts func(*linked) bool) int64 {
	if l.may(f) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if file := l.of(f); file != nil && !counts(file) {
			return 0
		}
	}
	return f.Bytes
}

// listed completes the recordings of files that have several names. One that has a name outside the
// archive frees nothing, and is Linked.
func (l *links) listed(recordings []retention.Recording) {
	for _, file := range l.files {
		r := &recordings[file.index]
		r.ID = file.id
		if file.names < file.links {
			r.Bytes, r.Linked = 0, true
		}
	}
}

// rest returns how many names stay in addition to one for each recording, and the bytes of the recordings
// that count as freeing none.
func (l *links) rest() (names int, bytes int64) {
	for _, file := range l.files {
		if file.names > file.gone {
			names += int(file.names - file.gone - 1)
			if file.names < file.links {
				bytes += file.bytes
			}
		}
	}
	return names, bytes
}
