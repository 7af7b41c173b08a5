package archive

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Tree is an archive that is looked through and whose files are removed, however
// deep. It stays inside the directory it was opened on: every directory is opened
// from the descriptor of the one above, without following a symbolic link and on
// the same mount, so no name is ever resolved twice and it does not matter
// who renames, links or mounts meanwhile. (os.Root follows links that stay inside
// and does not stop at mounts.)
type Tree struct {
	fd    int
	dev   uint64
	mount uint64
	path  string
}

// ErrOpen is wrapped by the error of an archive that cannot be opened.
var ErrOpen = errors.New("open archive")

// OpenTree opens the directory at name. The directories on the way to it may be
// symbolic links, name itself may not.
func OpenTree(name string) (*Tree, error) {
	fd, err := openDir(unix.AT_FDCWD, name)
	if err != nil {
		var stat unix.Stat_t
		if errors.Is(err, unix.ENOTDIR) && unix.Lstat(name, &stat) == nil && stat.Mode&unix.S_IFMT == unix.S_IFLNK {
			err = errors.New("is a symbolic link; name the directory that it leads to")
		}
		return nil, fmt.Errorf("%w %s: %w", ErrOpen, name, err)
	}
	var stat unix.Statx_t
	if err := statx(fd, &itself[0], &stat); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("%w %s: %w", ErrOpen, name, err)
	}
	return &Tree{fd: fd, dev: device(&stat), mount: stat.Mnt_id, path: name}, nil
}

// Close closes the tree.
func (t *Tree) Close() error { return unix.Close(t.fd) }

// Free returns what a process without privileges may still write to the tree's
// file system, and the size of that, in bytes.
func (t *Tree) Free() (free, size int64, err error) {
	var stat unix.Statfs_t
	if err := unix.Fstatfs(t.fd, &stat); err != nil {
		return 0, 0, fmt.Errorf("ask for the free space of %s: %w", t.path, err)
	}
	// Bavail, not Bfree: the rest is root's.
	return int64(stat.Bavail) * stat.Frsize, int64(stat.Blocks) * stat.Frsize, nil
}

// Inodes returns how many files the tree's file system holds, 0 if it does not
// tell.
func (t *Tree) Inodes() uint64 {
	var stat unix.Statfs_t
	if unix.Fstatfs(t.fd, &stat) != nil || stat.Ffree > stat.Files {
		return 0
	}
	return stat.Files - stat.Ffree
}

// Settled is Free once the file system has done what it puts off: btrfs, ZFS and
// others count the blocks of a removed file as free only with the next commit.
func (t *Tree) Settled() (free, size int64, err error) {
	if err := unix.Syncfs(t.fd); err != nil {
		return 0, 0, fmt.Errorf("sync the file system of %s: %w", t.path, err)
	}
	return t.Free()
}

// Writable says whether this process may remove files from the tree's top.
func (t *Tree) Writable() error {
	if err := unix.Faccessat(t.fd, ".", unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return fmt.Errorf("write to %s: %w", t.path, err)
	}
	return nil
}

// File is one regular file of a tree, as the walk saw it. It is good for the
// call that it was given to.
type File struct {
	Identity
	Name  string // inside its directory; a copy is needed to keep it
	Bytes int64  // bytes that its removal frees: none if the file has another name too
	name  *byte  // the same, zero-terminated
	dir   *dir
}

// ModTime returns when the file was last written to.
func (f *File) ModTime() time.Time { return time.Unix(f.MtimeSec, f.MtimeNs) }

// Path returns where the file is.
func (f *File) Path() string { return path.Join(f.dir.path(), f.Name) }

// Walk is what a walk does with what it finds. Its functions are called by
// several goroutines at once and in no order.
type Walk struct {
	// Want chooses files by their base name, before the cost of looking at
	// them. The name is good for this call.
	Want func(name string) bool
	// File is called for each regular file that is wanted. It may remove the
	// file. An error ends the walk.
	File func(*File) error
	// Unread is called for each file and directory that could not be looked
	// at; those that have just vanished are not told.
	Unread func(path string, err error)
	// Emptied, if not nil, is asked about each directory below the top, once
	// all below it is done, with the time it was last changed before and
	// whether something in it was removed. If the answer is yes, the directory
	// is removed unless it holds anything.
	Emptied func(modTime time.Time, removed bool) bool
}

