package e2e

import (
	"slices"
	"strings"
	"testing"

	"tunnelcast/internal/e2e/box"
)

// A link that is configured while the server runs has its rule, its route and its name, and loses them when the
// section goes. A veth stands for the PPP link; cmd/updown has tests with Debian's own ip-up.
func TestLinks(t *testing.T) {
	b := server(t)
	sh := func(script string) string { t.Helper(); return run(t, b, "sh", "-ec", script) }
	until := func(what, script string) {
		t.Helper()
		err := box.Poll(t.Context(), soon, what, func() (bool, error) {
			out, err := b.Gateway.Run(t.Context(), "sh", "-c", script)
			return err == nil && strings.TrimSpace(out) == "yes", nil
		})
		if err != nil {
			t.Error(
				err,
				sh("ip rule; ip route show table 200; systemctl status --no-pager 'tunnelcast-links.*' || true"),
			)
		}
	}
	const timer = "systemctl is-active -q tunnelcast-links.timer"
	if out := sh(timer + " && echo runs || echo idle"); strings.TrimSpace(out) != "idle" {
		t.Error("no link is configured, and the timer runs")
	}
	sh(keep(updownToml))
	defer func() {
		sh(putBack(updownToml) + "; rm -rf /etc/tunnelcast/told /root/told; ip link del ppp0 2>/dev/null || true")
		until("the rule to go", "ip rule | grep -q 'lookup 200' || echo yes")
	}()

	sh(`ip link add ppp0 type veth peer name ppp0-isp; ip link set ppp0-isp up
ip address add 203.0.113.5 peer 192.0.2.200 dev ppp0; ip link set ppp0 up
printf '#!/bin/sh\necho "$TUNNELCAST_EVENT $TUNNELCAST_LINK $TUNNELCAST_ADDRESS" >>/root/told\n' >/etc/tunnelcast/told
chmod 755 /etc/tunnelcast/told`)
	if err := b.Gateway.WriteFile(updownToml, `on-event = ["/etc/tunnelcast/told"]
[link.ppp0]
table = 200
name = "home.example"
allow-private = true
`, 0o644); err != nil {
		t.Fatal(err)
	}
	until("the rule of the link", "ip rule | grep -q 'from 203.0.113.5 lookup 200' && echo yes")
	until("the name of the link", "dig +short @127.0.0.1 home.example | grep -qx 203.0.113.5 && echo yes")
	until("the timer", timer+" && echo yes")
	until("the event", "grep -qx 'address ppp0 203.0.113.5' /root/told && echo yes")

	t.Log("a new address, and pppd's call")
	sh(`ip address flush dev ppp0; ip address add 203.0.113.77 peer 192.0.2.200 dev ppp0
env -i PPP_IFACE=ppp0 /usr/sbin/tunnelcast-updown ppp0 /dev/pts/1 0 203.0.113.77 192.0.2.200 ''`)
	until(
		"the rule of the new address",
		"ip rule | grep 'lookup 200' | grep -c . | grep -qx 1 && ip rule | grep -q 'from 203.0.113.77' && echo yes",
	)
	until("the name to have the new address", "dig +short @127.0.0.1 home.example | grep -qx 203.0.113.77 && echo yes")
	until("the event", "grep -qx 'address ppp0 203.0.113.77' /root/told && echo yes")
	if out := sh("sort /root/told | uniq -d"); out != "" {
		t.Errorf("told twice: %s", out)
	}
	out := sh("tunnelcast-updown check | grep -e link -e 'table 200' -e rp_filter -e home.example || true")
	if strings.Contains(out, "FAIL") {
		t.Errorf("check:\n%s", out)
	}
	sh("! systemctl is-failed -q tunnelcast-links.service")

	t.Log("the section goes")
	sh(`printf 'on-event = ["/etc/tunnelcast/told"]\n' >` + updownToml)
	until("the rule to go", "ip rule | grep -q 'lookup 200' || echo yes")
	until("the timer to stop", timer+" || echo yes")
	sh("! systemctl is-failed -q tunnelcast-links.service")
}

// The unit runs as root, and may write to no directory but those that it needs.
func TestLinksWriteNowhereElse(t *testing.T) {
	b := server(t)
	got := writable(t, b, "tunnelcast-links.service")
	if want := []string{"/run/tunnelcast"}; !slices.Equal(got, want) {
		t.Errorf("the unit may write to %q, want %q", got, want)
	}
}
