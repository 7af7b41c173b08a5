package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"tunnelcast/internal/e2e/box"
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

// A renewal says nothing when all is well: whatever comes out of certbot -q is mailed. A hook of the snap has next to no
// environment.
func TestRenewalIsQuiet(t *testing.T) {
	b := server(t)
	const (
		renew = "env -i LD_LIBRARY_PATH=/snap/certbot/current/usr/lib certbot -q renew --force-renewal --no-random-sleep-on-renew </dev/null"
		hook  = "env -i RENEWED_LINEAGE=/etc/letsencrypt/live/" + box.Name + " sh -c /etc/letsencrypt/renewal-hooks/deploy/tunnelcast <&-"
	)
	for name, command := range map[string]string{
		"certbot -q":                  renew,
		"the hook, no standard input": renew + " --no-directory-hooks && " + hook,
	} {
		t.Run(name, func(t *testing.T) {
			if out := run(t, b, "sh", "-c", "{ "+command+"; } 2>&1"); out != "" {
				t.Errorf("it says:\n%s", out)
			}
			// Fails unless charon serves what is on disk.
			run(t, b, "tunnelcast-certhook", "check")
		})
	}
}

// Others that serve the certificate are reloaded after a switch, and only then; one that cannot be is status 3.
func TestReloadUnits(t *testing.T) {
	b := server(t)
	deploy := []string{"tunnelcast-certhook", "--reload-units", "nginx.service", "deploy", "--lineage", "/etc/letsencrypt/live/" + box.Name}
	reloads := func() int {
		return strings.Count(run(t, b, "journalctl", "--quiet", "--unit", "nginx.service"), "Reloaded ")
	}
	renew := func() {
		run(t, b, "sh", "-c", "certbot renew --quiet --force-renewal --no-random-sleep-on-renew --no-directory-hooks 2>&1")
	}
	before := reloads()
	renew()
	run(t, b, deploy...)
	run(t, b, deploy...)
	if got := reloads() - before; got != 1 {
		t.Errorf("nginx was reloaded %d times by a switch and a run with nothing to do, want once", got)
	}
	renew()
	deploy[2] = "no-such.service,nginx.service"
	_, err := b.Gateway.Run(t.Context(), deploy...)
	if failed := new(box.CommandError); !errors.As(err, &failed) || failed.ExitCode() != 3 || !strings.Contains(err.Error(), "reload no-such.service: no such unit") {
		t.Errorf("with a unit that does not exist: %v", err)
	}
	// systemd's word may still be on its way to the journal.
	err = box.Poll(t.Context(), soon, "nginx's second reload", func() (bool, error) {
		got := reloads() - before
		if got != 2 {
			return false, fmt.Errorf("nginx was reloaded %d times, want twice", got)
		}
		return true, nil
	})
	if err != nil {
		t.Error(err)
	}
}
