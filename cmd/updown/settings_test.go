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
		var called hookCLI
		var typed cli
		for cli, args := range map[any][]string{&called: {"iptables", "--any"}, &typed: {"sync"}} {
			env := hook.Env{Name: "updown", Args: append([]string{"--config", file}, args...),
				Stdout: new(bytes.Buffer), Stderr: new(bytes.Buffer)}
			if _, err := hook.Parse(env, cli, ""); err != nil {
				t.Errorf("%s, %s: %v", name, args, err)
			}
		}
		if got, want := called.settings, typed.settings; !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\nby charon   %+v\nby a person %+v", name, got, want)
		}
	}
}
