// Package e2e tests the installed package on a server of its own: the guide's, with all its daemons. See box.
package e2e

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tunnelcast/internal/e2e/box"
	"tunnelcast/internal/promised"
)

// byPathUnit is how long a name may outlive its client's disconnect on a busy computer. It distinguishes the path unit,
// which removes a name within 2 s on an idle computer, from the timer, which runs once a minute.
const byPathUnit = 20 * time.Second

// soon limits the wait for anything else. It is generous, because this computer may be busy.
const soon = box.Patience

// boot is how long a box may take to start: its tree may have to be built first.
const boot = 15 * time.Minute

// shared is started by the first test that needs it, and serves all of them, one after the other.
var shared struct {
	once sync.Once
	box  *box.Box
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.box != nil {
		shared.box.Close()
	}
	os.Exit(code)
}

// deb returns the package to test. Without one, or without what a box needs, the test cannot run.
func deb(t *testing.T) string {
	t.Helper()
	lacking := box.Missing()
	deb := os.Getenv("TUNNELCAST_DEB")
	if deb == "" {
		lacking = errors.Join(lacking, errors.New("TUNNELCAST_DEB is not set to a package; make test builds one"))
	}
	if lacking != nil {
		promised.Lacking(t, lacking)
	}
	return deb
}

// server returns the shared box, of the Debian release that TUNNELCAST_SUITE names, with our package installed.
func server(t *testing.T) *box.Box {
	t.Helper()
	deb := deb(t)
	shared.once.Do(func() {
		// The box outlives the test that happens to come first.
		ctx, cancel := context.WithTimeout(context.Background(), boot)
		defer cancel()
		start := time.Now()
		step := func(what string) { t.Logf("%v: %s", time.Since(start), what) }
		shared.box, shared.err = box.Start(ctx, box.Options{Suite: os.Getenv("TUNNELCAST_SUITE"), Step: step})
		if shared.err == nil {
			shared.err = shared.box.Explain(shared.box.Gateway.Install(ctx, deb))
		}
		t.Logf("%v: ready", time.Since(start))
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			journal, err := shared.box.Journal()
			t.Log(journal, err)
		}
	})
	return shared.box
}

// client starts a device that ends with the test. If it is connected, it disconnects: otherwise charon would list it
// for minutes, also in other tests. Close is for a device that ends without a message.
func client(t *testing.T, b *box.Box, name string) *box.Client {
	t.Helper()
	c, err := b.Client(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Second)
		defer cancel()
		_ = c.Disconnect(ctx) // fails if it is not connected
		c.Close()
	})
	return c
}

