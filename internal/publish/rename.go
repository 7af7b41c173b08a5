package publish

import (
	"crypto/rand"
	"errors"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"tunnelcast/internal/file"
	"tunnelcast/internal/recording"
)

// reveal gives the file with a hidden name in the recording's directory the visible name, and
// does not replace anything that has it: the error is then EEXIST.
//
// NFS, 9p, Ceph, ZFS before 2.2 and many FUSE file systems do not know RENAME_NOREPLACE. There a
// hard link does the same: it fails if the name is taken. Without hard links either, as on FUSE
// file systems for cloud storage, the name is looked at before the rename, while no other run may
// do so in this directory; a file that another program makes between the two calls would be
// replaced.
func (s *Source) reveal(hidden, visible string) error {
	dir := int(s.dir.Fd())
	// Some FUSE file systems ignore the flag.
	if err := free(dir, visible); err != nil {
		return err
	}
	err := renameFree(dir, hidden, visible)
	if !unsupported(err) {
		return err
	}
	switch err := linkAt(dir, hidden, visible); {
	case err == nil:
		file.UnlinkAt(dir, hidden) // or a sweep does it
		return nil
	case errors.Is(err, unix.EEXIST):
		return err
	} // whatever else it is (rclone says EIO), if it is more than a lack, the rename fails too
	unlock, err := s.lockDir()
	if err != nil {
		return err
	}
	defer unlock()
	if err := free(dir, visible); err != nil {
		return err
	}
	if err := renameAt(dir, hidden, visible); err != nil {
		return err
	}
	s.lack(NoReplace)
	return nil
}

// hide is the reverse of reveal. A hidden name belongs to this recording alone, whose lock the
// caller holds, so that it is enough to look at the name before the rename. A hard link would not
// do: the visible name would then be removed without a last look at it.
func (s *Source) hide(visible, hidden string) error {
	dir := int(s.dir.Fd())
	if err := free(dir, hidden); err != nil {
		return err
	}
	err := renameFree(dir, visible, hidden)
	if unsupported(err) {
		err = renameAt(dir, visible, hidden)
	}
	return err
}

// renameKeeps finds out, with a file of its own, what of a file's identity a rename in the
// directory leaves as it is. FUSE file systems that know files by their names alone, such as
// rclone's, give a renamed file another inode number; encfs cuts the time to whole seconds.
func renameKeeps(dir int) (ino, modTime bool, err error) {
	name, other := recording.HiddenName(rand.Text(), 0), recording.HiddenName(rand.Text(), 0)
	if err := file.Make(dir, name); err != nil {
		return false, false, err
	}
	var before, after unix.Statx_t
	err = errors.Join(
		file.StatAt(dir, name, &before),
		renameAt(dir, name, other),
		file.StatAt(dir, other, &after))
	file.UnlinkAt(dir, name)
	file.UnlinkAt(dir, other)
	return before.Ino == after.Ino, before.Mtime == after.Mtime, err
}

// free returns EEXIST if the directory has something called name.
func free(dir int, name string) error {
	var stat unix.Statx_t
	switch err := file.StatAt(dir, name, &stat); {
	case err == nil:
		return unix.EEXIST
	case errors.Is(err, unix.ENOENT):
		return nil
	default:
		return err
	}
}

func renameAt(dir int, from, to string) error {
	return file.Again(func() error { return unix.Renameat(dir, from, dir, to) })
}

// renameFree is renameAt unless something is called to: EEXIST.
func renameFree(dir int, from, to string) error {
	return file.Again(func() error { return unix.Renameat2(dir, from, dir, to, unix.RENAME_NOREPLACE) })
}

func linkAt(dir int, from, to string) error {
	return file.Again(func() error { return unix.Linkat(dir, from, dir, to, 0) })
}

func setTime(dir int, name string, modTime int64) error {
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, unix.NsecToTimespec(modTime)}
	return file.Again(func() error { return unix.UtimesNanoAt(dir, name, times, unix.AT_SYMLINK_NOFOLLOW) })
}

// unsupported reports whether err is how a file system answers a call that it does not have, or
// that it allows nobody: CIFS and FUSE with a user of the mount's own refuse the owner's calls with
// EPERM, and each file system has its own choice of the others.
func unsupported(err error) bool {
	var errno unix.Errno
	return errors.As(err, &errno) &&
		slices.Contains([]unix.Errno{unix.EINVAL, unix.ENOSYS, unix.EOPNOTSUPP, unix.EPERM, unix.ENOTTY}, errno)
}

// sync waits until the disk has all of f, which may be a directory. Older kernels cannot sync a
// directory on CIFS, nor can some FUSE file systems: EINVAL, and EBADF, EISDIR and ENOENT were seen
// too. There, the whole file system is synced. If that fails in the same way, nothing can be done:
// the server decides when it keeps the data.
func (s *Source) sync(f *os.File) error {
	lacking := func(err error) bool {
		return unsupported(err) ||
			errors.Is(err, unix.EBADF) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.ENOENT)
	}
	err := f.Sync()
	if lacking(err) {
		err = file.Again(func() error { return unix.Syncfs(int(f.Fd())) })
		if lacking(err) {
			s.lack(Sync)
			return nil
		}
	}
	return err
}
