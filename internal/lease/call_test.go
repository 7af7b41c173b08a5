package lease

import (
	"fmt"
	"testing"
)

func TestReadCall(t *testing.T) {
	vars := map[string]string{
		"PLUTO_VERB": "up-client-v6", "PLUTO_XAUTH_ID": "alice", "PLUTO_PEER_ID": "192.168.1.5", "PLUTO_UNIQUEID": "7",
		"PLUTO_PEER_CLIENT": "192.168.1.0/24", "PLUTO_PEER_SOURCEIP": "10.0.0.100",
		"PLUTO_PEER_SOURCEIP4_1": "10.0.0.100", "PLUTO_PEER_SOURCEIP4_2": "10.0.0.101",
		"PLUTO_PEER_SOURCEIP6_1": "fd00::100",
	}
	getenv := func(name string) string { return vars[name] }
	c, err := ReadCall(getenv)
	got := fmt.Sprintf("%v %s %v %s %v", c.Verb == Up, c.Identity, c.Addresses, c.SA, err)
	if want := "true alice [10.0.0.100 10.0.0.101 fd00::100] 7 <nil>"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	delete(vars, "PLUTO_XAUTH_ID")
	if c, _ := ReadCall(getenv); c.Identity != "192.168.1.5" {
		t.Errorf("identity %q", c.Identity)
	}
	for verb, want := range map[string]Verb{
		"up-host": Up, "up-host-v6": Up, "down-client": Down, "down-host-v6": Down,
		"": Other, "route-client": Other, "up": Other, "upclient": Other,
	} {
		vars["PLUTO_VERB"] = verb
		if c, _ := ReadCall(getenv); c.Verb != want {
			t.Errorf("%q is verb %d, want %d", verb, c.Verb, want)
		}
	}
	vars["PLUTO_PEER_SOURCEIP4_2"] = "nonsense"
	if _, err := ReadCall(getenv); err == nil {
		t.Error("nonsense is an address")
	}
}

func FuzzReadCall(f *testing.F) {
	f.Add("up-client", "alice", "10.0.0.100", "fd00::1")
	f.Add("down-host-v6", "", "10.0.0.100%eth0", "::ffff:10.0.0.1")
	f.Fuzz(func(t *testing.T, verb, identity, v4, v6 string) {
		vars := map[string]string{"PLUTO_VERB": verb, "PLUTO_PEER_ID": identity, "PLUTO_PEER_SOURCEIP4_1": v4,
			"PLUTO_PEER_SOURCEIP6_1": v6}
		c, err := ReadCall(func(name string) string { return vars[name] })
		if err == nil && c.Identity != identity {
			t.Errorf("identity %q became %q", identity, c.Identity)
		}
		for _, addr := range c.Addresses {
			if !addr.IsValid() || addr.Zone() != "" || addr.Is4In6() {
				t.Errorf("address %q", addr)
			}
		}
	})
}
