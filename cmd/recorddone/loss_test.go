//go:build cgo

package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tunnelcast/internal/promised"
	"tunnelcast/internal/recording/recordingtest"
)

// Killed at any moment, a run leaves the FLV or the whole MP4, and nothing else under the final name. The
// next run writes the same bytes as a run that was not killed.
func TestKilled(t *testing.T) {
	runs, seconds := 15, 2
	if long {
		runs, seconds = 200, 40
	}
	flv := recordingtest.Sample(t, seconds, "2M")
	dir := t.TempDir()
	path, mp4 := filepath.Join(dir, "cam.flv"), filepath.Join(dir, "cam.mp4")
	arrange := func() {
		empty(t, dir)
		if err := os.WriteFile(path, flv, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	arrange()
	began := time.Now()
	if out, err := exec.Command("recorddone", path).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	took := time.Since(began)
	want := must(os.ReadFile(mp4))

	killed, left := 0, map[string]int{}
	for killed < runs {
		arrange()
		command := exec.Command("recorddone", path)
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(rand.N(took), func() { command.Process.Kill() })
		err := command.Wait()
		timer.Stop()
		if err != nil {
			if status := command.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() {
				t.Fatal(err)
			}
			killed++
			left[kinds(t, dir)]++
		} else {
			took = took * 9 / 10 // the first run took longer
		}
		source, sourceErr := os.ReadFile(path)
		result, resultErr := os.ReadFile(mp4)
		switch {
		case resultErr == nil && !bytes.Equal(result, want):
			t.Fatal("half an MP4 under the final name")
		case resultErr != nil && (sourceErr != nil || !bytes.Equal(source, flv)):
			t.Fatalf("neither FLV nor MP4: %v, %v", sourceErr, resultErr)
		}
		if out, err := exec.Command("recorddone", "sweep", dir).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if got := kinds(t, dir); got != ".mp4" || !bytes.Equal(must(os.ReadFile(mp4)), want) {
			t.Fatalf("after a sweep: %s", got)
		}
	}
	t.Logf("killed %d runs; what they left: %v", killed, left)
}

// No recording is lost on a full disk, wherever it becomes full. With room again, a run writes the same bytes
// as with enough room.
func TestDiskFull(t *testing.T) {
	if os.Getuid() != 0 {
		promised.Lacking(t, "mounting a small file system needs root")
	}
	const step = 64 << 10
	seconds := 2
	if long {
		seconds = 40
	}
	flv := recordingtest.Sample(t, seconds, "2M")
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", 3*len(flv))); err != nil {
		promised.Lacking(t, "mounting a small file system: ", err)
	}
	defer syscall.Unmount(dir, 0)
	path, mp4, ballast := filepath.Join(dir, "cam.flv"), filepath.Join(dir, "cam.mp4"), filepath.Join(dir, "ballast")
	for _, flag := range []string{"--faststart", "--no-faststart"} {
		done := func() ([]byte, error) { return exec.Command("recorddone", flag, path).CombinedOutput() }
		arrange := func() {
			empty(t, dir)
			if err := os.WriteFile(path, flv, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		arrange()
		if out, err := done(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		want := must(os.ReadFile(mp4))
		full, room := 0, 0
		for enough := false; !enough; room += step {
			arrange()
			var fs syscall.Statfs_t
			if err := syscall.Statfs(dir, &fs); err != nil {
				t.Fatal(err)
			}
			fill := make([]byte, max(0, int(fs.Bavail)*int(fs.Bsize)-room))
			if err := os.WriteFile(ballast, fill, 0o644); err != nil {
				t.Fatal(err)
			}
			if out, err := done(); err != nil {
				full++
				kept := kinds(t, dir) == " .flv" && bytes.Equal(must(os.ReadFile(path)), flv)
				if !kept || !strings.Contains(string(out), "o space left") {
					t.Fatalf("%d bytes of room: %s\n%s", room, kinds(t, dir), out)
				}
				if err := os.Remove(ballast); err != nil {
					t.Fatal(err)
				}
				if out, err := done(); err != nil {
					t.Fatalf("with room again: %v\n%s", err, out)
				}
			} else {
				enough = true
			}
			if !bytes.Equal(must(os.ReadFile(mp4)), want) {
				t.Fatalf("%d bytes of room: not the MP4 of a run with enough room", room)
			}
		}
		t.Logf("%s: %d bytes, the disk was full at %d places in steps of %d bytes", flag, len(flv), full, step)
		if room < len(want) {
			t.Errorf("an MP4 of %d bytes fits into %d", len(want), room)
		}
	}
}
