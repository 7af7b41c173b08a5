// Package hook is the ground that the four commands stand on: what they are
// given by the program that starts them, how they read flags and the
// configuration file, where they log and with which status they exit.
//
// None of the hosts reads a hook's exit status and most discard its output, so
// a failure is an entry in the journal first and a status second.
package hook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

// Env is everything a command may read of the world it was started in.
// A test writes a literal.
type Env struct {
	Name   string              // the command: "updown"
	Args   []string            // without the program's name
	Getenv func(string) string // the host's variables; settings never come from here
	Stdout io.Writer           // results only
	Stderr io.Writer           // progress for a person; log lines go to Log
	Log    *slog.Logger
	Result *slog.Logger // for the journal alone: what Stdout says, or what must not be on stderr
	Now    func() time.Time

	Metrics *Metrics // may be nil

	catchSignals func() // may be nil
}

// ErrSome is wrapped by the error of a run in which some items failed and the
// others were done. Its exit status is 3.
var ErrSome = errors.New("some items failed")

// errDone ends a run that --help or --version has answered.
var errDone = errors.New("done")

type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// Usagef returns an error for wrong flags, arguments or configuration. Its exit
// status is 80, kong's number for them.
func Usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// Status returns the exit status for what a run returned: 0 done or nothing to
// do, 1 failed, 3 some items failed, 80 wrong flags or configuration.
func Status(err error) int {
	var usage usageError
	switch {
	case err == nil, errors.Is(err, errDone):
		return 0
	case errors.As(err, &usage):
		return 80
	case errors.Is(err, ErrSome):
		return 3
	default:
		return 1
	}
}

// IsUnit tells whether systemd started this very process, as a service's program
// (systemd.exec(5), SYSTEMD_EXEC_PID).
func (e Env) IsUnit() bool {
	return e.Getenv != nil && e.Getenv("SYSTEMD_EXEC_PID") == strconv.Itoa(os.Getpid())
}

// UnitStatus is for programs whose service must fail when only some items failed.
// To systemd a status of 3 means NOTIMPLEMENTED, which is how it is shown, so a
// service's program ends with 1.
func UnitStatus(status int) int {
	if status == 3 && (Env{Getenv: os.Getenv}).IsUnit() {
		return 1
	}
	return status
}

// Main runs a command in the environment of this process and returns its exit
// status. After Parse SIGTERM and SIGINT cancel the context. The error that run
// returns is logged here, once, as the event that failures have for it, so run
// itself logs no error that it returns.
func Main(name string, run func(context.Context, Env) error, failures Failures) int {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)

	log, result := newSinks(name)
	env := Env{
		Name:    name,
		Args:    os.Args[1:],
		Getenv:  os.Getenv,
		Stdout:  os.Stdout,
		Stderr:  os.Stderr,
		Log:     slog.New(handler{sink: log}),
		Result:  slog.New(handler{sink: result}),
		Now:     time.Now,
		Metrics: &Metrics{program: name},

		catchSignals: func() { catchSignals(cancel) },
	}
	err := run(ctx, env)
	status := Status(err)
	if status != 0 {
		log.fail(err, failures.Event(err))
	}
	if err := env.Metrics.write(env.Now(), status == 0); err != nil {
		env.Log.Warn("metrics not written", metricsNotWritten, "error", err)
	}
	return status
}

// catchSignals costs a thread, so it waits until there is something to interrupt.
func catchSignals(cancel context.CancelCauseFunc) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() { cancel(fmt.Errorf("%w by the signal %s", context.Canceled, <-signals)) }()
}
