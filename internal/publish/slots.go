package publish

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"tunnelcast/internal/file"
)

// Slots limit how many of a host's runs work at the same time. A slot becomes free when the run
// that holds it ends, however that ends.
type Slots struct{ files []*os.File }

// poll is how often Acquire tries all slots: the kernel waits for one lock, not for any of several.
const poll = 100 * time.Millisecond

// OpenSlots opens n slots in the files dir/name.1, dir/name.2 and so on. After an error the slots
// that it returns let any number of runs work at the same time.
func OpenSlots(dir, name string, n int) (*Slots, error) {
	s := new(Slots)
	for i := range n {
		slot, err := openSlot(filepath.Join(dir, fmt.Sprintf("%s.%d", name, i+1)))
		if err != nil {
			s.Close()
			return new(Slots), fmt.Errorf("open job lock: %w", err)
		}
		s.files = append(s.files, slot)
	}
	return s, nil
}

// openSlot opens a file that several users may have to share: root, when a person starts a run by
// hand, and the user that nginx records as. Reading is enough for flock. In a directory that all
// may write to, the kernel does not let one open another's file with O_CREAT (fs.protected_regular).
func openSlot(path string) (*os.File, error) {
	slot, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		slot, err = os.OpenFile(path, os.O_RDONLY|os.O_CREATE|unix.O_NOFOLLOW, 0o644)
		if err == nil {
			err = slot.Chmod(0o644) // root's umask may keep others from reading
		}
	}
	return slot, err
}

// Acquire waits for a slot. The returned function gives it back.
func (s *Slots) Acquire(ctx context.Context) (release func(), err error) {
	if len(s.files) == 0 {
		return func() {}, nil
	}
	for {
		for _, slot := range s.files {
			ok, err := file.TryLock(slot, file.Exclusive)
			if err != nil {
				return nil, err
			}
			if ok {
				return func() { file.Unlock(slot) }, nil
			}
		}
		if err := pause(ctx, poll); err != nil {
			return nil, err
		}
	}
}

// Close gives back what is held.
func (s *Slots) Close() {
	for _, slot := range s.files {
		slot.Close()
	}
}
