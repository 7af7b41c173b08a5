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

// A screen prints chapters, steps with the time each took, and indented output below them. On a terminal a spinner
// moves while a step is running; elsewhere a line every 15 s reports that it still is.
type screen struct {
	out         io.Writer
	terminal    bool
	step        string // running; "" if none
	start       time.Time
	stopSpinner func()
}

func newScreen(f *os.File) *screen {
	return &screen{out: f, terminal: term.IsTerminal(int(f.Fd())), stopSpinner: func() {}}
}

func (s *screen) chapter(title string) {
	fmt.Fprintf(s.out, "\n== %s\n", title)
}

// begin starts a step, after ending the one that is running.
func (s *screen) begin(step string) {
	s.end(s.step)
	s.step, s.start = step, time.Now()
	if s.terminal {
		s.stopSpinner = spinner(s.out, step)
	} else {
		s.stopSpinner = lines(s.out, step)
	}
}

// end prints the time and the result of the step that is running.
func (s *screen) end(result string) {
	if s.step == "" {
		return
	}
	s.clear()
	fmt.Fprintf(s.out, "%7.2f s  %s\n", time.Since(s.start).Seconds(), result)
	s.step = ""
}

// clear removes the spinner.
func (s *screen) clear() {
	s.stopSpinner()
	s.stopSpinner = func() {}
}

// show prints a command and its output; command may be "".
func (s *screen) show(command, output string) {
	const margin = "           "
	if command != "" {
		fmt.Fprintf(s.out, "%s$ %s\n", margin, command)
	}
	for line := range strings.Lines(strings.TrimRight(output, "\n")) {
		fmt.Fprintln(s.out, strings.TrimRight(margin+line, " \n"))
	}
}

// lines prints a line every 15 s until the function that it returns is called.
func lines(w io.Writer, what string) (stop func()) {
	return every(15*time.Second, func(took time.Duration) { fmt.Fprintf(w, "%7.0f s  %s ...\n", took.Seconds(), what) })
}

// every calls report periodically, with the time since the start, until the function that it returns is called.
func every(period time.Duration, report func(took time.Duration)) (stop func()) {
	start := time.Now()
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(period)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				report(time.Since(start))
			case <-quit:
				return
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}

// spinner shows a spinner until the function that it returns is called.
func spinner(w io.Writer, what string) (stop func()) {
	bar := progressbar.NewOptions(-1, progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(what),
		progressbar.OptionSpinnerType(14), progressbar.OptionClearOnFinish(), progressbar.OptionSetElapsedTime(true))
	// The spinner is ornament: that it cannot be drawn is no reason to stop.
	_ = bar.Add(1)
	stopTicking := every(100*time.Millisecond, func(time.Duration) { _ = bar.Add(1) })
	return func() {
		stopTicking()
		_ = bar.Finish()
	}
}
