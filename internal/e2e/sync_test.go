package e2e

import (
	"slices"
	"testing"
)

// The unit of sync runs as root, and may write to no directory except those that it needs.
func TestSyncWritesNowhereElse(t *testing.T) {
	b := server(t)
	run(t, b, "mkdir", "-p", "/var/lib/prometheus/node-exporter")
	got := writable(t, b, "tunnelcast-sync.service")
	want := []string{"/run/tunnelcast", "/var/lib/prometheus/node-exporter", "/var/lib/tunnelcast", "/var/www/html"}
	if !slices.Equal(got, want) {
		t.Errorf("the unit may write to %q, want %q", got, want)
	}
}
