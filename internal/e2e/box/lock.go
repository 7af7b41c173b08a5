package box

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// lock takes a flock of kind how on file, made if need be, and waits for it until ctx ends. Closing the file, or the end
// of this process, gives it back.
func lock(ctx context.Context, file string, how int) (*os.File, error) {
	for {
		f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return nil, fmt.Errorf("lock: %w", err)
		}
		err = syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
		if err == nil && same(f, file) {
			return f, nil
		}
		f.Close()
		if err != nil && !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, fmt.Errorf("lock %s: %w", file, err)
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return nil, fmt.Errorf("lock %s: %w", file, err)
		}
	}
}

// same says whether f is still the file of that name: removeOldTrees may have taken it away before we had the lock.
func same(f *os.File, name string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(name)
	return err == nil && os.SameFile(a, b)
}

// pause waits for d, or fails when ctx ends before.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// Poll calls done every 20 ms until it says true or fails, and fails when limit or ctx ends before.
// The error names what was waited for and, if done gave one with false, its last reason.
func Poll(ctx context.Context, limit time.Duration, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		ok, err := done()
		if ok {
			return err
		}
		if perr := pause(ctx, 20*time.Millisecond); perr != nil {
			if err == nil {
				err = perr
			}
			return fmt.Errorf("wait %v for %s: %w", limit, what, err)
		}
	}
}
