package e2e

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"tunnelcast/internal/e2e/box"
)

const lineage = "/etc/letsencrypt/live/" + box.Name

// certcheck's unit deploys a certificate whose hook did not run, in spite of its sandbox. It succeeds if nothing is to
// do.
func TestCertcheckHealsAMissedHook(t *testing.T) {
	b := server(t)
	run(t, b, "systemctl", "start", "tunnelcast-certcheck.service")

	renewWithoutHooks(t, b)
	renewed, err := b.Gateway.CertSerial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if out, err := b.Gateway.Run(t.Context(), "tunnelcast-certhook", "check"); err == nil {
		t.Errorf("check succeeds although no hook has run:\n%s", out)
	}
	run(t, b, "systemctl", "start", "tunnelcast-certcheck.service")
	if out := run(t, b, "tunnelcast-certhook", "check"); strings.Contains(out, "FAIL") {
		t.Errorf("after the unit has run, check prints:\n%s", out)
	}
	c := client(t, b, "checker")
	connect(t, c, "alice")
	if got, err := c.ServerCertSerial(t.Context()); err != nil || got != renewed {
		t.Errorf("charon presented %s to the next client, want %s, error %v", got, renewed, err)
	}
	if failed := run(t, b, "systemctl", "--failed", "--quiet", "--no-legend", "--plain"); failed != "" {
		t.Errorf("failed units: %s", failed)
	}
}

