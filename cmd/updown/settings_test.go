package main

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
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
	examples := regexp.MustCompile(`(?m)^# Example: (.*)\n#.*$`).ReplaceAllString(string(shipped), "#$1")
	var set strings.Builder // each key with its example, otherwise with its default
	for line := range strings.Lines(examples) {
		if key, ok := strings.CutPrefix(line, "#"); ok && !strings.HasPrefix(key, " ") &&
			(strings.Contains(key, " = ") || strings.HasPrefix(key, "[")) {
			set.WriteString(key)
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
