//go:build cgo

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tunnelcast/internal/archive/archivetest"
	"tunnelcast/internal/promised"
	"tunnelcast/internal/recording/recordingtest"
)

// The hook, sweep and check work on file systems that lack what others have.
func TestLackingFileSystems(t *testing.T) {
	const all = ^uint32(0)
	refuse := func(call uintptr, arg int, mask, value uint32, err unix.Errno) archivetest.Refusal {
		return archivetest.Refusal{Call: call, Arg: arg, Mask: mask, Value: value, Err: err}
	}
	noReplace := refuse(unix.SYS_RENAMEAT2, 4, unix.RENAME_NOREPLACE, unix.RENAME_NOREPLACE, unix.EINVAL)
	lease := func(err unix.Errno) archivetest.Refusal {
		return refuse(unix.SYS_FCNTL, 1, all, unix.F_SETLEASE, err)
	}
	tests := []struct {
		name    string
		refused []archivetest.Refusal
		lacks   string // as check names it
	}{
		{"ZFS 2.1", []archivetest.Refusal{noReplace}, ""},
		{"FUSE for cloud storage", []archivetest.Refusal{noReplace, refuse(unix.SYS_LINKAT, 0, 0, 0, unix.ENOSYS),
			refuse(unix.SYS_FSYNC, 0, 0, 0, unix.EINVAL), refuse(unix.SYS_FCHMOD, 0, 0, 0, unix.EPERM),
			refuse(unix.SYS_FCHOWN, 0, 0, 0, unix.EPERM), refuse(unix.SYS_UTIMENSAT, 0, 0, 0, unix.EPERM)},
			"renaming without replacing"},
		{"NFS 4", []archivetest.Refusal{noReplace, lease(unix.EAGAIN)}, "leases"},
		{"NFS 3", []archivetest.Refusal{noReplace, lease(unix.EINVAL)}, "leases"},
		{"another owner", []archivetest.Refusal{lease(unix.EACCES)}, "leases"},
	}
	sample := recordingtest.Sample(t, 2, "200k")
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if !archivetest.Refuse(t, test.refused...) {
				return
			}
			dir := t.TempDir()
			path := filepath.Join(dir, "cam.flv")
			leases := test.lacks != "leases"
			record := func() {
				t.Helper()
				if err := os.WriteFile(path, sample, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			run := func(args ...string) string {
				t.Helper()
				out, err := exec.Command("recorddone", args...).CombinedOutput()
				if err != nil {
					t.Errorf("%v\n%s", err, out)
				}
				return string(out)
			}
			names := func() string {
				var names []string
				for _, entry := range must(os.ReadDir(dir)) {
					names = append(names, entry.Name())
				}
				return strings.Join(names, " ")
			}

			record()
			out := run(path, "cam.flv", "cam", dir)
			if got := names(); got != "cam.mp4" {
				t.Fatalf("after the hook: %s\n%s", got, out)
			}
			if err := os.WriteFile(filepath.Join(dir, "cam.mp4"), []byte("another"), 0o644); err != nil {
				t.Fatal(err)
			}
			record()
			run(path)
			other := must(os.ReadFile(filepath.Join(dir, "cam.mp4")))
			if got := names(); got != "cam-1.mp4 cam.mp4" || string(other) != "another" {
				t.Errorf("beside another file: %s", got)
			}

			// What a killed run leaves.
			for _, name := range []string{path, filepath.Join(dir, ".recorddone-0123456789abcdef.done")} {
				if err := os.WriteFile(name, sample, 0o644); err != nil {
					t.Fatal(err)
				}
				if old := time.Now().Add(-time.Hour); !leases {
					if err := os.Chtimes(name, old, old); err != nil {
						t.Fatal(err)
					}
				}
			}
			run("sweep", dir)
			if got := names(); strings.Contains(got, ".flv") || strings.Contains(got, ".done") {
				t.Errorf("after a sweep: %s", got)
			}

			// A recording that is being written, or may be.
			record()
			file := must(os.OpenFile(path, os.O_WRONLY, 0))
			defer file.Close()
			run("sweep", dir)
			if !slices.Contains(strings.Fields(names()), "cam.flv") {
				t.Errorf("a sweep converted a recording that is being written: %s", names())
			}
			// The exit status does not count: no unit may write there.
			check, _ := exec.Command("recorddone", "check", "--archive", dir).Output()
			line, _, _ := strings.Cut(string(check), "\n")
			if !strings.HasPrefix(line, "ok    recordings in "+dir) || !strings.Contains(line, test.lacks) {
				t.Errorf("check prints %s", line)
			}
		})
	}
}

