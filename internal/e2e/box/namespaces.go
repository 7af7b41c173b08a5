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

// namespaces are a mount and a PID namespace that hold all of one run. They exist as long as a shell whose standard
// input is a pipe from this process. When this process ends, for whatever reason, the shell reads end of file and ends,
// and because it is the first process of its PID namespace the kernel kills all others in it. Mounts, network
// namespaces and veth pairs then have no holder left and vanish too. Nothing has to be found and undone by name.
//
// Control groups are the exception: the kernel does not remove the empty directories that systemd in the gateway
// leaves. Therefore each machine runs below a group named after the keeper, the outermost shell. The keeper removes
// these groups at the end, and at the start those of keepers that were killed.
type namespaces struct {
	keeper *exec.Cmd
	stdin  io.Closer
	pid    int    // of the shell that holds the namespaces, outside
	dir    string // of the run: a tmpfs that exists only inside
	bases  []string
}

const groupPrefix = "tunnelcast-box-"

// keeper is called with the run's directory and the bases of the control groups. The kernel refuses to remove a group
// that still has a process.
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

// newNamespaces makes the namespaces, and mounts a tmpfs on dir inside. The files that dir has outside do not change.
func newNamespaces(ctx context.Context, dir string) (*namespaces, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the run's directory: %w", err)
	}
	n := &namespaces{dir: dir, bases: groupBases()}
	// Not bound to ctx: when ctx ends, the namespaces are still needed to save the journal.
	n.keeper = command(context.WithoutCancel(ctx), []string{"/bin/sh", "-c", keeper, "keeper", dir}, n.bases...)
	n.keeper.Stderr = os.Stderr
	stdin, err := n.keeper.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("make namespaces: %w", err)
	}
	stdout, err := n.keeper.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("make namespaces: %w", err)
	}
	if err := n.keeper.Start(); err != nil {
		return nil, fmt.Errorf("make namespaces: %w", err)
	}
	n.stdin = stdin
	if _, err := io.ReadFull(stdout, make([]byte, len("ready\n"))); err != nil {
		n.close()
		return nil, fmt.Errorf("make namespaces: %w", err)
	}
	// keeper, unshare, and the shell that holds the namespaces.
	n.pid = n.keeper.Process.Pid
	for range 2 {
		children, err := childrenOf(n.pid)
		if err != nil || len(children) != 1 {
			n.close()
			return nil, fmt.Errorf("find the process that holds the namespaces: %d has children %v: %v",
				n.pid, children, err)
		}
		n.pid = children[0]
	}
	return n, nil
}

// enter returns the words that run a command inside.
func (n *namespaces) enter() []string {
	return []string{"nsenter", "--target", strconv.Itoa(n.pid), "--mount", "--pid", "--"}
}

func (n *namespaces) run(ctx context.Context, args ...string) (string, error) {
	return output(ctx, n.enter(), args...)
}

// path returns the name that a file of the run's directory has outside.
func (n *namespaces) path(name ...string) string {
	return filepath.Join(append([]string{"/proc", strconv.Itoa(n.pid), "root", n.dir}, name...)...)
}

// close ends everything inside and waits until it is gone.
func (n *namespaces) close() error {
	n.stdin.Close()
	err := n.keeper.Wait()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.Exited() {
		return nil // the status is that of sweep's last command, which may fail
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

// groupBases returns the directories in which our groups are created: this process's own group in systemd's named
// hierarchy (version 1 and hybrid) and in that of version 2.
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

// groups returns the control groups for one machine; they do not exist yet.
func (n *namespaces) groups(machine string) []string {
	var dirs []string
	for _, base := range n.bases {
		dirs = append(dirs, filepath.Join(base, fmt.Sprintf("%s%d-%s", groupPrefix, n.keeper.Process.Pid, machine)))
	}
	return dirs
}
