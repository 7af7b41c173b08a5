package hook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
)

type testCLI struct {
	Common
	Server  string        `default:"127.0.0.1:53"`
	Timeout time.Duration `help:"how long" default:"1s" placeholder:"TIME"`
	Pools   []string
	Strict  bool
	Names   pairs `kong:"-" toml:"names"`

	Hook struct {
		Args []string `arg:"" optional:""`
	} `cmd:"" default:"withargs" hidden:""`
	Sync  struct{ DryRun bool } `cmd:""`
	Check struct{}              `cmd:""`
}

// pairs is a table of texts.
type pairs map[string]string

func (p *pairs) UnmarshalTOML(value any) error {
	*p = pairs{}
	table, ok := value.(map[string]any)
	for key, value := range table {
		text, isText := value.(string)
		(*p)[key], ok = text, ok && isText
	}
	if !ok {
		return errors.New("not a table of texts")
	}
	return nil
}

func parse(t *testing.T, config string, args ...string) (testCLI, string, string, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "c.toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var c testCLI
	var stdout bytes.Buffer
	env := Env{Name: "updown", Args: append([]string{"--config", file}, args...), Stdout: &stdout, Stderr: &stdout}
	command, err := Parse(env, &c, "test")
	return c, command, stdout.String(), err
}

func TestFlagWinsOverFileWinsOverDefault(t *testing.T) {
	const file = "server = '192.0.2.1:53'\ntimeout = '2s'\npools = ['10.0.0.0/24', '10.1.0.0/24']\nstrict = true\n"
	c, command, _, err := parse(t, file, "--timeout=3s", "sync", "--dry-run")
	if err != nil {
		t.Fatal(err)
	}
	if command != "sync" || c.Server != "192.0.2.1:53" || c.Timeout != 3*time.Second || len(c.Pools) != 2 ||
		!c.Strict || !c.Sync.DryRun {
		t.Errorf("got command %q and %+v", command, c)
	}
	c, command, _, err = parse(t, "", "iptables")
	if err != nil || command != "hook" || c.Server != "127.0.0.1:53" || c.Timeout != time.Second {
		t.Errorf("got %+v, command %q, error %v", c, command, err)
	}
}

func TestBadSettingsAreUsageErrors(t *testing.T) {
	for name, test := range map[string]struct {
		config string
		args   []string
		want   string // in the error
	}{
		"unknown flag":            {"", []string{"--bogus"}, "unknown flag --bogus"},
		"unknown key":             {"\nserver = 'x'\nsevrer = 'y'\n", nil, `c.toml:3: unknown key "sevrer"`},
		"a command's flag as key": {"dry-run = true\n", []string{"sync"}, `unknown key "dry-run"`},
		"table":                   {"[server]\nname = 'x'\n", nil, "c.toml:1: a value of this kind"},
		"a list for one value":    {"server = ['x', 'y']\n", nil, "c.toml:1: takes one value, not a list"},
		"text for a table":        {"names = 'x'\n", nil, "c.toml:1: not a table of texts"},
		"number in a table":       {"\n[names]\nx = 1\n", nil, "c.toml:2: not a table of texts"},
		"a setting below a table": {"[names]\nx = 'y'\nmetrics = '/srv'\n", nil,
			"c.toml:1: the setting metrics is below [names]"},
		"a table that is not a setting": {"[name]\nx = 'y'\n", nil,
			"the keys are metrics, names, pools, server, strict, timeout"},
		"a table as flag":          {"", []string{"--names=x"}, "unknown flag --names"},
		"broken syntax":            {"server = 'x'\npools = [\n", nil, "c.toml:"},
		"number without unit":      {"timeout = 1\n", nil, "c.toml:1: "},
		"missing file named":       {"", []string{"--config", "/nonexistent.toml"}, "/nonexistent.toml: no such file"},
		"value of the wrong shape": {"pools = [1]\n", nil, "c.toml:1: "},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, _, err := parse(t, test.config, test.args...)
			if err == nil || !strings.Contains(err.Error(), test.want) || Status(err) != 80 {
				t.Errorf("got %v, status %d; want %q, status 80", err, Status(err), test.want)
			}
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
		})
	}
}

func TestMissingDefaultFileIsNoError(t *testing.T) {
	var c testCLI
	env := Env{Name: "no-such-command", Stdout: new(bytes.Buffer), Stderr: new(bytes.Buffer)}
	if _, err := Parse(env, &c, "test"); err != nil {
		t.Error(err)
	}
}

