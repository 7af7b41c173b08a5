package main

import (
	"strings"
	"testing"
)

func TestShellNeedsATerminal(t *testing.T) {
	// Standard input is /dev/null in a test.
	if err := run(t.Context(), "bookworm", "no.deb", true); err == nil || !strings.Contains(err.Error(), "a terminal") {
		t.Errorf("error %v", err)
	}
}
