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
	"strings"

	"tunnelcast/internal/archive"
	"tunnelcast/internal/file"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/inuse"
	"tunnelcast/internal/publish"
	"tunnelcast/internal/recording"
)

// sweep does what nobody was called for: SIGTERM to nginx and a power cut leave
// recordings, a killed run leaves unfinished work.
func (c *cli) sweep(ctx context.Context, env hook.Env) error {
	dirs := c.Sweep.Dirs
	if len(dirs) == 0 {
		archives, chosen, err := c.archives()
		if err != nil {
			return err
		}
		if recordsNothing(chosen) {
			env.Log.Info("nothing to do: no archive is configured, and the default one does not exist", nothingHere, "archive", defaultArchive)
			return nil
		}
		dirs = archives
	}
	var found leftovers
	var searched []string
	for _, name := range dirs {
		dir, err := filepath.EvalSymlinks(name)
		if err == nil {
			dir, err = filepath.Abs(dir)
		}
		if err == nil {
			err = found.look(dir)
		}
		switch {
		case err == nil:
			searched = append(searched, dir)
		case len(dirs) == 1:
			return err
		default:
			found.unread = append(found.unread, unread{name, err})
		}
	}
	w, err := c.start(env, searched...)
	if err != nil {
		return err
	}
	defer w.slots.Close()
	w.sweeping = true

	failed, empty := 0, 0
	for _, dir := range found.unread {
		env.Log.Warn("directory is not searched", failures.Event(dir.err), "path", dir.path, "error", dir.err)
		failed++
	}
	if len(found.lostAndFound) > 0 {
		env.Log.Info("skipped, because only root may read it", lostFoundSkipped, "paths", strings.Join(found.lostAndFound, " "))
	}
	for _, path := range found.hidden {
		if err := w.tidy(ctx, path, &found); err != nil {
			env.Log.Warn("leftover of a killed run stays", leftoverStays, "path", path, "error", err)
			failed++
		}
	}
	var bytes int64
	for _, path := range found.recordings {
		bytes += size(path)
	}
	w.progress = newProgress(env, bytes)
	for _, path := range found.recordings {
		bytes := size(path)
		err := w.sweepOne(ctx, path)
		w.progress.next(bytes)
		if ctx.Err() != nil {
			return err
		}
		// nginx leaves one behind when it begins a file just before a stream ends.
		// Nothing is lost, and every sweep would say so again.
		if errors.Is(err, recording.ErrNoMedia) {
			empty++
		} else if err != nil {
			env.Log.Warn("recording stays", failures.Event(err), "path", path, "error", err)
			failed++
		}
	}
	if empty > 0 {
		env.Log.Info("recordings without audio and video stay", emptyStay, "count", empty)
	}
	if failed > 0 {
		all := len(found.hidden) + len(found.recordings) + len(found.unread)
		return fmt.Errorf("%d of %d recordings and leftovers stay: %w", failed, all, hook.ErrSome)
	}
	return nil
}

func (w *worker) sweepOne(ctx context.Context, path string) error {
	source, err := publish.Open(path)
	if notThere(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer source.Close()
	source.Orphaned = true
	if ok, err := lock(ctx, source); !ok || err != nil {
		return err // a hook is at work on it
	}
	return w.remux(ctx, source)
}

// lock does not wait for a run that works on this recording. Where the directory's lock
// stands for those of files, it waits, for that run may work on another.
func lock(ctx context.Context, source *publish.Source) (bool, error) {
	ok, err := source.TryLock()
	if !ok && err == nil && slices.Contains(source.Lacks(), publish.FileLocks) {
		err = source.Lock(ctx)
		ok = err == nil
	}
	return ok, err
}

// size is only for people and graphs to see: 0 if it is not known.
func size(path string) int64 {
	info, err := os.Lstat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

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

// look searches dir and what is below. A directory that cannot be read does not keep it from the
// others.
func (l *leftovers) look(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err == nil:
		case path == dir:
			return err
		case notThere(err):
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

// tidy removes unfinished work. A recording that had been set aside for removal
// goes only if the MP4 that was made of it, which has its time, is there, or if it has
// its own name as well; otherwise it is a recording again, under a name that can be seen.
func (w *worker) tidy(ctx context.Context, path string, found *leftovers) error {
	if !recording.IsHiddenSource(filepath.Base(path)) {
		removed, err := publish.RemoveLeftover(path)
		if removed {
			w.env.Log.Info("leftover of a killed run removed", leftoverRemoved, "path", path)
		}
		return err
	}
	source, err := publish.Open(path)
	if notThere(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer source.Close()
	source.Orphaned = true
	if ok, err := lock(ctx, source); !ok || err != nil {
		return err
	}
	if err := source.Identify(); errors.Is(err, inuse.ErrInUse) || errors.Is(err, file.ErrChanged) {
		return nil
	} else if err != nil {
		return err
	}
	var mp4s []string
	again := false
	entries, err := os.ReadDir(source.Dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		switch recording.KindOf(entry.Name()) {
		case recording.MP4:
			mp4s = append(mp4s, entry.Name())
		case recording.FLV:
			again = again || source.Is(entry.Name())
		}
	}
	if _, ok := source.Published(slices.Values(mp4s)); ok || again {
		w.env.Log.Info("leftover of a killed run removed", leftoverRemoved, "path", path)
		return os.Remove(path)
	}
	if _, err := source.Rename(recording.RecoveredNames(source.Name)); err != nil {
		return err
	}
	found.recordings = append(found.recordings, source.Path())
	return nil
}

func notThere(err error) bool { return errors.Is(err, fs.ErrNotExist) }
