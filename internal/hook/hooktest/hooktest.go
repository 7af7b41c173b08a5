// Package hooktest has commands for the test scripts of programs that package hook runs.
package hooktest

import (
	"errors"
	"os/exec"
	"strconv"

	"github.com/rogpeppe/go-internal/testscript"
)

// Status is the script command "status N COMMAND [ARG...]". It runs COMMAND, which must end with exit status N.
func Status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N COMMAND [ARG...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		got = exit.ExitCode() // -1 if a signal ended it
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit status of %s is %d, want %d", args[1], got, want)
	}
}
