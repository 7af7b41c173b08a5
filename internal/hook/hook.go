// Package hook is what the four commands have in common: the environment that they
// run in (Env), flags and the configuration file (Parse), the journal, metrics,
// the lines of a check subcommand (Checks) and exit statuses (Main).
//
// None of the programs that call a hook reads its exit status, and most discard its
// output. Every failure is therefore an entry in the journal.
//
// # Events
//
// Each kind of journal entry has an id, made with Event, by which journalctl -x finds
// its explanation in packaging/catalog. A log entry and an error get it in the same
// way, together with fields:
//
//	var nameHeld = hook.Event("83229d3162fa4c48879680d154c46c77")
//
//	env.Log.Warn("no name for a client", nameHeld, "identity", identity)
//	return hook.With(fmt.Errorf("no name for %q: %w", identity, err), nameHeld, "identity", identity)
//
// With is called where the error is made, or where an error of a package below
// enters the command. A command returns its error to Main, which logs it once; of
// several events in a chain of errors Main takes the innermost.
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

// Env is everything that a command may use of the environment that it was started
// in. A test writes a literal.
type Env struct {
	Name   string              // the command: "updown"
	Args   []string            // without the program's name
	Getenv func(string) string // of the environment; settings never come from here
	Stdout io.Writer           // results only
	Stderr io.Writer           // progress for a person; log entries go to Log
	Log    *slog.Logger
	Result *slog.Logger // journal only: repeats what Stdout prints, or must not reach stderr
	Now    func() time.Time

	Metrics *Metrics // may be nil

	catchSignals func() // may be nil
}

// ErrSome is wrapped by the error of a run in which some items failed and all others
// succeeded. Its exit status is 3.
var ErrSome = errors.New("some items failed")

// errDone is the error of a run with --help or --version, after the output.
var errDone = errors.New("done")

type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// Usagef returns an error for wrong flags, arguments or configuration. Its exit
// status is 80, kong's number for them.
func Usagef(format string, args ...any) error {
	return With(usageError{fmt.Errorf(format, args...)}, badUsage)
}

// Status returns the exit status for the error of a run: 0 done or nothing to do,
// 1 failed, 3 some items failed, 80 wrong flags or configuration.
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

// IsUnit reports whether systemd started this process as the program of a service
// (systemd.exec(5), SYSTEMD_EXEC_PID).
func (e Env) IsUnit() bool {
	return e.Getenv != nil && e.Getenv("SYSTEMD_EXEC_PID") == strconv.Itoa(os.Getpid())
}

// UnitStatus returns 1 in place of 3 in a process that systemd started as the
// program of a service: systemd would show 3 as NOTIMPLEMENTED.
func UnitStatus(status int) int {
	if status == 3 && (Env{Getenv: os.Getenv}).IsUnit() {
		return 1
	}
	return status
}

// Main runs a command in the environment of this process and returns its exit
// status. After Parse, SIGTERM and SIGINT cancel the context. Main logs the error
// that run returns, with its event, or with failed if it has none; run does not log
// it.
func Main(name string, run func(context.Context, Env) error, failed slog.Attr) int {
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
		log.fail(err, failed)
	}
	if err := env.Metrics.write(env.Now(), status == 0); err != nil {
		env.Log.Warn("metrics not written", metricsNotWritten, "error", err)
	}
	return status
}

// catchSignals makes SIGINT and SIGTERM call cancel. It starts a thread, so it is not
// called before there is work to interrupt.
func catchSignals(cancel context.CancelCauseFunc) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() { cancel(fmt.Errorf("%w by the signal %s", context.Canceled, <-signals)) }()
}
