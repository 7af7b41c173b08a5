// Package file has the calls on files that several packages make: Replace replaces a file, Lock locks
// one, and Identity tells whether a file has changed.
//
// A function that takes the descriptor of a directory works inside that directory, does not follow
// symbolic links, and repeats a call that a signal interrupts: Go's scheduler sends signals to its own
// threads, and FUSE and network file systems answer them with EINTR, which package os handles and
// x/sys/unix does not.
package file

import (
	"errors"
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// ErrChanged is the error of a file that is not any more the one that was looked at: it was
// written to, or another file has its name.
var ErrChanged = errors.New("has changed")

// Identity is the same for the same, unchanged file. Device and inode are not enough:
// with record_unique off, nginx-rtmp opens the same path again and truncates it.
type Identity struct {
	Dev, Ino uint64
	Size     int64 // bytes
	ModTime  int64 // see Nanoseconds
}

// Of returns the identity of a file of which statx(2) has returned stat.
func Of(stat *unix.Statx_t) Identity {
	return Identity{Dev: Device(stat), Ino: stat.Ino, Size: int64(stat.Size), ModTime: Nanoseconds(stat.Mtime)}
}

// Device returns the number of the file system, as stat(2) has it in st_dev.
func Device(stat *unix.Statx_t) uint64 { return unix.Mkdev(stat.Dev_major, stat.Dev_minor) }

// Nanoseconds returns a time of statx(2) in nanoseconds since 1970, UTC. For times before 1678 and after
// 2262, which do not fit, it returns the first and the last that do.
func Nanoseconds(t unix.StatxTimestamp) int64 {
	const second = int64(time.Second)
	switch {
	case t.Sec <= math.MinInt64/second:
		return math.MinInt64
	case t.Sec >= math.MaxInt64/second:
		return math.MaxInt64
	}
	return t.Sec*second + int64(t.Nsec)
}

// Modified returns ModTime as a time.
func (id Identity) Modified() time.Time { return time.Unix(0, id.ModTime) }

// OpenAt opens the file called name in the directory dir. With O_CREAT it gets the mode.
func OpenAt(dir int, name string, flags int, mode uint32) (int, error) {
	return retry(func() (int, error) {
		return unix.Openat(dir, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	})
}

// StatAt looks at what is called name in the directory dir, or at what dir is if name is empty.
func StatAt(dir int, name string, stat *unix.Statx_t) error {
	flags := unix.AT_SYMLINK_NOFOLLOW
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	return Again(func() error {
		return unix.Statx(dir, name, flags, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, stat)
	})
}

// UnlinkAt removes the file called name from the directory dir.
func UnlinkAt(dir int, name string) error {
	return Again(func() error { return unix.Unlinkat(dir, name, 0) })
}

// Make makes a file of one byte. Some FUSE file systems make none that is open for reading alone.
func Make(dir int, name string) error {
	fd, err := OpenAt(dir, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = retry(func() (int, error) { return unix.Write(fd, []byte{0}) })
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		UnlinkAt(dir, name)
	}
	return err
}

// Again repeats a call as long as a signal interrupts it.
func Again(call func() error) error {
	_, err := retry(func() (int, error) { return 0, call() })
	return err
}

func retry(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); err != unix.EINTR {
			return n, err
		}
	}
}
