package main

import (
	"sync"
	"sync/atomic"

	"tunnelcast/internal/archive"
	"tunnelcast/internal/retention"
)

// links knows the files of an archive that have several names. Such a file takes
// its bytes of the disk once, and they come free with the last name, if all names
// are in the archive.
type links struct {
	any   atomic.Bool // so that an archive without links asks for no lock
	mu    sync.Mutex
	files map[inode]*linked
}

type inode struct{ dev, ino uint64 }

type linked struct {
	links, names, gone uint32 // at first sight; of those seen; of those removed
	kept               bool   // one of the names that stay was counted
	bytes              int64
	id                 uint64 // of its Recording
	index              int    // of its Recording, while these are listed
}

// of returns what is known of f, nil if it has one name. l.mu must be held.
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

// may reports whether f may have another name. One that had may have none by now.
func (l *links) may(f *archive.File) bool { return f.Links > 1 || l.any.Load() }

// removed returns how many bytes come free with this name of f.
func (l *links) removed(f *archive.File) int64 {
	if !l.may(f) {
		return f.Bytes
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	file := l.of(f)
	if file == nil {
		return f.Bytes
	}
	if file.gone++; file.gone < file.links {
		return 0
	}
	return f.Bytes
}

// kept returns how many bytes this name of f takes of the disk that no other name
// was counted for.
func (l *links) kept(f *archive.File) int64 {
	if !l.may(f) {
		return f.Bytes
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	file := l.of(f)
	if file == nil {
		return f.Bytes
	}
	if file.kept {
		return 0
	}
	file.kept = true
	return f.Bytes
}

// listed completes the recordings of which names were seen: what frees nothing
// because it has a name outside is Linked.
func (l *links) listed(recordings []retention.Recording) {
	for _, file := range l.files {
		r := &recordings[file.index]
		r.ID = file.id
		if file.names < file.links {
			r.Bytes, r.Linked = 0, true
		}
	}
}

// rest returns how many names stay besides the recordings, and the bytes of those
// recordings that are counted as freeing none.
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
