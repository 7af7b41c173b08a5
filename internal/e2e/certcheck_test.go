package e2e

import (
	"strings"
	"testing"
)

// The timer's unit, as tight as it is, does what a missed hook has left undone, and is no failure where nothing is.
func TestCertcheckHealsAMissedHook(t *testing.T) {
	b := server(t)
	run(t, b, "systemctl", "start", "tunnelcast-certcheck.service")

	run(t, b, "sh", "-c", "certbot renew --quiet --force-renewal --no-random-sleep-on-renew --no-directory-hooks 2>&1")
	renewed, err := b.Gateway.CertSerial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if out, err := b.Gateway.Run(t.Context(), "tunnelcast-certhook", "check"); err == nil {
		t.Errorf("check finds nothing although no hook has run:\n%s", out)
	}
	run(t, b, "systemctl", "start", "tunnelcast-certcheck.service")
	if out := run(t, b, "tunnelcast-certhook", "check"); strings.Contains(out, "FAIL") {
		t.Errorf("after the unit has run check says:\n%s", out)
	}
	c := client(t, b, "checker")
	connect(t, c, "alice")
	if got, err := c.ServerCertSerial(t.Context()); err != nil || got != renewed {
		t.Errorf("the next client was shown %s, want %s, error %v", got, renewed, err)
	}
	if failed := strings.TrimSpace(run(t, b, "systemctl", "--failed", "--quiet", "--no-legend", "--plain")); failed != "" {
		t.Errorf("failed units: %s", failed)
	}
}
