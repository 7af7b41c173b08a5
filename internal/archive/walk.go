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
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"tunnelcast/internal/file"
	"tunnelcast/internal/inuse"
)

// Tree is an archive that is looked through and whose files are removed, however
// deep. It stays inside the directory it was opened on: every directory is opened
// from the descriptor of the one above, without following a symbolic link and on
// the same mount, so no name is ever resolved twice and it does not matter
// who renames, links or mounts meanwhile. (os.Root follows links that stay inside
// and does not stop at mounts.)
type Tree struct {
	fd     int
	dev    uint64
	mount  uint64
	path   string
	top    owner
	linked sync.Mutex // held while a file that has several names is checked

	writers inuse.Writers
}

// owner is what decides, besides the permissions, who may remove a name.
type owner struct {
	uid        uint32
	mode       uint16
	attributes uint64 // STATX_ATTR_*
}

func ownerOf(stat *unix.Statx_t) owner { return owner{stat.Uid, stat.Mode, stat.Attributes} }

// ErrOpen is wrapped by the error of an archive that cannot be opened.
var ErrOpen = errors.New("open archive")

// OpenTree opens the directory at name, which may be a symbolic link, as may the
// directories on the way to it: an archive is often moved to a bigger disk and a link
// left in its place. The name is resolved here, once; what it leads to later does
// not matter. A name that leads to the root directory is refused.
func OpenTree(name string) (*Tree, error) {
	fd, err := retry(func() (int, error) {
		return unix.Open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		if target, linkErr := os.Readlink(name); linkErr == nil {
			err = fmt.Errorf("it is a symbolic link to %s: %w", target, err)
		}
		return nil, fmt.Errorf("%w %s: %w", ErrOpen, name, err)
	}
	var stat, root unix.Statx_t
	if err = statx(fd, &itself[0], &stat); err == nil {
		err = unix.Statx(unix.AT_FDCWD, "/", 0, unix.STATX_INO, &root)
	}
	if err == nil && stat.Ino == root.Ino && file.Device(&stat) == file.Device(&root) {
		err = errors.New("it leads to the root directory: the whole system is not an archive")
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("%w %s: %w", ErrOpen, name, err)
	}
	return &Tree{fd: fd, dev: file.Device(&stat), mount: stat.Mnt_id, path: name, top: ownerOf(&stat)}, nil
}

// Close closes the tree.
func (t *Tree) Close() error { return unix.Close(t.fd) }

// Space is the state of a file system.
type Space struct {
	Free, Size         int64 // bytes; Free is what a process without privileges may still write
	FreeInodes, Inodes int64 // 0 if it has no fixed number of them
}

// Space returns the state of the tree's file system.
func (t *Tree) Space() (Space, error) {
	var stat unix.Statfs_t
	if err := unix.Fstatfs(t.fd, &stat); err != nil {
		return Space{}, fmt.Errorf("ask for the free space of %s: %w", t.path, err)
	}
	// Bavail, not Bfree: the rest is root's.
	space := Space{Free: int64(stat.Bavail) * stat.Frsize, Size: int64(stat.Blocks) * stat.Frsize}
	if stat.Ffree <= stat.Files {
		space.FreeInodes, space.Inodes = int64(stat.Ffree), int64(stat.Files)
	}
	return space, nil
}

// Settled is Space once the file system has done what it puts off: btrfs, ZFS and
// others count the blocks of a removed file as free only with the next commit.
func (t *Tree) Settled() (Space, error) {
	if err := unix.Syncfs(t.fd); err != nil {
		return Space{}, fmt.Errorf("sync the file system of %s: %w", t.path, err)
	}
	return t.Space()
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
	file.Identity
	Name  string // inside its directory; a copy is needed to keep it
	Bytes int64  // what it takes of the disk
	Links uint32 // how many names it has
	name  *byte  // the same as Name, zero-terminated
	owner owner
	dir   *dir
}

// Path returns where the file is.
func (f *File) Path() string { return path.Join(f.dir.path, f.Name) }

// AppendPath appends where the file is to b.
func (f *File) AppendPath(b []byte) []byte {
	return append(append(append(b, f.dir.path...), '/'), f.Name...)
}

// Place returns a number that stands for where the file is. Inode numbers do not:
// FAT and many file systems of FUSE give others the next time they are asked.
func (f *File) Place() uint64 { return placeIn(f.dir.place, f.Name) }

// placeIn is FNV-1a, 64 bits, of a directory's place and a name in it.
func placeIn(dir uint64, name string) uint64 {
	const prime = 0x100000001b3
	h := (dir ^ '/') * prime
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * prime
	}
	return h
}

