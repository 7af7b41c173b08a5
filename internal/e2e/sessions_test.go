package e2e

import (
	"fmt"
	"strings"
	"testing"

	"tunnelcast/internal/e2e/box"
)

// sessionSettings writes updown.toml with a program that notes each event, and more settings. It is as before after the test.
func sessionSettings(t *testing.T, b *box.Box, more string) {
	t.Helper()
	const file = "/etc/tunnelcast/updown.toml"
	text := "on-event = [\"/etc/tunnelcast/notify\"]\n" + more
	if err := b.Gateway.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

const notify = `#!/bin/sh
echo "$TUNNELCAST_EVENT $TUNNELCAST_IDENTITY $TUNNELCAST_NAME $TUNNELCAST_ADDRESS" >>/run/told
echo "noted $TUNNELCAST_IDENTITY"
`

// told waits until the program has noted exactly these events since the last call.
func told(t *testing.T, b *box.Box, want ...string) {
	t.Helper()
	last := ""
	err := box.Poll(t.Context(), soon, "the program to be told", func() (bool, error) {
		out, err := b.Gateway.Run(t.Context(), "sh", "-c", "cat /run/told 2>/dev/null || true")
		last = strings.TrimSpace(out)
		return last == strings.Join(want, "\n"), err
	})
	if err != nil {
		t.Errorf("the program was told %q, want %q: %v", last, want, err)
	}
	run(t, b, "rm", "-f", "/run/told")
}

// syncUntil runs sync until the journal has so many entries of sessions of a user that were ended.
func syncUntil(t *testing.T, b *box.Box, limit string, before int) {
	t.Helper()
	err := box.Poll(t.Context(), soon, "a session to be ended for "+limit, func() (bool, error) {
		if _, err := b.Gateway.Run(t.Context(), "systemctl", "start", "tunnelcast-sync.service"); err != nil {
			return false, err
		}
		return endedFor(t, b, limit) > before, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func endedFor(t *testing.T, b *box.Box, limit string) int {
	t.Helper()
	out, err := b.Gateway.Journal(t.Context(), "TUNNELCAST_LIMIT="+limit)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(out, "session ended")
}

func wantConnected(t *testing.T, c *box.Client, want bool) {
	t.Helper()
	err := box.Poll(t.Context(), soon, fmt.Sprintf("the client to see that it is connected (%v)", want), func() (bool, error) {
		got, err := c.Connected(t.Context())
		return got == want, err
	})
	if err != nil {
		t.Error(err)
	}
}

// Sessions end at their limits, names follow, and each event is told once, through all that charon does to a session.
func TestSessions(t *testing.T) {
	b := server(t)
	before, err := b.Gateway.ReadFile("/etc/tunnelcast/updown.toml")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Gateway.WriteFile("/etc/tunnelcast/updown.toml", before, 0o644); err != nil {
			t.Error(err)
		}
	})
	if err := b.Gateway.WriteFile("/etc/tunnelcast/notify", notify, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, b, "rm", "-rf", "/run/tunnelcast/sessions", "/run/told")
	sessionSettings(t, b, "")
	laptop, phone := client(t, b, "laptop"), client(t, b, "phone")
	configure(t, phone, "unique = never", "") // INITIAL_CONTACT would say that there is no other
	name := "dave." + box.Zone

	address := connect(t, laptop, "dave")
	told(t, b, "connected dave "+name+" "+address)
	for _, rekey := range [][]string{
		{"swanctl", "--rekey", "--ike", "vpn"}, {"swanctl", "--rekey", "--child", "net"},
	} {
		run(t, b, rekey...)
		run(t, b, "systemctl", "start", "tunnelcast-sync.service")
	}
	told(t, b)
	want(t, b, "dave", address)

	sessionSettings(t, b, "max-session = \"1s\"\n")
	if out := run(t, b, "tunnelcast-updown", "sync", "--dry-run"); !strings.Contains(out, `would end the session of "dave"`) {
		t.Errorf("the dry run prints %q", out)
	}
	syncUntil(t, b, "max-session", 0)
	wantConnected(t, laptop, false)
	want(t, b, "dave")
	told(t, b, "ended dave "+name+" "+address)
	if out, err := b.Gateway.Journal(t.Context(), "-t", "tunnelcast-updown"); err != nil || !strings.Contains(out, "noted dave") {
		t.Errorf("the program's output is not in the journal: %v", err)
	}

	// A client that reconnects at once, and a second device of the same user.
	sessionSettings(t, b, "max-session = \"1h\"\nsessions-per-identity = 1\n")
	address = connect(t, laptop, "dave")
	told(t, b, "connected dave "+name+" "+address)
	want(t, b, "dave", address)
	second := connect(t, phone, "dave")
	told(t, b, "connected dave "+name+" "+second)
	want(t, b, "dave", address, second)
	seen := endedFor(t, b, "sessions-per-identity")
	err = box.Poll(t.Context(), soon, "the older session to be ended", func() (bool, error) {
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
	told(t, b, "ended dave "+name+" "+address)

	sessionSettings(t, b, "max-idle = \"5s\"\n[limit.alice]\nmax-idle = \"1h\"\n")
	other := connect(t, laptop, "alice")
	told(t, b, "connected alice alice."+box.Zone+" "+other)
	syncUntil(t, b, "max-idle", 0)
	wantConnected(t, phone, false)
	wantConnected(t, laptop, true)
	want(t, b, "dave")
	want(t, b, "alice", other)
	told(t, b, "ended dave "+name+" "+second)

	// charon is killed and starts again: the session is over, once.
	run(t, b, "systemctl", "kill", "--signal=KILL", "strongswan.service")
	run(t, b, "systemctl", "restart", "strongswan.service")
	told(t, b, "disconnected alice alice."+box.Zone+" "+other)
	run(t, b, "systemctl", "reset-failed")
}
