package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tunnelcast/internal/e2e/box"
)

// dial connects from inside a network namespace. Only the socket belongs to it; the thread leaves it again.
func dial(namespace, network, address string) (net.Conn, error) {
	own, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	defer own.Close()
	other, err := os.Open(namespace)
	if err != nil {
		return nil, err
	}
	defer other.Close()
	runtime.LockOSThread()
	if err := unix.Setns(int(other.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("enter %s: %w", namespace, err)
	}
	conn, err := net.Dial(network, address)
	if back := unix.Setns(int(own.Fd()), unix.CLONE_NEWNET); back != nil {
		return conn, errors.Join(err, back) // the thread stays locked, so it ends with its goroutine
	}
	runtime.UnlockOSThread()
	return conn, err
}

// holds asks the gateway's named, from inside its network, for the addresses of a family ("ip4" or "ip6") that a user's
// name has. It takes a fraction of a millisecond.
func holds(ctx context.Context, b *box.Box, family, user string) ([]string, error) {
	r := net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return dial(b.Gateway.Network(), "udp", "127.0.0.1:53")
	}}
	addrs, err := r.LookupNetIP(ctx, family, user+"."+box.Zone+".")
	if e := (*net.DNSError)(nil); errors.As(err, &e) && e.IsNotFound {
		return nil, nil
	}
	var texts []string
	for _, a := range addrs {
		texts = append(texts, a.Unmap().String())
	}
	slices.Sort(texts)
	return texts, err
}

// family returns the family of an address, which may be a family itself.
func family(address string) string {
	if strings.Contains(address, ":") || address == "ip6" {
		return "ip6"
	}
	return "ip4"
}

// watch asks for a name once a millisecond until done is called, which fails the test if any answer lacked the address.
// The address "ip4" or "ip6" is any address of that family.
func watch(t *testing.T, b *box.Box, user, address string) (done func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	asked := 0
	var absent []string
	var longest time.Duration // between two answers
	start := time.Now()
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for last := time.Now(); ctx.Err() == nil; <-tick.C {
			got, err := holds(ctx, b, family(address), user)
			if ctx.Err() != nil {
				return
			}
			asked++
			longest = max(longest, time.Since(last))
			last = time.Now()
			if err != nil || len(got) == 0 || address != family(address) && !slices.Contains(got, address) {
				absent = append(absent, fmt.Sprintf("after %v: %v %v", time.Since(start), got, err))
			}
		}
	}()
	return func() {
		t.Helper()
		cancel()
		<-ended
		t.Logf("%s had %s in each of %d answers in %v, at most %v apart",
			user, address, asked-len(absent), time.Since(start), longest)
		if len(absent) > 0 {
			t.Errorf("in %d of %d answers %s did not have %s, the first %s",
				len(absent), asked, user, address, absent[0])
		}
	}
}

// want waits until a user's name has exactly these addresses, of both families, and returns how long that took.
func want(t *testing.T, b *box.Box, user string, addresses ...string) time.Duration {
	t.Helper()
	slices.Sort(addresses)
	start := time.Now()
	var got []string
	err := box.Poll(t.Context(), soon, "names to be right", func() (bool, error) {
		four, err := holds(t.Context(), b, "ip4", user)
		six, err6 := holds(t.Context(), b, "ip6", user)
		got = slices.Sorted(slices.Values(slices.Concat(four, six)))
		return slices.Equal(got, addresses), errors.Join(err, err6)
	})
	if err != nil {
		t.Fatalf("%s has %v, want %v: %v", user, got, addresses, err)
	}
	return time.Since(start)
}

// An sa is an IKE_SA as the gateway's charon lists it.
type sa struct{ id, remote, state string }

var saFields = map[string]*regexp.Regexp{
	"id":     regexp.MustCompile(`\{uniqueid=(\d+) version=`),
	"remote": regexp.MustCompile(` remote-host=(\S+)`),
	"state":  regexp.MustCompile(` version=2 state=(\w+)`),
	"user":   regexp.MustCompile(` remote-id=(\S+)`),
}

// sas returns the IKE_SAs of a user.
func sas(t *testing.T, b *box.Box, user string) []sa {
	t.Helper()
	var list []sa
	for line := range strings.Lines(run(t, b, "swanctl", "--list-sas", "--raw")) {
		field := map[string]string{}
		for name, pattern := range saFields {
			if m := pattern.FindStringSubmatch(line); m != nil {
				field[name] = m[1]
			}
		}
		if field["user"] == user {
			list = append(list, sa{field["id"], field["remote"], field["state"]})
		}
	}
	return list
}

