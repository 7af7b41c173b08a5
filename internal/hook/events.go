package hook

import (
	"errors"
	"log/slog"
)

// eventKey is the only attribute that becomes a field of journald itself.
const eventKey = "MESSAGE_ID"

// Event returns the attribute for a kind of log entry. id is made once, with
// journalctl --new-id128, and does not change with the text: people watch for it
// (journalctl MESSAGE_ID=...).
func Event(id string) slog.Attr { return slog.String(eventKey, id) }

var (
	badUsage          = Event("6e5cd3e9e86a4f16b1ac0769053a954e")
	metricsNotWritten = Event("2c1677a628d744aa88cd333d8c165525")
)

// fieldsError is an error with fields for its journal entry.
type fieldsError struct {
	error
	attrs []any
}

func (e fieldsError) Unwrap() error { return e.error }

// With attaches to an error an event and fields for its journal entry: keys and
// values, or attributes, as for a slog.Logger. It returns nil if err is nil. If an
// error inside err has the same key or an event too, its value is used.
func With(err error, attrs ...any) error {
	if err == nil {
		return nil
	}
	return fieldsError{err, append(attrs, Attrs(err)...)}
}

// Attrs returns the event and fields of an error, for the log entry of an error that a
// run does not return.
func Attrs(err error) []any {
	var e fieldsError
	errors.As(err, &e)
	return e.attrs
}
