package hook

import (
	"fmt"
	"io"
)

// Checks prints the results of a check subcommand, one line each, and counts those
// that failed.
type Checks struct {
	w              io.Writer
	failed, looked int
}

// NewChecks returns a Checks that prints to w.
func NewChecks(w io.Writer) *Checks { return &Checks{w: w} }

// Say prints one result: "ok" and what was checked if err is nil, otherwise "FAIL",
// the error and the remedy, which may be empty.
func (c *Checks) Say(what string, err error, remedy string) {
	c.looked++
	if err == nil {
		fmt.Fprintf(c.w, "ok    %s\n", what)
		return
	}
	c.failed++
	if remedy != "" {
		remedy = " (" + remedy + ")"
	}
	fmt.Fprintf(c.w, "FAIL  %s: %s%s\n", what, oneLine(err.Error()), remedy)
}

// Unknown prints what this user or host cannot check, and how to find out. It counts
// neither as ok nor as failed.
func (c *Checks) Unknown(what, remedy string) { fmt.Fprintf(c.w, "?     %s (%s)\n", what, remedy) }

// Err returns an error if Say was called with one.
func (c *Checks) Err() error {
	if c.failed == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d checks failed", c.failed, c.looked)
}
