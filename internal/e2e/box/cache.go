package box

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Cached makes sure that the directory dir of the cache exists, and returns a shared lock on it: dir may be removed
// when nobody holds one. If dir does not exist, build is called to make the directory work, under an exclusive lock
// that it may pass on to its processes. dir appears complete or not at all, also after a power cut. One of several
// callers builds, the others wait.
func Cached(ctx context.Context, dir string, build func(work string, lock *os.File) error) (*os.File, error) {
	// flock cannot downgrade an exclusive lock to a shared one atomically, hence the loop.
	for {
		shared, err := lock(ctx, dir+".lock", syscall.LOCK_SH)
		if err != nil {
			return nil, err
		}
		if _, err := os.Stat(dir); err == nil {
			return shared, nil
		} else if !errors.Is(err, os.ErrNotExist) {
			shared.Close()
			return nil, fmt.Errorf("look in the cache: %w", err)
		}
		shared.Close()
		exclusive, err := lock(ctx, dir+".lock", syscall.LOCK_EX)
		if err != nil {
			return nil, err
		}
		if _, err = os.Stat(dir); err != nil {
			err = fill(ctx, dir, exclusive, build)
		}
		exclusive.Close()
		if err != nil {
			return nil, err
		}
	}
}

// fill calls build and publishes what it built as dir.
func fill(ctx context.Context, dir string, lock *os.File, build func(work string, lock *os.File) error) error {
	work := dir + ".new"
	if err := os.RemoveAll(work); err != nil {
		return fmt.Errorf("remove the files of a killed build: %w", err)
	}
	defer os.RemoveAll(work)
	if err := build(work, lock); err != nil {
		return err
	}
	// Otherwise a power cut could leave a directory without half of its contents, and nobody would notice.
	if _, err := output(ctx, nil, "sync", "-f", work); err != nil {
		return err
	}
	if err := os.Rename(work, dir); err != nil {
		return fmt.Errorf("publish what was built: %w", err)
	}
	return nil
}

// RemoveUnused removes the directories of Cached below base that keep does not report, unless somebody has a lock on
// them. Errors are ignored: the next run tries again.
func RemoveUnused(base string, keep func(name string) bool) {
	locks, _ := filepath.Glob(filepath.Join(base, "*.lock"))
	for _, file := range locks {
		name := strings.TrimSuffix(filepath.Base(file), ".lock")
		if keep(name) {
			continue
		}
		f, err := os.OpenFile(file, os.O_RDWR, 0)
		if err != nil {
			continue
		}
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			rest, _ := filepath.Glob(filepath.Join(base, name+"*"))
			for _, path := range rest {
				os.RemoveAll(path)
			}
		}
		f.Close()
	}
}
