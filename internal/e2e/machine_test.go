package e2e

import (
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"tunnelcast/internal/e2e/vm"
	"tunnelcast/internal/promised"
)

// machine starts a virtual machine, of the Debian release that TUNNELCAST_SUITE names, with our package installed. It
// ends with the test.
func machine(t *testing.T) *vm.Machine {
	t.Helper()
	if os.Getenv("TUNNELCAST_VM") == "" {
		t.Skip("make test-vm runs this test")
	}
	if err := vm.Missing(); err != nil {
		promised.Lacking(t, err)
	}
	start := time.Now()
	m, err := vm.Start(t.Context(), vm.Options{
		Suite: os.Getenv("TUNNELCAST_SUITE"),
		Deb:   deb(t),
		Step:  func(what string) { t.Logf("%v: %s", time.Since(start).Round(time.Millisecond), what) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%v: the machine answers", time.Since(start).Round(time.Millisecond))
	t.Cleanup(func() {
		t.Logf("%v: the machine has used %v of processor time", time.Since(start).Round(time.Millisecond),
			m.ProcessorTime())
		if t.Failed() {
			t.Log(m.Explain(errors.New("the test failed")))
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// sh runs a script on the machine, which must succeed, and returns its standard output.
func sh(t *testing.T, m *vm.Machine, script string, args ...string) string {
	t.Helper()
	out, err := m.Shell(t.Context(), script, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// device starts a client of the machine, which ends with it.
func device(t *testing.T, m *vm.Machine, name string) *vm.Client {
	t.Helper()
	c, err := m.Client(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const swanctlRules = "/etc/apparmor.d/local/usr.sbin.swanctl"

// allowKey adds the rule for the key to swanctl's profile that check asks for, and has charon load the key.
func allowKey(t *testing.T, m *vm.Machine) {
	t.Helper()
	out, err := m.Run(t.Context(), "tunnelcast-certhook", "check")
	rule := regexp.MustCompile("it lacks the line `([^`]+)`").FindStringSubmatch(out)
	if err == nil || rule == nil {
		t.Fatalf("without a rule for the key, check names none: %v\n%s", err, out)
	}
	sh(t, m, `echo "$1" >>"$2"
apparmor_parser -r /etc/apparmor.d/usr.sbin.swanctl
systemctl reload strongswan.service`, rule[1], swanctlRules)
}

// denials returns AppArmor's refusals since the machine's first boot, a line for each, and their numbers.
func denials(t *testing.T, m *vm.Machine) map[string]int {
	t.Helper()
	log := sh(t, m, "journalctl --quiet --no-pager --output=cat _TRANSPORT=kernel + _TRANSPORT=audit")
	all := map[string]int{}
	for _, refusal := range regexp.MustCompile(`apparmor="(?:DENIED|ALLOWED)".*`).FindAllString(log, -1) {
		var parts []string
		for _, field := range []string{"operation", "profile", "name", "comm", "requested_mask", "capname"} {
			if v := regexp.MustCompile(field + `="([^"]*)"`).FindStringSubmatch(refusal); v != nil {
				parts = append(parts, v[1])
			}
		}
		all[strings.Join(parts, " ")]++
	}
	return all
}

// The machine is what the box is not: Debian's kernel, with AppArmor enforcing.
func TestMachineEnforces(t *testing.T) {
	m := machine(t)
	labels, err := m.Run(t.Context(), "ps", "-eo", "label,comm")
	if err != nil {
		t.Fatal(err)
	}
	for _, daemon := range []string{"named", "charon-systemd"} {
		if !regexp.MustCompile(`(?m)\(enforce\) +` + daemon + `$`).MatchString(labels) {
			t.Errorf("AppArmor does not enforce a profile on %s:\n%s", daemon, labels)
		}
	}
	if err := m.WaitRunning(t.Context()); err != nil {
		t.Error(err)
	}
}
