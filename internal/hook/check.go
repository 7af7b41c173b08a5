package hook

import (
	"fmt"
	"io"
)

// Checks prints what a check subcommand looked at, one line per thing, and
// remembers whether all was well.
type Checks struct {
	w              io.Writer
	failed, looked int
}

// NewChecks returns a Checks that prints to w.
func NewChecks(w io.Writer) *Checks { return &Checks{w: w} }

// Say prints one line: what is well, or what is not, why, and the remedy, which
// may be empty.
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

// Unknown prints one line: what this user cannot look at, and how to find out. It is
// neither well nor a failure.
func (c *Checks) Unknown(what, remedy string) { fmt.Fprintf(c.w, "?     %s (%s)\n", what, remedy) }

// Err returns an error if anything that Say was told was not well.
func (c *Checks) Err() error {
	if c.failed == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d checks failed", c.failed, c.looked)
}
