package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sync"

	"golang.org/x/sys/unix"

	"tunnelcast/internal/file"
)

// Walk holds the callbacks of Tree.Walk. They are called by several goroutines at the same time, and
// in no order.
type Walk struct {
	// Want selects files by their base name, before the cost of looking at them.
	Want func(name string) bool
	// File is called for each regular file that is wanted. It may remove the file. An error ends the
	// walk.
	File func(*File) error
	// Other, if not nil, is called for each regular file that is not wanted. Only the name and the
	// path of such a file are known.
	Other func(*File)
	// Enter, if not nil, selects directories by their base name.
	Enter func(name string) bool
	// Skipped, if not nil, is called for each directory that was not entered and each file that was
	// not looked at: ErrMount, ErrLostAndFound or ErrExcluded.
	Skipped func(path string, why error)
	// Unread is called for each file and directory that could not be looked at, except for those
	// that have just vanished.
	Unread func(path string, err error)
	// Emptied, if not nil, is called for each directory below the top in which nothing is left, or,
	// after calls of Removable, in which nothing would be left. It may remove the directory.
	Emptied func(*Dir)
}

// The reasons why a walk does not look at something.
var (
	ErrMount        = errors.New("another file system is mounted here")
	ErrLostAndFound = errors.New("only root may read it, and nothing is recorded there")
	ErrExcluded     = errors.New("excluded")
)

const (
	// workers is two because unlink is bound by the file system's locks: more gain nothing.
	workers = 2
	// share is how many entries a worker takes at a time. With fewer, handing them over costs more
	// than it gains: 64 took 5 % more processor time than 256.
	share = 256
	// ahead is how many shares may wait for a worker.
	ahead = 16
	// deepest is the depth at which a walk turns back. nginx-rtmp makes no directories at all, so a
	// deeper tree is an administrator's mistake or an attack.
	deepest = 100
)

// Walk looks through the whole tree. Its memory does not grow with the number of files. It returns the
// first error of w.File, or the cause of ctx's end.
//
// This goroutine reads the directories, depth first, and two workers look at the files in them.
func (t *Tree) Walk(ctx context.Context, w Walk) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// Not t.fd: how far a directory has been read belongs to its descriptor.
	fd, err := openDir(t.fd, ".")
	if err != nil {
		return fmt.Errorf("open archive %s: %w", t.path, err)
	}
	walker := &walker{
		Walk: w, ctx: ctx, cancel: cancel, tree: t, shares: make(chan entries, ahead), buffers: newBuffers(),
	}
	var group sync.WaitGroup
	for range workers {
		group.Go(walker.work)
	}
	walker.read(&dir{fd: fd, name: t.path, path: t.path, owner: t.top, tree: t})
	close(walker.shares)
	group.Wait()
	return context.Cause(ctx)
}

type walker struct {
	Walk
	ctx     context.Context
	cancel  context.CancelCauseFunc
	tree    *Tree
	shares  chan entries
	buffers chan *buffer
}

// read reads d to its end. It hands the entries over to the workers, and then reads the directories
// among them.
func (w *walker) read(d *dir) {
	d.users.Add(1)
	defer w.release(d)
	for w.ctx.Err() == nil {
		list, more, err := (<-w.buffers).read(d)
		if err != nil {
			w.unread(d.path, err)
			d.seen.Add(1) // so that it does not count as empty
		}
		if !more {
			list.done()
			return
		}
		d.seen.Add(int64(len(list.all)))
		var below []string
		for i := range list.all {
			e := &list.all[i]
			if e.kind == unix.DT_UNKNOWN { // not every file system reports types
				e.kind = w.kind(d, list.name(*e))
			}
			if e.kind == unix.DT_DIR {
				below = append(below, list.name(*e))
			}
		}
		for some := range list.shares(share) {
			d.users.Add(1)
			w.shares <- some
		}
		list.done()
		for _, name := range below {
			w.descend(d, name)
		}
	}
}

// kind returns the type that getdents64(2) should have returned.
func (w *walker) kind(d *dir, name string) uint8 {
	var stat unix.Statx_t
	if err := file.StatAt(d.fd, name, &stat); err != nil {
		w.unread(path.Join(d.path, name), err)
		return unix.DT_UNKNOWN
	}
	return uint8(stat.Mode & unix.S_IFMT >> 12) // IFTODT in dirent.h
}

// work looks at files until there are no more.
func (w *walker) work() {
	var f File // for all files, because a new one for each would be a million
	for some := range w.shares {
		for _, e := range some.all {
			if w.ctx.Err() != nil {
				break
			}
			if e.kind == unix.DT_REG {
				f.dir, f.Name = some.dir, some.name(e)
				w.file(&f)
			}
		}
		some.done()
		w.release(some.dir)
	}
}

// file looks at the file that is called f.Name.
func (w *walker) file(f *File) {
	if !w.Want(f.Name) {
		if w.Other != nil {
			w.Other(f)
		}
		return
	}
	var stat unix.Statx_t
	switch err := file.StatAt(f.dir.fd, f.Name, &stat); {
	case err != nil:
		w.unread(f.Path(), err)
		return
	case stat.Mode&unix.S_IFMT != unix.S_IFREG: // something else has taken its name
		return
	case !w.tree.holds(&stat):
		w.skipped(f.Path(), ErrMount)
		return
	}
	f.Identity, f.owner = file.Of(&stat), ownerOf(&stat)
	f.Bytes, f.Links = int64(stat.Blocks)*512, stat.Nlink // stat(2): of 512 bytes on every file system
	if err := w.File(f); err != nil {
		w.cancel(err)
	}
}

// descend reads the directory called name in parent.
func (w *walker) descend(parent *dir, name string) {
	where := path.Join(parent.path, name)
	if w.Enter != nil && !w.Enter(name) {
		w.skipped(where, ErrExcluded)
		return
	}
	fd, err := openDir(parent.fd, name)
	if err != nil {
		switch {
		case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
			// Replaced by a file or a link since it was listed.
		case errors.Is(err, unix.EACCES) && isLostAndFound(parent.fd, name):
			w.skipped(where, ErrLostAndFound)
		default:
			w.unread(where, err)
		}
		return
	}
	var stat unix.Statx_t
	err = file.StatAt(fd, "", &stat)
	depth := parent.depth + 1
	switch {
	case err != nil:
		w.unread(where, err)
	case !w.tree.holds(&stat):
		w.skipped(where, ErrMount)
	case depth > deepest:
		w.unread(where, fmt.Errorf("more than %d directories deep", deepest))
	default:
		parent.users.Add(1)
		w.read(&dir{
			fd: fd, parent: parent, tree: parent.tree, name: name, path: where, place: placeIn(parent.place, name),
			owner: ownerOf(&stat), depth: depth, modTime: file.Nanoseconds(stat.Mtime),
		})
		return
	}
	unix.Close(fd)
}

func (w *walker) unread(path string, err error) {
	if !errors.Is(err, fs.ErrNotExist) {
		w.Unread(path, err)
	}
}

func (w *walker) skipped(path string, why error) {
	if w.Skipped != nil {
		w.Skipped(path, why)
	}
}
