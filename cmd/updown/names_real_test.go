package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tunnelcast/internal/lease"
)

// The hook adds and sync keeps the names in the settings. If two logins become the same
// name, one of them gets it.
func TestBindNamesOfTheSettings(t *testing.T) {
	b := startBind(t)
	file := filepath.Join(b.dir, "updown.toml")
	b.write("updown.toml", `mend = true
[names]
"First.Last@corp" = "flast"
"C=US, O=Acme, Inc., CN=carol" = "carol"
`)
	g := newTestGateway(t, b, "--config", file)
	g.sync() // learns the pools
	for _, test := range []struct {
		lease lease.Lease
		cause string // why there is no name
	}{
		{client("first.last@corp", "10.0.0.100"), ""},
		{client("flast", "10.0.0.101"), "is listed for"},
		{client("C=US, O=Acme, Inc., CN=carol", "10.0.0.102"), ""},
		{client("dave.example", "10.0.0.103"), ""},
		{client("er.in", "10.0.0.104"), ""},
		{client("er-in", "10.0.0.105"), "belongs to someone else"},
		{client("wpad", "10.0.0.106"), "is reserved"},
	} {
		err := g.up(test.lease)
		if (err == nil) != (test.cause == "") || err != nil && !strings.Contains(err.Error(), test.cause) {
			t.Errorf("%s: %v; want %q", test.lease.Identity, err, test.cause)
		}
	}
	want := "carol A 10.0.0.102; dave A 10.0.0.103; er-in A 10.0.0.104; flast A 10.0.0.100"
	g.want(want)
	g.sync()
	g.want(want)

	// A name in changed settings replaces the earlier one.
	if err := os.WriteFile(file, []byte("[names]\n'dave.example' = 'david'\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	later := newTestGateway(t, b, "--config", file)
	later.live = []lease.Lease{client("dave.example", "10.0.0.103")}
	later.sync()
	later.want("david A 10.0.0.103")
}
