package e2e

import (
	"errors"
	"os"
	"regexp"
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
		if t.Failed() {
			t.Log(m.Explain(errors.New("the test failed")))
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
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