// Walk is what a walk does with what it finds. Its functions are called by
// several goroutines at once and in no order.
type Walk struct {
	// Want chooses files by their base name, before the cost of looking at
	// them. The name is good for this call.
	Want func(name string) bool
	// File is called for each regular file that is wanted. It may remove the
	// file. An error ends the walk.
	File func(*File) error
	// Other, if not nil, is called for each regular file that is not wanted. Of
	// such a file only the name and the path are known.
	Other func(*File)
	// Enter, if not nil, chooses directories by their base name.
	Enter func(name string) bool
	// Skipped, if not nil, is called for each directory that was not entered
	// and each file that was not looked at: ErrMount, ErrLostAndFound or ErrExcluded.
	Skipped func(path string, why error)
	// Unread is called for each file and directory that could not be looked
	// at, except for those that have just vanished.
	Unread func(path string, err error)
	// Emptied, if not nil, is called for each directory below the top in which
	// nothing is left, or nothing would be left if each file were gone of which
	// Removable was asked. It may remove the directory.
	Emptied func(*Dir)
}

// The reasons why a walk does not look at something.
var (
	ErrMount        = errors.New("another file system is mounted here")
	ErrLostAndFound = errors.New("only root may read it, and nothing is recorded there")
	ErrExcluded     = errors.New("excluded")
)

const (
	// workers is two: unlink is bound by the file system's locks, more gain nothing.
	workers = 2
	// waiting bounds the directories that are open without being read; the
	// rest are walked depth first, which needs a descriptor for each level.
	waiting = 64
	// deepest is where a walk turns back. nginx-rtmp makes no directories at
	// all, so this is a person's or an attacker's tree.
	deepest = 100
	// small and large are the sizes of a batch, in bytes, for about eight and 130
	// thousand entries: the more are looked at in the order of their inodes, the fewer
	// of ext4's blocks change twice. Large ones are for directories that fill a small one.
	small, large = 256 << 10, 4 << 20
	// share is how many entries of a batch a worker takes at a time.
	share = 64
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
	root := &dir{fd: fd, name: t.path, path: t.path, owner: t.top, tree: t}
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
	tree    *Tree
	name    string // inside parent; the tree's path for the root
	path    string
	place   uint64
	owner   owner
	depth   int
	modTime int64
	refs    atomic.Int64
	seen    atomic.Int64 // entries
	gone    atomic.Int64 // of those seen, removed; on a dry run, removable
	large   bool         // it has filled a small batch
}

// Dir is a directory in which nothing is left. It is good for the call that it was
// given to.
type Dir struct {
	Path    string
	ModTime int64 // before the walk, as file.Nanoseconds
	Removed bool  // something in it was removed
	dir     *dir
}

// Modified returns ModTime as a time.
func (d *Dir) Modified() time.Time { return time.Unix(0, d.ModTime) }

// Remove removes the directory unless it holds anything again: rmdir looks and
// removes at once.
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

// Removable returns the error that Remove would return, as far as can be known
// without removing.
func (d *Dir) Removable() error {
	parent := d.dir.parent
	if err := parent.denies(d.dir.owner); err != nil {
		return &fs.PathError{Op: "remove", Path: d.Path, Err: err}
	}
	parent.gone.Add(1)
	return nil
}

type walker struct {
	Walk
	ctx    context.Context
	cancel context.CancelCauseFunc
	tree   *Tree

	mu      sync.Mutex
	changed sync.Cond // todo, shared or busy
	todo    []*dir    // last in, first out
	shared  []*batch  // with entries that nobody has taken
	busy    int       // workers that may add to these
}

// batch holds entries of a directory. The worker that has read it goes through it
// from the front, and another that has nothing else to do from the back.
type batch struct {
	dir      *dir
	entries  []byte
	order    []uint32 // where each begins, by inode
	from, to int      // those of order that nobody has taken
	users    int
}

