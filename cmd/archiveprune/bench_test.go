package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var benchFiles = flag.Int("files", 20_000, "files of each tree that BenchmarkFind prunes")

// BenchmarkFind removes the older half of trees, and has find remove the same from
// trees like them. x-find is our time by find's, x-find-cpu that of user and
// system; ns/op means little.
//
//	go test -run '^$' -bench Find -benchtime 1x ./cmd/archiveprune -files 1000000
func BenchmarkFind(b *testing.B) {
	find, err := exec.LookPath("find")
	if err != nil {
		b.Skip("find is missing")
	}
	ours := filepath.Join(b.TempDir(), "archiveprune")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", ours, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	// Of a file without a block nothing comes free, so max-size would leave it.
	empty, block := []byte(nil), []byte{0}
	age := func(string) string { return "--max-age=72h" }
	modes := []struct {
		name    string
		dirs    int
		content []byte
		limit   func(dir string) string
		us      usage
		them    usage
	}{
		{name: "age", dirs: 1000, content: empty, limit: age},
		{name: "one-directory", dirs: 1, content: empty, limit: age},
		{name: "max-size", dirs: 1000, content: block, limit: func(dir string) string {
			return fmt.Sprint("--max-size=", int64(*benchFiles/2)*blocksOf(b, filepath.Join(dir, "0", "0.flv")))
		}},
	}
	for n := range b.N {
		// All before the first is pruned: ext4 is slow to make a file where others
		// have just gone (recently_deleted in fs/ext4/ialloc.c).
		trees := make([][2]string, len(modes))
		for i, mode := range modes {
			trees[i] = [2]string{makeTree(b, mode.dirs, mode.content), makeTree(b, mode.dirs, mode.content)}
		}
		syscall.Sync() // or the first to prune would write it
		for i := range modes {
			mode := &modes[i]
			theirs := exec.Command(find, trees[i][0], "-type", "f", "-mtime", "+2", "-delete")
			ours := exec.Command(ours, "--config=/dev/null", "--max-age=off", mode.limit(trees[i][1]), trees[i][1])
			if (n+i)%2 == 0 {
				mode.them.add(measure(b, theirs))
				mode.us.add(measure(b, ours))
			} else {
				mode.us.add(measure(b, ours))
				mode.them.add(measure(b, theirs))
			}
			half(b, trees[i][0])
			half(b, trees[i][1])
		}
	}
	for _, mode := range modes {
		b.ReportMetric(mode.us.wall.Seconds()/mode.them.wall.Seconds(), mode.name+"-x-find")
		b.ReportMetric(mode.us.cpu.Seconds()/mode.them.cpu.Seconds(), mode.name+"-x-find-cpu")
		b.ReportMetric(float64(mode.us.peak)/1024, mode.name+"-MiB")
		b.Logf("%s: wall %v, find %v; user and system %v, find %v; peak %d KiB, find %d KiB",
			mode.name, mode.us.wall, mode.them.wall, mode.us.cpu, mode.them.cpu, mode.us.peak, mode.them.peak)
	}
}

type usage struct {
	wall, cpu time.Duration
	peak      int // KiB
}

func (u *usage) add(v usage) {
	u.wall += v.wall
	u.cpu += v.cpu
	u.peak = max(u.peak, v.peak)
}

func measure(b *testing.B, cmd *exec.Cmd) usage {
	b.Helper()
	out := new(strings.Builder)
	cmd.Stdout, cmd.Stderr = out, out
	start := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	// Not rusage's, which counts the process that a program was started from.
	peak, done := make(chan int), make(chan struct{})
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for most := 0; ; {
			most = max(most, resident(cmd.Process.Pid))
			select {
			case <-tick.C:
			case <-done:
				peak <- most
				return
			}
		}
	}()
	err := cmd.Wait()
	u := usage{wall: time.Since(start), cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	close(done)
	u.peak = <-peak
	if err != nil {
		b.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return u
}

// resident is the most memory that a process has had so far, in KiB.
func resident(pid int) int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			if n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB")); err == nil {
				return n
			}
		}
	}
	return 0
}

// makeTree makes the tree, every second file of it four days old.
func makeTree(b *testing.B, dirs int, content []byte) string {
	b.Helper()
	dir, err := os.MkdirTemp(b.TempDir(), "")
	if err != nil {
		b.Fatal(err)
	}
	now := time.Now()
	old := now.Add(-96 * time.Hour)
	var group sync.WaitGroup
	for worker := range 2 {
		group.Go(func() {
			for d := worker; d < dirs; d += 2 {
				sub := filepath.Join(dir, strconv.Itoa(d))
				if err := os.Mkdir(sub, 0o755); err != nil {
					b.Error(err)
					return
				}
				for f := range *benchFiles / dirs {
					name := filepath.Join(sub, strconv.Itoa(f)+".flv")
					if err := os.WriteFile(name, content, 0o644); err != nil {
						b.Error(err)
						return
					}
					if f%2 == 1 {
						if err := os.Chtimes(name, old, old); err != nil {
							b.Error(err)
							return
						}
					}
				}
			}
		})
	}
	group.Wait()
	return dir
}

// half makes sure that half of the tree has gone.
func half(b *testing.B, dir string) {
	b.Helper()
	left := 0
	dirs, err := os.ReadDir(dir)
	if err != nil {
		b.Fatal(err)
	}
	for _, d := range dirs {
		files, err := os.ReadDir(filepath.Join(dir, d.Name()))
		if err != nil {
			b.Fatal(err)
		}
		left += len(files)
	}
	if want := *benchFiles / 2; left != want {
		b.Errorf("%d of %d files are left", left, want)
	}
}

func blocksOf(b *testing.B, path string) int64 {
	b.Helper()
	var stat syscall.Stat_t
	if err := syscall.Lstat(path, &stat); err != nil {
		b.Fatal(err)
	}
	return stat.Blocks * 512
}
