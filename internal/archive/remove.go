package archive

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"tunnelcast/internal/file"
	"tunnelcast/internal/inuse"
)

// Remove removes the file if it is still the one that the walk saw, of the same size and age, and if
// nobody writes to it or has locked it. Otherwise the error is inuse.ErrInUse, file.ErrChanged or
// fs.ErrNotExist, and everything is as it was.
//
// A process that opens the path just before the unlink keeps an unlinked file; Linux offers no way to
// prevent that. Keeping the lease until then would only make such a writer wait, and ext4 is slow to
// remove a file that is open: therefore the file is closed first.
func (f *File) Remove() error {
	if err := f.check(f.alone); err != nil {
		return f.error(err)
	}
	if err := file.UnlinkAt(f.dir.fd, f.Name); err != nil {
		return f.error(f.dir.explain(err, f.owner))
	}
	f.dir.gone.Add(1)
	return nil
}

// Removable returns the error that Remove would return, as far as can be known without removing. Call
// it only for a file that a run would remove: the walk then counts it as gone.
func (f *File) Removable() error {
	err := f.check(f.idle)
	if err == nil {
		err = f.dir.denies(f.owner)
	}
	if err != nil {
		return f.error(err)
	}
	f.dir.gone.Add(1)
	return nil
}

// Denied returns the error that permissions would cause if the file were removed, whether it is in use
// or not.
func (f *File) Denied() error { return f.dir.denies(f.owner) }

// denies returns the error that unlinkat(2) would return in this directory, as far as can be known
// (may_delete in the kernel's fs/namei.c).
func (d *dir) denies(what owner) error {
	if err := unix.Faccessat(d.fd, ".", unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return err
	}
	return d.protects(what)
}

// protects returns the error that is not due to the permissions.
func (d *dir) protects(what owner) error {
	const protected = unix.STATX_ATTR_IMMUTABLE | unix.STATX_ATTR_APPEND
	switch self := uint32(unix.Geteuid()); {
	case d.owner.attributes&protected != 0:
		return fmt.Errorf("%w: %s is immutable or append-only (`lsattr -d`)", unix.EPERM, d.path)
	case what.attributes&protected != 0:
		return fmt.Errorf("%w: it is immutable or append-only (`lsattr -d`)", unix.EPERM)
	case d.owner.mode&unix.S_ISVTX != 0 && self != d.owner.uid && self != what.uid && !mayRemoveOthers():
		return fmt.Errorf("%w: %s is sticky, so only an owner may", unix.EPERM, d.path)
	}
	return nil
}

// explain returns the error of unlinkat(2), or that of protects, which says more.
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

// check returns an error unless the file is the one that the walk saw and unused returns nil for it.
func (f *File) check(unused func(fd int) error) error {
	if f.Links > 1 {
		// Another worker may be checking another name of this file. The lease that one of them takes
		// would look to the other as if somebody had the file open.
		f.dir.tree.linked.Lock()
		defer f.dir.tree.linked.Unlock()
	}
	// With O_NONBLOCK the open waits neither for a pipe that has taken the name meanwhile nor for
	// the end of somebody's lease.
	fd, err := file.OpenAt(f.dir.fd, f.Name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	switch {
	case err == nil:
	case errors.Is(err, unix.ELOOP):
		return file.ErrChanged
	case errors.Is(err, unix.EWOULDBLOCK):
		return inuse.ErrInUse
	default:
		return err
	}
	defer unix.Close(fd) // and with it whatever unused has taken
	var stat unix.Statx_t
	if err := file.StatAt(fd, "", &stat); err != nil {
		return err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG || file.Of(&stat) != f.Identity {
		return file.ErrChanged
	}
	return unused(fd)
}

// alone returns nil if nobody else has the file open, and otherwise the result of idle. One lease for
// writing (F_SETLEASE, fcntl(2)) decides that for nearly every file. Call it only for a file that is
// about to be removed: a download that begins while the lease is held waits, or fails.
func (f *File) alone(fd int) error {
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_WRLCK); err == nil {
		return nil
	}
	return f.idle(fd)
}

// idle returns nil if nobody has the file open for writing and no run of recorddone works on it.
// Readers may go on reading. To another run, the leases and locks of this do not look as if the file
// were in use.
func (f *File) idle(fd int) error {
	// recorddone locks its recording and its work exclusively, by flock(2). This lock ends with fd.
	if err := unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return inuse.ErrInUse
	}
	err := f.dir.tree.writers.Check(f.dir.fd, fd, f.ModTime, Quiet)
	switch {
	case err == nil, errors.Is(err, inuse.ErrNotOwner):
		return nil
	default: // a file of which it cannot be known counts as in use
		return inuse.ErrInUse
	}
}

// Leases reports whether leases work on the tree's file system. Where they do not, Remove and
// Removable take a file to be in use that was written to less than Quiet ago.
func (t *Tree) Leases() (work bool, err error) { return t.writers.Leases(t.fd) }

// Quiet is how long nobody has written to a file that is not in use, where leases do not work:
// nginx writes several times a second.
const Quiet = time.Hour

// NoLeases reports whether a file was kept or removed without knowing whether somebody writes to it,
// because leases do not work here.
func (t *Tree) NoLeases() bool { return t.writers.Blind() }

func (f *File) error(err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: "remove", Path: f.Path(), Err: err}
}
