package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// A screen tells the story: chapters, steps with the time each took, and real output below them. On a terminal a sign
// moves while a step goes on; elsewhere there are plain lines alone.
type screen struct {
	out      io.Writer
	terminal bool
	step     string // going on; "" if none
	start    time.Time
	stopSign func()
}

func newScreen(f *os.File) *screen {
	return &screen{out: f, terminal: term.IsTerminal(int(f.Fd())), stopSign: func() {}}
}

func (s *screen) chapter(title string) {
	fmt.Fprintf(s.out, "\n== %s\n", title)
}

// begin starts a step. One that goes on is over with that.
func (s *screen) begin(step string) {
	s.end(s.step)
	s.step, s.start = step, time.Now()
	if s.terminal {
		s.stopSign = sign(s.out, step)
	}
}

// end says what the step that goes on came to.
func (s *screen) end(result string) {
	if s.step == "" {
		return
	}
	s.clear()
	fmt.Fprintf(s.out, "%7.2f s  %s\n", time.Since(s.start).Seconds(), result)
	s.step = ""
}

// clear takes the moving sign away.
func (s *screen) clear() {
	s.stopSign()
	s.stopSign = func() {}
}

// show prints what a command said; command may be "".
func (s *screen) show(command, output string) {
	const margin = "           "
	if command != "" {
		fmt.Fprintf(s.out, "%s$ %s\n", margin, command)
	}
	for line := range strings.Lines(strings.TrimRight(output, "\n")) {
		fmt.Fprintf(s.out, "%s%s\n", margin, strings.TrimRight(line, "\n"))
	}
}

// sign shows a moving sign until the function that it gives is called.
func sign(w io.Writer, what string) (stop func()) {
	bar := progressbar.NewOptions(-1, progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(what),
		progressbar.OptionSpinnerType(14), progressbar.OptionClearOnFinish(), progressbar.OptionSetElapsedTime(true))
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			// The sign is ornament: that it cannot be drawn is no reason to stop.
			_ = bar.Add(1)
			select {
			case <-tick.C:
			case <-quit:
				_ = bar.Finish()
				return
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}
