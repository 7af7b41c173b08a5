package archive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// poll is how often a lock that is waited for is tried. flock(2) can wait by
// itself, but then no signal ends it.
const poll = 100 * time.Millisecond

// Lock waits until no other run works on this recording. The lock ends with
// Close and with the process, however that ends.
func (s *Source) Lock(ctx context.Context) error {
	for {
		if ok, err := s.TryLock(); ok || err != nil {
			return err
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// TryLock is Lock for a run that has other things to do.
func (s *Source) TryLock() (bool, error) { return tryLock(s.file) }

// Slots are what the runs on this host share so that only so many work at a
// time. A slot that is held becomes free when its holder ends, however that ends.
type Slots struct{ files []*os.File }

// OpenSlots opens n slots in the files dir/name.1, dir/name.2 and so on.
func OpenSlots(dir, name string, n int) (*Slots, error) {
	s := new(Slots)
	for i := range n {
		file, err := openLock(filepath.Join(dir, fmt.Sprintf("%s.%d", name, i+1)))
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("open job lock: %w", err)
		}
		s.files = append(s.files, file)
	}
	return s, nil
}

// openLock opens a file that several users may have to share: root, when a
// person starts a run by hand, and the user that nginx records as. Reading is
// enough for flock. In a directory that all may write to, the kernel does not let
// one open another's file with O_CREAT (fs.protected_regular).
func openLock(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		file, err = os.OpenFile(path, os.O_RDONLY|os.O_CREATE|unix.O_NOFOLLOW, 0o644)
	}
	return file, err
}

// Acquire waits for a slot. The returned function gives it back.
func (s *Slots) Acquire(ctx context.Context) (release func(), err error) {
	for {
		for _, file := range s.files {
			ok, err := tryLock(file)
			if err != nil {
				return nil, err
			}
			if ok {
				return func() { unix.Flock(int(file.Fd()), unix.LOCK_UN) }, nil
			}
		}
		if err := pause(ctx); err != nil {
			return nil, err
		}
	}
}

// Close gives back what is held.
func (s *Slots) Close() {
	for _, file := range s.files {
		file.Close()
	}
}

func tryLock(file *os.File) (bool, error) {
	err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("lock %s: %w", file.Name(), err)
	}
	return true, nil
}

func pause(ctx context.Context) error {
	timer := time.NewTimer(poll)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
