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

// The hook reads its settings the short way. Every one of them can be read so,
// and is what kong makes of it.
func TestHookHasAllSettings(t *testing.T) {
	shipped, err := os.ReadFile("../../packaging/etc/updown.toml")
	if err != nil {
		t.Fatal(err)
	}
	examples := regexp.MustCompile(`(?m)^# Example: (.*)\n#.*$`).ReplaceAllString(string(shipped), "#$1")
	var set strings.Builder // each key with its example, or as the file has it, and one that the file explains
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
		env := hook.Env{Name: "updown", Args: []string{"--config", file, "iptables"}, Stdout: new(bytes.Buffer), Stderr: new(bytes.Buffer)}
		var short, long cli
		if !hook.Settings(env, &short) {
			t.Errorf("%s: left to kong:\n%s", name, text)
		}
		if _, err := hook.Parse(env, &long, ""); err != nil {
			t.Fatal(err)
		}
		short.Config, short.Hook, short.List.Format = long.Config, long.Hook, long.List.Format
		if !reflect.DeepEqual(short, long) {
			t.Errorf("%s:\nSettings %+v\nParse    %+v", name, short, long)
		}
	}
}

// The reconciler's call is known without kong too, and nothing else is taken for
// it.
func TestPlainSync(t *testing.T) {
	for line, want := range map[string]bool{
		"sync":                  true,
		"--config x.toml sync":  true,
		"sync --dry-run":        false,
		"--dry-run sync":        false,
		"sync sync":             false,
		"--zone example sync":   false,
		"--config sync":         false,
		"iptables":              false,
		"--config x.toml check": false,
		"--config a --config b": false,
		"--config a sync x":     false,
	} {
		if got := plainSync(strings.Fields(line)); got != want {
			t.Errorf("%q: %v", line, got)
		}
	}
}
