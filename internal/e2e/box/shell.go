package box

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

// Enter returns the words that run a command on the machine, as its root, when typed before it by root of this
// computer.
func (m *machine) Enter() []string {
	return []string{"nsenter", "--target", strconv.Itoa(m.leader),
		"--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"}
}

// Shell runs an interactive shell on the machine, as its root, in this process's terminal, and returns when it ends.
// Its exit status is not an error. When ctx ends the shell is killed.
func (m *machine) Shell(ctx context.Context, terminal *os.File) error {
	cmd := command(ctx, m.Enter(), "bash")
	cmd.Env = nil
	for _, variable := range environ() {
		if !strings.HasPrefix(variable, "SYSTEMD_") { // a person has a pager and colours
			cmd.Env = append(cmd.Env, variable)
		}
	}
	cmd.Env = append(cmd.Env, "TERM="+cmp.Or(os.Getenv("TERM"), "dumb"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	// The shell gets the terminal: Ctrl-C is for what runs in it, not for this process.
	cmd.SysProcAttr = &syscall.SysProcAttr{Foreground: true, Ctty: int(terminal.Fd())}
	defer takeTerminal(terminal)
	err := cmd.Run()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.Exited() {
		return nil
	}
	if err != nil {
		return fmt.Errorf("run a shell on %s: %w", m.name, err)
	}
	return nil
}

// takeTerminal makes this process's group the terminal's foreground group again. The shell cannot do it: in its PID
// namespace this group has no number.
func takeTerminal(terminal *os.File) {
	// Without this the kernel would stop a background group that asks for the terminal.
	signal.Ignore(syscall.SIGTTOU)
	defer signal.Reset(syscall.SIGTTOU)
	group := int32(syscall.Getpgrp())
	// When it fails, the terminal is gone, and nobody is there to use it.
	_, _, _ = syscall.Syscall(syscall.SYS_IOCTL, terminal.Fd(), syscall.TIOCSPGRP, uintptr(unsafe.Pointer(&group)))
}
