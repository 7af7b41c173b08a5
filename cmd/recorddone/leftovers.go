//go:build cgo

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"tunnelcast/internal/archive"
	"tunnelcast/internal/file"
	"tunnelcast/internal/inuse"
	"tunnelcast/internal/publish"
	"tunnelcast/internal/recording"
)

// leftovers is what a sweep finds.
type leftovers struct {
	recordings, hidden []string
	unread             []unread
	lostAndFound       []string // the lost+found of an ext4 file system, which only root may read
}

// unread is a directory that cannot be read.
type unread struct {
	path string
	err  error
}

// look searches dir and everything below it. A directory that cannot be read does not keep it from the
// others.
func (l *leftovers) look(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err == nil:
		case path == dir:
			return err
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case errors.Is(err, fs.ErrPermission) && archive.IsLostAndFound(path):
			l.lostAndFound = append(l.lostAndFound, path)
			return nil
		default:
			l.unread = append(l.unread, unread{path, err})
			return nil
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		switch recording.KindOf(entry.Name()) {
		case recording.FLV:
			l.recordings = append(l.recordings, path)
		case recording.Hidden:
			l.hidden = append(l.hidden, path)
		}
		return nil
	})
}

// unreadable returns an error if a directory could not be read.
func (l *leftovers) unreadable() error {
	switch len(l.unread) {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("not all recordings are found: %w", l.unread[0].err)
	}
	return fmt.Errorf("not all recordings are found: %d directories cannot be read, the first: %w",
		len(l.unread), l.unread[0].err)
}

// tidy removes unfinished work. It removes a recording that was set aside for removal only if the MP4
// that was made of it, which has its time, exists, or if the recording still has its own name too.
// Otherwise it gives the recording a visible name and adds it to those to be converted.
func (w *worker) tidy(ctx context.Context, path string, found *leftovers) error {
	if !recording.IsHiddenSource(filepath.Base(path)) {
		removed, err := publish.RemoveLeftover(path)
		if removed {
			w.env.Log.Info("leftover of a killed run removed", leftoverRemoved, "path", path)
		}
		return err
	}
	source, err := openOrphan(ctx, path)
	if source == nil {
		return err
	}
	defer source.Close()
	err = source.Identify()
	if errors.Is(err, inuse.ErrInUse) || errors.Is(err, file.ErrChanged) {
		return nil
	}
	if err != nil {
		return err
	}
	copied, err := hasCopy(source)
	if err != nil {
		return err
	}
	if copied {
		w.env.Log.Info("leftover of a killed run removed", leftoverRemoved, "path", path)
		return os.Remove(path)
	}
	if _, err := source.Rename(recording.RecoveredNames(source.Name)); err != nil {
		return err
	}
	found.recordings = append(found.recordings, source.Path())
	return nil
}

// hasCopy reports whether an MP4 of a recording that was set aside, or the recording under another
// name, is in its directory.
func hasCopy(source *publish.Source) (bool, error) {
	entries, err := os.ReadDir(source.Dir)
	if err != nil {
		return false, err
	}
	var mp4s []string
	for _, entry := range entries {
		switch kind := recording.KindOf(entry.Name()); {
		case kind == recording.MP4:
			mp4s = append(mp4s, entry.Name())
		case kind == recording.FLV && source.Is(entry.Name()):
			return true, nil
		}
	}
	_, published := source.Published(slices.Values(mp4s))
	return published, nil
}

// lock locks a recording, but does not wait for a run that works on it. Where the lock of the directory
// replaces those of files it waits, because that run may work on another recording.
func lock(ctx context.Context, source *publish.Source) (locked bool, err error) {
	locked, err = source.TryLock()
	if !locked && err == nil && slices.Contains(source.Lacks(), publish.FileLocks) {
		err = source.Lock(ctx)
		locked = err == nil
	}
	return locked, err
}
