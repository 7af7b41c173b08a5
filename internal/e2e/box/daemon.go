package box

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// Patience is how long a daemon may take to be ready before it counts as broken. It is generous, because this computer
// may be busy with other work.
const Patience = 2 * time.Minute

// A Daemon is a process that a test has started and that has to become ready.
type Daemon struct {
	cmd  *exec.Cmd
	log  string        // the file with its output
	done chan struct{} // closed when it has ended
}

// StartDaemon starts cmd, whose standard output and standard error go to the file log.
func StartDaemon(cmd *exec.Cmd, log string) (*Daemon, error) {
	file, err := os.Create(log)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	defer file.Close()
	cmd.Stdout, cmd.Stderr = file, file
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	d := &Daemon{cmd: cmd, log: log, done: make(chan struct{})}
	go func() {
		d.cmd.Wait()
		close(d.done)
	}()
	return d, nil
}

// Pid returns the process ID.
func (d *Daemon) Pid() int { return d.cmd.Process.Pid }

// Signal sends the process a signal.
func (d *Daemon) Signal(s syscall.Signal) error { return d.cmd.Process.Signal(s) }

// Stop kills the process and waits until it has ended. A second call does nothing.
func (d *Daemon) Stop() {
	d.cmd.Process.Kill()
	<-d.done
}

// Join waits until the process has ended by itself.
func (d *Daemon) Join() { <-d.done }

// Wait polls until ready returns true, and then returns ready's error. It fails as soon as the process has ended, and
// after Patience. Its error contains the end of the process's log.
func (d *Daemon) Wait(ctx context.Context, what string, ready func() (bool, error)) error {
	err := PollWhile(ctx, d.done, what, ready)
	if err != nil {
		err = fmt.Errorf("%w\nend of the log of %s:\n%s", err, d.cmd.Path, tail(d.log, 20))
	}
	return err
}

// PollWhile is Poll, limited by Patience, for something that a process is expected to do: it fails as soon as done,
// which is closed at the end of that process, is closed.
func PollWhile(ctx context.Context, done <-chan struct{}, what string, ready func() (bool, error)) error {
	return Poll(ctx, Patience, what, func() (bool, error) {
		select {
		case <-done:
			return true, fmt.Errorf("wait for %s: the process has ended", what)
		default:
			return ready()
		}
	})
}
