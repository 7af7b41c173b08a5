//go:build cgo

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tunnelcast/internal/recording"
	"tunnelcast/internal/recording/recordingtest"
)

// Memory grows with the number of packets, by what the muxer stores for each, and with nothing else.
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
	// The same if each tag must be rewritten.
	script := []byte{18, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1, 'x', 0, 0, 0, 15}
	anew := measure(append(long, script...))
	t.Logf("%d KiB where they are rewritten", anew>>10)
	if most := 24<<20 + 85*count; anew > most {
		t.Errorf("%d KiB for %d packets, want at most %d", anew>>10, count, most>>10)
	}
	if most := 24 << 20; few > most {
		t.Errorf("%d KiB for a short recording, want at most %d", few>>10, most>>10)
	}
}

// At most jobs hooks work at a time, and a killed hook does not keep the others waiting.
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
			// The first hook that is seen at work is killed.
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
			if failed > 1 { // the hook to be killed may have ended before
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