// wantSAs waits until the gateway has exactly n IKE_SAs of a user, and all are ok.
func wantSAs(t *testing.T, b *box.Box, user string, n int, ok func(sa) bool) (list []sa) {
	t.Helper()
	err := box.Poll(t.Context(), soon, "IKE_SAs", func() (bool, error) {
		list = sas(t, b, user)
		return len(list) == n && !slices.ContainsFunc(list, func(s sa) bool { return !ok(s) }), nil
	})
	if err != nil {
		t.Fatalf("IKE_SAs of %s: %+v: %v", user, list, err)
	}
	return list
}

func anySA(sa) bool { return true }

// replaced returns a test for an established SA other than an earlier one.
func replaced(before sa) func(sa) bool {
	return func(s sa) bool { return s.id != before.id && s.state == "ESTABLISHED" }
}

// must runs a command on a device, which must succeed, and returns its standard output.
func must(t *testing.T, c *box.Client, args ...string) string {
	t.Helper()
	out, err := c.Run(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// configure sets lines of a device's connection, for the next Connect, and settings of its charon.
func configure(t *testing.T, c *box.Client, connection, charon string) {
	t.Helper()
	err := errors.Join(
		c.WriteFile("/etc/swanctl/conf.d/zz-test.conf", "connections {\nvpn {\n"+connection+"\n}\n}\n", 0o600),
		c.WriteFile("/etc/strongswan.d/zz-test.conf", "charon-systemd {\n"+charon+"\n}\n", 0o644))
	if err != nil {
		t.Fatal(err)
	}
	must(t, c, "swanctl", "--reload-settings")
}

// configureGateway adds to the gateway's swanctl.conf and to the settings of its charon, and loads both, until the test
// ends.
func configureGateway(t *testing.T, b *box.Box, swanctl, charon string) {
	t.Helper()
	set := func(swanctl, charon string) error {
		ctx := context.WithoutCancel(t.Context())
		err := errors.Join(
			b.Gateway.WriteFile("/etc/swanctl/conf.d/zz-test.conf", swanctl, 0o600),
			b.Gateway.WriteFile("/etc/strongswan.d/zz-test.conf", "charon-systemd {\n"+charon+"\n}\n", 0o644))
		for _, args := range [][]string{{"--reload-settings"}, {"--load-all", "--noprompt"}} {
			_, failed := b.Gateway.Run(ctx, append([]string{"swanctl"}, args...)...)
			err = errors.Join(err, failed)
		}
		return err
	}
	if err := set(swanctl, charon); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := set("", ""); err != nil {
			t.Error(err)
		}
	})
}

// impatient has the gateway's charon give up a device that does not answer after 3 s instead of 165 s.
const impatient = "retransmit_tries = 1\nretransmit_timeout = 1.0"

// uplink returns a device's outer address.
func uplink(t *testing.T, c *box.Client) string {
	t.Helper()
	address := strings.Fields(must(t, c, "ip", "-o", "-4", "address", "show", "dev", "uplink"))[3]
	address, _, _ = strings.Cut(address, "/")
	return address
}

// roam changes a device's outer address, of which MOBIKE tells the gateway.
func roam(t *testing.T, b *box.Box, c *box.Client, from, to string) {
	t.Helper()
	near := regexp.MustCompile(`dev (\S+)`).FindStringSubmatch(run(t, b, "ip", "route", "show", from))[1]
	run(t, b, "ip", "route", "replace", to+"/32", "dev", near, "src", box.Outside)
	must(t, c, "ip", "address", "del", from+"/32", "peer", box.Outside, "dev", "uplink")
	must(t, c, "ip", "address", "add", to+"/32", "peer", box.Outside, "dev", "uplink")
}

