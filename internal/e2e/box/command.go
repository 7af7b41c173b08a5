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

// A CommandError is a command that failed, with all that it said.
type CommandError struct {
	Command string // as it would be typed, without the words that lead into the namespaces
	Output  string // standard output and standard error as they came
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

// ExitCode gives the exit status of the command, -1 if it did not run or was killed.
func (e *CommandError) ExitCode() int {
	var exit *exec.ExitError
	if errors.As(e.Err, &exit) {
		return exit.ExitCode()
	}
	return -1
}

// environ is what commands get: nothing of the user's own that would make two runs differ, but the way to the mirror.
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

// command prepares prefix+args. It runs in a process group of its own: the terminal's Ctrl-C reaches us alone, and
// we end things in order.
func command(ctx context.Context, prefix []string, args ...string) *exec.Cmd {
	words := append(append([]string(nil), prefix...), args...)
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Env = environ()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	// A daemon that a command left behind may hold its output open.
	cmd.WaitDelay = 2 * time.Second
	return cmd
}

// output runs prefix+args and gives its standard output. The error is a *CommandError.
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

// A lockedBuffer collects what several pipes bring.
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
