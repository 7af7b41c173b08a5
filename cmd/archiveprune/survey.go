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

// survey says what is in an archive, and whether it can be worked on.
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
	var unread error // the first by its path
	worst := func(err *fs.PathError) {
		var before *fs.PathError
		if !errors.As(unread, &before) || err.Path < before.Path {
			unread = err
		}
	}
	now := env.Now()
	err = tree.Walk(ctx, archive.Walk{
		Want:  p.isRecording,
		Enter: p.enters,
		File: func(f *archive.File) error {
			bytes, denied := p.links.kept(f), f.Denied()
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
			if errors.Is(denied, syscall.EACCES) {
				worst(&fs.PathError{Op: "remove from", Path: filepath.Dir(f.Path()), Err: denied})
			} else if denied != nil {
				worst(&fs.PathError{Op: "remove", Path: f.Path(), Err: denied})
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
			worst(inside)
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
	// Who may not write here has heard of that already.
	if work, lease := tree.Leases(); lease == nil && !work {
		what += "; leases do not work here, so what was written to in the last " + quiet + " counts as in use"
	}
	if err = errors.Join(err, unread); err == nil && future > 0 {
		err = fmt.Errorf("%d of %d recordings are from the future and will not go", future, n)
	}
	return what, err
}

// sample is the first names of many, for a person.
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
