package archive

import (
	"errors"
	"fmt"
	"io/fs"

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
		return f.error(err)
	}
	f.dir.removed.Store(true)
	return nil
}

// Removable returns the error that Remove would return, as far as can be known
// without removing.
func (f *File) Removable() error {
	if err := f.check(idle); err != nil {
		return f.error(err)
	}
	return f.error(unix.Faccessat(f.dir.fd, ".", unix.W_OK|unix.X_OK, unix.AT_EACCESS))
}

// check makes sure that the file is the one that was seen, and asks unused of it.
func (f *File) check(unused func(fd int) error) error {
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
	return unused(fd)
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

// idle makes sure that nobody has the file open for writing and that nobody
// works on it. Readers may go on reading.
func idle(fd int) error {
	// recorddone's lock on a recording it works on, and on its work, is
	// flock(2)'s. Ours goes with fd.
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return ErrInUse
	}
	// A lease for reading is granted only while nobody has the file open for
	// writing, to its owner and to root.
	switch err := setLease(fd, unix.F_RDLCK); {
	case err == nil:
		return nil
	case errors.Is(err, unix.EAGAIN):
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
