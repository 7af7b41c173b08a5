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

// The archive is named once, in archiveprune's file, unless recorddone's own says otherwise.
func TestArchives(t *testing.T) {
	for name, test := range map[string]struct {
		own, prune string
		want       []string
		chosen     bool
		differ     bool
		err        string
	}{
		"nothing is said":   {"", "max-age = \"3d\"\n", []string{defaultArchive}, false, false, ""},
		"by archiveprune":   {"", "archive = \"/srv/a\"\nunknown-here = 1\n", []string{"/srv/a"}, true, false, ""},
		"several":           {"", "[[archive]]\npath = \"/srv/a\"\n[[archive]]\npath = \"/srv/b\"\nmax-age = \"1d\"\n", []string{"/srv/a", "/srv/b"}, true, false, ""},
		"by recorddone":     {"archive = \"/srv/r\"\n", "", []string{"/srv/r"}, true, true, ""},
		"by both":           {"archive = \"/srv/r/\"\n", "archive = \"/srv/r\"\n", []string{"/srv/r/"}, true, false, ""},
		"by both, not one":  {"archive = \"/srv/r\"\n", "archive = \"/srv/a\"\n", []string{"/srv/r"}, true, true, ""},
		"broken":            {"", "archive = [\n", nil, true, false, "archiveprune.toml: "},
		"a number":          {"", "archive = 1\n", nil, true, false, "archive must be the path of a directory"},
		"a table of nobody": {"", "[[archive]]\nmax-age = \"1d\"\n", nil, true, false, "path is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range map[string]string{"recorddone.toml": test.own, "archiveprune.toml": test.prune} {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			var c cli
			if _, err := hook.Parse(hook.Env{Name: "recorddone", Args: []string{"--config", filepath.Join(dir, "recorddone.toml"), "check"}}, &c, ""); err != nil {
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
				t.Errorf("compared with archiveprune's: %v", err)
			}
		})
	}
}
