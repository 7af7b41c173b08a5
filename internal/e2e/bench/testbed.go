package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"tunnelcast/internal/e2e/box"
)

// A testbed holds a run: mount, PID and network namespaces with their own /run and loopback, so that the guide's
// addresses, ports and paths are free, whatever this computer serves. Its first process is this program: when that
// ends, all others do. bind9, nginx and charon are those of the box's tree; nsupdate, ffmpeg and the other tools are
// those of this computer.
type testbed struct {
	dir     string // of the run, on the disk of the cache
	tree    string
	started []*box.Daemon // for the group of rows that is being measured
}

// insideError is an error that the process inside has already printed.
type insideError struct{ error }

// needed are the programs of this computer that are measured, or that measure.
var needed = []struct{ name, pkg string }{
	{"nsupdate", "bind9-dnsutils"}, {"dig", "bind9-dnsutils"}, {"logger", "bsdutils"}, {"ffmpeg", "ffmpeg"},
	{"find", "findutils"}, {"cp", "coreutils"}, {"taskset", "util-linux"}, {"mkfs.ext4", "e2fsprogs"},
	{"apt-get", "apt"}, {"dpkg-deb", "dpkg"}, {"go", "golang-go"},
}

// enter prepares a run outside the namespaces, and runs this program again inside.
func enter(ctx context.Context, o options) error {
	if err := box.Missing(); err != nil {
		return err
	}
	for _, tool := range needed {
		if _, err := exec.LookPath(tool.name); err != nil {
			return fmt.Errorf("%s (package %s) is missing: %w", tool.name, tool.pkg, err)
		}
	}
	_, release, err := box.Tree(ctx, "bookworm", func(what string) { fmt.Fprintln(os.Stderr, "bench:", what) })
	if err != nil {
		return err
	}
	defer release()
	cache, err := box.CacheDir()
	if err != nil {
		return err
	}
	// One run at a time: two would disturb each other.
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
		return fmt.Errorf("remove the files of a killed run: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(dir+"/empty.go", []byte("package main\n\nfunc main() {}\n"), 0o644); err != nil {
		return err
	}
	for _, cmd := range [][]string{
		{"dpkg-deb", "--extract", o.deb, dir + "/deb"},
		{"go", "test", "-c", "-o", dir + "/certhook.test", "tunnelcast/cmd/certhook"},
		{"go", "build", "-trimpath", "-ldflags", "-s -w", "-o", dir + "/empty", dir + "/empty.go"},
	} {
		if out, err := exec.CommandContext(ctx, cmd[0], cmd[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(cmd, " "), err, out)
		}
	}

	began := time.Now()
	failed := startInside(ctx, dir)
	if _, err := o.result(began); err == nil && ctx.Err() == nil { // to which the second run adds its rows
		failed = errors.Join(failed, startInside(ctx, dir, "-one"))
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case failed != nil:
		return &insideError{failed}
	}
	return nil
}

// startInside runs this program in namespaces of its own. With the flag -one, it and all its processes have one
// processor.
func startInside(ctx context.Context, dir string, flags ...string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	// Pdeathsig is sent when the parent's thread ends, so this goroutine must keep its thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	words := slices.Concat([]string{self, "-inside", dir}, flags, os.Args[1:])
	if slices.Contains(flags, "-one") {
		first, err := firstProcessor()
		if err != nil {
			return err
		}
		words = append([]string{"taskset", "--cpu-list", first}, words...)
	}
	inside := exec.CommandContext(ctx, words[0], words[1:]...)
	inside.Stdout, inside.Stderr = os.Stdout, os.Stderr
	inside.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET,
		Pdeathsig:  syscall.SIGKILL,
	}
	inside.Cancel = func() error { return inside.Process.Signal(syscall.SIGTERM) }
	inside.WaitDelay = 10 * time.Second
	return inside.Run()
}

// firstProcessor returns the number of the first processor that this process may use.
func firstProcessor() (string, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return "", err
	}
	_, allowed, _ := strings.Cut(string(status), "Cpus_allowed_list:\t") // such as 0-1,3
	end := strings.IndexFunc(allowed, func(r rune) bool { return r < '0' || r > '9' })
	if end <= 0 {
		return "", errors.New("/proc/self/status does not list the processors")
	}
	return allowed[:end], nil
}

// furnish mounts the testbed's own /proc, /run and /dev, and configures the loopback. /dev has /dev/log, which not
// every computer has, and loop devices that this computer may not have created yet.
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
		return nil, errors.New("-inside is for internal use")
	}
	if out, err := exec.CommandContext(ctx, "/bin/sh", "-c", furnish).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make the testbed: %w\n%s", err, out)
	}
	// On a server, journald listens on these sockets. Here the entries of both sides are read and dropped.
	for _, name := range []string{"socket", "dev-log"} {
		address := &net.UnixAddr{Name: "/run/systemd/journal/" + name, Net: "unixgram"}
		conn, err := net.ListenUnixgram("unixgram", address)
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
	// The outer process holds the lock for as long as this one runs.
	tree, _, err := box.Tree(ctx, "bookworm", func(string) {})
	if err != nil {
		return nil, err
	}
	return &testbed{dir: dir, tree: tree}, nil
}

// program returns the path of one of our programs.
func (t *testbed) program(name string) string {
	return filepath.Join(t.dir, "deb/usr/sbin/tunnelcast-"+name)
}

// ours returns the words that start one of our programs, with the settings that the package installs.
func (t *testbed) ours(name string, args ...string) []string {
	return append([]string{t.program(name), "--config", t.settings(name)}, args...)
}

// settings returns the path of the settings that the package installs.
func (t *testbed) settings(name string) string {
	return filepath.Join(t.dir, "deb/etc/tunnelcast", name+".toml")
}

// theirs returns the words that start a daemon of the tree, with the tree's loader and libraries.
func (t *testbed) theirs(program string, args ...string) ([]string, error) {
	loaders, err := filepath.Glob(t.tree + "/usr/lib/*-linux-gnu/ld-linux-*.so.*")
	if err != nil || len(loaders) != 1 {
		return nil, fmt.Errorf("find the loader of %s: %q, %w", t.tree, loaders, err)
	}
	words := []string{loaders[0], "--library-path", filepath.Dir(loaders[0]), filepath.Join(t.tree, program)}
	return append(words, args...), nil
}

// start starts a daemon that runs until the group of rows is measured.
func (t *testbed) start(words []string, log string) (*box.Daemon, error) {
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env = plainEnv
	d, err := box.StartDaemon(cmd, log)
	if err == nil {
		t.started = append(t.started, d)
	}
	return d, err
}

// clean stops the daemons that a group of rows has started, and removes its files.
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

// scratch returns the directory of the group that is being measured.
func (t *testbed) scratch() string { return filepath.Join(t.dir, "scratch") }

// makeDir creates an empty directory in scratch.
func (t *testbed) makeDir(name string) (string, error) {
	dir := filepath.Join(t.scratch(), name)
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	return dir, os.MkdirAll(dir, 0o755)
}