func TestHelpAndVersionAnswerAndEnd(t *testing.T) {
	for _, flag := range []string{"--help", "--version"} {
		_, _, out, err := parse(t, "broken = [", flag)
		if Status(err) != 0 || err == nil {
			t.Errorf("%s: error %v, want an end with status 0", flag, err)
		}
		if flag == "--help" &&
			(!strings.Contains(out, "Exit status: 0 done") || !strings.Contains(out, "how long (default: 1s)")) {
			t.Errorf("--help lacks a default or the exit statuses:\n%s", out)
		}
		if !strings.Contains(out, "tunnelcast-updown") {
			t.Errorf("%s printed %q", flag, out)
		}
	}
}

func TestStatus(t *testing.T) {
	for want, err := range map[int]error{
		0:  nil,
		1:  errors.New("x"),
		3:  fmt.Errorf("prune: %w", ErrSome),
		80: fmt.Errorf("updown: %w", Usagef("x")),
	} {
		if got := Status(err); got != want {
			t.Errorf("Status(%v) = %d, want %d", err, got, want)
		}
	}
}

// systemd calls the status 3 NOTIMPLEMENTED, so the program of a service exits with 1. Others exit with 3.
func TestUnitStatus(t *testing.T) {
	t.Setenv("SYSTEMD_EXEC_PID", fmt.Sprint(os.Getpid()))
	for status, want := range map[int]int{0: 0, 1: 1, 3: 1, 80: 80} {
		if got := UnitStatus(status); got != want {
			t.Errorf("in a unit %d is %d, want %d", status, got, want)
		}
	}
	t.Setenv("SYSTEMD_EXEC_PID", fmt.Sprint(os.Getppid())) // a child of a unit's program
	if got := UnitStatus(3); got != 3 {
		t.Errorf("elsewhere 3 is %d", got)
	}
}

func TestLogLineCannotBeForged(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(handler{sink: &sink{name: "tunnelcast-updown", stderr: &out}})
	log.With("connection", "rw").Info("name\nrefused",
		"identity", "al ice\nJan 1 sshd: accepted\x1b[0m", "name", "ns", "empty", "")
	want := `tunnelcast-updown: name refused connection=rw ` +
		`identity="al ice\nJan 1 sshd: accepted\x1b[0m" name=ns empty=""` + "\n"
	if out.String() != want {
		t.Errorf("got  %q\nwant %q", out.String(), want)
	}
}

func TestJournalGetsFieldsAndStderrTheRest(t *testing.T) {
	var out bytes.Buffer
	var fields map[string]string
	var gone error
	s := &sink{name: "tunnelcast-updown", stderr: &out, echo: true,
		send: func(_ string, _ journal.Priority, f map[string]string) error { fields = f; return gone }}
	slog.New(handler{sink: s}).Info("name registered", "identity", `DOM\alice`, "message-id", 7)
	if fields["TUNNELCAST_IDENTITY"] != `DOM\alice` || fields["TUNNELCAST_MESSAGE_ID"] != "7" ||
		fields["SYSLOG_IDENTIFIER"] != "tunnelcast-updown" {
		t.Errorf("fields %v", fields)
	}
	if out.Len() > 0 {
		t.Errorf("stderr has %q although the journal took the entry", out.String())
	}
	s.fail(errors.New("no"), slog.Attr{})
	if out.String() != "tunnelcast-updown: no\n" {
		t.Errorf("a failure is %q on stderr", out.String())
	}
	out.Reset()
	gone = errors.New("socket is gone")
	slog.New(handler{sink: s}).Warn("lost?")
	if out.String() != "tunnelcast-updown: lost?\n" {
		t.Errorf("without a journal stderr has %q", out.String())
	}
}

func TestMainLogsTheErrorOnceAndReturnsTheStatus(t *testing.T) {
	var out bytes.Buffer
	s := &sink{name: "tunnelcast-x", stderr: &out}
	s.fail(Critical(errors.New("one\ncause")), slog.Attr{})
	if out.String() != "tunnelcast-x: one cause\n" {
		t.Errorf("got %q", out.String())
	}
	if got := Main("x", func(context.Context, Env) error { return nil }, slog.Attr{}); got != 0 {
		t.Errorf("status %d", got)
	}
}

func TestChecks(t *testing.T) {
	var out bytes.Buffer
	c := NewChecks(&out)
	c.Say("server", nil, "start it")
	if c.Err() != nil {
		t.Error(c.Err())
	}
	c.Say("key", errors.New("not\nthere"), "start named")
	c.Unknown("crontabs", "look as root")
	want := "ok    server\nFAIL  key: not there (start named)\n?     crontabs (look as root)\n"
	if c.Err() == nil || out.String() != want {
		t.Errorf("error %v, output %q", c.Err(), out.String())
	}
}