// Recordings become MP4 even without /run/lock.
func TestNoJobLocks(t *testing.T) {
	if !archivetest.Mounts(t) {
		return
	}
	sample := recordingtest.Sample(t, 2, "200k")
	for _, test := range []struct {
		name    string
		arrange func() error
		locks   bool
	}{
		{"none", func() error { return nil }, false},
		{"not a directory", func() error { return os.WriteFile("/run/lock", nil, 0o644) }, false},
		{"there", func() error { return os.Mkdir("/run/lock", 0o777) }, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			archivetest.Mount(t, "/run", "tmpfs", "none", 0, "")
			if err := test.arrange(); err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			path := filepath.Join(dir, "cam.flv")
			if err := os.WriteFile(path, sample, 0o644); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command("recorddone", path).CombinedOutput()
			warned := strings.Contains(string(out), "working without job locks")
			if err != nil || kinds(t, dir) != ".mp4" || warned == test.locks {
				t.Errorf("%v, %s\n%s", err, kinds(t, dir), out)
			}
			check, _ := exec.Command("recorddone", "check", "--archive", dir).Output()
			if got := strings.Contains(string(check), "ok    job locks in /run/lock"); got != test.locks {
				t.Errorf("check prints %s", check)
			}
		})
	}
}

// Joined FLV files become as many MP4 files, even if they are more than are open at a time.
func TestJoined(t *testing.T) {
	a, b := recordingtest.Sample(t, 1, "100k"), recordingtest.Sample(t, 1, "200k")
	for _, test := range []struct {
		name  string
		files [][]byte
	}{
		{"the same parameters", [][]byte{a, a, a}},
		{"others", [][]byte{a, a, b}},
		{"many", slices.Repeat([][]byte{a, b}, atOnce/2+3)},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "cam.flv")
			if err := os.WriteFile(path, slices.Concat(test.files...), 0o644); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command("recorddone", path).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			names := must(filepath.Glob(filepath.Join(dir, "*.mp4")))
			if got := kinds(t, dir); len(names) != len(test.files) || strings.Contains(got, ".flv") {
				t.Errorf("%d files, want %d: %s", len(names), len(test.files), got)
			}
			for _, name := range names[:min(3, len(names))] {
				out, err := exec.Command("ffprobe", "-v", "error", "-select_streams", "v",
					"-show_entries", "stream=nb_frames", "-of", "csv=p=0", name).Output()
				if string(out) != "25\n" || err != nil {
					t.Errorf("%s has %s pictures, want 25: %v", name, out, err)
				}
			}
		})
	}
}

