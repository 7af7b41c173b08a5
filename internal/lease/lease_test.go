package lease

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestLabel(t *testing.T) {
	for identity, want := range map[string]string{
		"alice":                             "alice",
		"Alice":                             "alice",
		"alice@example.org":                 "alice",
		`DOM\alice`:                         "alice",
		`DOM\alice@example.org`:             "alice",
		"CN=alice, O=x":                     "alice",
		"C=CH, O=strongSwan, CN=Alice":      "alice",
		"CN=alice@example.org":              "alice",
		"C=CH, cn=alice":                    "alice",
		"42":                                "42",
		"a-b":                               "a-b",
		strings.Repeat("a", 63):             strings.Repeat("a", 63),
		"":                                  "",
		"@":                                 "",
		"@example.org":                      "",
		`DOM\`:                              "",
		"-alice":                            "",
		"alice-":                            "",
		"al_ice":                            "",
		"al ice":                            "",
		" alice":                            "",
		"alice ":                            "",
		"alice\n":                           "",
		"alice.example":                     "alice", // the zone's own name
		"Alice.EXAMPLE.":                    "alice",
		"CN=alice.example, O=x":             "alice",
		`DOM\alice.example@corp`:            "alice",
		"alicexample":                       "alicexample",
		"example":                           "example",
		".example":                          "",
		"alice.example.example":             "",
		"alice.example.org":                 "",
		"*":                                 "",
		"*.evil":                            "",
		"a/../b":                            "",
		"192.168.1.5":                       "",
		"fe80::1":                           "",
		"a@b@c":                             "",
		`A\B\alice`:                         "",
		"al?ce":                             "",
		"alice@ex?mple":                     "", // a byte that charon could not print, which may be any
		`D?M\alice`:                         "",
		"CN=alice, O=Z??rich":               "alice",
		"CN=al?ce, O=x":                     "",
		"mallory.vpn.test 3600 TXT x":       "",
		"\u212Aate":                         "", // the Kelvin sign, which lower-cases to k
		"ålice":                             "",
		"alice\x00":                         "",
		"O=x":                               "",
		"CN=alice, CN=bob":                  "",
		"CN=bob, O=x, y, CN=alice":          "",
		"CN=":                               "",
		"=alice":                            "",
		strings.Repeat("a", 64):             "",
		"CN=bob" + strings.Repeat("x", 505): "", // maybe cut
		"alice@" + strings.Repeat("x", 505): "",
	} {
		got, err := Rules{Zone: "example."}.label(identity)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("label(%.60q) = %q, %v; want %q", identity, got, err, want)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\n\x00") {
			t.Errorf("label(%.60q): error of more than one line: %q", identity, err)
		}
	}
}

// What a refusal says leads to what is to be done.
func TestLabelSaysWhatToDo(t *testing.T) {
	for identity, want := range map[string]string{
		"first.last":                        `"first.last" is not one DNS label ([names] in updown.toml gives an identity its name, mend = true)`,
		"m??ller":                           "not all of it can be printed ([names] in updown.toml",
		"192.168.1.5":                       "it is an IP address and not a user's name (eap_id = %any in the connection's remote section)",
		"fe80::1":                           "eap_id = %any",
		"C=US, O=Acme, Inc., CN=alice":      `"Inc." is not a part of a distinguished name: charon does not escape a comma inside a value ([names]`,
		"O=x":                               "0 common names where one is needed ([names]",
		"alice@" + strings.Repeat("x", 505): "charon may have cut it",
	} {
		if _, err := (Rules{Zone: "example."}).label(identity); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("label(%.60q): %v; want %q", identity, err, want)
		}
	}
}

func TestNames(t *testing.T) {
	names, err := ParseNames(map[string]string{
		"First.Last@corp":              "FLast",
		"C=US, O=Acme, Inc., CN=alice": "alice",
		"192.168.1.5":                  "phone",
		"m??ller":                      "mueller",
		"bob@b":                        "bob2",
	})
	if err != nil {
		t.Fatal(err)
	}
	r := Rules{Zone: "example.", Names: names}
	for identity, want := range map[string]string{
		"first.last@corp":              "flast.example.",
		"FIRST.LAST@CORP":              "flast.example.",
		"first.last@other":             "",
		"flast":                        "", // somebody else's by the table
		"alice":                        "",
		"C=US, O=Acme, Inc., CN=alice": "alice.example.",
		"c=us, O=Acme, Inc., CN=alice": "",
		"192.168.1.5":                  "phone.example.",
		"m??ller":                      "mueller.example.",
		"bob@b":                        "bob2.example.",
		"bob":                          "bob.example.",
	} {
		if got, err := r.Name(identity); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", identity, got, err, want)
		}
	}
	if _, err := r.Name("flast"); err == nil || !strings.Contains(err.Error(), `the name flast is listed for "First.Last@corp"`) {
		t.Errorf("flast: %v", err)
	}
	for want, table := range map[string]map[string]string{
		`the name "a.b" of identity "x" is not one DNS label`: {"x": "a.b"},
		`the name "" of identity "x"`:                         {"x": ""},
		`the name "x" has no identity`:                        {"": "x"},
		`identity "a@b" is listed twice`:                      {"A@b": "x", "a@b": "y"},
		`the name "x" is listed for both "a" and "b"`:         {"a": "x", "b": "X"},
	} {
		if _, err := ParseNames(table); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v; want %q", table, err, want)
		}
	}
	reserved, err := ParseNames(map[string]string{"boss": "www"})
	if err == nil {
		r := Rules{Reserved: []string{"WWW"}, Names: reserved}
		err = r.CheckNames()
	}
	if err == nil || !strings.Contains(err.Error(), `the name "www" of identity "boss" is reserved`) {
		t.Error(err)
	}
}

func TestMend(t *testing.T) {
	r := Rules{Zone: "example.", Mend: true}
	for identity, want := range map[string]string{
		"first.last@corp":        "first-last.example.",
		"al  _ ice":              "al-ice.example.",
		"a--b":                   "a--b.example.", // a label as it is
		"a\u00e9\u00e9b":         "a-b.example.",
		`DOM\a\b`:                "a-b.example.",
		"CN=Alice Smith, O=x":    "alice-smith.example.",
		"a.b.example":            "a-b.example.",
		"alice.example":          "alice.example.",
		"*.evil":                 "",
		"jos\u00e9":              "", // not jos, who may be somebody else
		".alice":                 "",
		"al?ice":                 "",
		"CN=al?ice, O=x":         "",
		"192.168.1.5":            "",
		"wpad":                   "",
		strings.Repeat("a.", 40): "",
	} {
		if got, err := r.Name(identity); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", identity, got, err, want)
		}
	}
}

func TestReserved(t *testing.T) {
	for _, name := range []string{"ns", "WPAD", "isatap@corp", "localhost", "www", "wpad.example"} {
		if got, err := rules.Name(name); err == nil || !strings.Contains(err.Error(), "is reserved") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestSameIdentity(t *testing.T) {
	for _, test := range []struct {
		a, b string
		same bool
	}{
		{"alice", "Alice", true},
		{"alice@a.test", "ALICE@A.test", true},
		{"a:b@c", "A:b@c", true}, // an e-mail address
		{`DOM\alice`, `dom\alice`, true},
		{"alice@a.test", "alice@b.test", false},
		{"alice", "alice@a.test", false},
		{`a:b\alice`, `A:b\alice`, false}, // opaque
		{"CN=alice, O=x", "CN=alice, O=x", true},
		{"CN=alice, O=x", "CN=Alice, O=x", false},
		{"\u212Aate", "kate", false},
	} {
		if SameIdentity(test.a, test.b) != test.same || SameIdentity(test.b, test.a) != test.same {
			t.Errorf("%q and %q: want %v", test.a, test.b, test.same)
		}
	}
}

var ldh = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// Nothing in an identity becomes DNS syntax, a second label or a wildcard, and
// what comes out is a piece of what went in.
func FuzzLabel(f *testing.F) {
	for _, seed := range []string{"alice", `DOM\alice`, "CN=alice, O=x", "*.evil", "a@b", "al ice; $(id)", "\u212A", "CN=a, CN=b", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, identity string) {
		label, err := Rules{Zone: "example."}.label(identity)
		if err != nil {
			if label != "" {
				t.Errorf("refused, and yet %q", label)
			}
			return
		}
		if !ldh.MatchString(label) || !strings.Contains(lower(identity), label) {
			t.Errorf("%q became %q", identity, label)
		}
		if again, err := (Rules{Zone: "example."}).label(label); err != nil || again != label {
			t.Errorf("the label %q of %q becomes %q, %v", label, identity, again, err)
		}
	})
}

func FuzzReadCall(f *testing.F) {
	f.Add("up-client", "alice", "10.0.0.100", "fd00::1")
	f.Add("down-host-v6", "", "10.0.0.100%eth0", "::ffff:10.0.0.1")
	f.Fuzz(func(t *testing.T, verb, identity, v4, v6 string) {
		vars := map[string]string{"PLUTO_VERB": verb, "PLUTO_PEER_ID": identity, "PLUTO_PEER_SOURCEIP4_1": v4, "PLUTO_PEER_SOURCEIP6_1": v6}
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

func TestReadCall(t *testing.T) {
	vars := map[string]string{
		"PLUTO_VERB": "up-client-v6", "PLUTO_XAUTH_ID": "alice", "PLUTO_PEER_ID": "192.168.1.5", "PLUTO_UNIQUEID": "7",
		"PLUTO_PEER_CLIENT": "192.168.1.0/24", "PLUTO_PEER_SOURCEIP": "10.0.0.100",
		"PLUTO_PEER_SOURCEIP4_1": "10.0.0.100", "PLUTO_PEER_SOURCEIP4_2": "10.0.0.101", "PLUTO_PEER_SOURCEIP6_1": "fd00::100",
	}
	getenv := func(name string) string { return vars[name] }
	c, err := ReadCall(getenv)
	if got := fmt.Sprintf("%v %s %v %s %v", c.Verb == Up, c.Identity, c.Addresses, c.SA, err); got != "true alice [10.0.0.100 10.0.0.101 fd00::100] 7 <nil>" {
		t.Error(got)
	}
	delete(vars, "PLUTO_XAUTH_ID")
	if c, _ := ReadCall(getenv); c.Identity != "192.168.1.5" {
		t.Errorf("identity %q", c.Identity)
	}
	for verb, want := range map[string]Verb{"up-host": Up, "up-host-v6": Up, "down-client": Down, "down-host-v6": Down, "": Other, "route-client": Other, "up": Other, "upclient": Other} {
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

func TestPools(t *testing.T) {
	pools, err := ParsePools([]string{"10.0.0.100-10.0.0.200", "10.1.0.0/23", "10.2.0.7", "fd00:1::/64", " fd00:2::1 - fd00:2::ff "})
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]bool{
		"10.0.0.99": false, "10.0.0.100": true, "10.0.0.200": true, "10.0.0.201": false,
		"10.0.255.255": false, "10.1.0.0": true, "10.1.1.255": true, "10.1.2.0": false, "10.2.0.7": true, "10.2.0.8": false,
		"fd00:1::": true, "fd00:1::ffff:ffff:ffff:ffff": true, "fd00:1:0:1::": false, "fd00:2::80": true, "fd00:2::100": false,
	} {
		if got := pools.Contains(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
	if again, err := ParsePools(pools.Strings()); err != nil || !slices.Equal(again, pools) {
		t.Errorf("%v became %v, %v", pools, again, err)
	}
	for _, bad := range []string{"", "x", "10.0.0.2-10.0.0.1", "10.0.0.1-fd00::1", "10.0.0.0/33", "10.0.0.1-", "fe80::1%eth0"} {
		if _, err := ParsePools([]string{bad}); err == nil {
			t.Errorf("pool %q was taken", bad)
		}
	}
}

func TestReverseNames(t *testing.T) {
	for addr, name := range map[string]string{
		"10.0.0.100":  "100.0.0.10.in-addr.arpa.",
		"fd00::1:102": "2.0.1.0.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.",
	} {
		a := netip.MustParseAddr(addr)
		if got := reverseName(a); got != name {
			t.Errorf("%s: %s", addr, got)
		}
		if got, ok := reverseAddr(name); !ok || got != a {
			t.Errorf("%s: %s %v", name, got, ok)
		}
	}
	for _, name := range []string{"", "in-addr.arpa.", "0.10.in-addr.arpa.", "1.100.0.0.10.in-addr.arpa.", "100.0.0.010.in-addr.arpa.", "x.0.0.10.in-addr.arpa.",
		"0.ip6.arpa.", strings.Repeat("g.", 32) + "ip6.arpa.", strings.Repeat("00", 31) + "0.ip6.arpa.", "alice.example."} {
		if addr, ok := reverseAddr(name); ok {
			t.Errorf("%q is %s", name, addr)
		}
	}
}

func TestCheckZone(t *testing.T) {
	for name, ok := range map[string]bool{"example": true, "vpn.Example.org.": true, "0.0.10.in-addr.arpa": true, "0/25.0.0.10.in-addr.arpa": true,
		"": false, ".": false, "a..b": false, "a b": false, "*.x": false, strings.Repeat("a", 64): false} {
		if err := CheckZone(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}

var rules = Rules{
	Zone:     "example.",
	Reverse:  []string{"0.10.in-addr.arpa.", "0.0.10.in-addr.arpa."},
	Pools:    Pools{{netip.MustParseAddr("10.0.0.100"), netip.MustParseAddr("10.0.0.105")}},
	Reserved: []string{"www"},
}

// world draws a zone, made of names and addresses that like to meet, and the
// clients that live.
func world(t *rapid.T) (live []Lease, zones map[string][]RR, busy map[RR]bool) {
	label := rapid.SampledFrom([]string{"alice", "bob", "carol", "ns", "www", "*", "a.b", ""})
	identity := rapid.SampledFrom([]string{"alice", "Alice", "alice@b", `D\bob`, "bob", "ns", "www", "*", "a.b", "carol", "\x00"})
	addr := rapid.Custom(func(t *rapid.T) netip.Addr {
		return netip.AddrFrom4([4]byte{10, 0, 0, byte(rapid.IntRange(98, 107).Draw(t, "octet"))})
	})
	holder := map[netip.Addr]string{}
	for range rapid.IntRange(0, 6).Draw(t, "leases") {
		l := Lease{Identity: identity.Draw(t, "identity"), Addresses: rapid.SliceOfN(addr, 1, 2).Draw(t, "addresses")}
		// charon gives an address to one identity at a time.
		l.Addresses = slices.DeleteFunc(l.Addresses, func(addr netip.Addr) bool {
			return holder[addr] != "" && !SameIdentity(holder[addr], l.Identity)
		})
		for _, addr := range l.Addresses {
			holder[addr] = l.Identity
		}
		if len(l.Addresses) > 0 {
			live = append(live, l)
		}
	}
	owner := func() string { return strings.TrimPrefix(label.Draw(t, "label")+".example.", ".") }
	in := map[RR]bool{}
	for range rapid.IntRange(0, 8).Draw(t, "rrs") {
		switch o := owner(); rapid.IntRange(0, 5).Draw(t, "kind") {
		case 0:
			in[RR{Owner: o, Type: "CNAME"}] = true
		case 1:
			in[RR{Owner: o, Type: "TXT"}] = true
		default:
			in[Address(o, addr.Draw(t, "address"))] = true
		}
	}
	reverse := map[RR]bool{}
	for range rapid.IntRange(0, 5).Draw(t, "ptrs") {
		target := rapid.SampledFrom([]string{"alice.example.", "bob.example.", "ns.example.", "host.elsewhere."}).Draw(t, "target")
		reverse[RR{Owner: reverseName(addr.Draw(t, "address")), Type: "PTR", Target: target}] = true
	}
	busy = map[RR]bool{}
	for range rapid.IntRange(0, 2).Draw(t, "busy") {
		busy[Address(owner(), addr.Draw(t, "address"))] = true
	}
	sorted := func(rrs map[RR]bool) []RR { return slices.SortedFunc(maps.Keys(rrs), compareRR) }
	return live, map[string][]RR{"example.": sorted(in), "0.0.10.in-addr.arpa.": sorted(reverse)}, busy
}

func apply(zones map[string][]RR, changes []Change) map[string][]RR {
	after := map[string][]RR{}
	for zone, rrs := range zones {
		after[zone] = slices.Clone(rrs)
	}
	for _, c := range changes {
		after[c.Zone] = slices.DeleteFunc(after[c.Zone], func(rr RR) bool { return slices.Contains(c.Remove, rr) })
		after[c.Zone] = append(after[c.Zone], c.Add...)
	}
	return after
}

func TestPlanInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		live, zones, busy := world(t)
		changes, refused := rules.Plan(live, zones, busy)
		isLive := func(rr RR) bool {
			return slices.ContainsFunc(live, func(l Lease) bool {
				name, err := rules.Name(l.Identity)
				return err == nil && name == rr.Owner && slices.Contains(l.Addresses, rr.Addr)
			})
		}
		for _, c := range changes {
			for _, rr := range slices.Concat(c.Add, c.Remove) {
				if rr.Type == "PTR" {
					addr, ok := reverseAddr(rr.Owner)
					if !ok || !rules.Pools.Contains(addr) || rr.Target == "ns.example." || rr.Target == "host.elsewhere." {
						t.Fatalf("PTR %+v is not ours", rr)
					}
					continue
				}
				label, ok := strings.CutSuffix(rr.Owner, ".example.")
				if !ok || !ldh.MatchString(label) || label == "ns" || label == "www" {
					t.Fatalf("%s is not ours", rr.Owner)
				}
				if !rules.Pools.Contains(rr.Addr) || busy[rr] {
					t.Fatalf("%+v is not ours or a hook's", rr)
				}
			}
			for _, rr := range c.Add {
				if rr.Type != "PTR" && !isLive(rr) {
					t.Fatalf("%+v is added and nobody's", rr)
				}
				i := slices.IndexFunc(c.Seen, func(o Owner) bool { return o.Name == rr.Owner })
				if i < 0 {
					t.Fatalf("%+v has no prerequisite", rr)
				}
				for _, stands := range c.Seen[i].Holds {
					if stands.Type == "CNAME" || stands.Addr.IsValid() && !rules.Pools.Contains(stands.Addr) {
						t.Fatalf("%+v goes beside %+v", rr, stands)
					}
				}
			}
			for _, rr := range c.Remove {
				if !slices.Contains(zones[c.Zone], rr) {
					t.Fatalf("%+v is removed and was not there", rr)
				}
				clash := slices.ContainsFunc(refused, func(r Refusal) bool { name, _ := rules.Name(r.Lease.Identity); return name == rr.Owner })
				if rr.Type != "PTR" && isLive(rr) && !clash {
					t.Fatalf("the live %+v is removed", rr)
				}
			}
		}
		// One run is enough, and the order of charon's list is no matter.
		if again, _ := rules.Plan(live, apply(zones, changes), busy); len(again) > 0 {
			t.Fatalf("after %+v there is still %+v", changes, again)
		}
	})
}

// Two identities never stand under one name.
func TestPlanNeverMerges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		live, zones, _ := world(t)
		changes, _ := rules.Plan(live, zones, nil)
		holder := map[string]string{}
		for _, rr := range apply(zones, changes)["example."] {
			if !rules.ours(rr) {
				continue
			}
			holders := map[string]bool{}
			for _, l := range live {
				if name, err := rules.Name(l.Identity); err == nil && name == rr.Owner && slices.Contains(l.Addresses, rr.Addr) {
					holders[lower(l.Identity)] = true
				}
			}
			if len(holders) == 0 {
				t.Fatalf("%+v is nobody's", rr)
			}
			if len(holders) > 1 {
				continue // one address, two identities: charon would not
			}
			for id := range holders {
				if first := holder[rr.Owner]; first != "" && first != id {
					t.Fatalf("%s is both %q and %q", rr.Owner, first, id)
				}
				holder[rr.Owner] = id
			}
		}
	})
}
