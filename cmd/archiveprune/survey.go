package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"tunnelcast/internal/archive"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/recording"
	"tunnelcast/internal/retention"
)

// survey looks through an archive as a run would. It returns what it has found, and an error if recordings
// could not be found or removed.
func (c cli) survey(ctx context.Context, env hook.Env, dir string) (string, error) {
	tree, err := archive.OpenTree(dir)
	if err != nil {
		return "", err
	}
	defer tree.Close()
	if err := tree.Writable(); err != nil {
		return "", err
	}
	p := newPruner(c, dir)
	var mu sync.Mutex
	var size, n, future int64
	var alone [leftKinds]sample
	var denied error // the first by its path
	deny := func(err *fs.PathError) {
		var before *fs.PathError
		if !errors.As(denied, &before) || err.Path < before.Path {
			denied = err
		}
	}
	now := env.Now()
	err = tree.Walk(ctx, archive.Walk{
		Want:  p.isRecording,
		Enter: p.enters,
		File: func(f *archive.File) error {
			bytes, err := p.links.kept(f), f.Denied()
			mu.Lock()
			defer mu.Unlock()
			n++
			size += bytes
			if retention.Future(f.ModTime, now) {
				future++
			}
			if p.KeepLast > 0 {
				p.streams.Number(strings.TrimPrefix(f.Path(), dir))
			}
			if errors.Is(err, syscall.EACCES) {
				deny(&fs.PathError{Op: "remove from", Path: filepath.Dir(f.Path()), Err: err})
			} else if err != nil {
				deny(&fs.PathError{Op: "remove", Path: f.Path(), Err: err})
			}
			return nil
		},
		Other: func(f *archive.File) {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case p.exclude.match(f.Name):
				alone[leftExcluded].add(dir, f.Path())
			case recording.KindOf(f.Name) != recording.Hidden:
				alone[leftOther].add(dir, f.Path())
			}
		},
		Skipped: func(path string, why error) {
			mu.Lock()
			defer mu.Unlock()
			alone[skippedAs(why)].add(dir, path)
		},
		Unread: func(path string, err error) {
			mu.Lock()
			defer mu.Unlock()
			var inside *fs.PathError
			if !errors.As(err, &inside) {
				inside = &fs.PathError{Op: "read", Path: path, Err: err}
			}
			deny(inside)
		},
	})
	what := fmt.Sprintf(": %d recordings, %s", n, retention.Bytes(size))
	if p.KeepLast > 0 {
		what += fmt.Sprintf(", %d streams", p.streams.Len())
	}
	for kind, some := range alone {
		if some.count > 0 {
			what += "; " + leftKind(kind).count(some.count) + " (" + some.String() + ")"
		}
	}
	// A user who may not write here has an error already.
	if work, lease := tree.Leases(); lease == nil && !work {
		what += "; leases do not work here, so what was written to in the last " + quiet + " counts as in use"
	}
	if err = errors.Join(err, denied); err == nil && future > 0 {
		err = fmt.Errorf("%d of %d recordings are from the future and will not be removed", future, n)
	}
	return what, err
}

// sample counts names, and has the first of them.
type sample struct {
	count int
	names []string
}

const sampled = 3

func (s *sample) add(dir, path string) {
	s.count++
	name := printable(strings.TrimPrefix(path, dir+"/"))
	if i, _ := slices.BinarySearch(s.names, name); i < sampled {
		s.names = slices.Insert(s.names, i, name)
		s.names = s.names[:min(sampled, len(s.names))]
	}
}

func (s sample) String() string {
	text := strings.Join(s.names, ", ")
	if s.count > len(s.names) {
		text += ", ..."
	}
	return text
}
