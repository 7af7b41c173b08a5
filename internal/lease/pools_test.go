package lease

import (
	"net/netip"
	"slices"
	"testing"
)

func TestPools(t *testing.T) {
	pools, err := ParsePools([]string{"10.0.0.100-10.0.0.200", "10.1.0.0/23", "10.2.0.7", "fd00:1::/64",
		" fd00:2::1 - fd00:2::ff "})
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]bool{
		"10.0.0.99": false, "10.0.0.100": true, "10.0.0.200": true, "10.0.0.201": false,
		"10.0.255.255": false, "10.1.0.0": true, "10.1.1.255": true, "10.1.2.0": false, "10.2.0.7": true,
		"10.2.0.8": false,
		"fd00:1::": true, "fd00:1::ffff:ffff:ffff:ffff": true, "fd00:1:0:1::": false, "fd00:2::80": true,
		"fd00:2::100": false,
	} {
		if got := pools.Contains(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
	if again, err := ParsePools(pools.Strings()); err != nil || !slices.Equal(again, pools) {
		t.Errorf("%v became %v, %v", pools, again, err)
	}
	for _, bad := range []string{"", "x", "10.0.0.2-10.0.0.1", "10.0.0.1-fd00::1", "10.0.0.0/33", "10.0.0.1-",
		"fe80::1%eth0"} {
		if _, err := ParsePools([]string{bad}); err == nil {
			t.Errorf("pool %q was taken", bad)
		}
	}
}
