//go:build cgo

package remux

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"tunnelcast/internal/recording"
)

// After many recordings, good and bad, a process is as small and has as many open files as before:
// nobody but this package frees libav's memory.
func TestRunLeaksNothing(t *testing.T) {
	// malloc keeps memory per thread, and on a busy machine Go's calls into C change threads.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	content := makeFLV(t, picture, sound, avc, aac, []string{"-t", "0.5"})
	random := rand.New(rand.NewPCG(1, 2))
	dir := t.TempDir()
	path, out := filepath.Join(dir, "a.flv"), filepath.Join(dir, "out")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	outcomes := map[bool]int{}
	do := func(n int) {
		for i := range n {
			b := bytes.Clone(content)
			target, ctx := out, t.Context()
			switch i % 8 {
			case 0: // good
			case 1:
				b = b[:random.IntN(len(b))]
			case 2, 3: // damaged in and between tags
				for range 1 + random.IntN(20) {
					b[random.IntN(len(b))] ^= byte(1 + random.IntN(255))
				}
			case 4: // damaged in and around the sequence headers
				for range 1 + random.IntN(4) {
					b[13+random.IntN(min(900, len(b)-13))] ^= byte(1 + random.IntN(255))
				}
			case 5:
				target = "/dev/full"
			case 6:
				target = filepath.Join(dir, "none", "out")
			case 7:
				ctx = cancelled
			}
			if err := os.WriteFile(path, b, 0o644); err != nil {
				t.Fatal(err)
			}
			survey, err := recording.Walk(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				continue
			}
			for _, part := range survey.Parts { // also those that cannot become MP4
				in := Input{Path: path, File: bytes.NewReader(b), Part: part, Plain: survey.Plain}
				wrote, err := Run(ctx, in, target, i%16 < 8)
				if err == nil {
					err = Verify(target, wrote)
				}
				outcomes[err == nil]++
			}
		}
	}
	do(160)
	memory, files := resident(t), openFiles(t)
	// The heap grows and shrinks by some MiB. A leak only grows.
	const most = 2 << 10
	grown := most + 1
	for round := 0; round < 6 && grown > most; round++ {
		do(320)
		grown = resident(t) - memory
	}
	t.Logf("%d runs succeeded and %d failed; %d KiB resident, then %d more",
		outcomes[true], outcomes[false], memory, grown)
	if grown > most {
		t.Errorf("%d KiB more resident after 6 times 320 more recordings", grown)
	}
	if now := openFiles(t); now != files {
		t.Errorf("%d files open, before %d", now, files)
	}
	if outcomes[true] < 100 || outcomes[false] < 100 {
		t.Error("too few runs of one kind")
	}
}

// resident returns the memory of the process in KiB, without what Go keeps for later.
func resident(t *testing.T) int {
	t.Helper()
	debug.FreeOSMemory()
	_, rest, _ := strings.Cut(string(read(t, "/proc/self/status")), "VmRSS:")
	var kib int
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatal(err)
	}
	return kib
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
