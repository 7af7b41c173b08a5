package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"tunnelcast/internal/e2e/box"
)

// A testbed is where a run goes on: mount, PID and network namespaces with a /run and a loopback of their own, so that the
// guide's addresses, ports and paths are free whatever this machine serves. Its first process is this program: when that
// ends, all in it does. bind9, nginx and charon are those of the box's tree; what they are measured with, nsupdate and
// ffmpeg, is this machine's own.
type testbed struct {
	dir     string // of the run, on the disk of the cache
	tree    string
	started []*box.Daemon // by the group of rows at work
}

// insideError is an error that was printed inside.
type insideError struct{ error }

// needed are the programs of this machine that are measured or measure.
var needed = []struct{ name, pkg string }{
	{"nsupdate", "bind9-dnsutils"}, {"dig", "bind9-dnsutils"}, {"logger", "bsdutils"}, {"ffmpeg", "ffmpeg"},
	{"find", "findutils"}, {"cp", "coreutils"}, {"mkfs.ext4", "e2fsprogs"}, {"apt-get", "apt"}, {"dpkg-deb", "dpkg"}, {"go", "golang-go"},
}

// enter prepares a run with what needs the host, and does it inside.
func enter(ctx context.Context, o options) error {
	if err := box.Missing(); err != nil {
		return err
	}
	for _, tool := range needed {
		if _, err := exec.LookPath(tool.name); err != nil {
			return fmt.Errorf("%s (package %s) is missing: %w", tool.name, tool.pkg, err)
		}
	}
	_, release, err := box.Tree(ctx, func(what string) { fmt.Fprintln(os.Stderr, "bench:", what) })
	if err != nil {
		return err
	}
	defer release()
	cache, err := box.CacheDir()
	if err != nil {
		return err
	}
	// One at a time: two would measure each other.
	dir := filepath.Join(cache, "bench")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	lock, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	err = box.Poll(ctx, time.Hour, "another bench to end", func() (bool, error) {
		err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		return err == nil, err
	})
	if err != nil {
		return err
	}
	dir = filepath.Join(dir, "run")
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove what a killed run left: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for _, cmd := range [][]string{
		{"dpkg-deb", "--extract", o.deb, dir + "/deb"},
		{"go", "test", "-c", "-o", dir + "/certhook.test", "tunnelcast/cmd/certhook"},
	} {
		if out, err := exec.CommandContext(ctx, cmd[0], cmd[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(cmd, " "), err, out)
		}
	}

	self, err := os.Executable()
	if err != nil {
		return err
	}
	// The signal at the parent's death is that of its thread's.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	inside := exec.CommandContext(ctx, self, append([]string{"-inside", dir}, os.Args[1:]...)...)
	inside.Stdout, inside.Stderr = os.Stdout, os.Stderr
	inside.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET,
		Pdeathsig:  syscall.SIGKILL,
	}
	inside.Cancel = func() error { return inside.Process.Signal(syscall.SIGTERM) }
	inside.WaitDelay = 10 * time.Second
	if err := inside.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return &insideError{err}
	}
	return nil
}

// furnish gives the testbed its own /proc, /run and loopback, and a /dev with a /dev/log, which not every machine has, and
// with loop devices that this machine may only be about to make.
const furnish = `set -e
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock /run/named /run/systemd/journal /run/dev
mount --rbind /dev /run/dev
mount -t tmpfs -o mode=755 tmpfs /dev
cd /run/dev
cp -a null zero full random urandom tty fd stdin stdout stderr /dev
mkdir /dev/net /dev/shm
cp -a net/tun /dev/net
mknod /dev/loop-control c 10 237
n=0; while [ $n -lt 64 ]; do mknod /dev/loop$n b 7 $n; n=$((n+1)); done
ln -s /run/systemd/journal/dev-log /dev/log
echo 512 >/proc/sys/net/unix/max_dgram_qlen # as systemd has it for its journal
ip link set lo up
ip address add 10.0.0.1/32 dev lo
ip address add 10.0.0.2/32 dev lo`

func newTestbed(ctx context.Context, dir string) (*testbed, error) {
	if os.Getpid() != 1 {
		return nil, errors.New("-inside is for the program itself")
	}
	if out, err := exec.CommandContext(ctx, "/bin/sh", "-c", furnish).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make the testbed: %w\n%s", err, out)
	}
	// Both sides log to who listens there on a server. Nobody reads it here.
	for _, name := range []string{"socket", "dev-log"} {
		conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: "/run/systemd/journal/" + name, Net: "unixgram"})
		if err != nil {
			return nil, err
		}
		go func() {
			for entry := make([]byte, 64<<10); ; {
				if _, err := conn.Read(entry); err != nil {
					return
				}
			}
		}()
	}
	// The lock that outlives this is the outer process's.
	tree, _, err := box.Tree(ctx, func(string) {})
	if err != nil {
		return nil, err
	}
	return &testbed{dir: dir, tree: tree}, nil
}

// program gives the installed path of one of ours.
func (t *testbed) program(name string) string {
	return filepath.Join(t.dir, "deb/usr/sbin/tunnelcast-"+name)
}

// ours gives the words that start one of ours, with the settings that the package installs.
func (t *testbed) ours(name string, args ...string) []string {
	return append([]string{t.program(name), "--config", filepath.Join(t.dir, "deb/etc/tunnelcast", name+".toml")}, args...)
}

// theirs gives the words that start a daemon of the tree, by the tree's own loader and libraries.
func (t *testbed) theirs(program string, args ...string) ([]string, error) {
	loaders, err := filepath.Glob(t.tree + "/usr/lib/*-linux-gnu/ld-linux-*.so.*")
	if err != nil || len(loaders) != 1 {
		return nil, fmt.Errorf("find the loader of %s: %q, %w", t.tree, loaders, err)
	}
	return append([]string{loaders[0], "--library-path", filepath.Dir(loaders[0]), filepath.Join(t.tree, program)}, args...), nil
}

// start starts a daemon that lives until the group of rows is done.
func (t *testbed) start(words []string, log string) (*box.Daemon, error) {
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env = plainEnv
	d, err := box.StartDaemon(cmd, log)
	if err == nil {
		t.started = append(t.started, d)
	}
	return d, err
}

// clean ends what a group of rows has started and removes what it has made.
func (t *testbed) clean() {
	for _, d := range t.started {
		d.Stop()
	}
	t.started = nil
	os.RemoveAll(t.scratch())
	runs, _ := filepath.Glob("/run/tunnelcast*")
	for _, dir := range runs {
		os.RemoveAll(dir)
	}
}

// scratch is the directory of the group at work.
func (t *testbed) scratch() string { return filepath.Join(t.dir, "scratch") }

// make makes an empty directory in it.
func (t *testbed) makeDir(name string) (string, error) {
	dir := filepath.Join(t.scratch(), name)
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	return dir, os.MkdirAll(dir, 0o755)
}