func disconnect(t *testing.T, c *box.Client) {
	t.Helper()
	if err := c.Disconnect(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// wantGone waits until a user's name is removed, after the last disconnect.
func wantGone(t *testing.T, b *box.Box, user string) {
	t.Helper()
	if took := want(t, b, user); took > byPathUnit {
		t.Errorf("%s was removed %v after the last disconnect, want at most %v", user, took, byPathUnit)
	}
}

// The documentation of cmd/updown lists charon's calls for each event. Whatever it calls, the name of a connected
// client is never absent, and in the end the zone has exactly the connected clients.
func TestNamesInEveryEvent(t *testing.T) {
	b := server(t)
	one, two := client(t, b, "one"), client(t, b, "two")
	event := func(name string, test func(*testing.T)) {
		if t.Failed() { // the next event needs disconnected devices
			return
		}
		if !t.Run(name, test) {
			for _, c := range []*box.Client{one, two} {
				log, err := c.Log()
				t.Logf("a device's charon: %v\n%s", err, log[max(0, len(log)-8000):])
			}
		}
	}

	event("CHILD and IKE rekey", func(t *testing.T) {
		address := connect(t, one, "alice")
		done := watch(t, b, "alice", address)
		before := wantSAs(t, b, "alice", 1, anySA)[0]
		must(t, one, "swanctl", "--rekey", "--child", "net")
		must(t, one, "swanctl", "--rekey", "--ike", "vpn")
		wantSAs(t, b, "alice", 1, replaced(before))
		run(t, b, "systemctl", "start", "tunnelcast-sync.service")
		done()
		want(t, b, "alice", address)
		disconnect(t, one)
		wantGone(t, b, "alice")
	})

	event("make-before-break reauthentication", func(t *testing.T) {
		configure(t, one, "", "make_before_break = yes")
		address := connect(t, one, "alice")
		done := watch(t, b, "alice", address)
		for range 3 {
			before := wantSAs(t, b, "alice", 1, anySA)[0]
			must(t, one, "swanctl", "--rekey", "--ike", "vpn", "--reauth")
			wantSAs(t, b, "alice", 1, replaced(before))
		}
		run(t, b, "systemctl", "start", "tunnelcast-sync.service")
		done()
		want(t, b, "alice", address)
		disconnect(t, one)
		wantGone(t, b, "alice")
	})

	event("MOBIKE", func(t *testing.T) {
		address := connect(t, one, "alice")
		done := watch(t, b, "alice", address)
		const roamed = "198.51.100.200"
		old := uplink(t, one)
		move := func(from, to string) {
			t.Helper()
			roam(t, b, one, from, to)
			wantSAs(t, b, "alice", 1, func(s sa) bool { return s.remote == to })
		}
		move(old, roamed)
		run(t, b, "systemctl", "start", "tunnelcast-sync.service")
		move(roamed, old)
		done()
		want(t, b, "alice", address)
		disconnect(t, one)
		wantGone(t, b, "alice")
	})

	event("two devices of one user", func(t *testing.T) {
		first := connect(t, one, "alice")
		configure(t, two, "unique = never", "") // no INITIAL_CONTACT, on which charon closes the other SA
		second := connect(t, two, "alice")
		want(t, b, "alice", first, second)
		done := watch(t, b, "alice", second)
		disconnect(t, one)
		if took := want(t, b, "alice", second); took > byPathUnit {
			t.Errorf("the first device's address was removed after %v", took)
		}
		done()
		disconnect(t, two)
		wantGone(t, b, "alice")
	})

	event("return with INITIAL_CONTACT", func(t *testing.T) {
		connect(t, one, "alice")
		if err := one.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		address := connect(t, one, "alice")
		done := watch(t, b, "alice", address)
		wantSAs(t, b, "alice", 1, anySA)
		want(t, b, "alice", address)
		// And from another address.
		done()
		configure(t, two, "", "")
		other := connect(t, two, "alice")
		done = watch(t, b, "alice", other)
		wantSAs(t, b, "alice", 1, anySA)
		want(t, b, "alice", other)
		done()
		disconnect(t, two)
		wantGone(t, b, "alice")
	})

	event("return without INITIAL_CONTACT from the same address", func(t *testing.T) {
		configureGateway(t, b, "", impatient)
		configure(t, one, "unique = never", "")
		before := connect(t, one, "carol")
		old := wantSAs(t, b, "carol", 1, anySA)[0]
		if err := one.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		address := connect(t, one, "carol")
		done := watch(t, b, "carol", address)
		wantSAs(t, b, "carol", 2, anySA)
		if address != before { // carol has had no other
			t.Errorf("the virtual IPs are %s and %s; this test is about one IP of both SAs", before, address)
		}
		// charon would detect by itself that the old SA is dead, after the guide's dpd_delay of 30 s. swanctl fails
		// because the device does not answer.
		_, _ = b.Gateway.Run(t.Context(), "swanctl", "--terminate", "--ike-id", old.id)
		wantSAs(t, b, "carol", 1, func(s sa) bool { return s.id != old.id })
		want(t, b, "carol", address)
		done()
		disconnect(t, one)
		wantGone(t, b, "carol")
	})

	event("return without INITIAL_CONTACT from another address", func(t *testing.T) {
		configureGateway(t, b, "connections {\nvpn {\nunique = replace\n}\n}\n", impatient)
		connect(t, one, "alice")
		if err := one.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		configure(t, two, "unique = never", "")
		address := connect(t, two, "alice")
		done := watch(t, b, "alice", address)
		wantSAs(t, b, "alice", 1, func(s sa) bool { return s.state == "ESTABLISHED" })
		want(t, b, "alice", address)
		done()
		disconnect(t, two)
		wantGone(t, b, "alice")
	})

	event("dual stack", func(t *testing.T) {
		configureGateway(t, b, `connections {
vpn {
pools = clients, clients6
children {
net {
local_ts = 0.0.0.0/0, ::/0
}
}
}
}
pools {
clients6 {
addrs = fd00::100-fd00::1ff
}
}
`, "")
		run(t, b, "ip", "address", "replace", "fd00::1/128", "dev", "lo")
		run(t, b, "systemctl", "start", "tunnelcast-sync.service") // learns the new pool
		configure(t, one, `vips = 0.0.0.0, ::
children {
net {
remote_ts = 10.0.0.0/24, fd00::/64
}
}`, "make_before_break = yes")
		connect(t, one, "alice")
		six, err := holds(t.Context(), b, "ip6", "alice")
		if err != nil || len(six) != 1 || !strings.HasPrefix(six[0], "fd00::1") {
			t.Fatalf("when the connect returned the AAAA was %v, %v", six, err)
		}
		// The IPv4 address may change: charon prefers an earlier, free address of the identity to the one that is in
		// use.
		done4, done6 := watch(t, b, "alice", "ip4"), watch(t, b, "alice", six[0])
		before := wantSAs(t, b, "alice", 1, anySA)[0]
		must(t, one, "swanctl", "--rekey", "--ike", "vpn", "--reauth")
		wantSAs(t, b, "alice", 1, replaced(before))
		four, err := one.Address(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want(t, b, "alice", four, six[0])
		done4()
		done6()
		disconnect(t, one)
		wantGone(t, b, "alice")
	})

	event("charon ends", func(t *testing.T) {
		configure(t, one, "", "")
		configure(t, two, "", "")
		alice, bob := connect(t, one, "alice"), connect(t, two, "bob")
		want(t, b, "alice", alice)
		want(t, b, "bob", bob)
		run(t, b, "systemctl", "stop", "strongswan.service")
		wantGone(t, b, "alice")
		wantGone(t, b, "bob")
		run(t, b, "systemctl", "start", "strongswan.service")
	})
}

// While named hangs, each client's hook holds charon, and with it all other clients, for no longer than its timeout of
// 1 s.
func TestNamesWhileNamedHangs(t *testing.T) {
	b := server(t)
	one, two := client(t, b, "one"), client(t, b, "two")
	start := time.Now()
	connect(t, two, "bob")
	usual := time.Since(start)
	disconnect(t, two)
	wantGone(t, b, "bob")

	run(t, b, "systemctl", "kill", "--signal=STOP", "named.service")
	resume := func() {
		ctx := context.WithoutCancel(t.Context())
		if _, err := b.Gateway.Run(ctx, "systemctl", "kill", "--signal=CONT", "named.service"); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(resume)
	type result struct {
		address string
		took    time.Duration
		err     error
	}
	first := make(chan result, 1)
	start = time.Now()
	go func() {
		address, err := one.Connect(t.Context(), "alice")
		first <- result{address, time.Since(start), err}
	}()
	bob := connect(t, two, "bob")
	took := time.Since(start)
	alice := <-first
	if alice.err != nil {
		t.Fatal(alice.err)
	}
	t.Logf("connects took %v and %v, usually %v", alice.took, took, usual)
	// Each client waits for its own hook and for the other's, a second each. The guide's script takes 12 s per call.
	if most := 2*usual + 12*time.Second; max(took, alice.took) > most {
		t.Errorf("connects took %v and %v while named hung, usually %v; want at most %v", alice.took, took, usual, most)
	}
	resume()
	if took := max(want(t, b, "alice", alice.address), want(t, b, "bob", bob)); took > byPathUnit {
		t.Errorf("the names were right %v after named continued", took)
	}
	disconnect(t, one)
	disconnect(t, two)
	wantGone(t, b, "alice")
	wantGone(t, b, "bob")
}
