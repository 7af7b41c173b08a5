package archive

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"tunnelcast/internal/recording"
)

// reveal gives the file with a hidden name in the recording's directory the visible name,
// and does not replace anything that has it: the error is then EEXIST.
//
// NFS, 9p, Ceph, ZFS before 2.2 and many FUSE file systems know no RENAME_NOREPLACE.
// There a hard link does the same: it fails if the name is taken. Without hard links
// either, as on FUSE file systems for cloud storage, the name is looked at before the
// rename, while no other run may do so in this directory; a file that another program
// makes between the two calls would be replaced.
func (s *Source) reveal(hidden, visible string) error {
	dir := int(s.dir.Fd())
	// Some FUSE file systems take no notice of the flag.
	if err := free(dir, visible); err != nil {
		return err
	}
	err := renameFree(dir, hidden, visible)
	if !unsupported(err) {
		return err
	}
	switch err := linkAt(dir, hidden, visible); {
	case err == nil:
		unlinkAt(dir, hidden) // or a sweep does it
		return nil
	case errors.Is(err, unix.EEXIST):
		return err
	} // whatever else it is (rclone says EIO): what does not pass, the rename will say too
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

// hide is reveal the other way round. A hidden name belongs to this recording alone,
// whose lock the caller holds, so that looking at it before the rename is enough. It is
// not a hard link: the second name would be removed without a last look at it.
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
func renameKeeps(dir int) (ino, mtime bool, err error) {
	name, other := recording.HiddenName(rand.Text(), 0), recording.HiddenName(rand.Text(), 0)
	if err := makeFile(dir, name); err != nil {
		return false, false, err
	}
	var before, after unix.Stat_t
	err = errors.Join(
		statAt(dir, name, &before),
		renameAt(dir, name, other),
		statAt(dir, other, &after))
	unlinkAt(dir, name)
	unlinkAt(dir, other)
	return before.Ino == after.Ino, before.Mtim == after.Mtim, err
}

// free returns EEXIST if the directory has something called name.
func free(dir int, name string) error {
	var stat unix.Stat_t
	switch err := statAt(dir, name, &stat); {
	case err == nil:
		return unix.EEXIST
	case errors.Is(err, unix.ENOENT):
		return nil
	default:
		return err
	}
}

// unsupported says that a file system answers a call so because it lacks what was asked
// for, or lets nobody do it: CIFS and FUSE with a user of the mount's own refuse the
// owner's calls with EPERM, and nobody agrees on the rest.
func unsupported(err error) bool {
	var errno unix.Errno
	return errors.As(err, &errno) &&
		slices.Contains([]unix.Errno{unix.EINVAL, unix.ENOSYS, unix.EOPNOTSUPP, unix.EPERM, unix.ENOTTY}, errno)
}

// sync has the file system write out what it has of file, which may be a directory.
// Older kernels cannot sync a directory on CIFS, nor can some FUSE file systems: EINVAL,
// and EBADF, EISDIR and ENOENT were seen too. There, all of the file system is synced. If
// that fails likewise, nothing can be done: when the data is kept is up to its server.
func (s *Source) sync(file *os.File) error {
	lacking := func(err error) bool {
		return unsupported(err) || errors.Is(err, unix.EBADF) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.ENOENT)
	}
	err := file.Sync()
	if lacking(err) {
		err = again(func() error { return unix.Syncfs(int(file.Fd())) })
		if lacking(err) {
			s.lack(Sync)
			return nil
		}
	}
	return err
}

// A Lack is something that a file system does not have and that a run can do without.
type Lack string

// What a file system may lack.
const (
	Leases    Lack = "leases"
	FileLocks Lack = "locks on files"
	NoReplace Lack = "renaming without replacing"
	Modes     Lack = "modes of files"
	Times     Lack = "times of files"
	Sync      Lack = "sync"
)

// Effect returns what is different in an archive because of the lack.
func (l Lack) Effect() string {
	switch l {
	case Leases:
		return fmt.Sprintf("the hook trusts nginx to have closed a recording, and a sweep takes one that was not written to for %v", Settled)
	case FileLocks:
		return "one recording of a directory at a time"
	case NoReplace:
		return "a file that another program makes at the moment of publishing can be replaced"
	case Modes:
		return "an MP4 has the mode of the mount"
	case Times:
		return "an MP4 has the time at which it was made, and a damaged recording is done again by each sweep"
	case Sync:
		return "a power cut can lose what was just published"
	}
	return ""
}

// Lacks returns what the file system was found to lack so far.
func (s *Source) Lacks() []Lack { return s.lacks }

func (s *Source) lack(what Lack) {
	if !slices.Contains(s.lacks, what) {
		s.lacks = append(s.lacks, what)
	}
}
