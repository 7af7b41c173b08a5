package program

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// A Call is one call of a program.
type Call struct {
	Command []string      `json:"command"` // the program, by its absolute path, and its arguments
	Timeout time.Duration `json:"timeout"` // how long it may take, in nanoseconds
	Vars    []string      `json:"vars"`    // NAME=VALUE; beside PATH its whole environment
}

// Program returns the path of the program, "" if the call has none.
func (c Call) Program() string {
	if len(c.Command) == 0 {
		return ""
	}
	return c.Command[0]
}

// Var returns the value of a variable of the call.
func (c Call) Var(name string) string {
	for _, v := range c.Vars {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

// What is kept of a program's output. The rest is read and dropped, so that the
// program does not wait for a reader.
const (
	maxLines = 100
	maxLine  = 1000 // bytes
)

// killAfter is how long a program may take to end after SIGTERM.
const killAfter = 2 * time.Second

const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Run checks and runs a program and calls output for every line that it prints, to
// either stream. It returns when the program, and all that it started and that
// print to the same streams, have ended or the time is up: then the processes get
// SIGTERM and two seconds later SIGKILL. An exit status other than 0 is an error.
func (c Call) Run(ctx context.Context, output func(line string)) error {
	if err := Check(c.Command); err != nil {
		return err
	}
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	cmd := exec.Command(c.Command[0], c.Command[1:]...)
	cmd.Dir = "/"
	cmd.Env = append([]string{path}, withoutNUL(c.Vars)...)
	cmd.Stdout, cmd.Stderr = write, write
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = cmd.Start()
	write.Close()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		print(read, output)
		ended <- cmd.Wait()
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	group := -cmd.Process.Pid
	_ = syscall.Kill(group, syscall.SIGTERM)
	late := fmt.Errorf("it did not end within %s and was killed", c.Timeout)
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		late = fmt.Errorf("it was killed: %w", context.Cause(ctx))
	}
	select {
	case <-ended:
		return late
	case <-time.After(killAfter):
	}
	_ = syscall.Kill(group, syscall.SIGKILL)
	// A process that has left the group may still hold the streams.
	_ = read.SetReadDeadline(time.Now())
	<-ended
	return late
}

// print calls output for the first lines and reads the others.
func print(from io.Reader, output func(line string)) {
	lines := bufio.NewReaderSize(from, maxLine)
	dropped := 0
	for n, fresh := 0, true; ; {
		line, more, err := lines.ReadLine()
		switch {
		case err != nil:
			if dropped > 0 {
				output(fmt.Sprintf("(%d lines more were dropped)", dropped))
			}
			return
		case n >= maxLines && fresh:
			dropped++
		case fresh && len(line) > 0: // the rest of a long line is dropped
			output(string(line))
			n++
		}
		fresh = !more
	}
}

// withoutNUL cuts values where C would.
func withoutNUL(vars []string) []string {
	cut := make([]string, len(vars))
	for i, v := range vars {
		cut[i], _, _ = strings.Cut(v, "\x00")
	}
	return cut
}
