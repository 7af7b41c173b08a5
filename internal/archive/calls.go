package archive

import "golang.org/x/sys/unix"

// These calls are those of x/sys/unix inside one directory, without following a link, and
// are made again when a signal interrupts them: Go's scheduler sends itself signals, and
// FUSE and network file systems answer them with EINTR, which package os takes care of
// and x/sys/unix does not.

func openAt(dir int, name string, flags int, mode uint32) (int, error) {
	return retry(func() (int, error) {
		return unix.Openat(dir, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	})
}

func statAt(dir int, name string, stat *unix.Stat_t) error {
	return again(func() error { return unix.Fstatat(dir, name, stat, unix.AT_SYMLINK_NOFOLLOW) })
}

func statOpen(fd int, stat *unix.Stat_t) error {
	return again(func() error { return unix.Fstat(fd, stat) })
}

func renameAt(dir int, from, to string) error {
	return again(func() error { return unix.Renameat(dir, from, dir, to) })
}

// renameFree is renameAt unless something is called to: EEXIST.
func renameFree(dir int, from, to string) error {
	return again(func() error { return unix.Renameat2(dir, from, dir, to, unix.RENAME_NOREPLACE) })
}

func linkAt(dir int, from, to string) error {
	return again(func() error { return unix.Linkat(dir, from, dir, to, 0) })
}

func unlinkAt(dir int, name string) error {
	return again(func() error { return unix.Unlinkat(dir, name, 0) })
}

func setTime(dir int, name string, mtime unix.Timespec) error {
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, mtime}
	return again(func() error { return unix.UtimesNanoAt(dir, name, times, unix.AT_SYMLINK_NOFOLLOW) })
}

func lock(fd, how int) error {
	return again(func() error { return unix.Flock(fd, how) })
}

func again(call func() error) error {
	_, err := retry(func() (int, error) { return 0, call() })
	return err
}
