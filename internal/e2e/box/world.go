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
)

// A world is a mount and a PID namespace that hold all of one run. They live as long as a shell whose standard input is a
// pipe from us: when we end, however that may be, the shell reads end of file and ends, and since it is the first
// process of its PID namespace the kernel kills all others in it. Mounts, network namespaces and veth pairs
// then have no holder left and go too. Nothing on the machine has to be found and undone by name.
//
// Control groups are the one thing that the kernel does not take back: systemd in the gateway leaves empty directories.
// So each machine runs below a group named after the keeper, the shell around all this, which removes them at the end,
// and at the start those of keepers that were killed.
type world struct {
	keeper *exec.Cmd
	stdin  io.Closer
	pid    int    // of the shell that holds the namespaces, as seen from here
	dir    string // of the run: a tmpfs that exists in the world only
	bases  []string
}

const groupPrefix = "tunnelcast-box-"

// keeper is called with the run's directory and the bases of the control groups. A group with a process in it stays
// in any case: the kernel refuses.
const keeper = `
dir=$1; shift
sweep() {
	for base; do
		for group in "$base"/` + groupPrefix + `*; do
			owner=${group#"$base"/` + groupPrefix + `}; owner=${owner%%-*}
			[ "$owner" != $$ ] && [ -d "/proc/$owner" ] || find "$group" -depth -type d -exec rmdir {} +
		done
	done 2>/dev/null
}
sweep "$@"
unshare --mount --pid --fork --kill-child --mount-proc --propagation private -- \
	/bin/sh -c 'mount -t tmpfs -o mode=755 tmpfs "$0" && mkdir -p /run/systemd/nspawn &&
		mount -t tmpfs -o mode=755 tmpfs /run/systemd/nspawn && echo ready && read -r _' "$dir"
sweep "$@"`

// newWorld needs a directory on which it can mount; what lies in it stays as it is.
func newWorld(ctx context.Context, dir string) (*world, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the run's directory: %w", err)
	}
	w := &world{dir: dir, bases: groupBases()}
	// Not bound to ctx: when that ends, the world is still needed to save the journal.
	w.keeper = command(context.WithoutCancel(ctx), []string{"/bin/sh", "-c", keeper, "keeper", dir}, w.bases...)
	w.keeper.Stderr = os.Stderr
	stdin, err := w.keeper.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("make namespaces: %w", err)
	}
	stdout, err := w.keeper.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("make namespaces: %w", err)
	}
	if err := w.keeper.Start(); err != nil {
		return nil, fmt.Errorf("make namespaces: %w", err)
	}
	w.stdin = stdin
	if _, err := io.ReadFull(stdout, make([]byte, len("ready\n"))); err != nil {
		w.close()
		return nil, fmt.Errorf("make namespaces: %w", err)
	}
	// keeper, unshare, and the shell that holds the namespaces.
	w.pid = w.keeper.Process.Pid
	for range 2 {
		children, err := childrenOf(w.pid)
		if err != nil || len(children) != 1 {
			w.close()
			return nil, fmt.Errorf("find the process that holds the namespaces: %d has children %v: %v", w.pid, children, err)
		}
		w.pid = children[0]
	}
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

// close ends everything in the world and waits until it is gone.
func (w *world) close() error {
	w.stdin.Close()
	err := w.keeper.Wait()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.Exited() {
		return nil // with the status of whatever came last; sweep has nothing to say
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

// groups gives the control groups for one machine; they do not exist yet.
func (w *world) groups(machine string) []string {
	var dirs []string
	for _, base := range w.bases {
		dirs = append(dirs, filepath.Join(base, fmt.Sprintf("%s%d-%s", groupPrefix, w.keeper.Process.Pid, machine)))
	}
	return dirs
}
