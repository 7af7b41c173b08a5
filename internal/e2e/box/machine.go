package box

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// A machine is a container: a copy-on-write view of the tree, a network namespace, and the processes that
// systemd-nspawn starts in them.
type machine struct {
	namespaces *namespaces
	name       string
	sysctls    bool // whether the machine may set the sysctls of its network
	leader     int  // the PID, outside, of the machine's first process; 0 before start
	nspawn     *exec.Cmd
	done       chan struct{} // closed when nspawn has ended
	console    lockedBuffer  // the output of nspawn and of the console
}

// newMachine creates the machine's files and its network namespace, with lo up.
func newMachine(ctx context.Context, n *namespaces, lower, name string) (*machine, error) {
	m := &machine{namespaces: n, name: name, done: make(chan struct{})}
	// The tree is bound to a name of its own, because lowerdir cannot contain a comma or a colon.
	const script = `set -e
mkdir -p "$1/upper" "$1/work" "$1/lower" "$1/root"
mount --bind "$2" "$1/lower"
mount -o remount,bind,ro "$1/lower"
cd "$1"
mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work overlay root
: >net
unshare --net=net ip link set lo up`
	if _, err := n.run(ctx, "/bin/sh", "-c", script, "make", filepath.Join(n.dir, name), lower); err != nil {
		return nil, fmt.Errorf("make machine %s: %w", name, err)
	}
	return m, m.WriteFile("/etc/hostname", name+"\n", 0o644)
}

// Path returns the name that a file of the machine has outside. The file systems that the machine itself mounts (/run,
// /tmp, /proc) are not visible there.
func (m *machine) Path(name string) string {
	return m.namespaces.path(m.name, "root", name)
}

// WriteFile writes a file of the machine with exactly the given mode, and creates the directories above it. It refuses
// to follow links of the machine that, outside, lead out of its tree.
func (m *machine) WriteFile(name, content string, mode os.FileMode) error {
	if err := WriteFile(m.Path("/"), name, content, mode); err != nil {
		return fmt.Errorf("on %s: %w", m.name, err)
	}
	return nil
}

// WriteFile writes a file of the Debian system in the directory tree with exactly the given mode, and creates the
// directories above it. It refuses to follow links that lead out of the tree.
func WriteFile(tree, name, content string, mode os.FileMode) error {
	root, err := os.OpenRoot(tree)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	defer root.Close()
	rel := strings.TrimPrefix(name, "/")
	err = errors.Join(
		root.MkdirAll(filepath.Dir(rel), 0o755),
		root.WriteFile(rel, []byte(content), mode),
		root.Chmod(rel, mode),
	)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// ReadFile reads a file of the machine.
func (m *machine) ReadFile(name string) (string, error) {
	content, err := readFile(m.Path("/"), name)
	if err != nil {
		return "", fmt.Errorf("on %s: %w", m.name, err)
	}
	return content, nil
}

func readFile(tree, name string) (string, error) {
	root, err := os.OpenRoot(tree)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	defer root.Close()
	data, err := root.ReadFile(strings.TrimPrefix(name, "/"))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	return string(data), nil
}

// net runs a command of this computer, such as ip or ffmpeg, in the machine's network.
func (m *machine) net(ctx context.Context, args ...string) (string, error) {
	network := filepath.Join(m.namespaces.dir, m.name, "net")
	return output(ctx, append(m.namespaces.enter(), "nsenter", "--net="+network, "--"), args...)
}

// start starts the machine: its init if args are empty, otherwise args below a minimal init. It returns as soon as the
// machine's first process exists; that may not be ready for anything yet.
func (m *machine) start(ctx context.Context, args ...string) error {
	dir := filepath.Join(m.namespaces.dir, m.name)
	// The default for --machine is the directory's name, and Debian 13's nspawn refuses a second machine of one name.
	nspawn := []string{"systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--console=pipe",
		"--machine=" + m.name, "--hostname=" + m.name,
		"--directory=" + filepath.Join(dir, "root"), "--network-namespace-path=" + filepath.Join(dir, "net"),
		"--resolv-conf=off", "--timezone=off", "--bind=/dev/net/tun", "--capability=CAP_NET_ADMIN",
		// nspawn's default filter predates Landlock.
		"--system-call-filter=landlock_create_ruleset landlock_add_rule landlock_restrict_self"}
	if len(args) == 0 {
		nspawn = append(nspawn, "--boot")
	} else {
		nspawn = append(append(nspawn, "--as-pid2"), args...)
	}
	// The shell joins the groups outside: inside, their directories may be hidden.
	const join = `while [ "$1" != -- ]; do mkdir -p "$1" && echo $$ >"$1/cgroup.procs" || exit; shift; done
shift
exec "$@"`
	words := append([]string{"/bin/sh", "-c", join, "join"}, m.namespaces.groups(m.name)...)
	words = append(append(words, "--"), m.namespaces.enter()...)
	m.nspawn = command(context.WithoutCancel(ctx), words, nspawn...)
	if m.sysctls {
		m.nspawn.Env = append(m.nspawn.Env, "SYSTEMD_NSPAWN_API_VFS_WRITABLE=network")
	}
	m.nspawn.Stdout, m.nspawn.Stderr = &m.console, &m.console
	if err := m.nspawn.Start(); err != nil {
		return fmt.Errorf("start machine %s: %w", m.name, err)
	}
	go func() {
		m.nspawn.Wait()
		close(m.done)
	}()
	return m.Wait(ctx, "the first process of "+m.name, func() (bool, error) {
		var err error
		m.leader, err = m.findLeader()
		return m.leader != 0, err
	})
}

// Wait polls until ready returns true. It fails as soon as the machine has ended; its error contains the end of the
// machine's console output.
func (m *machine) Wait(ctx context.Context, what string, ready func() (bool, error)) error {
	err := PollWhile(ctx, m.done, what, ready)
	if err != nil {
		err = fmt.Errorf("%w\nconsole of %s:\n%s", err, m.name, lastLines(m.Console(), 20))
	}
	return err
}

// findLeader returns the process below nspawn that is the first of a PID namespace and in the machine's network, or 0.
func (m *machine) findLeader() (int, error) {
	var net syscall.Stat_t
	if err := syscall.Stat(m.namespaces.path(m.name, "net"), &net); err != nil {
		return 0, fmt.Errorf("find the first process of %s: %w", m.name, err)
	}
	queue := []int{m.nspawn.Process.Pid}
	for len(queue) > 0 {
		pid := queue[0]
		queue = queue[1:]
		children, err := childrenOf(pid)
		if err != nil {
			continue // it has ended
		}
		queue = append(queue, children...)
		var st syscall.Stat_t
		if syscall.Stat(fmt.Sprintf("/proc/%d/ns/net", pid), &st) != nil || st.Ino != net.Ino {
			continue
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(status)) {
			if f := strings.Fields(line); f[0] == "NSpid:" && f[len(f)-1] == "1" {
				return pid, nil
			}
		}
	}
	return 0, nil
}

// Run runs a command on the machine, as its root, and returns its standard output. The error is a *CommandError.
func (m *machine) Run(ctx context.Context, args ...string) (string, error) {
	return output(ctx, m.Enter(), args...)
}

// Console returns what the machine printed on its console.
func (m *machine) Console() string { return m.console.String() }

// stop kills the machine and waits until it has ended.
func (m *machine) stop() {
	if m.leader == 0 {
		return
	}
	// When a machine's first process ends, the kernel kills all others.
	syscall.Kill(m.leader, syscall.SIGKILL)
	<-m.done
}
