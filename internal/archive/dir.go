package archive

import (
	"io/fs"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"tunnelcast/internal/file"
	"tunnelcast/internal/inuse"
)

// dir is an open directory. It is closed once it has been read to its end and nobody works on a file
// or a directory in it.
type dir struct {
	fd      int
	parent  *dir
	tree    *Tree
	name    string // inside parent; the tree's path for the root
	path    string
	place   uint64
	owner   owner
	depth   int
	modTime int64
	users   atomic.Int64 // the reader, lists of entries, directories below
	seen    atomic.Int64 // entries
	gone    atomic.Int64 // of those seen, removed; on a dry run, removable
}

// openDir opens the directory called name in the directory at.
func openDir(at int, name string) (int, error) {
	return file.OpenAt(at, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
}

// release gives up one use of d, and closes it after the last.
func (w *walker) release(d *dir) {
	for d != nil && d.users.Add(-1) == 0 {
		unix.Close(d.fd)
		parent := d.parent
		if parent != nil && w.Emptied != nil && w.ctx.Err() == nil && d.seen.Load() == d.gone.Load() {
			w.Emptied(&Dir{Path: d.path, ModTime: d.modTime, Removed: d.gone.Load() > 0, dir: d})
		}
		d = parent
	}
}

// Dir is a directory in which nothing is left. It is valid during the call that it is passed to.
type Dir struct {
	Path    string
	ModTime int64 // before the walk; as in file.Identity
	Removed bool  // something in it was removed
	dir     *dir
}

// Modified returns ModTime as a time.
func (d *Dir) Modified() time.Time { return time.Unix(0, d.ModTime) }

// Remove removes the directory unless it holds anything again: rmdir looks and removes in one step.
func (d *Dir) Remove() error {
	parent := d.dir.parent
	switch err := unix.Unlinkat(parent.fd, d.dir.name, unix.AT_REMOVEDIR); err {
	case nil, unix.ENOENT:
		parent.gone.Add(1)
		return nil
	case unix.ENOTEMPTY, unix.EEXIST:
		return inuse.ErrInUse
	default:
		return &fs.PathError{Op: "remove", Path: d.Path, Err: parent.explain(err, d.dir.owner)}
	}
}

// Removable returns the error that Remove would return, as far as can be known without removing.
func (d *Dir) Removable() error {
	parent := d.dir.parent
	if err := parent.denies(d.dir.owner); err != nil {
		return &fs.PathError{Op: "remove", Path: d.Path, Err: err}
	}
	parent.gone.Add(1)
	return nil
}
