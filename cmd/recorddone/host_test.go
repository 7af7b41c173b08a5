//go:build cgo

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tunnelcast/internal/hook"
)

// The archive is named once, in the file of archiveprune, unless that of recorddone has another.
func TestArchives(t *testing.T) {
	const two = `[[archive]]
path = "/srv/a"
[[archive]]
path = "/srv/b"
max-age = "1d"
`
	for name, test := range map[string]struct {
		own, prune string
		want       []string
		chosen     bool
		differ     bool
		err        string
	}{
		"none":               {"", `max-age = "3d"`, []string{defaultArchive}, false, false, ""},
		"archiveprune":       {"", "archive = \"/srv/a\"\nunknown-here = 1\n", []string{"/srv/a"}, true, false, ""},
		"two":                {"", two, []string{"/srv/a", "/srv/b"}, true, false, ""},
		"recorddone":         {`archive = "/srv/r"`, "", []string{"/srv/r"}, true, true, ""},
		"both":               {`archive = "/srv/r/"`, `archive = "/srv/r"`, []string{"/srv/r/"}, true, false, ""},
		"both, different":    {`archive = "/srv/r"`, `archive = "/srv/a"`, []string{"/srv/r"}, true, true, ""},
		"syntax error":       {"", "archive = [", nil, true, false, "archiveprune.toml: "},
		"number":             {"", "archive = 1", nil, true, false, "archive must be the path of a directory"},
		"table with no path": {"", "[[archive]]\nmax-age = \"1d\"\n", nil, true, false, "path is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range map[string]string{"recorddone.toml": test.own, "archiveprune.toml": test.prune} {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			var c cli
			args := []string{"--config", filepath.Join(dir, "recorddone.toml"), "check"}
			if _, err := hook.Parse(hook.Env{Name: "recorddone", Args: args}, &c, ""); err != nil {
				t.Fatal(err)
			}
			h := &host{settings: c.settings}
			dirs, chosen, err := h.archives()
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) || hook.Status(err) != 80 {
					t.Errorf("got %v, want %s", err, test.err)
				}
				return
			}
			if err != nil || !slices.Equal(dirs, test.want) || chosen != test.chosen {
				t.Errorf("got %q, chosen %v, error %v", dirs, chosen, err)
			}
			if err := h.sameArchives(); (err != nil) != test.differ {
				t.Errorf("compared with those of archiveprune: %v", err)
			}
		})
	}
}