const (
	// workers is two: unlink is bound by the file system's locks, more gain nothing.
	workers = 2
	// waiting bounds the directories that are open without being read; the
	// rest are walked depth first, which needs a descriptor for each level.
	waiting = 64
	// deepest is where a walk turns back. nginx-rtmp makes no directories at
	// all, so this is a person's or an attacker's tree.
	deepest = 100
	// batch holds about eight thousand directory entries, in bytes: the more are
	// looked at in the order of their inodes, the fewer of ext4's blocks change twice.
	batch = 256 << 10
)

// Walk looks through the whole tree. Memory does not grow with the number of
// files. It returns the first error of w.File, or the cause of ctx's end.
func (t *Tree) Walk(ctx context.Context, w Walk) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// A descriptor of its own: the offset of a directory belongs to it.
	fd, err := openDir(t.fd, ".")
	if err != nil {
		return fmt.Errorf("%w %s: %w", ErrOpen, t.path, err)
	}
	walker := &walker{Walk: w, ctx: ctx, cancel: cancel, tree: t}
	walker.changed.L = &walker.mu
	root := &dir{fd: fd, name: t.path}
	root.refs.Store(1)
	walker.todo = []*dir{root}

	// Every worker may wait for the disk without the scheduler knowing (syscalls.go),
	// and whoever ends the walk has to run meanwhile.
	if procs := runtime.GOMAXPROCS(0); procs <= workers {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(workers + 1))
	}
	var group sync.WaitGroup
	for range workers {
		group.Go(func() { walker.work(new(File)) })
	}
	group.Wait()
	return context.Cause(ctx)
}

// dir is an open directory. It is closed when it has been read to its end and
// every batch and directory below it is done.
type dir struct {
	fd      int
	parent  *dir
	name    string // inside parent; the tree's path for the root
	depth   int
	modTime time.Time
	refs    atomic.Int64
	removed atomic.Bool // something in it was
}

func (d *dir) path() string {
	if d.parent == nil {
		return d.name
	}
	return path.Join(d.parent.path(), d.name)
}

type walker struct {
	Walk
	ctx    context.Context
	cancel context.CancelCauseFunc
	tree   *Tree

	mu      sync.Mutex
	changed sync.Cond // todo or busy
	todo    []*dir    // last in, first out
	busy    int       // workers that may add to it
}

// buffer holds a batch of a directory's entries.
type buffer struct {
	entries [batch]byte
	order   []slot
}

// slot is where in the batch the entry of an inode is.
type slot struct {
	inode uint64
	at    uint32
}

// buffers holds one for each directory that is being read.
var buffers = sync.Pool{New: func() any { return new(buffer) }}

// work reads batches of directory entries until no directory is left. A
// directory of which a batch was read goes back on the list at once, so that two
// workers share a big one. Every file is told in f, which spares a million new ones.
func (w *walker) work(f *File) {
	buf := buffers.Get().(*buffer)
	defer buffers.Put(buf)
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		for len(w.todo) == 0 && w.busy > 0 {
			w.changed.Wait()
		}
		if len(w.todo) == 0 {
			w.changed.Broadcast()
			return
		}
		d := w.todo[len(w.todo)-1]
		w.todo = w.todo[:len(w.todo)-1]
		w.busy++
		w.mu.Unlock()
		if n := w.read(d, buf.entries[:]); n > 0 {
			d.refs.Add(1)
			w.later(d, math.MaxInt)
			w.entries(d, buf, n, f)
		}
		w.release(d)
		w.mu.Lock()
		w.busy--
	}
}

// later puts d on the list unless that is full.
func (w *walker) later(d *dir, full int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.todo) >= full {
		return false
	}
	w.todo = append(w.todo, d)
	w.changed.Signal()
	return true
}

// read fills buf with entries of d and returns their length, 0 at the end.
func (w *walker) read(d *dir, buf []byte) int {
	if w.ctx.Err() != nil {
		return 0
	}
	n, err := retry(func() (int, error) { return unix.Getdents(d.fd, buf) })
	if err != nil {
		w.unread(d.path(), err)
		return 0
	}
	return n
}

// release gives up one reference to d.
func (w *walker) release(d *dir) {
	for d != nil && d.refs.Add(-1) == 0 {
		unix.Close(d.fd)
		parent := d.parent
		if parent != nil && w.Emptied != nil && w.ctx.Err() == nil && w.Emptied(d.modTime, d.removed.Load()) {
			// rmdir looks and removes at once.
			if unix.Unlinkat(parent.fd, d.name, unix.AT_REMOVEDIR) == nil {
				parent.removed.Store(true)
			}
		}
		d = parent
	}
}

