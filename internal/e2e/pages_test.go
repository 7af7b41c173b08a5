package e2e

import (
	"cmp"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tunnelcast/internal/e2e/box"
)

// What the box replaces for these pages, without their text:
//
//   - crontab is a script, because the tree has no cron.
//   - pppd is a script that makes a link ppp0 and has pppd's hooks called, because the kernel has no PPP. The router
//     and the peer of the link answer nothing.

// readerOn returns a reader on a server that was set up before.
func readerOn(t *testing.T, b *box.Box) *reader {
	return &reader{T: t, values: map[string]string{}, before: map[string]func(){},
		computers: map[string]computer{"": b.Gateway}}
}

const crontab = `#!/bin/sh
set -e
cd /var/spool/cron/crontabs
case $1 in
-l) cat root ;;
-) cat >root.new && mv root.new root ;;
*) cp "$1" root ;;
esac
`

// docs/migration.md, from a server with the guide's scripts to tunnelcast and back, while a client is connected.
func TestMigration(t *testing.T) {
	data, err := os.ReadFile(deb(t))
	if err != nil {
		t.Fatal(err)
	}
	b := begin(t, cmp.Or(os.Getenv("TUNNELCAST_SUITE"), "bookworm"), box.Guide).box
	for _, f := range []struct {
		name, content string
		mode          os.FileMode
	}{
		{"/usr/local/bin/crontab", crontab, 0o755},
		{"/root/" + filepath.Base(os.Getenv("TUNNELCAST_DEB")), string(data), 0o644},
	} {
		if err := b.Gateway.WriteFile(f.name, f.content, f.mode); err != nil {
			t.Fatal(err)
		}
	}
	unsigned := func() error {
		// carol left while the server could not be reached.
		_, err := b.Gateway.Run(t.Context(), "sh", "-c",
			`printf 'server 127.0.0.1\nzone example\nupdate add carol.example. 3600 A 10.0.0.150\nsend\n' | nsupdate`)
		return err
	}
	if err := unsigned(); err != nil {
		t.Fatal(err)
	}
	ttl := func(name string) string {
		t.Helper()
		f := strings.Fields(run(t, b, "dig", "@127.0.0.1", "+noall", "+answer", name+"."+box.Zone))
		if len(f) < 5 {
			return "no name"
		}
		return f[1] + " " + f[4]
	}
	daemons := func() string {
		t.Helper()
		return run(t, b, "systemctl", "show", "-P", "MainPID", "strongswan.service", "named.service", "nginx.service")
	}
	alice, bob := client(t, b, "laptop"), client(t, b, "phone")
	address := connect(t, alice, "alice")
	if got := ttl("alice"); got != "3600 "+address {
		t.Errorf("by the old script alice has %s", got)
	}
	pids, cron := daemons(), run(t, b, "cat", "/var/spool/cron/crontabs/root")

	r := readerOn(t, b)
	r.before["7. Check"] = func() {
		connect(t, bob, "bob")
		if err := bob.Publish(t.Context(), "garden", 2); err != nil {
			t.Fatal(err)
		}
		if got := ttl("alice"); got != "60 "+address {
			t.Errorf("after the migration alice has %s", got)
		}
		if got := ttl("carol"); got != "no name" {
			t.Errorf("carol, who left long ago, has %s", got)
		}
		if err := unsigned(); err == nil {
			t.Error("the zone still accepts unsigned updates")
		}
	}
	r.follow("migration.md")

	if err := bob.Disconnect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := ttl("bob"); got != "no name" {
		t.Errorf("bob has left, and by the old script he has %s", got)
	}
	if got := connect(t, bob, "bob"); ttl("bob") != "3600 "+got {
		t.Errorf("bob is connected as %s, by the old script he has %s", got, ttl("bob"))
	}
	if now := run(t, b, "cat", "/var/spool/cron/crontabs/root"); now != cron {
		t.Errorf("the crontab is %q, before %q", now, cron)
	}
	if now := daemons(); now != pids {
		t.Errorf("daemons were restarted: %s, before %s", now, pids)
	}
	if up, err := alice.Connected(t.Context()); err != nil || !up {
		t.Errorf("alice's tunnel is gone: %v", err)
	}
}

