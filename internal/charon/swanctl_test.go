package charon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSwanctl(t *testing.T) {
	t.Setenv("SWANCTL_DIR", "/elsewhere")
	for name, test := range map[string]struct{ script, want string }{
		"done": {`[ "$SWANCTL_DIR $*" = "/etc/swanctl --load-conns --uri unix:///run/charon.vici" ] || { echo "$SWANCTL_DIR $*"; exit 1; }`, ""},
		"a connection fails": {`echo "loaded connection 'a'"; echo "loading connection 'b' failed: x" >&2; echo "loaded 1 of 2 connections" ; exit 22`,
			"swanctl --load-conns: exit status 22: loading connection 'b' failed: x; loaded 1 of 2 connections"},
		"silent":      {"exit 2", "swanctl --load-conns: exit status 2"},
		"talks a lot": {"yes | head -c 100000; exit 1", "exit status 1: y; y; y"},
		"killed":      {"kill -9 $$", "swanctl --load-conns: signal: killed"},
	} {
		path := filepath.Join(t.TempDir(), "swanctl")
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+test.script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		err := Swanctl{Path: path, Dir: "/etc/swanctl", Socket: DefaultSocket}.LoadConnections(t.Context())
		if (err == nil) != (test.want == "") || err != nil && (!strings.Contains(err.Error(), test.want) || len(err.Error()) > 700) {
			t.Errorf("%s: got %v, want %q", name, err, test.want)
		}
	}
	if err := (Swanctl{Path: "/nonexistent/swanctl"}).LoadAuthorities(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "run swanctl: ") {
		t.Errorf("missing: %v", err)
	}
}
