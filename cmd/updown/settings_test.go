package main

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"tunnelcast/internal/hook"
)

// Each key that the shipped file explains is accepted in a call by charon and in one
// by a person, and both get the same settings.
func TestEveryKeyIsASetting(t *testing.T) {
	shipped, err := os.ReadFile("../../packaging/etc/updown.toml")
	if err != nil {
		t.Fatal(err)
	}
	var set strings.Builder // each key with its example, otherwise with its default
	hasExample := map[string]bool{}
	for line := range strings.Lines(string(shipped)) {
		example, isExample := strings.CutPrefix(line, "# Example: ")
		line, isSet := strings.CutPrefix(line, "#")
		key, _, isKey := strings.Cut(line, " = ")
		switch {
		case isExample:
			key, _, _ = strings.Cut(example, " = ")
			hasExample[key] = true
			set.WriteString(example)
		case isSet && strings.HasPrefix(line, "["):
			clear(hasExample)
			set.WriteString(line)
		case isSet && isKey && !strings.HasPrefix(line, " ") && !hasExample[key]:
			set.WriteString(line)
		}
	}
	for name, text := range map[string]string{"as shipped": string(shipped), "every key set": set.String()} {
		file := filepath.Join(t.TempDir(), "updown.toml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var called, calledWithFlag hookCLI
		var typed cli
		for cli, args := range map[any][]string{
			&called: {"iptables"}, &calledWithFlag: {"iptables", "--any"}, &typed: {"sync"},
		} {
			env := hook.Env{Name: "updown", Args: append([]string{"--config", file}, args...),
				Stdout: new(bytes.Buffer), Stderr: new(bytes.Buffer)}
			parse := func() error { _, err := hook.Parse(env, cli, ""); return err }
			if cli == any(&called) {
				parse = func() error { return hook.ParseCall(env, cli, "") }
			}
			if err := parse(); err != nil {
				t.Errorf("%s, %s: %v", name, args, err)
			}
		}
		for _, called := range []settings{called.settings, calledWithFlag.settings} {
			if want := typed.settings; !reflect.DeepEqual(called, want) {
				t.Errorf("%s:\nby charon   %+v\nby a person %+v", name, called, want)
			}
		}
	}
}

// BenchmarkSettings reads the shipped file as in a call by charon.
func BenchmarkSettings(b *testing.B) {
	env := hook.Env{Name: "updown", Args: []string{"--config", "../../packaging/etc/updown.toml", "iptables"}}
	for b.Loop() {
		var c hookCLI
		if err := hook.ParseCall(env, &c, ""); err != nil {
			b.Fatal(err)
		}
	}
}
