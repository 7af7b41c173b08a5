package archive

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// These calls are made for every file. They take its name where getdents64 has
// put it, with its zero byte; those of x/sys/unix would make a copy for each.
//
// They do not let Go's scheduler know, which would find another thread to go on
// with for each call that takes longer than its 20 microseconds (retake in
// runtime/proc.go): that cost a third of the time. What waits for the disk keeps
// its place among GOMAXPROCS, so Walk makes room.

// itself is the name of what is open.
var itself = [1]byte{0}

// statx looks at the file called name, or at what at is if that is empty.
func statx(at int, name *byte, stat *unix.Statx_t) error {
	flags := unix.AT_SYMLINK_NOFOLLOW
	if *name == 0 {
		flags |= unix.AT_EMPTY_PATH
	}
	_, err := retry(func() (int, error) {
		return result(unix.RawSyscall6(unix.SYS_STATX, uintptr(at), uintptr(unsafe.Pointer(name)), uintptr(flags),
			unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, uintptr(unsafe.Pointer(stat)), 0))
	})
	return err
}

func openat(at int, name *byte, flags int) (int, error) {
	return retry(func() (int, error) {
		return result(unix.RawSyscall6(unix.SYS_OPENAT, uintptr(at), uintptr(unsafe.Pointer(name)), uintptr(flags), 0, 0, 0))
	})
}

func fstat(fd int, stat *unix.Stat_t) error {
	_, err := result(unix.RawSyscall(unix.SYS_FSTAT, uintptr(fd), uintptr(unsafe.Pointer(stat)), 0))
	return err
}

func setLease(fd, lease int) error {
	_, err := result(unix.RawSyscall(unix.SYS_FCNTL, uintptr(fd), unix.F_SETLEASE, uintptr(lease)))
	return err
}

func closeRaw(fd int) { unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

func unlinkat(at int, name *byte) error {
	_, err := retry(func() (int, error) {
		return result(unix.RawSyscall(unix.SYS_UNLINKAT, uintptr(at), uintptr(unsafe.Pointer(name)), 0))
	})
	return err
}

func result(r1, _ uintptr, errno unix.Errno) (int, error) {
	if errno != 0 {
		return -1, errno
	}
	return int(r1), nil
}

// retry repeats a call that a signal interrupts, as network file systems let happen.
func retry(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); err != unix.EINTR {
			return n, err
		}
	}
}