// entries looks at a batch of n bytes of entries of d. The layout is struct
// linux_dirent64, getdents64(2): inode and offset of 8 bytes each, the entry's
// length in 2, its type in 1, and the name up to a zero byte.
func (w *walker) entries(d *dir, buf *buffer, n int, f *File) {
	// ext4 lists by a hash of the name and stores by inode.
	buf.order = buf.order[:0]
	for at := 0; at < n; at += int(binary.NativeEndian.Uint16(buf.entries[at+16:])) {
		buf.order = append(buf.order, slot{binary.NativeEndian.Uint64(buf.entries[at:]), uint32(at)})
	}
	slices.SortFunc(buf.order, func(a, b slot) int { return cmp.Compare(a.inode, b.inode) })
	for _, p := range buf.order {
		if w.ctx.Err() != nil {
			return
		}
		entry := buf.entries[p.at:n]
		name := entry[19:]
		f.name = &name[0]
		f.Name = unsafe.String(f.name, bytes.IndexByte(name, 0))
		w.entry(d, entry[18], f)
	}
}

// entry looks at the entry of d that is called f.Name.
func (w *walker) entry(d *dir, kind uint8, f *File) {
	if f.Name == "." || f.Name == ".." {
		return
	}
	switch kind {
	case unix.DT_DIR:
		w.descend(d, strings.Clone(f.Name), f)
		return
	case unix.DT_REG:
		if !w.Want(f.Name) {
			return
		}
	case unix.DT_UNKNOWN: // not every file system says
	default:
		return
	}
	var stat unix.Statx_t
	if err := statx(d.fd, f.name, &stat); err != nil {
		w.unread(path.Join(d.path(), f.Name), err)
		return
	}
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		w.descend(d, strings.Clone(f.Name), f)
	case unix.S_IFREG:
		if !w.tree.holds(&stat) || kind == unix.DT_UNKNOWN && !w.Want(f.Name) {
			return
		}
		f.dir = d
		f.Identity = statxIdentity(&stat)
		f.Bytes = int64(stat.Blocks) * 512 // stat(2): whatever the file system's blocks are
		if stat.Nlink > 1 {
			f.Bytes = 0
		}
		if err := w.File(f); err != nil {
			w.cancel(err)
		}
	}
}

// holds says whether a file or directory is on the tree's own mount, and not
// mounted over. On overlayfs a file's device is not its directory's; before Linux
// 5.8, which do not tell the mount, no file there is the tree's. Of directories the
// device is compared too: a snapshot of btrfs is no mount.
func (t *Tree) holds(stat *unix.Statx_t) bool {
	known := stat.Mask&unix.STATX_MNT_ID != 0
	if known && stat.Mnt_id != t.mount {
		return false
	}
	return known && stat.Mode&unix.S_IFMT == unix.S_IFREG || device(stat) == t.dev
}

func (w *walker) descend(parent *dir, name string, f *File) {
	fd, err := openDir(parent.fd, name)
	if err != nil {
		// Replaced by a file or a link since it was listed: not ours to enter.
		if !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.ELOOP) {
			w.unread(path.Join(parent.path(), name), err)
		}
		return
	}
	var stat unix.Statx_t
	if err := statx(fd, &itself[0], &stat); err != nil || !w.tree.holds(&stat) {
		unix.Close(fd)
		if err != nil {
			w.unread(path.Join(parent.path(), name), err)
		}
		return
	}
	d := &dir{fd: fd, parent: parent, name: name, depth: parent.depth + 1, modTime: time.Unix(stat.Mtime.Sec, int64(stat.Mtime.Nsec))}
	if d.depth > deepest {
		unix.Close(fd)
		w.unread(d.path(), fmt.Errorf("more than %d directories deep", deepest))
		return
	}
	d.refs.Store(1)
	parent.refs.Add(1)
	if w.later(d, waiting) {
		return
	}
	buf := buffers.Get().(*buffer)
	defer buffers.Put(buf)
	for n := w.read(d, buf.entries[:]); n > 0; n = w.read(d, buf.entries[:]) {
		w.entries(d, buf, n, f)
	}
	w.release(d)
}

func (w *walker) unread(path string, err error) {
	if !errors.Is(err, fs.ErrNotExist) {
		w.Unread(path, err)
	}
}

func openDir(at int, name string) (int, error) {
	return retry(func() (int, error) {
		return unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
}

func device(stat *unix.Statx_t) uint64 { return unix.Mkdev(stat.Dev_major, stat.Dev_minor) }
