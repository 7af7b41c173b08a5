// Package vm runs the guide's server in a virtual machine with Debian's own kernel. It shows what the box cannot:
// AppArmor, ESP in the kernel, Landlock, a disk that loses power. The words are the box's: a gateway with the guide's
// services, and clients, which are devices with a charon of their own. Here they all are in one machine, the clients in
// namespaces of it.
//
// An image is built from the box's tree, booted once and frozen with its memory; a test gets a clone of it, which
// answers after about a second. All that is built once is in the cache (see box.CacheDir), and appears there complete
// or not at all. KVM is used if it runs a guest; otherwise qemu emulates the processor, which takes about ten times as
// long.
//
// Nothing of a machine outlives its process, even if that is killed: the kernel kills qemu with it, and the machine's
// disk is a file without a name.
package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"tunnelcast/internal/e2e/box"
)

// Options are the options of a machine.
type Options struct {
	Suite string // a key of box.Releases; "" is bookworm
	Deb   string // the package that is installed; "": none
	// Step, if not nil, is called at the beginning of each part of Start that takes a while.
	Step func(what string)
}

// A Machine is the gateway: a clone of the frozen machine.
type Machine struct {
	box.Services
	*qemu
	clients int
	streams atomic.Int64 // that clients have published
}

// Missing returns an error that lists, in one line, what this computer lacks to run a machine.
func Missing() error {
	if runtime.GOARCH != "amd64" {
		return fmt.Errorf("the virtual machine is for amd64, whose kernel it boots, and this computer is %s",
			runtime.GOARCH)
	}
	var missing []string
	if os.Geteuid() != 0 {
		missing = append(missing, "root (it builds the machine's file system)")
	}
	for _, tool := range []struct{ name, pkg string }{
		{"qemu-system-x86_64", "qemu-system-x86"}, {"qemu-img", "qemu-utils"}, {"mkfs.ext4", "e2fsprogs"},
		{"apt-get", "apt"}, {"dpkg-deb", "dpkg"}, {"debootstrap", "debootstrap"}, {"unshare", "util-linux"},
		{"xz", "xz-utils"}, {"ffmpeg", "ffmpeg"},
	} {
		if !box.Found(tool.name) {
			missing = append(missing, fmt.Sprintf("%s (package %s)", tool.name, tool.pkg))
		}
	}
	if len(missing) > 0 {
		return errors.New("the virtual machine needs " + strings.Join(missing, ", "))
	}
	return nil
}

// Start returns a machine on which the guide's server runs, and the package if there is one: its units run, it has its
// certificate, and charon has its connection. The machine ends with Close, or with this process; the end of ctx only
// ends Start.
func Start(ctx context.Context, options Options) (*Machine, error) {
	if err := Missing(); err != nil {
		return nil, err
	}
	if options.Suite == "" {
		options.Suite = "bookworm"
	}
	if options.Step == nil {
		options.Step = func(string) {}
	}
	f, err := open(ctx, options)
	if err != nil {
		return nil, err
	}
	q, err := f.clone(ctx, "")
	if err != nil {
		f.close()
		return nil, err
	}
	return newMachine(q), nil
}

func newMachine(q *qemu) *Machine {
	m := &Machine{qemu: q}
	m.Services = box.NewServices(q)
	return m
}

// Close ends the machine without a warning to it, and releases all that it held.
func (m *Machine) Close() error {
	m.Kill()
	return m.release()
}

// Run runs a command on the machine, as its root, and returns its standard output. The error is a *box.CommandError.
func (q *qemu) Run(ctx context.Context, args ...string) (string, error) {
	return q.agent.output(ctx, nil, nil, args...)
}

// Shell runs a script with sh, as Run does. The script ends at the first command that fails.
func (q *qemu) Shell(ctx context.Context, script string, args ...string) (string, error) {
	return q.Run(ctx, append([]string{"sh", "-ec", script, "sh"}, args...)...)
}

// Command runs a command whose streams are connected: stdin until its end, stdout as it comes.
func (q *qemu) Command(ctx context.Context, stdin io.Reader, stdout io.Writer, args ...string) error {
	_, err := q.agent.output(ctx, stdin, stdout, args...)
	return err
}

// WriteFile writes a file with exactly the given mode, and creates the directories above it. Put is faster for large
// files.
func (q *qemu) WriteFile(name, content string, mode os.FileMode) error {
	return writeFile(q.Command, name, content, mode)
}

// limit is how long a file may take that is written without a context.
const limit = 5 * time.Minute

func writeFile(
	command func(context.Context, io.Reader, io.Writer, ...string) error, name, content string, mode os.FileMode,
) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return command(ctx, strings.NewReader(content), io.Discard, "sh", "-ec",
		`mkdir -p "$(dirname "$1")"; cat >"$1"; chmod "$2" "$1"`, "sh", name, fmt.Sprintf("%o", mode.Perm()))
}

// ReadFile reads a file of the machine.
func (q *qemu) ReadFile(name string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return q.Run(ctx, "cat", "--", name)
}

// Wait polls until ready returns true. It fails as soon as the machine has ended.
func (q *qemu) Wait(ctx context.Context, what string, ready func() (bool, error)) error {
	err := box.PollWhile(ctx, q.done, what, ready)
	if err != nil {
		err = fmt.Errorf("%w\nconsole of the machine:\n%s", err, end(q.Console(), 20))
	}
	return err
}

// Explain adds the end of the journal to an error, or that of the console if the machine does not answer.
func (q *qemu) Explain(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	// The caller's context has often ended already.
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	journal, jerr := q.Run(ctx, "journalctl", "--no-pager", "--no-hostname", "--output=short-precise", "--lines=60")
	if jerr != nil {
		return fmt.Errorf("%w\n%w\nconsole of the machine:\n%s", err, jerr, end(q.Console(), 30))
	}
	return fmt.Errorf("%w\nend of the machine's journal:\n%s", err, journal)
}

func end(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\r\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// PowerOff shuts the machine down in order, and returns when it is off.
func (m *Machine) PowerOff(ctx context.Context) error {
	if _, err := m.Run(ctx, "systemctl", "poweroff", "--no-block"); err != nil {
		return err
	}
	select {
	case <-m.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the machine to be off: %w\n%s", ctx.Err(), end(m.Console(), 20))
	}
}

// Boot boots the machine from its disk, with an empty memory, and returns when its agent answers. A machine that still
// runs is killed first. Plugged disks must be plugged again.
func (m *Machine) Boot(ctx context.Context) error {
	m.Kill()
	return m.start(ctx, nil)
}

// Install installs a package, as the machine's administrator would, and waits until systemd has done all that the
// installation started.
func (m *Machine) Install(ctx context.Context, deb string) error {
	inside := path.Join("/var/cache", path.Base(deb))
	if err := m.Put(ctx, deb, inside); err != nil {
		return err
	}
	return m.InstallFile(ctx, inside)
}

func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings and numbers only
	}
	return data
}

// ProcessorTime returns how much processor time of this computer the machine has used since it was switched on.
func (q *qemu) ProcessorTime() time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", q.process.Pid))
	if err != nil {
		return 0 // it has ended
	}
	// The second field, the program's name in parentheses, may contain blanks.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	var ticks int64 // of 1/100 s
	for _, f := range fields[11:13] {
		n, _ := strconv.ParseInt(f, 10, 64)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
