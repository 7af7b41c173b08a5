package e2e

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tunnelcast/internal/e2e/box"
)

// harmless are AppArmor's refusals that a server of the guide has without us.
var harmless = []struct{ refusal, why string }{
	{"open /usr/sbin/swanctl /etc/letsencrypt/archive/vpn.example/privkey1.pem swanctl r",
		"before the administrator has added the rule that check names, the loading of the first certificate"},
}

// What the box shows with ESP in user space and without AppArmor is so on a server's kernel, too: from a client's
// connect to its disconnect.
func TestMachineStory(t *testing.T) {
	m := machine(t)
	allowKey(t, m)
	laptop := device(t, m, "laptop")
	connect := func(c interface {
		Connect(context.Context, string) (string, error)
	}, user string) string {
		t.Helper()
		address, err := c.Connect(t.Context(), user)
		if err != nil {
			t.Fatal(err)
		}
		return address
	}
	serial := func(get func(context.Context) (string, error)) string {
		t.Helper()
		s, err := get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}

	t.Log("a client connects, over ESP in the kernel")
	address := connect(laptop, "alice")
	if got, err := laptop.Dig(t.Context(), "alice."+box.Zone); err != nil || !slices.Equal(got, []string{address}) {
		t.Errorf("%s is connected as alice, the name has %v, %v", address, got, err)
	}
	states := sh(t, m, "ip xfrm state; ip -brief link")
	if strings.Count(states, "proto esp spi") != 2 || strings.Contains(states, "ipsec0") {
		t.Errorf("the kernel has, want ESP in both directions and no device of kernel-libipsec:\n%s", states)
	}
	if used := sh(t, m, "ip -stats xfrm state | grep -c ' [1-9][0-9]*(packets)'"); strings.TrimSpace(used) != "2" {
		t.Errorf("%s of the kernel's two states carried packets", strings.TrimSpace(used))
	}

	t.Log("it publishes a stream")
	if err := laptop.Publish(t.Context(), "garden", 3); err != nil {
		t.Fatal(err)
	}
	var names []string
	err := m.Wait(t.Context(), "the recording to become an MP4", func() (bool, error) {
		out, err := m.Run(t.Context(), "ls", box.Archive)
		names = strings.Fields(out)
		return len(names) == 1 && strings.HasSuffix(names[0], ".mp4"), err
	})
	if err != nil {
		t.Fatalf("%v; the archive contains %v", err, names)
	}
	file := box.Archive + "/" + names[0]
	if got := strings.TrimSpace(sh(t, m, `stat -c "%U %G %a" "$1"`, file)); got != "www-data www-data 644" {
		t.Errorf("owner and mode of %s: %s", names[0], got)
	}
	content, err := m.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	recording := filepath.Join(t.TempDir(), names[0])
	if err := os.WriteFile(recording, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if streams, err := box.Probe(t.Context(), recording); err != nil || streams != "h264 aac" {
		t.Errorf("%s contains %q, want h264 aac; %v", names[0], streams, err)
	}

	t.Log("old recordings are removed")
	sh(t, m, `cd "$1"
rm /var/spool/cron/crontabs/root # check asks for that: it prunes by other limits
touch -d "80 hours ago" old.mp4 old.txt
chown www-data:www-data old.*
systemctl start tunnelcast-archiveprune.service`, box.Archive)
	left := strings.Fields(sh(t, m, "ls "+box.Archive))
	if want := []string{names[0], "old.txt"}; !slices.Equal(left, want) {
		t.Errorf("the archive contains %v, want %v", left, want)
	}

	t.Log("the certificate is renewed")
	old := serial(laptop.ServerCertSerial)
	out, err := m.Renew(t.Context())
	if err != nil || strings.Contains(out, "error") {
		t.Fatalf("certbot: %v\n%s", err, out)
	}
	renewed := serial(m.CertSerial)
	if renewed == old {
		t.Errorf("certbot renewed nothing:\n%s", out)
	}
	phone := device(t, m, "phone")
	connect(phone, "bob")
	if got := serial(phone.ServerCertSerial); got != renewed {
		t.Errorf("charon presented %s to the next client, want the renewed %s (the old one is %s)", got, renewed, old)
	}
	sh(t, m, "tunnelcast-certhook check && systemctl reload strongswan.service && tunnelcast-certhook check")

	t.Log("it disconnects")
	if err := laptop.Disconnect(t.Context()); err != nil {
		t.Fatal(err)
	}
	err = m.Wait(t.Context(), "the removal of alice's name", func() (bool, error) {
		got, err := phone.Dig(t.Context(), "alice."+box.Zone)
		return err == nil && len(got) == 0, err
	})
	if err != nil {
		t.Error(err)
	}
	if got, err := phone.Dig(t.Context(), "bob."+box.Zone); err != nil || len(got) != 1 {
		t.Errorf("bob is still connected, his name has %v, %v", got, err)
	}
	for _, program := range []string{"updown", "recorddone", "archiveprune", "certhook"} {
		if out, err := m.Run(t.Context(), "tunnelcast-"+program, "check"); err != nil {
			t.Errorf("tunnelcast-%s check: %v\n%s", program, err, out)
		}
	}
	if err := m.WaitRunning(t.Context()); err != nil {
		t.Error(err)
	}
	for refusal, times := range denials(t, m) {
		known := func(h struct{ refusal, why string }) bool { return h.refusal == refusal }
		if !slices.ContainsFunc(harmless, known) {
			t.Errorf("AppArmor refused, %d times: %s", times, refusal)
		}
	}
}

// After a power failure, charon gets its key when it starts, although AppArmor keeps swanctl from it. The name of the
// client that was connected goes, and comes back with the client.
func TestMachineReboot(t *testing.T) {
	long(t)
	m := machine(t)
	connect := func(name string) {
		t.Helper()
		c := device(t, m, name)
		address, err := c.Connect(t.Context(), "alice")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.Dig(t.Context(), "alice."+box.Zone); err != nil || !slices.Equal(got, []string{address}) {
			t.Errorf("%s is connected as alice, the name has %v, %v", address, got, err)
		}
	}
	booted := func() {
		t.Helper()
		if err := m.Boot(t.Context()); err != nil {
			t.Fatal(err)
		}
		err := m.Wait(t.Context(), "the end of the boot", func() (bool, error) {
			state, err := m.Run(t.Context(), "systemctl", "is-system-running", "--wait")
			if state = strings.TrimSpace(state); state == "running" || state == "degraded" {
				err = nil // the exit status is 1 if it is degraded
			}
			return err == nil, err
		})
		if err != nil {
			t.Fatal(err)
		}
		// It loads the key, and fails because the next reload would lose it again.
		const unit = "tunnelcast-certcheck.service"
		err = m.Wait(t.Context(), unit, func() (bool, error) {
			state, err := m.Run(t.Context(), "systemctl", "show", "--property=ActiveState", "--value", unit)
			return strings.TrimSpace(state) == "failed", err
		})
		if err != nil {
			t.Fatal(err)
		}
		failed := strings.Fields(sh(t, m, "systemctl --failed --no-legend --plain | cut -d ' ' -f 1"))
		if want := []string{unit}; !slices.Equal(failed, want) {
			t.Errorf("failed units: %v, want %v", failed, want)
		}
		err = m.Wait(t.Context(), "the removal of alice's name", func() (bool, error) {
			out, err := m.Run(t.Context(), "dig", "@127.0.0.1", "+short", "alice."+box.Zone)
			return err == nil && strings.TrimSpace(out) == "", err
		})
		if err != nil {
			t.Error(err)
		}
	}

	if _, err := m.Run(t.Context(), "systemctl", "start", "tunnelcast-certcheck.service"); err == nil {
		t.Error("certcheck succeeds, although the next reload loses the key")
	}
	connect("before")
	t.Log("power fails")
	booted()
	connect("after")
	t.Log("the machine is shut down in order")
	if err := m.PowerOff(t.Context()); err != nil {
		t.Fatal(err)
	}
	booted()
	connect("again")
}
