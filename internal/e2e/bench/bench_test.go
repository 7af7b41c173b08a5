package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tunnelcast/internal/flv"
	"tunnelcast/internal/promised"
	"tunnelcast/internal/recording/recordingtest"
)

// TestQuick runs the whole program with its smallest sizes. It tests the rows and not their numbers.
func TestQuick(t *testing.T) {
	deb := os.Getenv("TUNNELCAST_DEB")
	switch {
	case !promised.All():
		t.Skip("this starts servers and takes a minute: set TUNNELCAST_E2E=1")
	case deb == "":
		t.Fatal("set TUNNELCAST_DEB to the package that make deb builds")
	}
	dir := t.TempDir()
	var out, errs bytes.Buffer
	program := filepath.Join(dir, "bench")
	if built, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, built)
	}
	bench := exec.CommandContext(t.Context(), program, "-quick", "-deb", deb, "-out", dir)
	bench.Stdout, bench.Stderr = &out, &errs
	if err := bench.Run(); err != nil {
		t.Fatalf("%v\n%s%s", err, errs.Bytes(), out.Bytes())
	}
	for _, want := range []string{
		"| one connect", "| 40 connects", "| named hung", "| sync, 50 clients, all wrong",
		"| remux of 6 s", "| longest stall", "| prune half", "| logins lost",
		"| start of updown", "| what gets installed", "| 2 gateways", "with one processor", "This was a quick run",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, out.Bytes())
		}
	}
	for _, name := range []string{"bench.json", "bench.svg", "scale.svg"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Both sides have the first turn equally often, and only the work is measured.
func TestMeasureAlternates(t *testing.T) {
	var order []string
	make := func(name string) *side {
		return &side{
			before: func(int) error { order = append(order, name+"("); return nil },
			work: func(round int) (usage, error) {
				return usage{wall: time.Duration(round+1) * time.Second}, nil
			},
			after: func(int) error { order = append(order, ")"); return nil },
		}
	}
	a, b := make("a"), make("b")
	if err := measure(t.Context(), 3, a, b); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(order, ""); got != "a()b()b()a()a()b()" {
		t.Errorf("the turns were %s", got)
	}
	if got := fmt.Sprint(a.wall(), b.wall()); got != "[1 2 3] [1 2 3]" {
		t.Errorf("times %s", got)
	}
	broken := errors.New("broken")
	b.after = func(int) error { return broken }
	if err := measure(t.Context(), 1, a, b); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := measure(ctx, 1, a); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestRunSeesTheWholeProcess(t *testing.T) {
	shell := func(script string) []string { return []string{"/bin/sh", "-c", script} }
	u, err := run(t.Context(), process{
		args: shell(`[ "$A" = b ] && [ -z "$HOME" ] && read x && [ "$x" = in ]`),
		env:  []string{"A=b"}, stdin: "in\n", memory: true,
	})
	if err != nil || u.wall <= 0 {
		t.Errorf("%+v, %v", u, err)
	}
	_, err = run(t.Context(), process{args: shell("echo why; exit 3")})
	if err == nil || !strings.Contains(err.Error(), "why") {
		t.Errorf("error %v", err)
	}
	if _, err := run(t.Context(), process{args: shell("exit 3"), mayFail: true}); err != nil {
		t.Errorf("error %v", err)
	}
}

func TestMetrics(t *testing.T) {
	const out = "goos: linux\n" +
		"BenchmarkSwitch-2   \t      10\t       144.7 certhook-least-ms\t         0 certhook-lost\t  1.5e+02 x\nPASS\n"
	is, err := metrics(out, "BenchmarkSwitch")
	if err != nil || is["certhook-least-ms"] != 144.7 || is["x"] != 150 || len(is) != 3 {
		t.Errorf("%v, %v", is, err)
	}
	if _, err := metrics("PASS\n", "BenchmarkSwitch"); err == nil {
		t.Error("no error without metrics")
	}
}

// A recording made of a clip has the clip's codec headers once, and repeats its packets with increasing times.
func TestClip(t *testing.T) {
	tag := func(tagType byte, ms int64, body string) recordingtest.Tag {
		return recordingtest.Tag{Type: tagType, MS: ms, Body: []byte(body)}
	}
	media := []recordingtest.Tag{
		tag(flv.TagVideo, 0, "\x17\x01\x00\x00\x00\xaa"),
		tag(flv.TagAudio, 21, "\xaf\x01\xbb"),
	}
	c, err := parseClip(recordingtest.File(tag(flv.TagScript, 0, "metadata"), tag(flv.TagVideo, 0, "\x17\x00"),
		tag(flv.TagAudio, 0, "\xaf\x00"), media[0], media[1], tag(flv.TagVideo, 33, "\x17\x02\x00")))
	if err != nil || len(c.headers) != 2 || len(c.media) != 2 || c.bytes() != 11+6+4+11+3+4 {
		t.Fatalf("%+v, %v", c, err)
	}
	long := filepath.Join(t.TempDir(), "long.flv")
	if err := c.record(long, 2001); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(long)
	if err != nil {
		t.Fatal(err)
	}
	back, err := parseClip(data)
	if err != nil || len(back.headers) != 2 || len(back.media) != 2001 {
		t.Fatalf("%d headers, %d packets, %v", len(back.headers), len(back.media), err)
	}
	last := back.media[2000]
	if last.MS != 1000*clipMillis || last.Type != flv.TagVideo || !bytes.Equal(last.Body, media[0].Body) {
		t.Errorf("the last packet is %+v", last)
	}
	for _, cut := range []int{0, 13, len(data) - 1, 30} {
		if _, err := parseClip(data[:cut]); err == nil {
			t.Errorf("no error for %d bytes", cut)
		}
	}
}

func TestFiles(t *testing.T) {
	for _, tree := range []files{
		{count: 1000, dirs: 1},
		{count: 1000, dirs: 10},
		{count: 1000, dirs: 10, blocks: true},
	} {
		dir := filepath.Join(t.TempDir(), "tree")
		if err := tree.make(dir); err != nil {
			t.Fatal(err)
		}
		if n, err := tree.left(dir); err != nil || n != tree.count {
			t.Errorf("%+v: %d files, %v", tree, n, err)
		}
		old := 0
		err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if err == nil && time.Since(info.ModTime()) > 72*time.Hour {
				old++
			}
			return err
		})
		if err != nil || old != tree.count/2 {
			t.Errorf("%+v: %d are old, %v", tree, old, err)
		}
	}
}
