package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// LowerPriority gives the process the lowest priority for the processor and the idle class for the
// disk. Threads inherit both from the thread that starts them, so call it early.
func LowerPriority() error {
	const (
		whoProcess = 1       // IOPRIO_WHO_PROCESS, linux/ioprio.h
		idle       = 3 << 13 // IOPRIO_CLASS_IDLE
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
		_, _, errno := unix.Syscall(unix.SYS_IOPRIO_SET, whoProcess, uintptr(id), idle)
		if errno != 0 && errno != unix.ESRCH {
			return fmt.Errorf("lower disk priority: %w", errno)
		}
	}
	return nil
}
