//go:build cgo

package remux

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// ErrNoLandlock says that this kernel, or its configuration, has no Landlock.
var ErrNoLandlock = errors.New("this kernel has no Landlock")

// Restrict puts the whole process into a sandbox, for good: it can read, make and
// remove files in the directories and below, and no others; it can execute
// nothing, gain no privileges, connect to and listen on no TCP port, and signal
// nobody, as far as this kernel's Landlock knows these. What is open stays
// usable, and so does the journal's socket.
func Restrict(dirs ...string) error {
	if version, err := ll.LandlockGetABIVersion(); err != nil || version < 1 {
		return ErrNoLandlock
	}
	const rights = ll.AccessFSReadFile | ll.AccessFSWriteFile | ll.AccessFSTruncate |
		ll.AccessFSReadDir | ll.AccessFSMakeReg | ll.AccessFSRemoveFile
	err := landlock.V6.BestEffort().Restrict(landlock.PathAccess(rights, dirs...))
	if err != nil {
		return fmt.Errorf("enter sandbox: %w", err)
	}
	return nil
}

// StandBack lets everything else on the host go first: the lowest priority for
// the processor and the idle class for the disk. Both belong to a thread and
// pass on to those it starts, so this comes before there are many.
func StandBack() error {
	const (
		whoProcess = 1       // IOPRIO_WHO_PROCESS
		idle       = 3 << 13 // IOPRIO_CLASS_IDLE, linux/ioprio.h
	)
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("lower priority: %w", err)
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		if err != nil {
			return fmt.Errorf("lower priority: %w", err)
		}
		if err := unix.Setpriority(unix.PRIO_PROCESS, id, 19); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("lower priority: %w", err)
		}
		if _, _, errno := unix.Syscall(unix.SYS_IOPRIO_SET, whoProcess, uintptr(id), idle); errno != 0 && errno != unix.ESRCH {
			return fmt.Errorf("lower disk priority: %w", errno)
		}
	}
	return nil
}
