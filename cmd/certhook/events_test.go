package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tunnelcast/internal/hook"
	"tunnelcast/internal/rotation"
)

// An error carries the event that explains it from where it is made.
func TestErrorsHaveTheirEvents(t *testing.T) {
	dir := t.TempDir()
	le, swanctl := filepath.Join(dir, "le"), filepath.Join(dir, "swanctl")
	saveLineages(t, le)
	if err := os.Mkdir(swanctl, 0o755); err != nil {
		t.Fatal(err)
	}
	conf := fmt.Sprintf("connections { rw { local { certs = %s/live/expired/cert.pem } } }\n", le)
	if err := os.WriteFile(filepath.Join(swanctl, "swanctl.conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		lineage  string
		settings []string
		want     slog.Attr
	}{
		"no such directory":        {"none", nil, lineageMissing},
		"not valid":                {"expired", nil, lineageInvalid},
		"required, and not in use": {"good", []string{"--lineages", "good"}, notNamed},
	} {
		t.Run(name, func(t *testing.T) {
			lineage := filepath.Join(le, "live", test.lineage)
			args := append(test.settings, "deploy", "--lineage", lineage)
			_, err := runCerthook(t, filepath.Join(dir, "none"), swanctl, args...)
			if attrs := fmt.Sprint(hook.Attrs(err)...); !has(err, test.want) || !strings.Contains(attrs, lineage) {
				t.Errorf("the error %v has the attributes %v, want %v and the lineage", err, attrs, test.want)
			}
		})
	}
}

// Every finding that is a failure has an event of its own, and the cause stays visible.
func TestFindingsAreFailures(t *testing.T) {
	for kind, want := range findings {
		err := failure(rotation.Finding{Kind: kind, Err: fs.ErrPermission})
		if !has(err, want.event) {
			t.Errorf("kind %d has the attributes %v, want %v", kind, hook.Attrs(err), want.event)
		}
		if !errors.Is(err, fs.ErrPermission) || !isFinding(err, kind) {
			t.Errorf("kind %d hides its cause: %v", kind, err)
		}
		status := 1
		if want.some {
			status = 3
		}
		if got := hook.Status(err); got != status {
			t.Errorf("kind %d ends with status %d, want %d", kind, got, status)
		}
	}
}

// has reports whether an error carries an event.
func has(err error, event slog.Attr) bool {
	return slices.ContainsFunc(hook.Attrs(err), func(a any) bool {
		attr, ok := a.(slog.Attr)
		return ok && attr.Equal(event)
	})
}
