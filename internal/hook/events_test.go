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

// journalOf returns a sink whose entries end in the returned function's result.
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

func TestAnEventIsAFieldAndNoPartOfTheLine(t *testing.T) {
	s, last := journalOf()
	slog.New(handler{sink: s}).Info("name added", Event("0123"), "name", "alice.example.")
	want := map[string]string{"MESSAGE": "name added name=alice.example.", "MESSAGE_ID": "0123", "TUNNELCAST_NAME": "alice.example."}
	if !maps.Equal(last(), want) {
		t.Errorf("got %v, want %v", last(), want)
	}
}

func TestAFailureHasItsEventAndItsFields(t *testing.T) {
	missing, other := Event("01"), Event("02")
	known := Failures{{fs.ErrNotExist, missing}, {nil, other}}
	inner := With(fmt.Errorf("open key: %w", fs.ErrNotExist), "path", "/k", "identity", "alice")
	for _, test := range []struct {
		err  error
		want map[string]string
	}{
		{errors.New("broken"), map[string]string{"MESSAGE": "broken", "MESSAGE_ID": "02"}},
		{With(fmt.Errorf("no name: %w", inner), "name", "ns"), map[string]string{"MESSAGE": "no name: open key: file does not exist", "MESSAGE_ID": "01",
			"TUNNELCAST_PATH": "/k", "TUNNELCAST_IDENTITY": "alice", "TUNNELCAST_NAME": "ns"}},
		{Usagef("key %q: %w", "x", fs.ErrNotExist), map[string]string{"MESSAGE": `key "x": file does not exist`, "MESSAGE_ID": badUsage.Value.String()}},
	} {
		s, last := journalOf()
		s.fail(test.err, known.Event(test.err))
		if !maps.Equal(last(), test.want) {
			t.Errorf("%v: got %v, want %v", test.err, last(), test.want)
		}
	}
	if err := With(nil, "path", "/k"); err != nil {
		t.Errorf("no error with fields is %v", err)
	}
}
