package swanctl

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
)

func TestUnique(t *testing.T) {
	dir := t.TempDir()
	text := "connections { a { unique = replace }\nb { }\nc { unique = never }\nd : other { }\n}\nother { unique = keep }\n"
	if err := os.WriteFile(filepath.Join(dir, "swanctl.conf"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	conf, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := conf.Unique(), map[string]string{"a": "replace", "d": "keep"}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