// smallBatches and largeBatches are those that are not in use.
var (
	smallBatches = sync.Pool{New: func() any { return newBatch(small) }}
	largeBatches = sync.Pool{New: func() any { return newBatch(large) }}
)

func newBatch(size int) *batch {
	return &batch{entries: make([]byte, size), order: make([]uint32, 0, size/32)}
}

func batches(isLarge bool) *sync.Pool {
	if isLarge {
		return &largeBatches
	}
	return &smallBatches
}

func (b *batch) large() bool { return len(b.entries) == large }

func (b *batch) free() {
	b.dir = nil
	batches(b.large()).Put(b)
}

// work reads directories until none is left. A directory of which a small batch was
// read goes back on the list at once, so that two workers share it; after a large
// one it waits until that is done, for one such batch is memory enough. Every file
// is told in f, which spares a million new ones.
func (w *walker) work(f *File) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		switch {
		case len(w.todo) > 0:
			d := w.todo[len(w.todo)-1]
			w.todo = w.todo[:len(w.todo)-1]
			w.do(func() {
				b := w.read(d, d.large)
				if b == nil {
					w.release(d)
					return
				}
				if b.large() {
					w.release(d) // b has it, and puts it back
				} else {
					w.later(d, math.MaxInt)
				}
				w.lend(b)
				w.entries(b, true, f)
			})
		case len(w.shared) > 0:
			b := w.shared[0]
			b.users++
			w.do(func() { w.entries(b, false, f) })
		case w.busy > 0:
			w.changed.Wait()
		default:
			w.changed.Broadcast()
			return
		}
	}
}

