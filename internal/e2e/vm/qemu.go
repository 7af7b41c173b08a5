package vm

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"tunnelcast/internal/e2e/box"
)

// megabytes is the machine's memory.
const megabytes = 1024

// patience is how long a boot may take, on an emulated processor of a busy computer.
const patience = 10 * time.Minute

// A qemu is a machine as hardware. It is on or off; its disk outlives that.
type qemu struct {
	accelerator accelerator
	image       string   // the directory with kernel, initrd and the bottom disk
	layers      []string // the disks on it, from the bottom; they are not written to
	disk        *os.File // the top one
	release     func() error

	process *os.Process
	done    chan struct{} // closed when the process has ended
	console *buffer
	agent   *agent
	monitor *monitor
}

// A memory is a file that is the machine's memory.
type memory struct {
	dir   string // the directory of the files ram and state
	keep  bool   // changes go to the file; otherwise they are lost with the machine
	thaws bool   // the machine goes on from what the files hold; otherwise it boots
}

// makeDisk makes an empty top disk.
func makeDisk(ctx context.Context, file string, image string) (*os.File, error) {
	info, err := os.Stat(filepath.Join(image, "disk.img"))
	if err != nil {
		return nil, fmt.Errorf("make a disk: %w", err)
	}
	if _, err := box.Output(ctx, "qemu-img", "create", "-q", "-f", "qcow2", file,
		strconv.FormatInt(info.Size(), 10)); err != nil {
		return nil, err
	}
	return os.OpenFile(file, os.O_RDWR, 0)
}

// chain describes the machine's disk to qemu. The top is the file descriptor of the set 1.
func (q *qemu) chain() map[string]any {
	node := map[string]any{
		"driver": "raw", "read-only": true,
		"file": map[string]any{"driver": "file", "filename": filepath.Join(q.image, "disk.img")},
	}
	for _, layer := range q.layers {
		node = map[string]any{
			"driver": "qcow2", "read-only": true, "backing": node,
			"file": map[string]any{"driver": "file", "filename": layer},
		}
	}
	return map[string]any{
		"driver": "qcow2", "node-name": "root", "backing": node, "discard": "unmap",
		// The guest's flushes reach this computer's kernel, which is enough: it is not this computer that crashes.
		"file": map[string]any{
			"driver": "file", "filename": "/dev/fdset/1", "cache": map[string]any{"no-flush": true},
		},
	}
}

