package main

import (
	"bytes"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"tunnelcast/internal/hook"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"archiveprune": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"aged": aged,
			"lock": lock,
		},
		Condition: func(cond string) (bool, error) {
			return cond == "root" && os.Getuid() == 0, nil
		},
	})
}

// newEnv returns the environment of a run by a person, with these arguments. What it prints is in the buffer.
func newEnv(args ...string) (hook.Env, *bytes.Buffer) {
	var out bytes.Buffer
	return hook.Env{
		Name: "archiveprune", Args: append([]string{"--config=/dev/null"}, args...), Stdout: &out, Stderr: &out,
		Log: slog.New(slog.DiscardHandler), Result: slog.New(slog.DiscardHandler), Now: time.Now,
	}, &out
}

// aged makes files of the given age: aged 73h a.mp4 b.flv.
func aged(ts *testscript.TestScript, _ bool, args []string) {
	age, err := time.ParseDuration(args[0])
	ts.Check(err)
	for _, name := range args[1:] {
		if _, err := os.Stat(ts.MkAbs(name)); err != nil {
			ts.Check(os.WriteFile(ts.MkAbs(name), make([]byte, 4096), 0o644))
		}
		ts.Check(os.Chtimes(ts.MkAbs(name), time.Time{}, time.Now().Add(-age)))
	}
}

// lock opens a file for writing until the script ends, as nginx does while it records.
func lock(ts *testscript.TestScript, _ bool, args []string) {
	file, err := os.OpenFile(ts.MkAbs(args[0]), os.O_WRONLY, 0)
	ts.Check(err)
	ts.Defer(func() { file.Close() })
}