// run runs a command on the gateway, which must succeed, and returns its standard output.
func run(t *testing.T, b *box.Box, args ...string) string {
	t.Helper()
	out, err := b.Gateway.Run(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// runUnits runs all services that have a timer. None may fail, and no unit may be in the failed state afterwards.
func runUnits(t *testing.T, b *box.Box) {
	t.Helper()
	run(t, b, "systemctl", "start", "tunnelcast-sync.service", "tunnelcast-sweep.service",
		"tunnelcast-certcheck.service", "tunnelcast-archiveprune.service", "tunnelcast-minfree.service")
	if err := b.Gateway.WaitRunning(t.Context()); err != nil {
		t.Error(err)
	}
}

// connect connects a device and returns its virtual IP.
func connect(t *testing.T, c *box.Client, user string) string {
	t.Helper()
	address, err := c.Connect(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	return address
}

func TestPackage(t *testing.T) {
	b := server(t)
	for program, link := range box.Links {
		if got := strings.TrimSpace(run(t, b, "readlink", "-f", link)); got != "/usr/sbin/tunnelcast-"+program {
			t.Errorf("%s leads to %s, want tunnelcast-%s", link, got, program)
		}
	}
	for _, unit := range []string{
		"tunnelcast-archiveprune.timer", "tunnelcast-sync.path", "tunnelcast-sync.timer",
		"tunnelcast-sweep.timer", "tunnelcast-certcheck.timer",
	} {
		for _, state := range []string{"is-enabled", "is-active"} {
			if _, err := b.Gateway.Run(t.Context(), "systemctl", state, unit); err != nil {
				t.Error(err)
			}
		}
	}
	if status := run(t, b, "dpkg", "--audit"); status != "" {
		t.Errorf("dpkg --audit prints:\n%s", status)
	}
	for _, p := range []string{"updown", "recorddone", "archiveprune", "certhook"} {
		if out := run(t, b, "tunnelcast-"+p, "--version"); strings.Count(out, "\n") != 1 {
			t.Errorf("tunnelcast-%s --version: %q, want one line", p, out)
		}
	}
}

// A client has its name before its connect returns, and loses it soon after its disconnect. Another client keeps its
// name.
func TestNames(t *testing.T) {
	b := server(t)
	laptop, phone := client(t, b, "laptop"), client(t, b, "phone")
	for _, c := range []struct {
		device *box.Client
		user   string
	}{{laptop, "alice"}, {phone, "bob"}} {
		address := connect(t, c.device, c.user)
		got, err := c.device.Dig(t.Context(), c.user+"."+box.Zone)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, []string{address}) {
			t.Errorf("%s is connected as %s, its name has %v", c.user, address, got)
		}
	}
	if out, err := b.Gateway.Journal(t.Context(), "TUNNELCAST_IDENTITY=alice"); err != nil || out == "" {
		t.Errorf("the journal has no entry about alice: %q, %v", out, err)
	}

	if err := laptop.Disconnect(t.Context()); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	err := box.Poll(t.Context(), soon, "the removal of alice's name", func() (bool, error) {
		got, err := phone.Dig(t.Context(), "alice."+box.Zone)
		return err == nil && len(got) == 0, err
	})
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	t.Logf("the name was removed %v after the disconnect", took)
	if took > byPathUnit {
		t.Errorf("the name was removed %v after the disconnect, want at most %v", took, byPathUnit)
	}
	if got, err := phone.Dig(t.Context(), "bob."+box.Zone); err != nil || len(got) != 1 {
		t.Errorf("bob is still connected, his name has %v, %v", got, err)
	}
}

// charon calls no hook when it is killed. Its clients' names are removed all the same.
func TestNamesAfterCharonWasKilled(t *testing.T) {
	b := server(t)
	c := client(t, b, "tablet")
	connect(t, c, "carol")
	if got, err := c.Dig(t.Context(), "carol."+box.Zone); err != nil || len(got) != 1 {
		t.Fatalf("carol is connected, her name has %v, %v", got, err)
	}
	run(t, b, "systemctl", "kill", "--signal=KILL", "strongswan.service")
	err := box.Poll(t.Context(), soon, "the removal of carol's name", func() (bool, error) {
		out, err := b.Gateway.Run(t.Context(), "dig", "@127.0.0.1", "+short", "carol."+box.Zone)
		return err == nil && out == "", err
	})
	if err != nil {
		t.Error(err)
	}
	run(t, b, "systemctl", "reset-failed", "strongswan.service")
	run(t, b, "systemctl", "restart", "strongswan.service")
}

// A published stream becomes an MP4 that plays, and its FLV is removed.
func TestRecording(t *testing.T) {
	b := server(t)
	c := client(t, b, "camera")
	connect(t, c, "dave")
	if err := c.Publish(t.Context(), "garden", 3); err != nil {
		t.Fatal(err)
	}
	var names []string
	err := box.Poll(t.Context(), soon, "the recording to become an MP4", func() (bool, error) {
		all, err := b.Gateway.Recordings()
		names = slices.DeleteFunc(all, func(n string) bool { return !strings.Contains(n, "garden") })
		return len(names) == 1 && strings.HasSuffix(names[0], ".mp4"), err
	})
	if err != nil {
		t.Fatalf("%v; the archive contains %v", err, names)
	}
	file := box.Archive + "/" + names[0]
	t.Cleanup(func() { os.Remove(b.Gateway.Path(file)) })
	if got := strings.TrimSpace(run(t, b, "stat", "-c", "%U %G %a", file)); got != "www-data www-data 644" {
		t.Errorf("owner and mode of %s: %s", names[0], got)
	}
	streams, err := box.Probe(t.Context(), b.Gateway.Path(file))
	if err != nil {
		t.Fatal(err)
	}
	if want := "h264 aac"; streams != want {
		t.Errorf("%s contains %q, want %q", names[0], streams, want)
	}
}

// The timer's service removes recordings that are older than 72 h, and nothing else.
func TestPrune(t *testing.T) {
	b := server(t)
	for name, age := range map[string]string{
		"old.mp4": "80 hours ago", "old.flv": "80 hours ago", "old.txt": "80 hours ago", "young.mp4": "70 hours ago",
	} {
		file := box.Archive + "/prune-" + name
		run(t, b, "touch", "-d", age, file)
		run(t, b, "chown", "www-data:www-data", file)
		t.Cleanup(func() { os.Remove(b.Gateway.Path(file)) })
	}
	run(t, b, "systemctl", "start", "tunnelcast-archiveprune.service")
	names, err := b.Gateway.Recordings()
	if err != nil {
		t.Fatal(err)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, "prune-") })
	if want := []string{"prune-old.txt", "prune-young.mp4"}; !slices.Equal(names, want) {
		t.Errorf("the archive contains %v, want %v", names, want)
	}
	if out, err := b.Gateway.Journal(t.Context(), "TUNNELCAST_REMOVED=2"); err != nil || out == "" {
		t.Errorf("the journal does not report that two were removed: %q, %v", out, err)
	}
}

