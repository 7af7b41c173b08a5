package file

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// How says what a lock is shared with (flock(2)).
type How int

// The kinds of locks.
const (
	Shared    How = unix.LOCK_SH
	Exclusive How = unix.LOCK_EX
)

// Lock locks an open file or directory and waits for that until ctx ends. The lock ends when
// file is closed, and with the process, however that ends. After an error the caller must close
// file: the kernel may still grant the lock, which then ends with the file.
func Lock(ctx context.Context, file *os.File, how How) error {
	// In the ordinary case nobody holds it, and then no other thread is needed.
	if ok, err := TryLock(file, how); ok || err != nil {
		return err
	}
	// flock(2) can wait by itself, in turn with others, but then only a signal ends the wait.
	// It asks by a descriptor of its own, because the caller may close file meanwhile. The lock is
	// that of the open file, which both have.
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return lockError(file, err)
	}
	locked := make(chan error, 1)
	go func() {
		defer unix.Close(fd)
		locked <- Again(func() error { return unix.Flock(fd, int(how)) })
	}()
	select {
	case err := <-locked:
		return lockError(file, err)
	case <-ctx.Done():
		return fmt.Errorf("lock %s: another run holds it: %w", file.Name(), context.Cause(ctx))
	}
}

// TryLock is Lock without the wait: ok is false if another has a lock that excludes this one.
func TryLock(file *os.File, how How) (ok bool, err error) {
	err = Again(func() error { return unix.Flock(int(file.Fd()), int(how)|unix.LOCK_NB) })
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, lockError(file, err)
}

// Unlock gives a lock back and leaves the file open.
func Unlock(file *os.File) error {
	return lockError(file, unix.Flock(int(file.Fd()), unix.LOCK_UN))
}

func lockError(file *os.File, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("lock %s: %w", file.Name(), err)
}