// do does something without w.mu.
func (w *walker) do(work func()) {
	w.busy++
	w.mu.Unlock()
	work()
	w.mu.Lock()
	w.busy--
	if w.busy == 0 {
		w.changed.Broadcast()
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

// lend lets another worker have some of b.
func (w *walker) lend(b *batch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shared = append(w.shared, b)
	w.changed.Signal()
}

// unlend is called with w.mu held.
func (w *walker) unlend(b *batch) {
	w.shared = slices.DeleteFunc(w.shared, func(s *batch) bool { return s == b })
}

// take gives entries of b that nobody has taken, none if there are no more.
func (w *walker) take(b *batch, front bool) []uint32 {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := min(share, b.to-b.from)
	if b.to-b.from == n {
		w.unlend(b)
	}
	if front {
		b.from += n
		return b.order[b.from-n : b.from]
	}
	b.to -= n
	return b.order[b.to : b.to+n]
}

// leave says that a worker is done with b.
func (w *walker) leave(b *batch) {
	w.mu.Lock()
	b.users--
	last := b.users == 0
	if last { // the walk may have ended before all of it was taken
		w.unlend(b)
	}
	w.mu.Unlock()
	if !last {
		return
	}
	d, isLarge := b.dir, b.large()
	b.free()
	if isLarge {
		w.later(d, math.MaxInt)
	} else {
		w.release(d)
	}
}

// read returns a batch of entries of d, nil at the end.
func (w *walker) read(d *dir, isLarge bool) *batch {
	if w.ctx.Err() != nil {
		return nil
	}
	b := batches(isLarge).Get().(*batch)
	n, err := retry(func() (int, error) { return unix.Getdents(d.fd, b.entries) })
	if err != nil {
		w.unread(d.path, err)
		d.seen.Add(1) // it is not empty, for all that is known
	}
	if n <= 0 {
		b.free()
		return nil
	}
	const longest = 19 + 256 + 8 // entry, in bytes
	d.large = d.large || n > small-longest
	d.refs.Add(1)
	b.dir, b.users, b.order = d, 1, b.order[:0]
	// The layout is struct linux_dirent64, getdents64(2): inode and offset of 8 bytes
	// each, the entry's length in 2, its type in 1, and the name up to a zero byte.
	for at := 0; at < n; at += int(binary.NativeEndian.Uint16(b.entries[at+16:])) {
		b.order = append(b.order, uint32(at))
	}
	// ext4 lists by a hash of the name and stores by inode.
	inode := func(at uint32) uint64 { return binary.NativeEndian.Uint64(b.entries[at:]) }
	slices.SortFunc(b.order, func(x, y uint32) int { return cmp.Compare(inode(x), inode(y)) })
	b.from, b.to = 0, len(b.order)
	return b
}

// release gives up one reference to d.
func (w *walker) release(d *dir) {
	for d != nil && d.refs.Add(-1) == 0 {
		unix.Close(d.fd)
		parent := d.parent
		if parent != nil && w.Emptied != nil && w.ctx.Err() == nil && d.seen.Load() == d.gone.Load() {
			w.Emptied(&Dir{d.path, d.modTime, d.gone.Load() > 0, d})
		}
		d = parent
	}
}

// entries looks at those entries of b that no other worker takes.
func (w *walker) entries(b *batch, front bool, f *File) {
	defer w.leave(b)
	for some := w.take(b, front); len(some) > 0; some = w.take(b, front) {
		b.dir.seen.Add(int64(len(some)))
		for _, at := range some {
			if w.ctx.Err() != nil {
				return
			}
			entry := b.entries[at:]
			name := entry[19:]
			f.name = &name[0]
			f.Name = unsafe.String(f.name, bytes.IndexByte(name, 0))
			w.entry(b.dir, entry[18], f)
		}
	}
}

// entry looks at the entry of d that is called f.Name.
func (w *walker) entry(d *dir, kind uint8, f *File) {
	f.dir = d
	if f.Name == "." || f.Name == ".." {
		d.seen.Add(-1)
		return
	}
	switch kind {
	case unix.DT_DIR:
		w.descend(d, strings.Clone(f.Name), f)
		return
	case unix.DT_REG:
		if !w.Want(f.Name) {
			w.other(f)
			return
		}
	case unix.DT_UNKNOWN: // not every file system says
	default:
		return
	}
	var stat unix.Statx_t
	if err := statx(d.fd, f.name, &stat); err != nil {
		w.unread(f.Path(), err)
		return
	}
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		w.descend(d, strings.Clone(f.Name), f)
	case unix.S_IFREG:
		if kind == unix.DT_UNKNOWN && !w.Want(f.Name) {
			w.other(f)
			return
		}
		if !w.tree.holds(&stat) {
			w.skipped(f.Path(), ErrMount)
			return
		}
		f.Identity, f.owner = file.Of(&stat), ownerOf(&stat)
		f.Bytes, f.Links = int64(stat.Blocks)*512, stat.Nlink // stat(2): whatever the file system's blocks are
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
	return known && stat.Mode&unix.S_IFMT == unix.S_IFREG || file.Device(stat) == t.dev
}

func (w *walker) descend(parent *dir, name string, f *File) {
	where := path.Join(parent.path, name)
	if w.Enter != nil && !w.Enter(name) {
		w.skipped(where, ErrExcluded)
		return
	}
	fd, err := openDir(parent.fd, name)
	if err != nil {
		switch {
		case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
			// Replaced by a file or a link since it was listed: not ours to enter.
		case errors.Is(err, unix.EACCES) && isLostAndFound(parent.fd, name):
			w.skipped(where, ErrLostAndFound)
		default:
			w.unread(where, err)
		}
		return
	}
	var stat unix.Statx_t
	if err := statx(fd, &itself[0], &stat); err != nil || !w.tree.holds(&stat) {
		unix.Close(fd)
		if err != nil {
			w.unread(where, err)
		} else {
			w.skipped(where, ErrMount)
		}
		return
	}
	d := &dir{fd: fd, parent: parent, tree: parent.tree, name: name, path: where, place: placeIn(parent.place, name),
		owner: ownerOf(&stat), depth: parent.depth + 1, modTime: file.Nanoseconds(stat.Mtime)}
	if d.depth > deepest {
		unix.Close(fd)
		w.unread(d.path, fmt.Errorf("more than %d directories deep", deepest))
		return
	}
	d.refs.Store(1)
	parent.refs.Add(1)
	if w.later(d, waiting) {
		return
	}
	for b := w.read(d, false); b != nil; b = w.read(d, false) {
		w.entries(b, true, f)
	}
	w.release(d)
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

func (w *walker) other(f *File) {
	if w.Other != nil {
		w.Other(f)
	}
}

func openDir(at int, name string) (int, error) {
	return retry(func() (int, error) {
		return unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	})
}
