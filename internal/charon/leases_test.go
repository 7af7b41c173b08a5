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
		return vicitest.Message(vici.Section("vpn", append([]vici.Field{vici.Value("uniqueid", "7"),
			vici.Value("state", state), vici.Value("remote-host", "198.51.100.1"), vici.Value("remote-id", id)}, more...)...))
	}
	vip := func(addrs ...string) vici.Field { return vici.List("remote-vips", addrs...) }
	for name, test := range map[string]struct {
		sa   vici.Message
		want string
	}{
		"EAP":            {sa("ESTABLISHED", "192.168.1.5", vici.Value("remote-eap-id", "alice"), vici.Value("established", "60"), vip("10.0.0.100", "fd00::100")), "[alice [10.0.0.100 fd00::100] 1m0s 198.51.100.1 vpn]"},
		"XAuth":          {sa("ESTABLISHED", "192.168.1.5", vici.Value("remote-xauth-id", `D\bob`), vip("10.0.0.101")), `[D\bob [10.0.0.101] never 198.51.100.1 vpn]`},
		"certificate":    {sa("REKEYING", "CN=carol, O=x", vip("10.0.0.102")), "[CN=carol, O=x [10.0.0.102] never 198.51.100.1 vpn]"},
		"rekeyed":        {sa("REKEYED", "alice"), "[]"},
		"going":          {sa("DELETING", "alice", vip("10.0.0.100")), "[]"},
		"coming":         {sa("CONNECTING", "alice", vip("10.0.0.100")), "[]"},
		"site to site":   {sa("ESTABLISHED", "gw.example.org"), "[]"},
		"children":       {sa("ESTABLISHED", "alice", vip("10.0.0.100"), vici.Section("child-sas", vici.Section("net-1", vici.Value("state", "DELETED")))), "[alice [10.0.0.100] never 198.51.100.1 vpn]"},
		"no address":     {sa("ESTABLISHED", "alice", vip("x")), `list IKE_SAs: connection vpn: virtual IP "x" is no address`},
		"no age":         {sa("ESTABLISHED", "alice", vici.Value("established", "x"), vip("10.0.0.100")), `list IKE_SAs: connection vpn: established "x" is no number`},
		"mapped address": {sa("ESTABLISHED", "alice", vip("::ffff:10.0.0.100")), "[alice [10.0.0.100] never 198.51.100.1 vpn]"},
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

// The list is what names are removed by: it is whole, or it is an error.
func TestLeasesAreAll(t *testing.T) {
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
		t.Errorf("%d leases after the deadline", len(leases))
	}
}

func TestPools(t *testing.T) {
	pool := func(base, size string) vici.Message {
		return vicitest.Message(vici.Section("clients", vici.Value("base", base), vici.Value("size", size),
			vici.Value("online", "1"), vici.Value("offline", "0")))
	}
	six := vicitest.Message(vici.Section("six", vici.Value("base", "fd00::1"), vici.Value("size", "2")))
	for name, test := range map[string]struct {
		answer vici.Message
		want   string
	}{
		"none":      {nil, "[]"},
		"range":     {pool("10.0.0.100", "101"), "[10.0.0.100-10.0.0.200]"},
		"prefix":    {pool("10.3.0.1", "254"), "[10.3.0.1-10.3.0.254]"},
		"5.9's":     {pool("fd00::100", "254"), "[fd00::100-fd00::1fe]"},
		"a /30":     {pool("10.10.1.0", "2"), "[10.10.1.0-10.10.1.2]"}, // .1 and .2 are given, but a /31 looks the same
		"a /31":     {pool("10.10.1.2", "2"), "[10.10.1.2-10.10.1.3]"},
		"a /29":     {pool("10.10.1.8", "6"), "[10.10.1.8-10.10.1.14]"},
		"half a 31": {pool("10.10.1.1", "1"), "[10.10.1.1-10.10.1.1]"},
		"a v6 /126": {pool("fd00::4", "2"), "[fd00::4-fd00::6]"},
		"not whole": {pool("10.3.0.8", "254"), "[10.3.0.8-10.3.1.5]"},
		"carry":     {pool("10.0.255.250", "10"), "[10.0.255.250-10.1.0.3]"},
		"one":       {pool("fd00::100", "1"), "[fd00::100-fd00::100]"},
		"IPv6":      {pool("fd00::1", "2147483646"), "[fd00::1-fd00::7fff:fffe]"},
		"%config":   {pool("%any", "0"), "[]"},
		"no base":   {pool("x", "1"), `get pools: pool clients: base "x" is no address`},
		"no size":   {pool("10.0.0.1", ""), `get pools: pool clients: size "" is no number`},
		"over":      {pool("255.255.255.255", "2"), "get pools: pool clients: 255.255.255.255 and 2 addresses more are too many"},
		"two pools": {append(pool("10.0.0.1", "2"), six...), "[10.0.0.1-10.0.0.2 fd00::1-fd00::2]"},
	} {
		t.Run(name, func(t *testing.T) {
			s := answers{"get-pools": {Response: test.answer}}.session(t)
			pools, err := s.Pools(t.Context())
			got := fmt.Sprint(pools)
			if err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}
