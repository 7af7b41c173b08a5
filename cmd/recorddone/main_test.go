//go:build cgo

package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"tunnelcast/internal/flv"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/promised"
	"tunnelcast/internal/recording"
	"tunnelcast/internal/recording/recordingtest"
)

// The command runs as its own process: its sandbox is for good.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"recorddone": main, "recorddone-peak": peak})
}

// peak is recorddone that tells how much memory it had at most. Its parent cannot
// know: getrusage(2) counts what it was before it became another program.
func peak() {
	file, err := os.Open("/proc/self/status") // the sandbox opens none
	if err != nil {
		panic(err)
	}
	code := hook.Main("recorddone", run, runFailed)
	status, err := io.ReadAll(file)
	if err != nil {
		panic(err)
	}
	_, most, _ := strings.Cut(string(status), "VmHWM:")
	fmt.Println(strings.Fields(most)[0])
	os.Exit(code)
}

func TestScripts(t *testing.T) {
	sample := recordingtest.Sample(t, 2, "200k")
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			return os.WriteFile(filepath.Join(env.WorkDir, "sample.flv"), sample, 0o644)
		},
		// Where there is a journal, log lines go there and not to stderr.
		Condition: func(cond string) (bool, error) {
			_, err := os.Stat("/run/systemd/journal/socket")
			return cond == "journal" && err == nil, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"writing": writing, "cut": cut, "append": appendTo, "same-time": sameTime,
			"ls": ls, "plays": plays, "flv": flvFile,
		},
	})
}

// long says that the tests of what goes wrong shall try as often as was promised,
// with a larger recording. That takes minutes.
var long = os.Getenv("TUNNELCAST_LONG") != ""

// writing FILE COMMAND [ARG...]: runs the command while FILE is open for writing,
// as nginx has a live recording.
func writing(ts *testscript.TestScript, neg bool, args []string) {
	file, err := os.OpenFile(ts.MkAbs(args[0]), os.O_WRONLY, 0)
	ts.Check(err)
	defer file.Close()
	err = ts.Exec(args[1], args[2:]...)
	if (err != nil) != neg {
		ts.Fatalf("%v", err)
	}
}

// cut FILE BYTES: takes bytes off its end.
func cut(ts *testscript.TestScript, _ bool, args []string) {
	path, n := ts.MkAbs(args[0]), 0
	_, err := fmt.Sscan(args[1], &n)
	ts.Check(err)
	info, err := os.Stat(path)
	ts.Check(err)
	ts.Check(os.Truncate(path, info.Size()-int64(n)))
}

// append FILE OTHER: the other's content goes to the end of the first.
func appendTo(ts *testscript.TestScript, _ bool, args []string) {
	a, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	b, err := os.ReadFile(ts.MkAbs(args[1]))
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), append(a, b...), 0o644))
}

// flv FILE [KIND:BODY...]: an FLV file of these tags, 8 or 9 and what is in it in
// hexadecimal.
func flvFile(ts *testscript.TestScript, _ bool, args []string) {
	b := bytes.Clone(flv.Header)
	for _, tag := range args[1:] {
		kind, digits, _ := strings.Cut(tag, ":")
		body, err := hex.DecodeString(digits)
		ts.Check(err)
		b = flv.AppendTag(b, kind[0]-'0', 0, body)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o644))
}

// same-time FILE OTHER: both have the same mtime and FILE has mode 644.
func sameTime(ts *testscript.TestScript, _ bool, args []string) {
	a, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	b, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if !a.ModTime().Equal(b.ModTime()) || a.Mode() != 0o644 {
		ts.Fatalf("%s: %v, mode %v; %s: %v", args[0], a.ModTime(), a.Mode(), args[1], b.ModTime())
	}
}

// ls DIR [NAME...]: the directory has these files, hidden ones too, and no others.
func ls(ts *testscript.TestScript, _ bool, args []string) {
	entries, err := os.ReadDir(ts.MkAbs(args[0]))
	ts.Check(err)
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	if got, want := strings.Join(names, " "), strings.Join(args[1:], " "); got != want {
		ts.Fatalf("%s has %s", args[0], got)
	}
}

// plays FILE: ffmpeg decodes it and has nothing to say.
func plays(ts *testscript.TestScript, _ bool, args []string) {
	url := "file:" + ts.MkAbs(args[0])
	out, err := exec.Command("ffmpeg", "-v", "error", "-nostdin", "-i", url, "-f", "null", "-").CombinedOutput()
	if err != nil || len(out) > 0 {
		ts.Fatalf("%s: %v\n%s", args[0], err, out)
	}
}

