package main

import (
	"strings"
	"testing"
)

// On a terminal and elsewhere alike, each step leaves one line with its result, and output is indented below it.
func TestScreen(t *testing.T) {
	for name, terminal := range map[string]bool{"terminal": true, "file": false} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			s := &screen{out: &out, terminal: terminal, stopSpinner: func() {}}
			s.chapter("Names")
			s.begin("connect")
			s.begin("dig") // ends connect
			s.end("alice has a name")
			s.show("dig alice", "10.0.0.100\n\n10.0.0.101\n")
			s.begin("never ends")
			s.clear()
			var lines []string
			for line := range strings.SplitSeq(out.String(), "\n") {
				line = line[strings.LastIndex(line, "\r")+1:] // the spinner is overwritten
				lines = append(lines, strings.TrimLeft(line, "0123456789. "))
			}
			const want = "|== Names|s  connect|s  alice has a name|$ dig alice||||"
			if got := strings.Join(lines, "|"); got != want {
				t.Errorf("the screen shows %q, want %q:\n%s", got, want, out.String())
			}
		})
	}
}
