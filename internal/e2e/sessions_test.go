package e2e

import (
	"fmt"
	"strings"
	"testing"

	"tunnelcast/internal/e2e/box"
)

// sessionSettings writes an updown.toml with a program that records each event, and more settings.
func sessionSettings(t *testing.T, b *box.Box, more string) {
	t.Helper()
	text := "on-event = [\"/etc/tunnelcast/notify\"]\n" + more
	if err := b.Gateway.WriteFile(updownToml, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

const notify = `#!/bin/sh
echo "$TUNNELCAST_EVENT $TUNNELCAST_IDENTITY $TUNNELCAST_NAME $TUNNELCAST_ADDRESS" >>/run/events
echo "noted $TUNNELCAST_IDENTITY"
`

// wantEvents waits until the program has recorded exactly these events since the last call.
func wantEvents(t *testing.T, b *box.Box, want ...string) {
	t.Helper()
	last := ""
	err := box.Poll(t.Context(), soon, "events", func() (bool, error) {
		out, err := b.Gateway.Run(t.Context(), "sh", "-c", "cat /run/events 2>/dev/null || true")
		last = strings.TrimSpace(out)
		return last == strings.Join(want, "\n"), err
	})
	if err != nil {
		t.Errorf("the events are %q, want %q: %v", last, want, err)
	}
	run(t, b, "rm", "-f", "/run/events")
}

// syncUntil runs sync until the journal has more than before entries about sessions that were ended by a limit.
func syncUntil(t *testing.T, b *box.Box, limit string, before int) {
	t.Helper()
	err := box.Poll(t.Context(), soon, "the end of a session by "+limit, func() (bool, error) {
		if _, err := b.Gateway.Run(t.Context(), "systemctl", "start", "tunnelcast-sync.service"); err != nil {
			return false, err
		}
		return endedFor(t, b, limit) > before, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// endedFor returns the number of entries about sessions that were ended by a limit.
func endedFor(t *testing.T, b *box.Box, limit string) int {
	t.Helper()
	out, err := b.Gateway.Journal(t.Context(), "TUNNELCAST_LIMIT="+limit)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(out, "session ended")
}

// wantConnected waits until a device is connected, or not.
func wantConnected(t *testing.T, c *box.Client, want bool) {
	t.Helper()
	what := fmt.Sprintf("the device to be connected: %v", want)
	err := box.Poll(t.Context(), soon, what, func() (bool, error) {
		got, err := c.Connected(t.Context())
		return got == want, err
	})
	if err != nil {
		t.Error(err)
	}
}

// sync ends sessions at their limits and removes their names. The program of on-event is called once for each event,
// whatever charon does to a session.
func TestSessions(t *testing.T) {
	b := server(t)
	before, err := b.Gateway.ReadFile(updownToml)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Gateway.WriteFile(updownToml, before, 0o644); err != nil {
			t.Error(err)
		}
	})
	if err := b.Gateway.WriteFile("/etc/tunnelcast/notify", notify, 0o755); err != nil {
		t.Fatal(err)
	}
	// Other tests may have left sessions of devices that are off.
	run(t, b, "systemctl", "restart", "strongswan.service")
	run(t, b, "systemctl", "start", "tunnelcast-sync.service")
	run(t, b, "rm", "-rf", "/run/tunnelcast/sessions", "/run/events")
	sessionSettings(t, b, "")
	laptop, phone := client(t, b, "laptop"), client(t, b, "phone")
	configure(t, phone, "unique = never", "") // no INITIAL_CONTACT, on which charon closes the other SA
	name := "dave." + box.Zone

	address := connect(t, laptop, "dave")
	wantEvents(t, b, "connected dave "+name+" "+address)
	for _, rekey := range [][]string{
		{"swanctl", "--rekey", "--ike", "vpn"}, {"swanctl", "--rekey", "--child", "net"},
	} {
		run(t, b, rekey...)
		run(t, b, "systemctl", "start", "tunnelcast-sync.service")
	}
	wantEvents(t, b)
	want(t, b, "dave", address)

	sessionSettings(t, b, "max-session = \"1s\"\n")
	out := run(t, b, "tunnelcast-updown", "sync", "--dry-run")
	if !strings.Contains(out, `would end the session of "dave"`) {
		t.Errorf("the dry run prints %q", out)
	}
	syncUntil(t, b, "max-session", 0)
	wantConnected(t, laptop, false)
	want(t, b, "dave")
	wantEvents(t, b, "ended dave "+name+" "+address)
	out, err = b.Gateway.Journal(t.Context(), "-t", "tunnelcast-updown")
	if err != nil || !strings.Contains(out, "noted dave") {
		t.Errorf("the program's output is not in the journal: %v", err)
	}

	// A client that reconnects at once, and a second device of the same user.
	sessionSettings(t, b, "max-session = \"1h\"\nsessions-per-identity = 1\n")
	address = connect(t, laptop, "dave")
	wantEvents(t, b, "connected dave "+name+" "+address)
	want(t, b, "dave", address)
	second := connect(t, phone, "dave")
	wantEvents(t, b, "connected dave "+name+" "+second)
	want(t, b, "dave", address, second)
	seen := endedFor(t, b, "sessions-per-identity")
	err = box.Poll(t.Context(), soon, "the end of the older session", func() (bool, error) {
		for _, c := range []*box.Client{laptop, phone} { // both are in use
			_, _ = c.Dig(t.Context(), name)
		}
		run(t, b, "systemctl", "start", "tunnelcast-sync.service")
		return endedFor(t, b, "sessions-per-identity") > seen, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	wantConnected(t, laptop, false)
	wantConnected(t, phone, true)
	want(t, b, "dave", second)
	wantEvents(t, b, "ended dave "+name+" "+address)

	sessionSettings(t, b, "max-idle = \"5s\"\n[limit.alice]\nmax-idle = \"1h\"\n")
	other := connect(t, laptop, "alice")
	wantEvents(t, b, "connected alice alice."+box.Zone+" "+other)
	syncUntil(t, b, "max-idle", 0)
	wantConnected(t, phone, false)
	wantConnected(t, laptop, true)
	want(t, b, "dave")
	want(t, b, "alice", other)
	wantEvents(t, b, "ended dave "+name+" "+second)

	// After charon was killed, the end of the session is reported once.
	run(t, b, "systemctl", "kill", "--signal=KILL", "strongswan.service")
	run(t, b, "systemctl", "restart", "strongswan.service")
	wantEvents(t, b, "disconnected alice alice."+box.Zone+" "+other)
	run(t, b, "systemctl", "reset-failed")
}
