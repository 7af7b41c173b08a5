// Package inuse finds out whether somebody writes to a file. internal/archive asks before it removes an
// old recording, internal/publish before it removes one that is published.
package inuse

import (
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"tunnelcast/internal/file"
	"tunnelcast/internal/recording"
)

// ErrInUse is the error of a file that somebody writes to, or has locked.
var ErrInUse = errors.New("in use")

// ErrNotOwner is the error for a file of another user: only the owner can find out whether somebody writes
// to it.
var ErrNotOwner = errors.New("only its owner may ask (run as the user that nginx records as)")

// Writers finds out, for the files of one file system, whether somebody writes to a file. The zero
// value is ready for use, also by several goroutines.
//
// The kernel grants a lease for reading (F_SETLEASE, fcntl(2)) only while nobody has the file
// open for writing, and only to its owner and to root. A lease that is granted means the same
// everywhere. A refused one means that somebody writes only where leases work at all, which is
// tried once, with a new file. Where they do not work there is nothing better than locks, such as
// nginx's with record_lock, and the time of the last write.
type Writers struct {
	mu    sync.Mutex
	known bool
	work  bool
	now   int64 // the file system's time when that was tried
}

// Check returns nil if nobody writes to the file that is open as fd, in the directory dir, and
// ErrInUse if somebody does. Where leases do not work, a file is in use if somebody has locked a
// part of it, or if it was written to (modTime) less than quiet ago, if that is not 0. ErrNotOwner is returned for
// another user's file without locks. Any other error means that it could not be found out.
func (w *Writers) Check(dir, fd int, modTime int64, quiet time.Duration) error {
	_, refused := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
	if refused == nil {
		// Given back at once: it would hold up nginx's next open.
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK); err != nil {
			return fmt.Errorf("give back a lease: %w", err)
		}
		return nil
	}
	work, now, err := w.leases(dir)
	switch {
	case refused == unix.EACCES && (work || err != nil):
		if err := unlocked(fd); err != nil {
			return err
		}
		return ErrNotOwner
	case err != nil:
		return err
	case !work:
		if quiet > 0 && now-modTime < int64(quiet) {
			return ErrInUse
		}
		return unlocked(fd)
	case refused == unix.EAGAIN:
		return ErrInUse
	}
	return fmt.Errorf("ask for a lease: %w", refused)
}

// Leases reports whether leases work for the files in the directory dir.
func (w *Writers) Leases(dir int) (work bool, err error) {
	work, _, err = w.leases(dir)
	return work, err
}

// Blind reports whether Check had to do without leases, because they do not work here.
func (w *Writers) Blind() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.known && !w.work
}

func (w *Writers) leases(dir int) (work bool, now int64, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.known {
		if w.work, w.now, err = tryLease(dir); err != nil {
			return false, 0, err
		}
		w.known = true
	}
	return w.work, w.now, nil
}

// unlocked returns ErrInUse if somebody holds a lock on a part of the file.
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

// tryLease reports whether leases work in the directory dir. It asks for one on a new file, which
// nobody else has open, and removes that file. now is the time that the file system gave the
// file: on a network file system the server's.
//
// Where leases do not work, as with NFS version 3, every lease is refused. With NFS version 4 and
// CIFS a lease is granted only while the server has given the client a delegation or an oplock for
// that very file (fs/nfs/nfs4proc.c, nfs4_add_lease; fs/smb/client/cifsfs.c, cifs_setlease), so
// there a refusal means nothing, whatever the new file gets.
func tryLease(dir int) (work bool, now int64, err error) {
	// A sweep removes it if this process is killed here.
	name := recording.HiddenName(rand.Text(), 0)
	if err := file.Make(dir, name); err != nil {
		return false, 0, fmt.Errorf("make a file to ask for a lease on: %w", err)
	}
	var stat unix.Statx_t
	var fs unix.Statfs_t
	fd, err := file.OpenAt(dir, name, unix.O_RDONLY, 0)
	if err == nil {
		defer unix.Close(fd) // and with it the lease
		err = errors.Join(file.StatAt(fd, "", &stat), unix.Fstatfs(fd, &fs))
		_, refused := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
		work = refused == nil
	}
	if removed := file.UnlinkAt(dir, name); removed != unix.ENOENT { // a sweep may have been quicker
		err = errors.Join(err, removed)
	}
	if err != nil {
		return false, 0, fmt.Errorf("ask for a lease on a new file: %w", err)
	}
	switch uint32(fs.Type) {
	case unix.NFS_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.SMB_SUPER_MAGIC:
		work = false
	}
	return work, file.Nanoseconds(stat.Mtime), nil
}
