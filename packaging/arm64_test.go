package packaging

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"tunnelcast/internal/promised"
)

// TestArm64DoesTheSame runs arm64's programs in an emulator and amd64's programs on the
// same input, and compares all their output and files. The emulator has no Landlock:
// recorddone reports that and continues.
func TestArm64DoesTheSame(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("amd64's programs do not run on " + runtime.GOARCH)
	}
	promised.Program(t, "ffmpeg")
	flv := filepath.Join(t.TempDir(), "sample.flv")
	out, err := exec.Command("ffmpeg", "-v", "error", "-nostdin",
		"-f", "lavfi", "-i", "testsrc2=s=320x240:r=25", "-f", "lavfi", "-i", "sine=r=48000", "-t", "3",
		"-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "12",
		"-c:a", "aac", flv).CombinedOutput()
	if err != nil {
		t.Fatalf("ffmpeg: %v\n%s", err, out)
	}
	recording, err := os.ReadFile(flv)
	if err != nil {
		t.Fatal(err)
	}
	var results []string // one for each architecture
	now := time.Now()
	each(t, func(t *testing.T, file string) {
		where, emulator := programs(t, file)
		dir := t.TempDir()
		var all strings.Builder
		// run runs a program that must end with that exit status, and returns what it printed.
		run := func(status int, program string, args ...string) string {
			line := slices.Concat(emulator, []string{filepath.Join(where, "tunnelcast-"+program)}, args)
			cmd := exec.Command(line[0], line[1:]...)
			cmd.Dir = dir
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			err := cmd.Run()
			if got := cmd.ProcessState.ExitCode(); got != status {
				t.Errorf("%s %q: status %d (%v), want %d\n%s%s", program, args, got, err, status, &stdout, &stderr)
			}
			fmt.Fprintf(&all, "$ %s %s: %d\n%s", program, strings.Join(args, " "), status, &stdout)
			return stdout.String()
		}
		write := func(name string, data []byte, age time.Duration) {
			file := filepath.Join(dir, name)
			written := now.Add(-age)
			if err := os.WriteFile(file, data, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(file, written, written); err != nil {
				t.Fatal(err)
			}
		}
		for _, command := range commands {
			run(0, command, "--version")
			run(0, command, "--help")
			if command != "recorddone" {
				run(1, command, "check") // nothing is set up here
			}
		}
		for i := range 10 {
			write(fmt.Sprintf("old%d.mp4", i), make([]byte, 1000*i), time.Duration(i)*12*time.Hour)
		}
		if plan := run(0, "archiveprune", "--dry-run", "--max-size", "15K", dir); !strings.Contains(plan, "old9.mp4") {
			t.Errorf("a dry run would not remove the oldest:\n%s", plan)
		}
		run(0, "archiveprune", dir)
		left, err := filepath.Glob(dir + "/old*.mp4")
		if err != nil || len(left) != 6 { // those of less than 72 hours
			t.Errorf("archiveprune left %q, %v", left, err)
		}
		write("first.flv", recording, 0)
		write("second.flv", recording, 0)
		write("cut.flv", recording[:len(recording)/2], 0)
		run(0, "recorddone", filepath.Join(dir, "first.flv"))
		run(0, "recorddone", "--no-faststart", filepath.Join(dir, "second.flv"))
		run(0, "recorddone", "sweep", dir)

		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			data, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&all, "%s %x\n", e.Name(), sha256.Sum256(data))
		}
		for _, made := range []string{"first.mp4", "second.mp4", "cut.mp4"} {
			if !strings.Contains(all.String(), "\n"+made+" ") {
				t.Errorf("%s does not exist", made)
			}
		}
		results = append(results, strings.ReplaceAll(all.String(), dir, "DIR"))
	})
	if len(results) == 2 && results[0] != results[1] {
		a, b := strings.Split(results[0], "\n"), strings.Split(results[1], "\n")
		for i := range min(len(a), len(b)) {
			if a[i] != b[i] {
				t.Fatalf("amd64: %s\narm64: %s", a[i], b[i])
			}
		}
		t.Fatalf("amd64: %d lines, arm64: %d", len(a), len(b))
	}
}