// followAndGoBack takes the steps of a page, at whose end the settings must be as before.
func (r *reader) followAndGoBack(page string, b *box.Box) {
	r.Helper()
	keepUpdownToml(r.T, b)
	before, err := b.Gateway.ReadFile(updownToml)
	if err != nil {
		r.Fatal(err)
	}
	r.follow(page)
	if now, err := b.Gateway.ReadFile(updownToml); err != nil || now != before {
		r.Errorf("docs/%s leaves the settings\n%s, error %v", page, now, err)
	}
}

// docs/lab.md. TestSessions has sessions end at their limits.
func TestLab(t *testing.T) {
	b := server(t)
	run(t, b, "systemctl", "restart", "strongswan.service") // other tests may have left sessions
	laptop := client(t, b, "laptop")
	connect(t, laptop, "alice")
	keepUpdownToml(t, b)
	run(t, b, "sh", "-c", `echo 'page = "/var/www/html/clients.html"' >>`+updownToml) // as the guide does
	readerOn(t, b).followAndGoBack("lab.md", b)
	run(t, b, "systemctl", "start", "tunnelcast-sync.service")
	wantConnected(t, laptop, true)
}

// homePPPD stands for pppd: the same arguments of the hooks, and a link with a peer.
const homePPPD = `#!/bin/sh
set -e
[ "$*" = "call provider nodetach" ] && grep -q nodefaultroute /etc/ppp/peers/provider
ip link add ppp0 type veth peer name ppp0-isp
trap 'ip link del ppp0; exit 0' TERM
ip link set ppp0-isp up
ip address add 8.8.4.5 peer 8.8.4.1 dev ppp0
ip link set ppp0 up
env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin PPP_IFACE=ppp0 PPP_LOCAL=8.8.4.5 PPP_REMOTE=8.8.4.1 \
	run-parts /etc/ppp/ip-up.d --arg=ppp0 --arg=eth0 --arg=0 --arg=8.8.4.5 --arg=8.8.4.1 --arg=
while :; do sleep 1; done
`

// docs/home-server.md. The addresses are public ones, because others are not published; nothing leaves the box.
func TestHomeServer(t *testing.T) {
	b := server(t)
	if err := b.Gateway.WriteFile("/usr/sbin/pppd", homePPPD, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, b, "sh", "-ec", `mkdir -p /etc/ppp/peers /etc/ppp/ip-up.d
: >/etc/ppp/chap-secrets
: >/etc/ppp/pap-secrets
ip link add eth0 type veth peer name eth0-router
ip link set eth0-router up
ip link set eth0 up
ip address add 192.168.1.5/24 dev eth0`)
	defer run(t, b, "sh", "-c", `systemctl stop pppoe.service 2>/dev/null
ip link del ppp0 2>/dev/null
ip link del eth0
rm -rf /usr/sbin/pppd /etc/ppp/peers /etc/ppp/*-secrets`)
	// The kernel makes the temporary address.
	onNetwork(t, b, "sysctl", "-qw", "net.ipv6.conf.eth0.use_tempaddr=2")
	onNetwork(t, b, "ip", "address", "add", "2a00:77::5/64", "dev", "eth0", "mngtmpaddr")
	err := box.Poll(t.Context(), soon, "a temporary address", func() (bool, error) {
		out, err := b.Gateway.Run(t.Context(), "ip", "-6", "address", "show", "dev", "eth0", "-tentative")
		return strings.Contains(out, "temporary"), err
	})
	if err != nil {
		t.Fatal(err)
	}

	r := readerOn(t, b)
	r.before["The name in the public DNS"] = func() {
		for rrtype, want := range map[string]string{"A": "8.8.4.5\n", "AAAA": "2a00:77::5\n"} {
			if got := run(t, b, "dig", "@127.0.0.1", "+short", "home.example", rrtype); got != want {
				t.Errorf("home.example has the %s %q, want %q", rrtype, got, want)
			}
		}
	}
	r.followAndGoBack("home-server.md", b)
	if got := run(t, b, "dig", "@127.0.0.1", "+short", "home.example", "ANY"); got != "" {
		t.Errorf("home.example is still there: %s", got)
	}
}

