package charon

import (
	"context"
	"fmt"
	"testing"
	"time"

	"tunnelcast/internal/vici"
	"tunnelcast/internal/vici/vicitest"
)

func TestLeases(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	sa := func(state, id string, more ...vici.Field) vici.Message {
		fields := []vici.Field{vici.Value("uniqueid", "7"), vici.Value("state", state),
			vici.Value("remote-host", "198.51.100.1"), vici.Value("remote-id", id)}
		return vicitest.Message(vici.Section("vpn", append(fields, more...)...))
	}
	vip := func(addrs ...string) vici.Field { return vici.List("remote-vips", addrs...) }
	eap, xauth := vici.Value("remote-eap-id", "alice"), vici.Value("remote-xauth-id", `D\bob`)
	child := vici.Section("child-sas", vici.Section("net-1", vici.Value("state", "DELETED")))
	for name, test := range map[string]struct {
		sa   vici.Message
		want string
	}{
		"EAP": {sa("ESTABLISHED", "192.168.1.5", eap, vici.Value("established", "60"), vip("10.0.0.100", "fd00::100")),
			"[alice [10.0.0.100 fd00::100] 1m0s 198.51.100.1 vpn]"},
		"XAuth": {sa("ESTABLISHED", "192.168.1.5", xauth, vip("10.0.0.101")),
			`[D\bob [10.0.0.101] never 198.51.100.1 vpn]`},
		"certificate": {sa("REKEYING", "CN=carol, O=x", vip("10.0.0.102")),
			"[CN=carol, O=x [10.0.0.102] never 198.51.100.1 vpn]"},
		"rekeyed":      {sa("REKEYED", "alice"), "[]"},
		"deleting":     {sa("DELETING", "alice", vip("10.0.0.100")), "[]"},
		"connecting":   {sa("CONNECTING", "alice", vip("10.0.0.100")), "[]"},
		"site to site": {sa("ESTABLISHED", "gw.example.org"), "[]"},
		"children": {sa("ESTABLISHED", "alice", vip("10.0.0.100"), child),
			"[alice [10.0.0.100] never 198.51.100.1 vpn]"},
		"mapped address": {sa("ESTABLISHED", "alice", vip("::ffff:10.0.0.100")),
			"[alice [10.0.0.100] never 198.51.100.1 vpn]"},
		"no address": {sa("ESTABLISHED", "alice", vip("x")),
			`list IKE_SAs: connection vpn: virtual IP "x" is not an address`},
		"zone": {sa("ESTABLISHED", "alice", vip("fe80::1%eth0")),
			`list IKE_SAs: connection vpn: virtual IP "fe80::1%eth0" is not an address`},
		"no age": {sa("ESTABLISHED", "alice", vici.Value("established", "x"), vip("10.0.0.100")),
			`list IKE_SAs: connection vpn: established "x" is not a number`},
	} {
		t.Run(name, func(t *testing.T) {
			s := answers{"list-sas": {Events: []vici.Message{test.sa}}}.session(t)
			leases, err := s.Leases(t.Context(), now)
			got := "["
			for _, l := range leases {
				since := "never"
				if !l.Established.IsZero() {
					since = now.Sub(l.Established).String()
				}
				got += fmt.Sprint(l.Identity, " ", l.Addresses, " ", since, " ", l.Remote, " ", l.Connection)
			}
			if got += "]"; err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// Names are removed because this list lacks them, so it is complete or an error.
func TestLeasesAreComplete(t *testing.T) {
	var events []vici.Message
	for i := range 3000 {
		events = append(events, vicitest.Message(vici.Section("vpn", vici.Value("state", "ESTABLISHED"),
			vici.Value("remote-id", fmt.Sprint("client", i)),
			vici.List("remote-vips", fmt.Sprintf("10.0.%d.%d", i/250, i%250)))))
	}
	s := answers{"list-sas": {Events: events}}.session(t)
	if leases, err := s.Leases(t.Context(), time.Now()); err != nil || len(leases) != 3000 {
		t.Errorf("%d leases, %v", len(leases), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if leases, err := s.Leases(ctx, time.Now()); err == nil {
		t.Errorf("%d leases after the context ended", len(leases))
	}
}
