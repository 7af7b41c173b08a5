package hook

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

// callCLI has a field of each kind that the settings of a hook have.
type callCLI struct {
	Common
	Server       string        `default:"127.0.0.1:53"`
	ReverseZones []string      `placeholder:"ZONE"`
	Timeout      time.Duration `help:"how long" default:"1s"`
	TTL          number        `name:"ttl" default:"60"`
	Strict       bool
	Names        pairs `kong:"-" toml:"names"`
	more
	Hidden string   `hidden:"" default:"/run"`
	Args   []string `arg:"" optional:"" passthrough:""`
}

type more struct {
	MaxIdle number
	Program []string
	Limit   pairs `kong:"-" toml:"limit"`
}

// number is one that reads its text itself.
type number string

func (n *number) UnmarshalText(text []byte) error {
	if strings.Trim(string(text), "0123456789") != "" {
		return fmt.Errorf("%q is not a number", text)
	}
	*n = number(text) + "."
	return nil
}

var callFiles = map[string]string{
	"empty":                  "",
	"comments":               "# server = 'x'\n\n  # y\n",
	"one of each":            "server='x'\nreverse-zones=['a','b,c']\ntimeout='2s'\nttl=5\nstrict=true\nhidden=''\n",
	"lists as text":          "reverse-zones='a,b'\nprogram='/bin/x,y\\,z'\n",
	"scalars of other kinds": "server=7\nstrict='yes'\nttl='9'\nhidden=1.5\n",
	"tables":                 "max-idle=3\n[names]\na='b'\n[limit]\nc='d'\n",
	"an empty list":          "program=[]\nreverse-zones=''\n",
	"comments and settings":  "#x='y'\nserver='z' # z\n\n \t# ttl=1\n\tttl=2\n[names]\n# a='b'\nc='#d'\n",
	"a text of many lines":   "server='''\n# not a comment\n\nx'''\n",
	"a list of many lines":   "program=[ # y\n# x\n'a',\n\n'#b']\n",
	"dollars":                "server='${config}'\n",
}

var badCallFiles = map[string]string{
	"syntax":             "server = [\n",
	"unknown key":        "sevrer = 'x'\n",
	"not a setting":      "config = 'x'\n",
	"an argument":        "args = ['x']\n",
	"a list":             "server = ['x']\n",
	"a list of numbers":  "program = [1]\n",
	"a table":            "server = {a='b'}\n",
	"a time":             "server = 2026-01-01\n",
	"no unit":            "timeout = 1\n",
	"no number":          "ttl = 'x'\n",
	"no bool":            "strict = 'perhaps'\n",
	"text for a table":   "names = 'x'\n",
	"a bad table":        "[limit]\nc=1\n",
	"setting in a table": "[names]\nserver='x'\n",
}

// agree checks that what readDirectly can read is what Parse reads, and reports whether
// it could.
func agree(t *testing.T, text string) (direct bool, err error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "c.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var got, want callCLI
	env := Env{Name: "updown", Args: []string{"--config", file}, Stdout: io.Discard, Stderr: io.Discard}
	_, err = Parse(env, &want, "test")
	direct = readDirectly(env, &got)
	for _, list := range []*[]string{&got.ReverseZones, &got.Program, &want.ReverseZones, &want.Program} {
		*list = append([]string{}, *list...) // a list without elements is the same as none
	}
	if direct && (err != nil || !reflect.DeepEqual(got, want)) {
		t.Errorf("%q: read directly it is %+v; Parse: %+v, error %v", text, got, want, err)
	}
	return direct, err
}

func TestCallsReadTheSameSettings(t *testing.T) {
	for name, text := range callFiles {
		if direct, err := agree(t, text); !direct || err != nil {
			t.Errorf("%s: read directly: %v; Parse: %v", name, direct, err)
		}
	}
	for name, text := range badCallFiles {
		if direct, err := agree(t, text); direct || err == nil {
			t.Errorf("%s: read directly: %v; Parse: %v", name, direct, err)
		}
	}
}

func FuzzCallsReadTheSameSettings(f *testing.F) {
	for _, text := range callFiles {
		f.Add(text)
	}
	for _, text := range badCallFiles {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		control := func(r rune) bool { return r != '\n' && r != '\t' && unicode.IsControl(r) }
		if utf8.ValidString(text) && !strings.ContainsFunc(text, control) { // TOML forbids them in comments, too
			agree(t, text)
		}
	})
}

// A call with flags, and one with a file that is missing, are read, too.
func TestParseCall(t *testing.T) {
	env := Env{Name: "no-such-command", Args: []string{"iptables"}, Stdout: io.Discard, Stderr: io.Discard}
	var plain callCLI
	if err := ParseCall(env, &plain, "test"); err != nil || plain.Server != "127.0.0.1:53" || plain.TTL != "60." {
		t.Errorf("got %+v, error %v", plain, err)
	}
	env.Args = []string{"--server=x", "iptables"}
	var flag callCLI
	if err := ParseCall(env, &flag, "test"); err != nil || flag.Server != "x" || flag.TTL != "60." {
		t.Errorf("got %+v, error %v", flag, err)
	}
	env.Args = []string{"--timeout=x", "iptables"}
	if err := ParseCall(env, &flag, "test"); Status(err) != 80 {
		t.Errorf("error %v, want one about the timeout", err)
	}
}

func BenchmarkParseCall(b *testing.B) {
	env := Env{Name: "no-such-command", Stdout: io.Discard, Stderr: io.Discard}
	for b.Loop() {
		var c callCLI
		if err := ParseCall(env, &c, "test"); err != nil {
			b.Fatal(err)
		}
	}
}