// start switches the machine on, and returns when its agent answers. On failure the machine is off.
func (q *qemu) start(ctx context.Context, m *memory) (err error) {
	run, runOther, err := socketpair()
	if err != nil {
		return err
	}
	defer runOther.Close()
	mon, monOther, err := socketpair()
	if err != nil {
		run.Close()
		return err
	}
	defer monOther.Close()

	args := append(q.accelerator.args(),
		"-name", "tunnelcast", "-smp", "2", "-m", strconv.Itoa(megabytes),
		"-display", "none", "-nodefaults", "-no-user-config", "-no-reboot", "-nic", "none",
		"-kernel", filepath.Join(q.image, "vmlinuz"), "-initrd", filepath.Join(q.image, "initrd"),
		"-append", commandLine, "-serial", "stdio",
		"-add-fd", "fd=5,set=1", "-blockdev", string(encode(q.chain())), "-device", "virtio-blk-pci,drive=root",
		"-device", "virtio-serial-pci",
		"-chardev", "socket,id=run,fd=3", "-device", "virtserialport,chardev=run,name=run",
		"-device", "virtio-rng-pci",
		"-chardev", "socket,id=mon,fd=4", "-mon", "chardev=mon,mode=control")
	machine, dir := "pc", "/"
	if m != nil {
		machine, dir = "pc,memory-backend=pc.ram", m.dir
		share := map[bool]string{true: "on", false: "off"}[m.keep]
		args = append(args, "-object", fmt.Sprintf("memory-backend-file,id=pc.ram,"+
			"x-use-canonical-path-for-ramblock-id=off,size=%dM,mem-path=ram,share=%s", megabytes, share))
		if m.thaws {
			args = append(args, "-incoming", "defer")
		}
	}
	cmd := exec.Command("qemu-system-x86_64", append(args, "-machine", machine)...)
	cmd.Env, cmd.Dir = box.Environ(), dir
	q.console = &buffer{}
	cmd.Stdout, cmd.Stderr = q.console, q.console
	cmd.ExtraFiles = []*os.File{runOther, monOther, q.disk}
	// A terminal's Ctrl-C is for this process; qemu ends with it, however it ends.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	q.done = make(chan struct{})
	go func() {
		// The signal comes at the end of the thread that started qemu: it has to live as long as this process.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // that it was killed is normal
			close(q.done)
		}
		run.Close()
		mon.Close()
		runtime.UnlockOSThread()
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start qemu: %w", err)
	}
	q.process = cmd.Process
	defer func() {
		if err != nil {
			err = fmt.Errorf("start the machine: %w\nconsole of the machine:\n%s", err, end(q.Console(), 20))
			q.Kill()
		}
	}()
	q.agent = newAgent(run)
	stop := context.AfterFunc(ctx, q.Kill)
	defer stop()
	if q.monitor, err = newMonitor(mon); err != nil {
		return err
	}
	if m != nil && m.thaws {
		return q.thaw(ctx)
	}
	select {
	case <-q.agent.hello:
		return nil
	case <-q.done:
		return fmt.Errorf("qemu has ended")
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(patience):
		return fmt.Errorf("the agent has not answered after %v", patience)
	}
}

// thaw goes on with the machine that the memory holds.
func (q *qemu) thaw(ctx context.Context) error {
	if err := q.monitor.ignoreShared(); err != nil {
		return err
	}
	if err := q.monitor.do("migrate-incoming", map[string]any{"uri": "exec:cat state"}, nil); err != nil {
		return err
	}
	if err := q.monitor.migrated(); err != nil {
		return err
	}
	if err := q.monitor.do("cont", nil, nil); err != nil {
		return err
	}
	// In the machine no time has passed.
	_, err := q.Run(ctx, "date", "--set", "@"+strconv.FormatFloat(float64(time.Now().UnixMilli())/1000, 'f', 3, 64))
	return err
}

// freeze switches the machine off and leaves all of it in the files of m: it is to go on from there.
func (q *qemu) freeze(ctx context.Context) error {
	if _, err := q.Run(ctx, "sync"); err != nil {
		return err
	}
	for _, step := range []func() error{
		func() error { return q.monitor.do("stop", nil, nil) },
		q.monitor.ignoreShared,
		func() error { return q.monitor.do("migrate", map[string]any{"uri": "exec:cat >state"}, nil) },
		q.monitor.migrated,
		func() error { return q.monitor.do("quit", nil, nil) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("freeze the machine: %w", err)
		}
	}
	<-q.done
	return nil
}

// Kill switches the machine off as a power failure does, but for the order of its writes: what it has written to its
// disk stays. It does nothing to a machine that is off.
func (q *qemu) Kill() {
	if q.process == nil {
		return
	}
	_ = q.process.Kill() // it may have ended
	<-q.done
}

// Console returns what the machine printed on its serial console since it was switched on, and qemu's messages.
func (q *qemu) Console() string { return q.console.String() }

// A buffer is what a process prints.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// socketpair returns two connected sockets: ours, and the one for qemu.
func socketpair() (ours, other *os.File, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to qemu: %w", err)
	}
	// So that Close ends a read.
	if err := syscall.SetNonblock(fds[0], true); err != nil {
		return nil, nil, fmt.Errorf("connect to qemu: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "socket"), os.NewFile(uintptr(fds[1]), "socket"), nil
}