// onNetwork runs a command of this computer in a gateway's network: the box may not write to /proc/sys.
func onNetwork(t *testing.T, b *box.Box, args ...string) {
	t.Helper()
	args = append([]string{"nsenter", "--target", b.Gateway.Enter()[2], "--net", "--"}, args...)
	if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

// pinger is a computer whose ping is that of this computer: the box's tree has none.
type pinger struct{ *box.Gateway }

func (p pinger) Run(ctx context.Context, args ...string) (string, error) {
	before, ping, found := strings.Cut(args[len(args)-1], "\nping ")
	if !found {
		return p.Gateway.Run(ctx, args...)
	}
	out, err := p.Gateway.Run(ctx, append(slices.Clone(args[:len(args)-1]), before)...)
	if err != nil {
		return out, err
	}
	enter := []string{"--target", p.Enter()[2], "--net", "--", "ping"}
	replies, err := exec.CommandContext(ctx, "nsenter", append(enter, strings.Fields(ping)...)...).CombinedOutput()
	return out + string(replies), err
}

// docs/lans.md and docs/gateways.md, on two servers that are joined by a cable. It stands for the Internet, and for
// lans.md's link, too.
func TestTwoServers(t *testing.T) {
	b := server(t)
	deb, err := filepath.Abs(deb(t))
	if err != nil {
		t.Fatal(err)
	}
	second := begin(t, cmp.Or(os.Getenv("TUNNELCAST_SUITE"), "bookworm"), box.Guide).box
	if err := second.Gateway.Install(t.Context(), deb); err != nil {
		t.Fatal(err)
	}
	pid := func(b *box.Box) string { return b.Gateway.Enter()[2] }
	cable := func(name string) {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "ip", "link", "add", name, "netns", pid(b), "type", "veth",
			"peer", "name", name, "netns", pid(second)).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	cable("internet")
	cable("ppp0")
	for b, commands := range map[*box.Box]string{
		b: `ip address add 203.0.113.1/24 dev internet
ip address add 192.168.1.1/32 dev lo
ip address add 10.255.0.1 peer 10.255.0.2 dev ppp0`,
		second: `ip address add 203.0.113.2/24 dev internet
ip address add 192.168.2.1/32 dev lo
ip address add 10.255.0.2 peer 10.255.0.1 dev ppp0`,
	} {
		run(t, b, "sh", "-ec", commands+"\nip link set internet up\nip link set ppp0 up")
		onNetwork(t, b, "sysctl", "-qw", "net.ipv4.ip_forward=1")
	}
	defer run(t, b, "sh", "-ec", "ip link del internet; ip address del 192.168.1.1/32 dev lo")
	keepUpdownToml(t, second)
	r := readerOn(t, b)
	r.computers[""], r.computers["second"] = pinger{b.Gateway}, pinger{second.Gateway}
	settings := run(t, b, "cat", "/etc/bind/named.conf.local", "/etc/bind/named.conf.options")

	// A tunnel's packets go by the public addresses, so the link that would carry them, too, is gone by then.
	r.before["strongSwan alone"] = func() { run(t, b, "ip", "link", "del", "ppp0") }
	r.followAndGoBack("lans.md", b)

	laptop := client(t, b, "laptop")
	phone, err := second.Client(t.Context(), "phone")
	if err != nil {
		t.Fatal(err)
	}
	connect(t, laptop, "alice")
	r.before["Check"] = func() { connect(t, phone, "bob") }
	r.before["The second server"] = func() {
		key, err := b.Gateway.ReadFile("/etc/bind/gw2.key")
		if err == nil {
			err = second.Gateway.WriteFile("/etc/bind/gw2.key", key, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	r.before["Go back"] = func() {
		if _, err := second.Gateway.Run(t.Context(), "sh", "-c",
			`printf 'server 203.0.113.1\nzone example\nupdate add ns.example. 60 A 10.0.1.1\nsend\n' |
	nsupdate -k /etc/bind/gw2.key`); err == nil {
			t.Error("the second server may change the name of the name server")
		}
	}
	r.followAndGoBack("gateways.md", b)
	want(t, b, "bob")
	if now := run(t, b, "cat", "/etc/bind/named.conf.local", "/etc/bind/named.conf.options"); now != settings {
		t.Errorf("the settings of bind9 are\n%s\nbefore\n%s", now, settings)
	}
}
