package box

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// lock takes a flock of kind how on a file, which it creates if necessary, and waits for it until ctx ends. The lock is
// released when the file is closed, or this process ends.
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

// same reports whether f is still the file of that name: removeOldTrees may have removed it before we had the lock.
func same(f *os.File, name string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(name)
	return err == nil && os.SameFile(a, b)
}

// pause waits for d, and fails if ctx ends first.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// Poll calls done every 20 ms until that returns true, and then returns done's error. It fails when ctx ends, and when
// limit has passed; the error names what was waited for and contains the last error of done.
func Poll(ctx context.Context, limit time.Duration, what string, done func() (bool, error)) error {
	start := time.Now()
	for {
		ok, err := done()
		if ok {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("wait for %s: %w", what, ctx.Err())
		}
		if time.Since(start) > limit {
			if err == nil {
				return fmt.Errorf("wait for %s: nothing after %v", what, limit)
			}
			return fmt.Errorf("wait for %s: nothing after %v: %w", what, limit, err)
		}
		pause(ctx, 20*time.Millisecond)
	}
}
