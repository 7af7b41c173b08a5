package archive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
		if err := pause(ctx, poll); err != nil {
			return err
		}
	}
}

// TryLock is Lock for a run that has other things to do.
func (s *Source) TryLock() (bool, error) { return s.tryLock(s.file) }

// tryLock locks a file in the recording's directory or, where the file system has no
// locks on files, the directory, whose lock the kernel keeps by itself. NFS version 4
// locks only what is open for writing (EBADF; nfs4_proc_lock in fs/nfs/nfs4proc.c), NFS
// version 3 only with its lock daemon (ENOLCK), Lustre only if it is mounted with
// flock (ENOSYS). CIFS keeps those out who opened the file another time to read it, as
// libav does (cifs_find_lock_conflict in fs/smb/client/file.c).
func (s *Source) tryLock(file *os.File) (bool, error) {
	if !s.locksFiles() {
		s.lack(FileLocks)
		return tryLock(s.dir)
	}
	ok, err := tryLock(file)
	if unsupported(err) || errors.Is(err, unix.EBADF) || errors.Is(err, unix.ENOLCK) {
		s.lack(FileLocks)
		return tryLock(s.dir)
	}
	return ok, err
}

func (s *Source) locksFiles() bool {
	return !s.isOn(unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.SMB_SUPER_MAGIC)
}

// isOn says whether the recording's directory is on a file system of one of these types,
// as statfs(2) has them.
func (s *Source) isOn(types ...uint32) bool {
	var fs unix.Statfs_t
	return unix.Fstatfs(int(s.dir.Fd()), &fs) == nil && slices.Contains(types, uint32(fs.Type))
}

// lockDir waits for the lock of the recording's directory, which other runs hold only
// for as long as it takes to rename a file. Where it stands for the locks of files, this
// run has it already.
func (s *Source) lockDir() (unlock func(), err error) {
	if slices.Contains(s.lacks, FileLocks) {
		return func() {}, nil
	}
	err = lock(int(s.dir.Fd()), unix.LOCK_EX)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", s.Dir, err)
	}
	return func() { lock(int(s.dir.Fd()), unix.LOCK_UN) }, nil
}

// Slots are what the runs on this host share so that only so many work at a
// time. A slot that is held becomes free when its holder ends, however that ends.
type Slots struct{ files []*os.File }

// OpenSlots opens n slots in the files dir/name.1, dir/name.2 and so on. Beside an error,
// what is returned lets any number of runs work at a time.
func OpenSlots(dir, name string, n int) (*Slots, error) {
	s := new(Slots)
	for i := range n {
		file, err := openLock(filepath.Join(dir, fmt.Sprintf("%s.%d", name, i+1)))
		if err != nil {
			s.Close()
			return new(Slots), fmt.Errorf("open job lock: %w", err)
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
		if err == nil {
			err = file.Chmod(0o644) // root's umask may keep others from reading
		}
	}
	return file, err
}

// Acquire waits for a slot. The returned function gives it back.
func (s *Slots) Acquire(ctx context.Context) (release func(), err error) {
	if len(s.files) == 0 {
		return func() {}, nil
	}
	for {
		for _, file := range s.files {
			ok, err := tryLock(file)
			if err != nil {
				return nil, err
			}
			if ok {
				return func() { lock(int(file.Fd()), unix.LOCK_UN) }, nil
			}
		}
		if err := pause(ctx, poll); err != nil {
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
	err := lock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("lock %s: %w", file.Name(), err)
	}
	return true, nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