// What a sweep cannot read is named and does not keep it from the rest. The lost+found of the
// archive's file system is named once, and is not a failure.
func TestSweepUnreadable(t *testing.T) {
	if os.Getuid() != 0 {
		promised.Lacking(t, "another user's directories need root")
	}
	if !archivetest.Mounts(t) {
		return
	}
	dir := t.TempDir()
	archivetest.Mount(t, dir, "tmpfs", "tmpfs", 0, "mode=755")
	const nobody = 65534
	for _, path := range []string{dir, filepath.Dir(must(exec.LookPath("recorddone")))} {
		for ; path != filepath.Clean(os.TempDir()) && path != "/"; path = filepath.Dir(path) {
			if err := os.Chmod(path, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	flv := filepath.Join(dir, "sub", "cam.flv")
	for _, name := range []string{"aaa", "lost+found", "sub"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(flv, recordingtest.Sample(t, 2, "200k"), 0o644); err != nil {
		t.Fatal(err)
	}
	const somebody = 7
	owners := map[string]int{filepath.Join(dir, "aaa"): somebody, filepath.Dir(flv): nobody, flv: nobody}
	for name, owner := range owners {
		if err := os.Chown(name, owner, owner); err != nil {
			t.Fatal(err)
		}
	}
	sweep := func(want int) string {
		t.Helper()
		sweep := exec.Command("recorddone", "sweep", dir)
		sweep.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		out, err := sweep.CombinedOutput()
		if got := sweep.ProcessState.ExitCode(); got != want || strings.Count(string(out), "lost+found") != 1 {
			t.Errorf("exit status %d, want %d: %v\n%s", got, want, err, out)
		}
		return string(out)
	}
	out := sweep(3)
	if got := kinds(t, filepath.Dir(flv)); got != ".mp4" {
		t.Errorf("the directory has %s\n%s", got, out)
	}
	if !strings.Contains(out, filepath.Join(dir, "aaa")) {
		t.Errorf("printed %s", out)
	}
	if err := os.Remove(filepath.Join(dir, "aaa")); err != nil {
		t.Fatal(err)
	}
	sweep(0)
}

// On NFS 4, where a file that is open for reading cannot be locked, hooks and a sweep at the same time still
// convert each recording once.
func TestLocksOfDirectories(t *testing.T) {
	if !archivetest.Mounts(t) {
		return
	}
	dir, inside := archivetest.FUSE(t, archivetest.Quirks{Rename2: unix.ENOSYS, Lock: unix.EBADF})
	if !inside {
		return
	}
	sample := recordingtest.Sample(t, 2, "200k")
	var want []string
	var running []*exec.Cmd
	start := func(args ...string) {
		t.Helper()
		command := exec.Command("recorddone", append([]string{"--jobs", "4"}, args...)...)
		command.Stderr = new(strings.Builder)
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		running = append(running, command)
	}
	for _, name := range []string{"a", "b", "c", "d"} {
		path := filepath.Join(dir, name+".flv")
		if err := os.WriteFile(path, sample, 0o644); err != nil {
			t.Fatal(err)
		}
		want = append(want, name+".mp4")
	}
	for _, name := range []string{"a", "a", "b", "c"} {
		start(filepath.Join(dir, name+".flv"))
	}
	start("sweep", dir)
	for _, command := range running {
		err, out := command.Wait(), command.Stderr
		if err != nil && !strings.Contains(fmt.Sprint(out), "no such file or directory") { // another was quicker
			t.Errorf("%v: %s", err, out)
		}
	}
	var got []string
	for _, entry := range must(os.ReadDir(dir)) {
		got = append(got, entry.Name())
	}
	if !slices.Equal(got, want) {
		t.Errorf("the directory has %s, want %s", got, want)
	}
}

// TestKilledElsewhere is TestKilled where hard links replace RENAME_NOREPLACE, and where there are none either.
func TestKilledElsewhere(t *testing.T) {
	noReplace := archivetest.Refusal{Call: unix.SYS_RENAMEAT2, Arg: 4, Mask: unix.RENAME_NOREPLACE,
		Value: unix.RENAME_NOREPLACE, Err: unix.EINVAL}
	for name, refused := range map[string][]archivetest.Refusal{
		"links":    {noReplace},
		"no links": {noReplace, {Call: unix.SYS_LINKAT, Err: unix.EPERM}},
	} {
		t.Run(name, func(t *testing.T) {
			if archivetest.Refuse(t, refused...) {
				TestKilled(t)
			}
		})
	}
}
