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
// moves while a step goes on; elsewhere a line says every 15 s that it does.
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
	} else {
		s.stopSign = lines(s.out, step)
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

// lines prints a line every 15 s until the function that it returns is called.
func lines(w io.Writer, what string) (stop func()) {
	return every(15*time.Second, func(took time.Duration) { fmt.Fprintf(w, "%7.0f s  %s ...\n", took.Seconds(), what) })
}

// every calls tell again and again, with the time since the start, until the function that it returns is called.
func every(period time.Duration, tell func(took time.Duration)) (stop func()) {
	start := time.Now()
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(period)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				tell(time.Since(start))
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

// sign shows a moving sign until the function that it gives is called.
func sign(w io.Writer, what string) (stop func()) {
	bar := progressbar.NewOptions(-1, progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(what),
		progressbar.OptionSpinnerType(14), progressbar.OptionClearOnFinish(), progressbar.OptionSetElapsedTime(true))
	// The sign is ornament: that it cannot be drawn is no reason to stop.
	_ = bar.Add(1)
	stop = every(100*time.Millisecond, func(time.Duration) { _ = bar.Add(1) })
	return func() {
		stop()
		_ = bar.Finish()
	}
}
