package box

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// Patience is how long a daemon may take to be ready before it counts as broken: this machine may be busy with other work.
const Patience = 2 * time.Minute

// A Daemon is a process that a test started and that others wait for.
type Daemon struct {
	cmd  *exec.Cmd
	log  string        // file with all that it printed
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

// Stop kills the process and waits for its end. A second call does nothing.
func (d *Daemon) Stop() {
	d.cmd.Process.Kill()
	<-d.done
}

// Join waits for the end of a process that something else ends.
func (d *Daemon) Join() { <-d.done }

// Wait polls until ready reports true and returns the error that came with it. It fails at once when the process ends,
// and after Patience. The error has the end of the process's log.
func (d *Daemon) Wait(ctx context.Context, what string, ready func() (bool, error)) error {
	err := PollWhile(ctx, d.done, what, ready)
	if err != nil {
		err = fmt.Errorf("%w\nend of the log of %s:\n%s", err, d.cmd.Path, tail(d.log, 20))
	}
	return err
}

// PollWhile is Poll for what a process is to do, with the limit Patience: it fails at once when done is closed, which is
// the end of that process.
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