// Memory grows with the number of packets, by what the muxer notes of each, and
// with nothing else.
func TestMemory(t *testing.T) {
	const packets = 300_000
	flv := recordingtest.Sample(t, 2, "40k")
	dir := t.TempDir()
	path := filepath.Join(dir, "cam.flv")
	measure := func(content []byte) (bytes int) {
		t.Helper()
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("recorddone-peak", path).Output()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscan(string(out), &bytes); err != nil {
			t.Fatal(err)
		}
		return bytes << 10
	}
	few := measure(flv)

	// Its packets again and again.
	long, count := bytes.Clone(flv), 0
	for ms := int64(2000); count < packets; ms += 2000 {
		for _, tag := range recordingtest.Tags(flv) {
			if tag.IsVideo() || tag.IsAudio() {
				long = tag.At(tag.MS + ms).Append(long)
				count++
			}
		}
	}
	many := measure(long)
	t.Logf("%d KiB for %d packets of %d bytes, %d KiB for few", many>>10, count, len(long), few>>10)
	if most := few + 85*count; many > most {
		t.Errorf("%d KiB for %d packets, want at most %d", many>>10, count, most>>10)
	}
	// The same where each tag has to be read and written anew.
	script := []byte{18, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1, 'x', 0, 0, 0, 15}
	anew := measure(append(long, script...))
	t.Logf("%d KiB where they are read anew", anew>>10)
	if most := 24<<20 + 85*count; anew > most {
		t.Errorf("%d KiB for %d packets, want at most %d", anew>>10, count, most>>10)
	}
	if most := 24 << 20; few > most {
		t.Errorf("%d KiB for a short recording, want at most %d", few>>10, most>>10)
	}
}

// Hooks that nginx starts at once work no more than jobs at a time, and one that
// is killed keeps no other from its turn.
func TestJobs(t *testing.T) {
	sample := recordingtest.Sample(t, 2, "2M")
	for jobs := range 3 {
		jobs++
		t.Run(fmt.Sprint(jobs), func(t *testing.T) {
			dir := t.TempDir()
			const hooks = 8
			atWork := func() (hook []int) { // by what they have in the making
				for _, entry := range must(os.ReadDir(dir)) {
					for i := range hooks {
						if entry.Name() == recording.HiddenName(fmt.Sprintf("cam%d.flv", i), 1) {
							hook = append(hook, i)
						}
					}
				}
				return hook
			}
			most, ended := 0, make(chan error)
			var running []*exec.Cmd
			for i := range hooks {
				path := filepath.Join(dir, fmt.Sprintf("cam%d.flv", i))
				if err := os.WriteFile(path, sample, 0o644); err != nil {
					t.Fatal(err)
				}
				command := exec.Command("recorddone", "--jobs", fmt.Sprint(jobs), path)
				if err := command.Start(); err != nil {
					t.Fatal(err)
				}
				running = append(running, command)
			}
			// The first that is seen at work is the one to be killed.
			killed := -1
			for killed < 0 && strings.Contains(kinds(t, dir), ".flv") {
				if first := atWork(); len(first) > 0 {
					killed = first[0]
					running[killed].Process.Kill()
				}
			}
			for _, command := range running {
				go func() { ended <- command.Wait() }()
			}
			failed := 0
			for left := hooks; left > 0; {
				select {
				case err := <-ended:
					left--
					if err != nil {
						failed++
					}
				default:
					others := slices.DeleteFunc(atWork(), func(i int) bool { return i == killed })
					most = max(most, len(others))
				}
			}
			t.Logf("at most %d of %d worked at once", most, hooks)
			if most > jobs {
				t.Errorf("%d worked at once, want %d", most, jobs)
			}
			if failed > 1 { // the one to be killed may have been quicker
				t.Errorf("%d runs failed", failed)
			}
			if out, err := exec.Command("recorddone", "sweep", dir).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if got, want := kinds(t, dir), strings.TrimSpace(strings.Repeat(".mp4 ", hooks)); got != want {
				t.Errorf("the directory has %s, want %s", got, want)
			}
		})
	}
}

// Killed at any moment, a run leaves the FLV or the whole MP4, and under the final
// name nothing else; a run after it ends in the same bytes.
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
			took = took * 9 / 10 // it was slower than the others
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

// A full disk costs no recording, wherever it gets full, and with room again a run
// ends in the same bytes.
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
				t.Fatalf("%d bytes of room: another MP4 than with enough", room)
			}
		}
		t.Logf("%s: %d bytes, the disk was full at %d places in steps of %d bytes", flag, len(flv), full, step)
		if room < len(want) {
			t.Errorf("an MP4 of %d bytes had place in %d", len(want), room)
		}
	}
}

func empty(t *testing.T, dir string) {
	t.Helper()
	for _, entry := range must(os.ReadDir(dir)) {
		if err := os.Remove(filepath.Join(dir, entry.Name())); err != nil {
			t.Fatal(err)
		}
	}
}

// kinds lists the extensions of the files in dir.
func kinds(t *testing.T, dir string) string {
	t.Helper()
	var all []string
	for _, entry := range must(os.ReadDir(dir)) {
		all = append(all, filepath.Ext(entry.Name()))
	}
	return strings.Join(all, " ")
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
