package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

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

// keepUpdownToml puts updown.toml back at the end of the test.
func keepUpdownToml(t *testing.T, b *box.Box) {
	t.Helper()
	before, err := b.Gateway.ReadFile(updownToml)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Gateway.WriteFile(updownToml, before, 0o644); err != nil {
			t.Error(err)
		}
	})
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
	keepUpdownToml(t, b)
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
	out := ""
	err := box.Poll(t.Context(), soon, "a dry run that would end the session", func() (bool, error) {
		out = run(t, b, "tunnelcast-updown", "sync", "--dry-run")
		return strings.Contains(out, `would end the session of "dave"`), nil
	})
	if err != nil {
		t.Errorf("the dry run prints %q: %v", out, err)
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

// With one session per identity, neither a reauthentication nor a client that roams, nor a device that comes back
// without INITIAL_CONTACT counts as a second login. What counts does so from its 31st second on.
func TestSessionsThatReplaceEachOther(t *testing.T) {
	b := server(t)
	keepUpdownToml(t, b)
	run(t, b, "systemctl", "restart", "strongswan.service")
	run(t, b, "systemctl", "start", "tunnelcast-sync.service")
	configureGateway(t, b, "", impatient)
	sessionSettings(t, b, "sessions-per-identity = 1\n")
	before := endedFor(t, b, "sessions-per-identity")
	sync := func() { t.Helper(); run(t, b, "systemctl", "start", "tunnelcast-sync.service") }

	tablet := client(t, b, "tablet")
	configure(t, tablet, "", "make_before_break = yes")
	address := connect(t, tablet, "alice")
	for range 2 {
		old := wantSAs(t, b, "alice", 1, anySA)[0]
		sync()
		must(t, tablet, "swanctl", "--rekey", "--ike", "vpn", "--reauth")
		sync()
		wantSAs(t, b, "alice", 1, replaced(old))
	}
	from, to := uplink(t, tablet), "198.51.100.201"
	roam(t, b, tablet, from, to)
	wantSAs(t, b, "alice", 1, func(s sa) bool { return s.remote == to })
	sync()

	phone, again := client(t, b, "phone"), client(t, b, "again")
	connect(t, phone, "bob")
	phone.Close() // without a word to the gateway
	configure(t, again, "unique = never", "")
	second := connect(t, again, "bob")
	wantSAs(t, b, "bob", 2, anySA)

	// Longer than the time from which a session counts, in which both devices are used.
	for end := time.Now().Add(40 * time.Second); time.Now().Before(end); time.Sleep(3 * time.Second) {
		for _, c := range []*box.Client{tablet, again} {
			_, _ = c.Dig(t.Context(), "ns."+box.Zone)
		}
		sync()
	}
	if ended := endedFor(t, b, "sessions-per-identity") - before; ended != 0 {
		t.Errorf("%d sessions were ended", ended)
	}
	wantConnected(t, tablet, true)
	wantConnected(t, again, true)
	want(t, b, "alice", address)
	got, err := holds(t.Context(), b, "ip4", "bob")
	if err != nil || !slices.Contains(got, second) {
		t.Errorf("bob has %v, want %s among them: %v", got, second, err)
	}
	for _, s := range sas(t, b, "bob") { // the old one has nobody who would answer
		_, _ = b.Gateway.Run(t.Context(), "swanctl", "--terminate", "--ike-id", s.id)
	}
	disconnect(t, tablet)
	wantGone(t, b, "alice")
}
