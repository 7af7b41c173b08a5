package charon

import (
	"context"
	"fmt"
	"testing"
	"time"
)

func nested(name string, elements ...[]byte) []byte {
	b := append([]byte{sectionStart, byte(len(name))}, name...)
	for _, e := range elements {
		b = append(b, e...)
	}
	return append(b, sectionEnd)
}

func TestLeases(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	sa := func(state, id string, more ...[]byte) []byte {
		return nested("vpn", append([][]byte{value("uniqueid", "7"), value("state", state), value("remote-host", "198.51.100.1"), value("remote-id", id)}, more...)...)
	}
	vip := func(addrs ...string) []byte { return list("remote-vips", addrs...) }
	for name, test := range map[string]struct {
		sa   []byte
		want string
	}{
		"EAP":            {sa("ESTABLISHED", "192.168.1.5", value("remote-eap-id", "alice"), value("established", "60"), vip("10.0.0.100", "fd00::100")), "[alice [10.0.0.100 fd00::100] 1m0s 198.51.100.1 vpn]"},
		"XAuth":          {sa("ESTABLISHED", "192.168.1.5", value("remote-xauth-id", `D\bob`), vip("10.0.0.101")), `[D\bob [10.0.0.101] never 198.51.100.1 vpn]`},
		"certificate":    {sa("REKEYING", "CN=carol, O=x", vip("10.0.0.102")), "[CN=carol, O=x [10.0.0.102] never 198.51.100.1 vpn]"},
		"rekeyed":        {sa("REKEYED", "alice"), "[]"},
		"going":          {sa("DELETING", "alice", vip("10.0.0.100")), "[]"},
		"coming":         {sa("CONNECTING", "alice", vip("10.0.0.100")), "[]"},
		"site to site":   {sa("ESTABLISHED", "gw.example.org"), "[]"},
		"children":       {sa("ESTABLISHED", "alice", vip("10.0.0.100"), nested("child-sas", nested("net-1", value("state", "DELETED")))), "[alice [10.0.0.100] never 198.51.100.1 vpn]"},
		"no address":     {sa("ESTABLISHED", "alice", vip("x")), `list IKE_SAs: connection vpn: virtual IP "x" is no address`},
		"no age":         {sa("ESTABLISHED", "alice", value("established", "x"), vip("10.0.0.100")), `list IKE_SAs: connection vpn: established "x" is no number`},
		"mapped address": {sa("ESTABLISHED", "alice", vip("::ffff:10.0.0.100")), "[alice [10.0.0.100] never 198.51.100.1 vpn]"},
	} {
		t.Run(name, func(t *testing.T) {
			s := (&fake{events: map[string][][]byte{"list-sas": {test.sa}}}).start(t)
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
	f := &fake{events: map[string][][]byte{}}
	for i := range 3000 {
		f.events["list-sas"] = append(f.events["list-sas"], nested("vpn", value("state", "ESTABLISHED"), value("remote-id", fmt.Sprint("client", i)),
			list("remote-vips", fmt.Sprintf("10.0.%d.%d", i/250, i%250))))
	}
	s := f.start(t)
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
	pool := func(base, size string) []byte {
		return nested("clients", value("base", base), value("size", size), value("online", "1"), value("offline", "0"))
	}
	for name, test := range map[string]struct {
		answer []byte
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
		"two pools": {append(pool("10.0.0.1", "2"), nested("six", value("base", "fd00::1"), value("size", "2"))...), "[10.0.0.1-10.0.0.2 fd00::1-fd00::2]"},
	} {
		t.Run(name, func(t *testing.T) {
			s := (&fake{answer: map[string][]byte{"get-pools": test.answer}}).start(t)
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
