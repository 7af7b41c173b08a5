package hook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/coreos/go-systemd/v22/journal"
	"golang.org/x/term"
)

const levelCritical = slog.LevelError + 4

type criticalError struct{ error }

func (e criticalError) Unwrap() error { return e.error }

// Critical marks a failure that needs a person before the next client connects: Main
// logs it at the journal's level critical, not error.
func Critical(err error) error { return criticalError{err} }

// sink sends log entries to the journal's socket, because charon cuts each line of a
// hook's output at 127 bytes, nginx discards the output and certbot mails it. If
// stderr is a terminal, or there is no journal, it writes them to stderr.
type sink struct {
	name   string
	stderr io.Writer
	// send is journal.Send, or nil where entries go to stderr.
	send func(message string, priority journal.Priority, fields map[string]string) error
	// echo is set if stderr does not lead to the journal. A failure is then printed
	// there, too, as by any command.
	echo bool
}

// IsTerminal reports whether what is written to w goes to a terminal.
func IsTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// newSinks returns the sink for log entries, and the one for Env.Result, whose
// entries go to the journal or nowhere.
func newSinks(name string) (log, result *sink) {
	log = &sink{name: "tunnelcast-" + name, stderr: os.Stderr}
	result = &sink{name: log.name, stderr: io.Discard}
	// journal.Enabled would connect, which takes time; an entry that cannot be sent
	// goes to stderr anyway.
	if _, err := os.Stat("/run/systemd/journal/socket"); err != nil {
		return log, result
	}
	result.send = journal.Send
	if IsTerminal(os.Stderr) {
		return log, result
	}
	log.send = journal.Send
	toJournal, err := journal.StderrIsJournalStream()
	log.echo = err != nil || !toJournal
	return log, result
}

func (s *sink) log(level slog.Level, line string, fields map[string]string) {
	if s.send != nil {
		fields["SYSLOG_IDENTIFIER"] = s.name
		// If the journal restarts or is full, the entry goes to stderr.
		if s.send(line, priority(level), fields) == nil {
			return
		}
	}
	fmt.Fprintf(s.stderr, "%s: %s\n", s.name, line)
}

// fail logs an error with its event, or with failed if it has none.
func (s *sink) fail(err error, failed slog.Attr) {
	level := slog.LevelError
	if errors.As(err, new(criticalError)) {
		level = levelCritical
	}
	line := oneLine(err.Error())
	// The text is complete, so the attributes become fields only.
	entry := slog.NewRecord(time.Time{}, level, line, 0)
	entry.AddAttrs(failed)
	entry.Add(Attrs(err)...)
	_, fields := render(entry, nil)
	s.log(level, line, fields)
	if s.send != nil && s.echo {
		fmt.Fprintf(s.stderr, "%s: %s\n", s.name, line)
	}
}

func priority(level slog.Level) journal.Priority {
	switch {
	case level >= levelCritical:
		return journal.PriCrit
	case level >= slog.LevelError:
		return journal.PriErr
	case level >= slog.LevelWarn:
		return journal.PriWarning
	default:
		return journal.PriInfo
	}
}

// handler makes of a slog.Record one line of text and, for the journal, a field for
// each attribute: identity becomes TUNNELCAST_IDENTITY.
type handler struct {
	sink  *sink
	attrs []slog.Attr
}

func (h handler) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

func (h handler) Handle(_ context.Context, r slog.Record) error {
	line, fields := render(r, h.attrs)
	h.sink.log(r.Level, line, fields)
	return nil
}

func render(r slog.Record, attrs []slog.Attr) (line string, fields map[string]string) {
	text := new(strings.Builder)
	text.WriteString(oneLine(r.Message))
	fields = make(map[string]string, len(attrs)+r.NumAttrs()+1)
	add := func(a slog.Attr) bool {
		value := a.Value.Resolve().String()
		switch a.Key {
		case "": // no event
		case eventKey:
			fields[eventKey] = value
		default:
			fields[fieldName(a.Key)] = value
			fmt.Fprintf(text, " %s=%s", a.Key, quote(value))
		}
		return true
	}
	for _, a := range attrs {
		add(a)
	}
	r.Attrs(add)
	return text.String(), fields
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	h.attrs = append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)
	return h
}

// WithGroup ignores the group: journal fields are flat.
func (h handler) WithGroup(string) slog.Handler { return h }

// fieldName maps a key to systemd.journal-fields(7): A-Z, 0-9 and underscore.
func fieldName(key string) string {
	return "TUNNELCAST_" + strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, key)
}

// quote returns a value in a form that cannot be read as another attribute or line.
func quote(value string) string {
	plain := func(r rune) bool { return r > ' ' && r < unicode.MaxASCII && r != '"' && r != '=' && r != '\\' }
	if value != "" && strings.IndexFunc(value, func(r rune) bool { return !plain(r) }) < 0 {
		return value
	}
	return strconv.Quote(value)
}

// oneLine replaces control characters, so that a message stays on one line.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.TrimSpace(s))
}
