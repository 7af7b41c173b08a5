package main

import (
	"testing"
	"time"
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
