package charon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// swanctlDeadline is how long one run of swanctl may take.
const swanctlDeadline = 5 * time.Second

// Swanctl is the official loader of charon's configuration. Only it knows what
// every key of swanctl.conf means, so connections are loaded by no one else.
type Swanctl struct {
	Path   string // the program
	Dir    string // the directory of swanctl.conf
	Socket string // charon's VICI socket
}

// LoadAuthorities makes charon load the authorities of swanctl.conf.
func (s Swanctl) LoadAuthorities(ctx context.Context) error { return s.run(ctx, "--load-authorities") }

// LoadConnections makes charon load the connections of swanctl.conf, with the
// certificates they name. Established SAs stay. After an error some connections
// may be loaded and others not.
func (s Swanctl) LoadConnections(ctx context.Context) error { return s.run(ctx, "--load-conns") }

func (s Swanctl) run(ctx context.Context, command string) error {
	ctx, cancel := context.WithTimeout(ctx, swanctlDeadline)
	defer cancel()
	run := exec.CommandContext(ctx, s.Path, command, "--uri", "unix://"+s.Socket)
	run.Env = append(os.Environ(), "SWANCTL_DIR="+s.Dir, "LC_ALL=C")
	// A child of swanctl that kept the pipe open would hold Wait for ever.
	run.WaitDelay = time.Second
	var output bytes.Buffer
	run.Stdout, run.Stderr = &output, &output
	err := run.Run()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("not done within %s: %w", swanctlDeadline, ctx.Err())
	}
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("run swanctl: %w", err)
	}
	return fmt.Errorf("%s %s: %w%s", s.Path, command, err, complaints(output.String()))
}

// complaints leaves of swanctl's output what is not a report of success, in one
// line.
func complaints(output string) string {
	var kept []string
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "loaded connection ") && !strings.HasPrefix(line, "loaded authority ") {
			kept = append(kept, line)
		}
	}
	text := strings.Join(kept, "; ")
	if len(text) > 500 {
		text = text[:500] + "..."
	}
	if text == "" {
		return ""
	}
	return ": " + text
}