// After certbot's renewal charon presents the new certificate to the next client, and an established tunnel is
// unaffected.
func TestRenewal(t *testing.T) {
	b := server(t)
	before, after := client(t, b, "before"), client(t, b, "after")
	connect(t, before, "alice")
	serial := func(get func(context.Context) (string, error)) string {
		t.Helper()
		s, err := get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	old := serial(before.ServerCertSerial)
	if disk := serial(b.Gateway.CertSerial); disk != old {
		t.Fatalf("charon presents certificate %s, on disk is %s", old, disk)
	}
	out, err := b.Gateway.Renew(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out, "error") {
		t.Errorf("certbot reports an error of the hook:\n%s", out)
	}
	renewed := serial(b.Gateway.CertSerial)
	if renewed == old {
		t.Fatalf("certbot renewed nothing:\n%s", out)
	}
	connect(t, after, "bob")
	if got := serial(after.ServerCertSerial); got != renewed {
		t.Errorf("charon presented %s to the next client, want the renewed %s (the old one is %s)", got, renewed, old)
	}
	if up, err := before.Connected(t.Context()); err != nil || !up {
		t.Errorf("the established tunnel is gone: %v", err)
	}
	if got, err := before.Dig(t.Context(), "alice."+box.Zone); err != nil || len(got) != 1 {
		t.Errorf("the established tunnel carries no DNS: %v, %v", got, err)
	}
}

// On bad input a program prints one clear line, exits with the status for it, and removes nothing.
func TestBadInput(t *testing.T) {
	b := server(t)
	const (
		unknownKey = "/etc/tunnelcast-test/unknown.toml"
		openKey    = "/etc/tunnelcast-test/open.key"
		tsig       = `key "k" { algorithm hmac-sha256; secret "c2VjcmV0"; };` + "\n"
	)
	err := errors.Join(
		b.Gateway.WriteFile(unknownKey, `colour = "blue"`+"\n", 0o644),
		b.Gateway.WriteFile(openKey, tsig, 0o666),
		b.Gateway.WriteFile(box.Archive+"/empty.flv", "", 0o644))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(b.Gateway.Path(box.Archive + "/empty.flv")) })
	for _, c := range []struct {
		name   string
		args   []string
		status int
		prints string
	}{
		{"updown: wrong flag", []string{"tunnelcast-updown", "sync", "--colour"}, 80, "colour"},
		{"updown: unknown key", []string{"tunnelcast-updown", "--config", unknownKey, "sync"}, 80, "colour"},
		{"updown: no file", []string{"tunnelcast-updown", "--config", "/no/such.toml", "sync"}, 80, "/no/such.toml"},
		{"updown: key file open to all", []string{"tunnelcast-updown", "sync", "--key", openKey}, 1, "open.key"},
		{"updown: no key file", []string{"tunnelcast-updown", "sync", "--key", "/no/such.key"}, 1, "/no/such.key"},
		{"updown: no PLUTO_VERB", []string{"tunnelcast-updown"}, 80, "PLUTO_VERB"},
		{"recorddone: wrong flag", []string{"tunnelcast-recorddone", "--colour"}, 80, "colour"},
		{"recorddone: missing file", []string{"tunnelcast-recorddone", box.Archive + "/none.flv"}, 1, "none.flv"},
		{"recorddone: empty file", []string{"tunnelcast-recorddone", box.Archive + "/empty.flv"}, 1, "empty.flv"},
		{"archiveprune: wrong flag", []string{"tunnelcast-archiveprune", "--colour"}, 80, "colour"},
		{"archiveprune: wrong age", []string{"tunnelcast-archiveprune", "--max-age", "blue"}, 80, "max-age"},
		{"archiveprune: missing directory", []string{"tunnelcast-archiveprune", "/no/such"}, 1, "/no/such"},
		{"certhook: wrong flag", []string{"tunnelcast-certhook", "--colour"}, 80, "colour"},
		{"certhook: no lineage", []string{"tunnelcast-certhook"}, 80, "RENEWED_LINEAGE"},
		{"certhook: missing lineage", []string{"tunnelcast-certhook", "deploy", "--lineage", "/no/such"}, 1,
			"/no/such"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := b.Gateway.Run(t.Context(), c.args...)
			var failed *box.CommandError
			if !errors.As(err, &failed) {
				t.Fatalf("%v succeeded", c.args)
			}
			if failed.ExitCode() != c.status {
				t.Errorf("status %d, want %d", failed.ExitCode(), c.status)
			}
			lines := strings.Count(strings.TrimSpace(failed.Output), "\n") + 1
			if lines != 1 || !strings.Contains(failed.Output, c.prints) {
				t.Errorf("printed %q, want one line with %q", failed.Output, c.prints)
			}
		})
	}
	if _, err := os.Stat(b.Gateway.Path(box.Archive + "/empty.flv")); err != nil {
		t.Errorf("the empty recording was removed: %v", err)
	}
}
