package e2e

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"tunnelcast/internal/e2e/vm"
)

// A dialUp is a machine whose pppd dials a provider over PPPoE. The provider is a pppoe-server in a network namespace
// of the machine, with an /etc/ppp of its own. With each dial it gives the next address, from 203.0.113.100 on.
type dialUp struct {
	t *testing.T
	m *vm.Machine
}

// provider sets up both ends. Everything that pppd calls is Debian's, and what our package has linked there.
const provider = `
ip netns add isp
ip link add wan type veth peer name dsl0 netns isp
ip link set wan up
ip -n isp link set lo up
ip -n isp link set dsl0 up
ip -n isp address add 203.0.113.1/32 dev lo
cp -a /etc/ppp /srv/isp
rm -f /srv/isp/*.d/*
printf '%s\n' require-chap 'lcp-echo-interval 10' 'lcp-echo-failure 6' +ipv6 nodefaultroute \
	>/srv/isp/pppoe-server-options
echo '"home@isp" * "secret" *' | tee /srv/isp/chap-secrets >/etc/ppp/chap-secrets
chmod 600 /srv/isp/chap-secrets /etc/ppp/chap-secrets
plugin=rp-pppoe.so
ls /usr/lib/pppd/*/$plugin >/dev/null 2>&1 || plugin=pppoe.so
printf '%s\n' "plugin $plugin" nic-wan 'user home@isp' noipdefault nodefaultroute +ipv6 persist 'maxfail 0' \
	'holdoff 1' hide-password noauth 'lcp-echo-interval 10' 'lcp-echo-failure 6' 'ipparam dsl' >/etc/ppp/peers/dsl
systemd-run -q --collect --unit=isp --property=NetworkNamespacePath=/run/netns/isp \
	--property=BindPaths=/srv/isp:/etc/ppp --property=TemporaryFileSystem=/run \
	pppoe-server -F -I dsl0 -C isp -L 203.0.113.1 -R 203.0.113.100 -N 50

# What is somebody else's: a rule with a source, a route in a table of its own, and one in the main table.
ip link add other type dummy
ip link set other up
ip address add 10.9.9.2/24 dev other
ip route add default via 10.9.9.1 dev other table 77
ip route add 192.168.9.0/24 via 10.9.9.1 dev other
ip rule add from 198.51.100.9 lookup 77 priority 77

printf '#!/bin/sh\necho "$TUNNELCAST_EVENT $TUNNELCAST_LINK $TUNNELCAST_NAME $TUNNELCAST_ADDRESS" >>/root/told\n' \
	>/etc/tunnelcast/told
chmod 755 /etc/tunnelcast/told
`

// others prints what is not ours, nor made by the kernel or pppd for the PPP link itself.
const others = `ip -4 rule | grep -v 'proto 116'; ip -4 route show table all | grep -v -e 'proto 116' -e 'dev ppp0'
ip -6 rule | grep -v 'proto 116'`

func newDialUp(t *testing.T) dialUp {
	t.Helper()
	d := dialUp{t, machine(t)}
	d.shell(provider)
	d.timer("yearly")
	t.Cleanup(func() {
		if t.Failed() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), soon)
			defer cancel()
			out, err := d.m.Run(ctx, "journalctl", "--no-hostname", "-n", "80",
				"-t", "pppd", "-t", "tunnelcast-updown", "-t", "pppoe-server")
			t.Log(out, err)
		}
	})
	return d
}

func (d dialUp) shell(script string, args ...string) string {
	d.t.Helper()
	return inMachine(d.t, d.m, script, args...)
}

// until waits until the script prints nothing. It waits in the machine, because each command from outside costs time.
func (d dialUp) until(what, script string, args ...string) {
	d.t.Helper()
	last := d.shell(`end=$(($(date +%s) + $1)) script=$2
shift 2
while out=$(sh -c "$script" sh "$@" 2>&1); [ -n "$out" ]; do
	[ $(date +%s) -lt $end ] || { echo "$out"; break; }
	sleep 1
done`, append([]string{strconv.Itoa(int(soon.Seconds())), script}, args...)...)
	if last != "" {
		d.t.Fatalf("wait for %s: nothing after %v; %s%s", what, soon, last, d.shell(`ip -4 rule; ip -6 rule
ip route show table 200; ip -br address; systemctl status --no-pager 'tunnelcast-links.*' || true`))
	}
}

// timer sets when tunnelcast-links.timer runs. yearly: everything must come from pppd's calls.
func (d dialUp) timer(calendar string) {
	d.t.Helper()
	d.shell(`conf=/run/systemd/system/tunnelcast-links.timer.d/test.conf
mkdir -p $(dirname $conf)
printf '[Timer]\nOnCalendar=\nOnCalendar=%s\nAccuracySec=1s\n' "$1" >$conf
systemctl daemon-reload
! systemctl is-active -q tunnelcast-links.timer || systemctl restart tunnelcast-links.timer`, calendar)
}

func (d dialUp) configure(link string) {
	d.t.Helper()
	toml := "on-event = [\"/etc/tunnelcast/told\"]\n" + link
	if err := d.m.WriteFile(updownToml, toml, 0o644); err != nil {
		d.t.Fatal(err)
	}
}

// pppd prints the process number of the client's pppd.
const pppd = `pgrep -x -f 'pppd call dsl' | head -n 1`

