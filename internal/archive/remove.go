package archive

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrInUse says that somebody writes to a file or holds a lock on it.
var ErrInUse = errors.New("in use")

// Remove removes the file if it is still the one that the walk saw, of the same
// size and age, and if nobody writes to it or holds a lock on it. If it is not,
// the error is ErrInUse, ErrChanged or fs.ErrNotExist and everything is as it was.
//
// Who opens the file by its name in the last microseconds before it goes, keeps
// a file without a name; Linux has no call to exclude that. To hold the lease
// meanwhile would only make such a writer wait for it, and ext4 is slow to remove
// what is open: so the file is closed first.
func (f *File) Remove() error {
	if err := f.check(alone); err != nil {
		return f.error(err)
	}
	if err := unlinkat(f.dir.fd, f.name); err != nil {
		return f.error(f.dir.explain(err, f.owner))
	}
	f.dir.gone.Add(1)
	return nil
}

// Removable returns the error that Remove would return, as far as can be known
// without removing. It is for a file that a run would remove.
func (f *File) Removable() error {
	err := f.check(idle)
	if err == nil {
		err = f.dir.denies(f.owner)
	}
	if err != nil {
		return f.error(err)
	}
	f.dir.gone.Add(1)
	return nil
}

// Denied returns the error of removing a file like this one from its directory,
// whoever uses it.
func (f *File) Denied() error { return f.dir.denies(f.owner) }

// denies returns the error that unlinkat(2) would return in this directory, as
// far as can be known (may_delete in the kernel's fs/namei.c).
func (d *dir) denies(what owner) error {
	if err := unix.Faccessat(d.fd, ".", unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return err
	}
	return d.protects(what)
}

// protects is what decides after the permissions.
func (d *dir) protects(what owner) error {
	const protected = unix.STATX_ATTR_IMMUTABLE | unix.STATX_ATTR_APPEND
	switch self := uint32(unix.Geteuid()); {
	case d.owner.attributes&protected != 0:
		return fmt.Errorf("%w: %s is immutable or append-only (lsattr -d)", unix.EPERM, d.path)
	case what.attributes&protected != 0:
		return fmt.Errorf("%w: it is immutable or append-only (lsattr -d)", unix.EPERM)
	case d.owner.mode&unix.S_ISVTX != 0 && self != d.owner.uid && self != what.uid && !mayRemoveOthers():
		return fmt.Errorf("%w: %s is sticky, so only an owner may", unix.EPERM, d.path)
	}
	return nil
}

// explain adds to an error of unlinkat(2) what protects says.
func (d *dir) explain(err error, what owner) error {
	if errors.Is(err, unix.EPERM) {
		if why := d.protects(what); why != nil {
			return why
		}
	}
	return err
}

// mayRemoveOthers reports whether this process has CAP_FOWNER.
func mayRemoveOthers() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	return unix.Capget(&header, &data[0]) == nil && data[0].Effective&(1<<unix.CAP_FOWNER) != 0
}

// check makes sure that the file is the one that was seen, and asks unused of it.
func (f *File) check(unused func(fd int) error) error {
	if f.Links > 1 {
		// Another worker may be at another name of this file. The lease that the one takes
		// would look to the other as if somebody had the file open.
		f.dir.tree.linked.Lock()
		defer f.dir.tree.linked.Unlock()
	}
	// O_NONBLOCK: whatever has taken the name meanwhile, a pipe perhaps, and
	// rather than wait for somebody's lease to be broken.
	fd, err := openat(f.dir.fd, f.name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC)
	switch {
	case err == nil:
	case errors.Is(err, unix.ELOOP):
		return ErrChanged
	case errors.Is(err, unix.EWOULDBLOCK):
		return ErrInUse
	default:
		return err
	}
	defer closeRaw(fd) // and with it whatever unused has taken
	var stat unix.Stat_t
	if err := fstat(fd, &stat); err != nil {
		return err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG || identity(&stat) != f.Identity {
		return ErrChanged
	}
	if err := unused(fd); err != errRefused {
		return err
	}
	return f.quiet(fd)
}

// alone returns nil if nobody else has the file open, and what idle says if
// somebody has. A lease for writing tells, F_SETLEASE in fcntl(2). It is for a file
// that is about to go: a download that begins while we hold it waits, or fails.
func alone(fd int) error {
	if setLease(fd, unix.F_WRLCK) == nil {
		return nil
	}
	return idle(fd)
}

// errRefused says that there was no lease to be had.
var errRefused = errors.New("lease refused")

// idle makes sure that nobody has the file open for writing and that nobody
// works on it. Readers may go on reading. What it takes for that does not look to
// another run as if the file were in use.
func idle(fd int) error {
	// recorddone's lock on a recording it works on, and on its work, is exclusive
	// and flock(2)'s. Ours goes with fd.
	if err := unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return ErrInUse
	}
	// A lease for reading is granted only while nobody has the file open for
	// writing, to its owner and to root.
	switch err := setLease(fd, unix.F_RDLCK); {
	case err == nil:
		return nil
	case errors.Is(err, unix.EAGAIN):
		return errRefused
	}
	return unlocked(fd)
}

// leases is what a tree knows of leases on its file system.
type leases struct {
	mu    sync.Mutex
	known bool
	work  bool
	now   time.Time // of the file system
}

// Leases reports whether it shows on the tree's file system that a file is being
// written. Where it does not, Remove and Removable take a file to be in use that was
// written to less than Quiet ago.
func (t *Tree) Leases() (work bool, err error) {
	work, _, err = t.askForLease(t.fd)
	return work, err
}

// Quiet is how long nobody has written to a file that is not in use, where leases
// do not tell: nginx writes several times a second.
const Quiet = time.Hour

func (t *Tree) askForLease(dir int) (work bool, now time.Time, err error) {
	l := &t.leases
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.known {
		if l.work, l.now, err = leasesWork(dir); err != nil {
			return false, now, err
		}
		l.known = true
	}
	return l.work, l.now, nil
}

// NoLeases reports whether a file was kept or removed without knowing whether it is
// open, because leases do not work here.
func (t *Tree) NoLeases() bool {
	t.leases.mu.Lock()
	defer t.leases.mu.Unlock()
	return t.leases.known && !t.leases.work
}

// quiet returns nil for a file whose lease was refused only because there are none to
// be had on this file system, and which nobody has written to for long or has locked.
func (f *File) quiet(fd int) error {
	work, now, err := f.dir.tree.askForLease(f.dir.fd)
	if err != nil || work || now.Sub(f.ModTime()) < Quiet {
		return ErrInUse
	}
	return unlocked(fd)
}

// unlocked is what can be known of another's file, or where the file system has
// no leases: whether somebody holds a lock on a part of it, as nginx-rtmp does
// with record_lock.
func unlocked(fd int) error {
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(uintptr(fd), unix.F_GETLK, &lock); err != nil {
		return fmt.Errorf("look for locks: %w", err)
	}
	if lock.Type != unix.F_UNLCK {
		return ErrInUse
	}
	return nil
}

func (f *File) error(err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: "remove", Path: f.Path(), Err: err}
}
