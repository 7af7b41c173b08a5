package lease

import (
	"regexp"
	"strings"
	"testing"
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
		"alice@ex?mple":                     "", // stands for any byte that charon cannot print
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
		"CN=bob" + strings.Repeat("x", 505): "", // charon may have cut it
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

// The error names the remedy.
func TestLabelSaysWhatToDo(t *testing.T) {
	for identity, want := range map[string]string{
		"first.last": `"first.last" is not one DNS label ` +
			`([names] in updown.toml gives an identity its name, mend = true)`,
		"m??ller":     "some of it cannot be printed ([names] in updown.toml",
		"192.168.1.5": "an IP address, not a user name (`eap_id = %any` in the connection's remote section)",
		"fe80::1":     "eap_id = %any",
		"C=US, O=Acme, Inc., CN=alice": `"Inc." is not a part of a distinguished name: ` +
			`charon does not escape a comma inside a value ([names]`,
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
		"flast":                        "", // someone else's in the table
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
	const listed = `the name flast is listed for "First.Last@corp"`
	if _, err := r.Name("flast"); err == nil || !strings.Contains(err.Error(), listed) {
		t.Errorf("flast: %v; want %q", err, listed)
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
		"jos\u00e9":              "", // not jos, which may be someone else's
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

// Nothing in an identity becomes DNS syntax, a second label or a wildcard, and the
// label is a part of the identity.
func FuzzLabel(f *testing.F) {
	for _, seed := range []string{"alice", `DOM\alice`, "CN=alice, O=x", "*.evil", "a@b", "al ice; $(id)", "\u212A",
		"CN=a, CN=b", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, identity string) {
		label, err := Rules{Zone: "example."}.label(identity)
		if err != nil {
			if label != "" {
				t.Errorf("an error, and the label %q", label)
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