// address waits until the kernel has an IPv4 address other than old for ppp0, and returns it.
func (d dialUp) address(old string) string {
	d.t.Helper()
	const address = `ip -o -4 address show dev ppp0 2>/dev/null | sed -n 's/.* inet \([0-9.]*\) .*/\1/p'`
	d.until("an address of ppp0 other than "+old,
		`a=$(`+address+`); [ -n "$a" ] && [ "$a" != "$1" ] || echo "has $a"`, old)
	return strings.TrimSpace(d.shell(address))
}

// up waits until everything follows the address, and the IPv6 address if there is one.
func (d dialUp) up(address, ipv6 string) {
	d.t.Helper()
	d.until("everything to follow "+address+" "+ipv6, `
ours() { ip $1 rule | grep 'proto 116' | sed 's/.*from/from/; s/ *$//'; }
has() { [ "$2" = "$3" ] || printf '%s is not as wanted:\n%s\n' "$1" "$2"; }
has 'the IPv4 rule' "$(ours -4)" "from $1 lookup 200 proto 116"
has 'the IPv4 route' "$(ip -4 route show table 200 | sed 's/ *$//')" 'default via 203.0.113.1 dev ppp0 proto 116 onlink'
has 'the network' "$(ip -4 route show proto 116 | sed 's/ *$//')" '192.168.2.0/24 via 203.0.113.1 dev ppp0 onlink'
has 'the name' "$(dig +short @127.0.0.1 home.example A)" "$1"
has 'the IPv6 name' "$(dig +short @127.0.0.1 home.example AAAA)" "$2"
has 'the IPv6 rule' "$(ours -6)" "${2:+from $2 lookup 200 proto 116}"
has 'the event' "$(tail -n 1 /root/told)" "address ppp0 home.example $1${2:+ $2}"
! systemctl is-failed -q tunnelcast-links.service`, address, ipv6)
}

// down waits until nothing of ours is left in the kernel, and the name has this address.
func (d dialUp) down(name string) {
	d.t.Helper()
	d.until("rules and routes to go", `{ ip -4 rule; ip -6 rule; } | grep 'proto 116' || :
ip -4 route show table all proto 116; ip -6 route show table all proto 116
[ "$(dig +short @127.0.0.1 home.example)" = "$1" ] || dig +short @127.0.0.1 home.example
! systemctl is-failed -q tunnelcast-links.service`, name)
}

// A real pppd calls Debian's scripts, and they us. Rules, routes, the name and the events follow the link in each case,
// also where pppd calls nobody.
func TestMachinePPP(t *testing.T) {
	d := newDialUp(t)
	before := d.shell(others)
	const section = "table = 200\nroutes = [\"192.168.2.0/24\"]\nname = \"home.example\"\nallow-private = true\n"
	d.configure("[link.ppp0]\n" + section)

	var events strings.Builder
	up := func(address, ipv6 string) {
		t.Helper()
		d.up(address, ipv6)
		fmt.Fprintf(&events, "address ppp0 home.example %s\n", strings.TrimSpace(address+" "+ipv6))
	}

	t.Log("the link comes up")
	d.shell("pppd call dsl")
	first := d.address("")
	up(first, "") // its IPv6 address is link-local, and no name and no rule is made for it

	t.Log("it hangs up, and pppd dials again")
	d.shell("kill -HUP $(" + pppd + ")")
	last := d.address(first)
	up(last, "")

	t.Log("pppd is killed and calls no script")
	d.timer("*:*:0/5")
	d.shell("kill -KILL $(" + pppd + ")")
	d.down(last)
	d.timer("yearly")

	t.Log("the section names pppd's ipparam")
	d.configure("[link.dsl]\nremove = true\n" + section)
	if isLong() {
		d.shell("pppd call dsl")
		last = d.address("")
		up(last, "")

		t.Log("it gets an IPv6 address, of which pppd learns nothing")
		d.timer("*:*:0/5")
		d.shell("ip -6 address add 2001:db8:5::5/64 dev ppp0 nodad")
		up(last, "2001:db8:5::5")
		d.timer("yearly")

		t.Log("poff")
		d.shell("poff dsl")
		d.down("")
	}

	t.Log("it hangs up while a script of ip-up.d is running: pppd calls no script for the next address")
	d.shell(`slow=/etc/ppp/ip-up.d/zz-slow
printf '#!/bin/sh\ntouch /run/slow; until [ -e /run/go-on ]; do sleep 0.2; done\n' >$slow
chmod 755 $slow
pppd call dsl`)
	d.until("the slow script to run", "[ -e /run/slow ] || echo no")
	last = d.address("")
	up(last, "")
	d.shell("kill -HUP $(" + pppd + ")")
	last = d.address(last)
	d.timer("*:*:0/5")
	up(last, "")
	d.shell("touch /run/go-on")

	t.Log("the sections go")
	d.configure("")
	d.down(last) // nobody looks after the name any more
	if after := d.shell(others); after != before {
		t.Errorf("of somebody else's rules and routes, there were\n%snow there are\n%s", before, after)
	}
	if out := d.shell("cat /root/told"); out != events.String() {
		t.Errorf("the program of on-event was called for\n%swant\n%s", out, events.String())
	}
}
