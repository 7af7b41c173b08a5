package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"tunnelcast/internal/hook/hooktest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"updown": main})
}

// TestScripts runs the command as charon, systemd and a person do.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:  "testdata",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"status": hooktest.Status},
	})
}
