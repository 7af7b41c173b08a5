package hook

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"testing"

	"github.com/coreos/go-systemd/v22/journal"
)

// journalOf returns a sink, and a function that returns its last entry.
func journalOf() (*sink, func() map[string]string) {
	var last map[string]string
	return &sink{name: "tunnelcast-x", stderr: new(bytes.Buffer),
			send: func(line string, _ journal.Priority, fields map[string]string) error {
				last = maps.Clone(fields)
				delete(last, "SYSLOG_IDENTIFIER")
				last["MESSAGE"] = line
				return nil
			}},
		func() map[string]string { return last }
}

func TestAnEventIsAFieldAndNotInTheLine(t *testing.T) {
	s, last := journalOf()
	slog.New(handler{sink: s}).Info("name added", Event("0123"), "name", "alice.example.")
	want := map[string]string{
		"MESSAGE": "name added name=alice.example.", "MESSAGE_ID": "0123", "TUNNELCAST_NAME": "alice.example.",
	}
	if !maps.Equal(last(), want) {
		t.Errorf("got %v, want %v", last(), want)
	}
}

// The innermost event and fields count, also if the error was joined with others.
func TestAFailureHasItsEventAndItsFields(t *testing.T) {
	missing, other := Event("01"), Event("02")
	opening := With(fmt.Errorf("open key: %w", fs.ErrNotExist), missing, "path", "/k", "identity", "alice")
	for name, test := range map[string]struct {
		err  error
		want map[string]string
	}{
		"no event": {errors.New("broken"), map[string]string{"MESSAGE": "broken", "MESSAGE_ID": "02"}},
		"an event": {opening, map[string]string{"MESSAGE": "open key: file does not exist", "MESSAGE_ID": "01",
			"TUNNELCAST_PATH": "/k", "TUNNELCAST_IDENTITY": "alice"}},
		"more around it": {With(fmt.Errorf("no name: %w", opening), Event("03"), "name", "ns", "identity", "bob"),
			map[string]string{"MESSAGE": "no name: open key: file does not exist", "MESSAGE_ID": "01",
				"TUNNELCAST_PATH": "/k", "TUNNELCAST_IDENTITY": "alice", "TUNNELCAST_NAME": "ns"}},
		"joined": {fmt.Errorf("%w; %w", errors.New("first"), opening),
			map[string]string{"MESSAGE": "first; open key: file does not exist", "MESSAGE_ID": "01",
				"TUNNELCAST_PATH": "/k", "TUNNELCAST_IDENTITY": "alice"}},
		"usage": {Usagef("key %q: %w", "x", fs.ErrNotExist),
			map[string]string{"MESSAGE": `key "x": file does not exist`, "MESSAGE_ID": badUsage.Value.String()}},
	} {
		s, last := journalOf()
		s.fail(test.err, other)
		if !maps.Equal(last(), test.want) {
			t.Errorf("%s: got %v, want %v", name, last(), test.want)
		}
	}
	if err := With(nil, missing, "path", "/k"); err != nil {
		t.Errorf("no error with fields is %v", err)
	}
}
