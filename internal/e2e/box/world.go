package box

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// A world is a mount and a PID namespace that hold all of one run. They live as long as a shell whose standard input is a
// pipe from us: when we end, however that may be, the shell reads end of file and ends, and since it is the first
// process of its PID namespace the kernel kills all others in it. Mounts, network namespaces and veth pairs
// then have no holder left and go too. Nothing on the machine has to be found and undone by name.
type world struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	pid    int    // the shell, as seen from here
	dir    string // of the run: a tmpfs that exists in the world only
	groups []string
}

// holder makes the run's directory, says that it is there and waits for our end.
const holder = `mount -t tmpfs -o mode=755 tmpfs "$1" && echo ready && read -r _`

// newWorld needs a directory on which it can mount; what lies in it stays as it is.
func newWorld(ctx context.Context, dir string) (*world, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the run's directory: %w", err)
	}
	w := &world{dir: dir}
	// Not bound to ctx: when that ends, Close still needs the world to save the journal.
	w.cmd = command(context.WithoutCancel(ctx), []string{"unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
		"--propagation", "private", "--"}, "/bin/sh", "-c", holder, "holder", dir)
	w.cmd.Stderr = os.Stderr
	stdin, err := w.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("make namespaces: %w", err)
	}
	stdout, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("make namespaces: %w", err)
	}
	if err := w.cmd.Start(); err != nil {
		return nil, fmt.Errorf("make namespaces: %w", err)
	}
	w.stdin = stdin
	if _, err := io.ReadFull(stdout, make([]byte, len("ready\n"))); err != nil {
		w.close()
		return nil, fmt.Errorf("make namespaces: %w", err)
	}
	children, err := childrenOf(w.cmd.Process.Pid)
	if err != nil || len(children) != 1 {
		w.close()
		return nil, fmt.Errorf("find the shell that holds the namespaces: %d processes, %w", len(children), err)
	}
	w.pid = children[0]
	return w, nil
}

// enter gives the words that lead a command into the world.
func (w *world) enter() []string {
	return []string{"nsenter", "--target", strconv.Itoa(w.pid), "--mount", "--pid", "--"}
}

func (w *world) run(ctx context.Context, args ...string) (string, error) {
	return output(ctx, w.enter(), args...)
}

// path gives the name under which a file of the run's directory is seen from outside the world.
func (w *world) path(name ...string) string {
	return filepath.Join(append([]string{"/proc", strconv.Itoa(w.pid), "root", w.dir}, name...)...)
}

// close ends everything in the world and waits for it.
func (w *world) close() error {
	w.stdin.Close()
	err := w.cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		// read fails at end of file; that is how the shell ends.
		err = nil
	}
	for _, g := range w.groups {
		removeGroup(g)
	}
	return err
}

// childrenOf lists the child processes of pid.
func childrenOf(pid int) ([]int, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, f := range strings.Fields(string(data)) {
		p, err := strconv.Atoi(f)
		if err != nil {
			return nil, err
		}
		pids = append(pids, p)
	}
	return pids, nil
}

// Control groups are the one thing that the kernel does not take back by itself: systemd in the gateway leaves empty
// directories. So each machine runs below a group of its own, named after us, in the two trees that systemd uses.
const groupPrefix = "tunnelcast-box-"

// groupBases gives the directories in which our groups are made: our own groups in systemd's named hierarchy, where
// there is one (version 1, hybrid), and in version 2's.
func groupBases() []string {
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil
	}
	var bases []string
	for line := range strings.Lines(string(data)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 || f[1] != "" && f[1] != "name=systemd" {
			continue
		}
		roots := []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup"}
		if f[1] != "" {
			roots = []string{"/sys/fs/cgroup/systemd"}
		}
		for _, root := range roots {
			if _, err := os.Stat(filepath.Join(root, f[2], "cgroup.procs")); err == nil {
				bases = append(bases, filepath.Join(root, f[2]))
				break
			}
		}
	}
	return bases
}

// newGroups makes the control groups for one machine.
func (w *world) newGroups(name string) ([]string, error) {
	var made []string
	for _, base := range groupBases() {
		dir := filepath.Join(base, fmt.Sprintf("%s%d-%s", groupPrefix, os.Getpid(), name))
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, fmt.Errorf("make a control group: %w", err)
		}
		made = append(made, dir)
		w.groups = append(w.groups, dir)
	}
	return made, nil
}

// removeOldGroups removes the groups of runs that were killed.
func removeOldGroups() {
	for _, base := range groupBases() {
		dirs, _ := filepath.Glob(filepath.Join(base, groupPrefix+"*"))
		for _, dir := range dirs {
			var pid int
			if _, err := fmt.Sscanf(filepath.Base(dir), groupPrefix+"%d-", &pid); err != nil {
				continue
			}
			if syscall.Kill(pid, 0) != nil {
				removeGroup(dir)
			}
		}
	}
}

// removeGroup removes a control group and those below it. A group with a process in it stays: the kernel refuses.
func removeGroup(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			removeGroup(filepath.Join(dir, e.Name()))
		}
	}
	os.Remove(dir)
}
