package charon

import (
	"fmt"
	"testing"

	"tunnelcast/internal/vici"
	"tunnelcast/internal/vici/vicitest"
)

func TestPools(t *testing.T) {
	pool := func(base, size string) vici.Message {
		return vicitest.Message(vici.Section("clients", vici.Value("base", base), vici.Value("size", size),
			vici.Value("online", "1"), vici.Value("offline", "0")))
	}
	tooMany := "get pools: pool clients: size 2 from 255.255.255.255 on exceeds the address space"
	six := vicitest.Message(vici.Section("six", vici.Value("base", "fd00::1"), vici.Value("size", "2")))
	for name, test := range map[string]struct {
		answer vici.Message
		want   string
	}{
		"none":      {nil, "[]"},
		"range":     {pool("10.0.0.100", "101"), "[10.0.0.100-10.0.0.200]"},
		"prefix":    {pool("10.3.0.1", "254"), "[10.3.0.1-10.3.0.254]"},
		"a v6 /120": {pool("fd00::100", "254"), "[fd00::100-fd00::1fe]"},
		// Of a /30, clients get .1 and .2, but a /31 looks the same.
		"a /30":      {pool("10.10.1.0", "2"), "[10.10.1.0-10.10.1.2]"},
		"a /31":      {pool("10.10.1.2", "2"), "[10.10.1.2-10.10.1.3]"},
		"a /29":      {pool("10.10.1.8", "6"), "[10.10.1.8-10.10.1.14]"},
		"half a /31": {pool("10.10.1.1", "1"), "[10.10.1.1-10.10.1.1]"},
		"a v6 /126":  {pool("fd00::4", "2"), "[fd00::4-fd00::6]"},
		"not whole":  {pool("10.3.0.8", "254"), "[10.3.0.8-10.3.1.5]"},
		"carry":      {pool("10.0.255.250", "10"), "[10.0.255.250-10.1.0.3]"},
		"one":        {pool("fd00::100", "1"), "[fd00::100-fd00::100]"},
		"IPv6":       {pool("fd00::1", "2147483646"), "[fd00::1-fd00::7fff:fffe]"},
		"%config":    {pool("%any", "0"), "[]"},
		"no base":    {pool("x", "1"), `get pools: pool clients: base "x" is not an address`},
		"zone":       {pool("fe80::1%eth0", "1"), `get pools: pool clients: base "fe80::1%eth0" is not an address`},
		"no size":    {pool("10.0.0.1", ""), `get pools: pool clients: size "" is not a number`},
		"too many":   {pool("255.255.255.255", "2"), tooMany},
		"two pools":  {append(pool("10.0.0.1", "2"), six...), "[10.0.0.1-10.0.0.2 fd00::1-fd00::2]"},
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
