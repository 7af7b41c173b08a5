package lease

import (
	"errors"
	"net/netip"
	"testing"
	"time"
)

// session is a live client whose IKE_SA has an age.
func session(identity string, age time.Duration, addrs ...string) Lease {
	l := Lease{Identity: identity}
	if age > 0 {
		l.Established = time.Unix(1800000000, 0).Add(-age)
	}
	for _, addr := range addrs {
		l.Addresses = append(l.Addresses, netip.MustParseAddr(addr))
	}
	return l
}

// What sync decides.
func TestKeeper(t *testing.T) {
	a := func(age time.Duration, addrs ...string) Lease { return session("alice", age, addrs...) }
	b := func(age time.Duration, addrs ...string) Lease { return session("alice@b", age, addrs...) }
	for name, test := range map[string]struct {
		leases []Lease
		at     []RR
		want   string
	}{
		"one client":          {[]Lease{b(1, "10.0.0.1")}, nil, "alice@b"},
		"the older one":       {[]Lease{a(1, "10.0.0.1"), b(2, "10.0.0.2")}, nil, "alice@b"},
		"an age is not known": {[]Lease{a(0, "10.0.0.1"), b(1, "10.0.0.2")}, nil, "alice@b"},
		"no age is known":     {[]Lease{b(0, "10.0.0.2"), a(0, "10.0.0.1")}, nil, "alice"},
		"the one in the zone": {[]Lease{a(2, "10.0.0.1"), b(1, "10.0.0.2")}, []RR{rr("alice", "10.0.0.2")},
			"alice@b"},
		"one of two addresses there": {[]Lease{a(2, "10.0.0.1"), b(1, "10.0.0.2", "fd00::2")},
			[]RR{rr("alice", "fd00::2")}, "alice@b"},
		"another address there": {[]Lease{a(1, "10.0.0.1"), b(2, "10.0.0.2")}, []RR{rr("alice", "10.0.0.9")},
			"alice@b"},
	} {
		if got := keeper(test.leases, "alice.example.", test.at).Identity; got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

// What the hook decides, with what the last sync knew.
func TestCheckHolder(t *testing.T) {
	wanted := rr("alice", "10.0.0.100")
	for name, test := range map[string]struct {
		at     []RR
		holder string // of all addresses but the wanted one
		held   bool
	}{
		"a new name":                          {nil, "bob", false},
		"the wanted address, of another":      {[]RR{wanted}, "alice@b", false},
		"another device":                      {[]RR{rr("alice", "10.0.0.101")}, "Alice", false},
		"another identity of this name":       {[]RR{rr("alice", "10.0.0.101")}, "alice@b", true},
		"one of two addresses":                {[]RR{wanted, rr("alice", "10.0.0.101")}, "alice@b", true},
		"left over, since bob has it now":     {[]RR{rr("alice", "10.0.0.101")}, "bob", false},
		"left over, since nobody has it":      {[]RR{rr("alice", "10.0.0.101")}, "", false},
		"left over, since *.evil has no name": {[]RR{rr("alice", "10.0.0.101")}, "*.evil", false},
	} {
		seen := Owner{Name: "alice.example.", InUse: len(test.at) > 0, Holds: test.at}
		err := rules.CheckHolder("alice", seen, []RR{wanted}, func(RR) string { return test.holder })
		if errors.Is(err, ErrHeld) != test.held || (err == nil) == test.held {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestIdentity(t *testing.T) {
	for want, of := range map[string][3]string{
		"eap": {"eap", "xauth", "ike"}, "xauth": {"", "xauth", "ike"}, "ike": {"", "", "ike"}, "": {},
	} {
		if got := Identity(of[0], of[1], of[2]); got != want {
			t.Errorf("%q: %q, want %q", of, got, want)
		}
	}
}
