package publish

import (
	"context"
	"errors"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"tunnelcast/internal/file"
)

// Lock waits until no other run works on this recording. The lock ends with Close and with the
// process, however that ends.
func (s *Source) Lock(ctx context.Context) error {
	if ok, err := s.TryLock(); ok || err != nil {
		return err
	}
	if s.locksDir() {
		return file.Lock(ctx, s.dir, file.Exclusive)
	}
	return file.Lock(ctx, s.file, file.Exclusive)
}

// TryLock is Lock without the wait.
func (s *Source) TryLock() (bool, error) { return s.tryLock(s.file) }

// tryLock locks a file in the recording's directory or, where the file system has no locks on
// files, the directory, whose lock the kernel keeps by itself. NFS version 4 locks only what is
// open for writing (EBADF; nfs4_proc_lock in fs/nfs/nfs4proc.c), NFS version 3 only with its lock
// daemon (ENOLCK), Lustre only if it is mounted with flock (ENOSYS). On CIFS the lock keeps others
// from reading the file, libav among them (cifs_find_lock_conflict in fs/smb/client/file.c).
func (s *Source) tryLock(f *os.File) (bool, error) {
	if s.isOn(unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.SMB_SUPER_MAGIC) {
		s.lack(FileLocks)
		return file.TryLock(s.dir, file.Exclusive)
	}
	ok, err := file.TryLock(f, file.Exclusive)
	if unsupported(err) || errors.Is(err, unix.EBADF) || errors.Is(err, unix.ENOLCK) {
		s.lack(FileLocks)
		return file.TryLock(s.dir, file.Exclusive)
	}
	return ok, err
}

// locksDir reports whether the lock of the directory stands for those of its files.
func (s *Source) locksDir() bool { return slices.Contains(s.lacks, FileLocks) }

// lockDir waits for the lock of the recording's directory, which other runs hold only for as long
// as it takes to rename a file.
func (s *Source) lockDir() (unlock func(), err error) {
	if s.locksDir() { // this run has it already
		return func() {}, nil
	}
	if err := file.Lock(context.Background(), s.dir, file.Exclusive); err != nil {
		return nil, err
	}
	return func() { file.Unlock(s.dir) }, nil
}

// isOn reports whether the recording's directory is on a file system of one of these types, as
// statfs(2) has them.
func (s *Source) isOn(types ...uint32) bool {
	var fs unix.Statfs_t
	return unix.Fstatfs(int(s.dir.Fd()), &fs) == nil && slices.Contains(types, uint32(fs.Type))
}