// AppArmor may keep swanctl from reading the key, so that charon starts without it. The unit loads it right after
// charon's start, however often that is, and does not delay it. The box has no AppArmor; here the link to the key is
// missing.
func TestCertcheckStartsWithCharon(t *testing.T) {
	b := server(t)
	const link = "/etc/swanctl/private/" + box.Name + ".pem"
	timestamp := func(unit, property string) int {
		t.Helper()
		value, err := strconv.Atoi(strings.TrimSpace(run(t, b, "systemctl", "show", "-P", property, unit)))
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	run(t, b, "rm", link)
	defer func() {
		run(t, b, "ln", "-s", "/etc/letsencrypt/live/"+box.Name+"/privkey.pem", link)
		run(t, b, "systemctl", "reset-failed", "tunnelcast-certcheck.service")
		run(t, b, "systemctl", "restart", "strongswan.service")
	}()
	for range 7 { // more than systemd's default limit of starts
		run(t, b, "systemctl", "restart", "strongswan.service")
		run(t, b, "systemctl", "reset-failed", "strongswan.service") // its own limit
		up := timestamp("strongswan.service", "ActiveEnterTimestampMonotonic")
		err := box.Poll(t.Context(), soon, "the unit to load the key", func() (bool, error) {
			started := timestamp("tunnelcast-certcheck.service", "ExecMainStartTimestampMonotonic")
			ended := timestamp("tunnelcast-certcheck.service", "ExecMainExitTimestampMonotonic")
			if started < up || ended < started {
				return false, fmt.Errorf("charon was up at %d us, the unit started at %d us and ended at %d us",
					up, started, ended)
			}
			return true, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	result := strings.TrimSpace(run(t, b, "systemctl", "show", "-P", "Result", "tunnelcast-certcheck.service"))
	if result != "exit-code" {
		t.Errorf("the result is %s; want exit-code, because the next reload would lose the key again", result)
	}
	connect(t, client(t, b, "early"), "alice")
}

// If charon is restarted while the unit runs, the unit begins again: it may have loaded the key into the charon that
// has ended.
func TestCertcheckBeginsAgainWithCharon(t *testing.T) {
	b := server(t)
	const unit, dropIn = "tunnelcast-certcheck.service", "/etc/systemd/system/tunnelcast-certcheck.service.d"
	const slow = "[Service]\nExecStart=\nExecStart=/bin/sh -c '/usr/sbin/tunnelcast-certhook check --heal; sleep 600'\n"
	if err := b.Gateway.WriteFile(dropIn+"/slow.conf", slow, 0o644); err != nil {
		t.Fatal(err)
	}
	defer run(t, b, "sh", "-c", "rm -r "+dropIn+"; systemctl daemon-reload; systemctl stop "+unit+
		"; systemctl reset-failed "+unit)
	run(t, b, "systemctl", "daemon-reload")
	run(t, b, "systemctl", "restart", "strongswan.service")
	invocation := func() string {
		t.Helper()
		return strings.TrimSpace(run(t, b, "systemctl", "show", "-P", "InvocationID", unit))
	}
	before := invocation()
	run(t, b, "systemctl", "restart", "strongswan.service")
	err := box.Poll(t.Context(), soon, "the unit to begin again", func() (bool, error) {
		state := strings.TrimSpace(run(t, b, "systemctl", "show", "-P", "ActiveState", unit))
		if id := invocation(); id == before || state != "activating" {
			return false, fmt.Errorf("it is %s, invocation %s, which was %s before", state, id, before)
		}
		return true, nil
	})
	if err != nil {
		t.Error(err)
	}
}

// The unit runs as root, and may write to no directory but those that it needs.
func TestCertcheckWritesNowhereElse(t *testing.T) {
	b := server(t)
	run(t, b, "mkdir", "-p", "/var/lib/prometheus/node-exporter")
	got := writable(t, b, "tunnelcast-certcheck.service")
	want := []string{"/etc/swanctl/x509ca", "/var/lib/prometheus/node-exporter"}
	if !slices.Equal(got, want) {
		t.Errorf("the unit may write to %q, want %q", got, want)
	}
}

// writable returns the topmost directories to which a unit may write, without those that PrivateTmp= and
// PrivateDevices= make for it alone.
func writable(t *testing.T, b *box.Box, unit string) []string {
	t.Helper()
	dropIn := "/etc/systemd/system/" + unit + ".d"
	const list = "/var/tmp/writable"
	const probe = "[Service]\nExecStart=\nStandardOutput=truncate:" + list + "\n" +
		"ExecStart=/usr/bin/find / ( -path /proc -o -path /sys -o -path /dev -o -path /tmp -o -path /var/tmp ) " +
		"-prune -o -type d -writable -print -prune\n"
	if err := b.Gateway.WriteFile(dropIn+"/writable.conf", probe, 0o644); err != nil {
		t.Fatal(err)
	}
	defer run(t, b, "sh", "-c", "rm -r "+dropIn+"; systemctl daemon-reload")
	run(t, b, "systemctl", "daemon-reload")
	run(t, b, "systemctl", "start", unit)
	return strings.Fields(run(t, b, "sort", list))
}

// renewWithoutHooks renews the gateway's certificate as if its deploy hook had not run.
func renewWithoutHooks(t *testing.T, b *box.Box) {
	t.Helper()
	run(t, b, "sh", "-c",
		"certbot renew --quiet --force-renewal --no-random-sleep-on-renew --no-directory-hooks 2>&1")
}

// A successful renewal prints nothing, because cron mails the output of certbot -q. The snap of certbot gives its hooks
// hardly any environment.
func TestRenewalIsQuiet(t *testing.T) {
	b := server(t)
	const (
		renew = "env -i LD_LIBRARY_PATH=/snap/certbot/current/usr/lib " +
			"certbot -q renew --force-renewal --no-random-sleep-on-renew </dev/null"
		hook = "env -i RENEWED_LINEAGE=" + lineage + " sh -c /etc/letsencrypt/renewal-hooks/deploy/tunnelcast <&-"
	)
	for name, command := range map[string]string{
		"certbot -q":                  renew,
		"the hook, no standard input": renew + " --no-directory-hooks && " + hook,
	} {
		t.Run(name, func(t *testing.T) {
			if out := run(t, b, "sh", "-c", "{ "+command+"; } 2>&1"); out != "" {
				t.Errorf("it prints:\n%s", out)
			}
			// This fails unless charon has the certificate that is on the disk.
			run(t, b, "tunnelcast-certhook", "check")
		})
	}
}

// Other units that use the certificate are reloaded after a switch, and only then. If one cannot be, the status is 3.
func TestReloadUnits(t *testing.T) {
	b := server(t)
	deploy := []string{"tunnelcast-certhook", "--reload-units", "nginx.service", "deploy", "--lineage", lineage}
	reloads := func() int {
		return strings.Count(run(t, b, "journalctl", "--quiet", "--unit", "nginx.service"), "Reloaded ")
	}
	before := reloads()
	renewWithoutHooks(t, b)
	run(t, b, deploy...)
	run(t, b, deploy...)
	reloaded := func(want int) {
		t.Helper()
		// systemd's entries may reach the journal later.
		err := box.Poll(t.Context(), soon, "reloads of nginx", func() (bool, error) {
			got := reloads() - before
			return got == want, fmt.Errorf("nginx was reloaded %d times", got)
		})
		if got := reloads() - before; got != want {
			t.Errorf("nginx was reloaded %d times, want %d: %v", got, want, err)
		}
	}
	reloaded(1) // by the switch, and not by the run with nothing to do
	renewWithoutHooks(t, b)
	deploy[2] = "no-such.service,nginx.service"
	_, err := b.Gateway.Run(t.Context(), deploy...)
	if failed := new(box.CommandError); !errors.As(err, &failed) || failed.ExitCode() != 3 ||
		!strings.Contains(err.Error(), "reload no-such.service: no such unit") {
		t.Errorf("with a unit that does not exist: %v", err)
	}
	reloaded(2)
}
