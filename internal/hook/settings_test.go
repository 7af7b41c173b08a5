package hook

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// What Settings takes on it sets as Parse would; the rest it leaves to Parse.
func TestSettingsAreThoseOfParse(t *testing.T) {
	for name, test := range map[string]struct {
		config string
		args   []string // behind --config FILE
		plain  bool
	}{
		"defaults":                 {"", nil, true},
		"comments":                 {"# server = 'x'\n", []string{"iptables"}, true},
		"every kind":               {"server = '192.0.2.1:53'\ntimeout = '2s'\npools = ['10.0.0.0/24', 'a,b']\nmetrics = '/srv'\n", []string{"sync"}, true},
		"empty":                    {"server = ''\npools = []\n", nil, true},
		"a flag":                   {"", []string{"--server=x"}, false},
		"a flag at the end":        {"", []string{"iptables", "-x"}, false},
		"a list as text":           {"pools = '10.0.0.0/24,10.1.0.0/24'\n", nil, false},
		"a switch":                 {"strict = true\n", nil, true},
		"a switch that is off":     {"strict = false\n", nil, true},
		"a switch as text":         {"strict = 'true'\n", nil, false},
		"a table":                  {"server = 'x'\n[names]\n'first.last@corp' = 'flast'\n\"CN=a, O=x\" = 'a'\n", nil, true},
		"an empty table":           {"[names]\n", nil, true},
		"a setting in a table":     {"[names]\ntimeout = '2s'\n", nil, false},
		"text for a table":         {"names = 'x'\n", nil, false},
		"number in a table":        {"[names]\nx = 1\n", nil, false},
		"unknown key":              {"sevrer = 'y'\n", nil, false},
		"a command's flag as key":  {"dry-run = true\n", nil, false},
		"a command as key":         {"sync = 'x'\n", nil, false},
		"config as key":            {"config = 'x'\n", nil, false},
		"broken syntax":            {"server = [\n", nil, false},
		"number without unit":      {"timeout = 1\n", nil, false},
		"number for text":          {"server = 1\n", nil, false},
		"value of the wrong shape": {"pools = [1]\n", nil, false},
		"no time":                  {"timeout = 'soon'\n", nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "c.toml")
			if err := os.WriteFile(file, []byte(test.config), 0o600); err != nil {
				t.Fatal(err)
			}
			var got, want testCLI
			got.Server = "as it was"
			env := Env{Name: "updown", Args: append([]string{"--config", file}, test.args...)}
			if plain := Settings(env, &got); plain != test.plain {
				t.Fatalf("Settings says %v, want %v", plain, test.plain)
			}
			if !test.plain {
				if !reflect.DeepEqual(got, testCLI{Server: "as it was"}) {
					t.Errorf("it set %+v", got)
				}
				return
			}
			want, _, _, err := parse(t, test.config, test.args...)
			if err != nil {
				t.Fatal(err)
			}
			want.Config, want.Hook, want.Sync = "", got.Hook, got.Sync
			if !reflect.DeepEqual(got, want) {
				t.Errorf("Settings %+v\nParse    %+v", got, want)
			}
		})
	}
}

func TestSettingsWithoutAFile(t *testing.T) {
	var c testCLI
	if !Settings(Env{Name: "no-such-command"}, &c) || c.Server != "127.0.0.1:53" {
		t.Errorf("without the default file: %+v", c)
	}
	if Settings(Env{Name: "updown", Args: []string{"--config", "/nonexistent.toml"}}, &c) {
		t.Error("a file that --config names may be missing")
	}
}
