package box

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A CommandError reports a command that failed, with its output.
type CommandError struct {
	Command string // as it would be typed inside the namespaces
	Output  string // standard output and standard error, in the order in which they were written
	Err     error
}

func (e *CommandError) Error() string {
	s := fmt.Sprintf("run %s: %v", e.Command, e.Err)
	if out := strings.TrimSpace(e.Output); out != "" {
		s += "\n" + out
	}
	return s
}

func (e *CommandError) Unwrap() error { return e.Err }

// ExitCode returns the exit status of the command, or -1 if it did not run or was killed.
func (e *CommandError) ExitCode() int {
	var exit interface{ ExitCode() int }
	if errors.As(e.Err, &exit) {
		return exit.ExitCode()
	}
	return -1
}

// environ is the environment of commands: the same for every user, but for the proxy that leads to the mirror.
func environ() []string {
	env := []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "SYSTEMD_PAGER=", "SYSTEMD_COLORS=0",
	}
	for _, name := range []string{"http_proxy", "https_proxy", "no_proxy"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// command prepares prefix+args in a process group of its own: the terminal's Ctrl-C reaches only this process, which
// then ends the others in order.
func command(ctx context.Context, prefix []string, args ...string) *exec.Cmd {
	words := append(append([]string(nil), prefix...), args...)
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Env = environ()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	// A daemon that the command started may keep its output open.
	cmd.WaitDelay = 2 * time.Second
	return cmd
}

// output runs prefix+args and returns its standard output. The error is a *CommandError.
func output(ctx context.Context, prefix []string, args ...string) (string, error) {
	var stdout bytes.Buffer
	var both lockedBuffer
	cmd := command(ctx, prefix, args...)
	cmd.Stdout = io.MultiWriter(&stdout, &both)
	cmd.Stderr = &both
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return stdout.String(), &CommandError{Command: strings.Join(args, " "), Output: both.String(), Err: err}
	}
	return stdout.String(), nil
}

// A lockedBuffer is a buffer that several goroutines may write to.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
