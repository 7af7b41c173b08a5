//go:build cgo

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"tunnelcast/internal/hook"
	"tunnelcast/internal/publish"
	"tunnelcast/internal/recording"
)

// sweep converts the recordings that no hook was called for, which SIGTERM to nginx and a power cut
// leave, and removes the unfinished work of killed runs.
func (h *host) sweep(ctx context.Context, dirs []string) error {
	if len(dirs) == 0 {
		archives, chosen, err := h.archives()
		if err != nil {
			return err
		}
		if recordsNothing(chosen) {
			h.env.Log.Info("nothing to do: no archive is configured, and the default one does not exist", nothingHere,
				"archive", defaultArchive)
			return nil
		}
		dirs = archives
	}
	found, searched, err := search(dirs)
	if err != nil {
		return err
	}
	w, err := h.start(searched...)
	if err != nil {
		return err
	}
	defer w.slots.Close()
	w.sweeping = true
	return w.sweep(ctx, found)
}

// search looks for leftovers in the directories. It returns those that it could read, without symbolic
// links. If there is only one directory and it cannot be read, that is an error.
func search(dirs []string) (found leftovers, searched []string, err error) {
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
			return found, nil, err
		default:
			found.unread = append(found.unread, unread{name, err})
		}
	}
	return found, searched, nil
}

func (w *worker) sweep(ctx context.Context, found leftovers) error {
	failed, empty := 0, 0
	for _, dir := range found.unread {
		w.warn("directory is not searched", dir.path, dir.err)
		failed++
	}
	if len(found.lostAndFound) > 0 {
		w.env.Log.Info("skipped, because only root may read it", lostFoundSkipped,
			"paths", strings.Join(found.lostAndFound, " "))
	}
	for _, path := range found.hidden {
		if err := w.tidy(ctx, path, &found); err != nil {
			w.env.Log.Warn("leftover of a killed run stays", leftoverStays, "path", path, "error", err)
			failed++
		}
	}
	var bytes int64
	for _, path := range found.recordings {
		bytes += size(path)
	}
	w.progress = newProgress(w.env, bytes)
	for _, path := range found.recordings {
		bytes := size(path)
		err := w.sweepOne(ctx, path)
		w.progress.next(bytes)
		switch {
		case ctx.Err() != nil:
			return err
		case errors.Is(err, recording.ErrNoMedia):
			// nginx leaves one if it begins a file just before a stream ends. Nothing is lost, and every
			// sweep would report it again.
			empty++
		case err != nil:
			w.warn("recording stays", path, err)
			failed++
		}
	}
	if empty > 0 {
		w.env.Log.Info("recordings without audio and video stay", emptyStay, "count", empty)
	}
	if failed > 0 {
		all := len(found.hidden) + len(found.recordings) + len(found.unread)
		return hook.With(fmt.Errorf("%d of %d recordings and leftovers stay: %w", failed, all, hook.ErrSome), someStay)
	}
	return nil
}

func (w *worker) sweepOne(ctx context.Context, path string) error {
	source, err := openOrphan(ctx, path)
	if source == nil {
		return err
	}
	defer source.Close()
	return w.convert(ctx, source)
}

// openOrphan opens and locks a recording that no hook was called for. It returns nil if the recording is gone or a hook
// works on it.
func openOrphan(ctx context.Context, path string) (*publish.Source, error) {
	source, err := publish.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	source.Orphaned = true
	if locked, err := lock(ctx, source); !locked || err != nil {
		source.Close()
		return nil, err
	}
	return source, nil
}

// size returns the size of a file for people and graphs, 0 if it is not known.
func size(path string) int64 {
	info, err := os.Lstat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}
