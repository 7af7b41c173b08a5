//go:build cgo

package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"tunnelcast/internal/flv"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/recording/recordingtest"
)

// The command runs in its own process, because it never leaves its sandbox.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"recorddone": main, "recorddone-peak": peak})
}

// peak is recorddone, which prints the peak of its memory in KiB at the end. Its parent cannot find out:
// getrusage(2) also counts the memory of the process before execve(2).
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
		// With a journal, log lines go there and not to stderr.
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

// long makes tests of failures try more often, with a larger recording. They then take minutes.
var long = os.Getenv("TUNNELCAST_LONG") != ""

// writing FILE COMMAND [ARG...] runs the command while FILE is open for writing, as a live recording is.
func writing(ts *testscript.TestScript, neg bool, args []string) {
	file, err := os.OpenFile(ts.MkAbs(args[0]), os.O_WRONLY, 0)
	ts.Check(err)
	defer file.Close()
	err = ts.Exec(args[1], args[2:]...)
	if (err != nil) != neg {
		ts.Fatalf("%v", err)
	}
}

// cut FILE BYTES removes bytes from the end of FILE.
func cut(ts *testscript.TestScript, _ bool, args []string) {
	path, n := ts.MkAbs(args[0]), 0
	_, err := fmt.Sscan(args[1], &n)
	ts.Check(err)
	info, err := os.Stat(path)
	ts.Check(err)
	ts.Check(os.Truncate(path, info.Size()-int64(n)))
}

// append FILE OTHER appends the content of OTHER to FILE.
func appendTo(ts *testscript.TestScript, _ bool, args []string) {
	a, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	b, err := os.ReadFile(ts.MkAbs(args[1]))
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), append(a, b...), 0o644))
}

// flv FILE [TYPE:BODY...] writes an FLV file of tags. TYPE is 8 or 9, BODY is hexadecimal.
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

// same-time FILE OTHER fails unless both have the same mtime and FILE has mode 644.
func sameTime(ts *testscript.TestScript, _ bool, args []string) {
	a, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	b, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if !a.ModTime().Equal(b.ModTime()) || a.Mode() != 0o644 {
		ts.Fatalf("%s: %v, mode %v; %s: %v", args[0], a.ModTime(), a.Mode(), args[1], b.ModTime())
	}
}

// ls DIR [NAME...] fails unless the directory has these files and no others. Hidden files count.
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

// plays FILE fails unless ffmpeg decodes it and prints nothing.
func plays(ts *testscript.TestScript, _ bool, args []string) {
	url := "file:" + ts.MkAbs(args[0])
	out, err := exec.Command("ffmpeg", "-v", "error", "-nostdin", "-i", url, "-f", "null", "-").CombinedOutput()
	if err != nil || len(out) > 0 {
		ts.Fatalf("%s: %v\n%s", args[0], err, out)
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

// kinds returns the extensions of the files in dir.
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
