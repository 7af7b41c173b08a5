package main

import (
	"net/netip"
	"testing"
	"time"

	"tunnelcast/internal/lease"
)

func TestClaimsAreReadAsTheyWereWritten(t *testing.T) {
	now := time.UnixMicro(time.Now().UnixMicro())
	for _, want := range []claim{
		{},
		{Identity: "alice", SA: "17"},
		{Identity: "DOM\\al ice\n\"x\" 7\x00\xff", SA: "1", GaveUp: now},
	} {
		if got, ok := readClaim(want.text()); !ok || got != want {
			t.Errorf("%+v became %+v, %v", want, got, ok)
		}
	}
	// Killed while it wrote, and what earlier versions wrote.
	for _, text := range []string{"", "\"alice", "\"alice\" \"17\"", `{"identity":"alice","sa":"17"}`} {
		if got, ok := readClaim(text); ok {
			t.Errorf("%q is read as %+v", text, got)
		}
	}
}

func TestHoldersAreReadAsTheyWereRemembered(t *testing.T) {
	d := runDir(t.TempDir())
	if err := d.make(); err != nil {
		t.Fatal(err)
	}
	alice, evil := client("alice", "10.0.0.1", "fd00::1"), client("DOM\\al ice\n10.0.0.3 \"x\" 7\x00\xff", "10.0.0.2")
	if err := d.remember(nil, false, []lease.Lease{client("before", "10.0.0.1"), alice, evil}); err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]string{"10.0.0.1": "alice", "fd00::1": "alice", "10.0.0.2": evil.Identity, "10.0.0.3": "", "10.0.0.12": ""} {
		if got := d.holder(lease.Address("x.example.", netip.MustParseAddr(addr))); got != want {
			t.Errorf("%s is held by %q, want %q", addr, got, want)
		}
	}
}
