package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"tunnelcast/internal/lease"
)

// sayUnnamed logs each connected client without a name, once for each cause, because
// its hook may not have known. The run directory keeps what was logged. It does not
// log clients of connections that the settings leave out.
func (g *gateway) sayUnnamed(refused []lease.Refusal) {
	file := filepath.Join(string(g.dir), "unnamed")
	before, _ := os.ReadFile(file) // without it everything is logged again
	said := strings.SplitAfter(string(before), "\n")
	var now []string
	for _, r := range refused {
		line := strconv.Quote(r.Lease.Identity) + " " + strconv.Quote(r.Err.Error()) + "\n"
		if errors.Is(r.Err, lease.ErrLeftOut) || slices.Contains(now, line) {
			continue
		}
		now = append(now, line)
		if slices.Contains(said, line) {
			continue
		}
		name, err := g.rules.Name(r.Lease.Identity)
		event := noPool
		switch {
		case err != nil:
			event = identityRefused
		case errors.Is(r.Err, lease.ErrHeld):
			event = nameHeld
		}
		g.env.Log.Warn("no name for a client", event, "identity", r.Lease.Identity, "name", name, "cause", r.Err)
	}
	if text := strings.Join(now, ""); text != string(before) {
		if err := g.dir.replace("unnamed", []byte(text), 0o600); err != nil {
			g.env.Log.Warn("clients without a name will be named again", runFailed, "cause", err)
		}
	}
}
