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
// a file without a name; Linux has no call to exclude that.
func (f *File) Remove() error {
	fd, err := f.open()
	if err != nil {
		return err
	}
	// Closing gives back the lease that claim took, after the removal.
	defer unix.Close(fd)
	if err := claim(fd); err != nil {
		return f.error(err)
	}
	if _, err := retry(func() (int, error) { return 0, unix.Unlinkat(f.dir.fd, f.Name, 0) }); err != nil {
		return f.error(err)
	}
	f.dir.removed.Store(true)
	return nil
}

// Removable returns the error that Remove would return, as far as can be known
// without removing.
func (f *File) Removable() error {
	fd, err := f.open()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := claim(fd); err != nil {
		return f.error(err)
	}
	return f.error(unix.Faccessat(f.dir.fd, ".", unix.W_OK|unix.X_OK, unix.AT_EACCESS))
}

// open opens the file and makes sure that it is the one that was seen.
func (f *File) open() (int, error) {
	// O_NONBLOCK: whatever has taken the name meanwhile, a pipe perhaps, and
	// rather than wait for somebody's lease to be broken.
	fd, err := retry(func() (int, error) {
		return unix.Openat(f.dir.fd, f.Name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	})
	switch {
	case errors.Is(err, unix.ELOOP):
		return -1, f.error(ErrChanged)
	case errors.Is(err, unix.EWOULDBLOCK):
		return -1, f.error(ErrInUse)
	case err != nil:
		return -1, f.error(err)
	}
	var stat unix.Statx_t
	if err := statx(fd, "", &stat); err != nil {
		unix.Close(fd)
		return -1, f.error(err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG || statxIdentity(&stat) != f.Identity {
		unix.Close(fd)
		return -1, f.error(ErrChanged)
	}
	return fd, nil
}

// claim makes sure that nobody has the file open for writing and that nobody
// works on it, and keeps it so until fd is closed.
func claim(fd int) error {
	// recorddone's lock on a recording it works on, and on its work, is
	// flock(2)'s. Ours goes with fd.
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return ErrInUse
	}
	// A lease for reading is granted only while nobody has the file open for
	// writing, F_SETLEASE in fcntl(2), to its owner and to root.
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
	switch {
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
