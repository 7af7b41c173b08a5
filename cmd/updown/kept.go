package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"

	"tunnelcast/internal/hook"
	"tunnelcast/internal/lease"
)

// checkMemory checks the file of names and lists the names inside the pools that are
// somebody else's. It lists none if the zones or charon cannot be asked, which other
// lines report.
func (g *gateway) checkMemory(ctx context.Context, c *hook.Checks) {
	known, err := g.state.load()
	if info, statErr := os.Stat(string(g.state)); err == nil && statErr == nil && !info.IsDir() {
		err = &fs.PathError{Op: "open", Path: string(g.state), Err: fs.ErrInvalid}
	}
	c.Say(fmt.Sprintf("memory %s, %d names", g.state.names(), len(known)), err,
		"nothing is lost: names that it does not have stay in the zone, and the next sync writes it anew")
	for _, zone := range g.ReverseZones {
		if err := lease.CheckReverse(zone); err != nil {
			c.Say("reverse zone "+zone, err, "the key reverse-zones in /etc/tunnelcast/updown.toml")
		}
	}

	server, err := g.server()
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, dnsTimeout)
	defer cancel()
	live, pools, err := g.askCharon(ctx)
	if err != nil {
		return
	}
	view, _, err := g.readZones(ctx, server)
	if err != nil {
		return
	}
	rules := g.rules
	if rules.Known = known; len(rules.Pools) == 0 {
		rules.Pools = pools
	}
	rules.LeftOut = g.leftOut(live)
	// What a hook has added since the last sync is ours too.
	if claims, err := g.dir.claims(rules.Zone); err == nil {
		for rr := range claims {
			rules.Known[rr] = true
		}
	}
	kept := rules.Look(live, view.zones).Kept()
	if len(kept) == 0 {
		return
	}
	texts := make([]string, len(kept))
	for i, rr := range kept {
		texts[i] = text(rr)
	}
	c.Say(fmt.Sprintf("%d names inside the pools that this gateway did not add, which stay: %s (if they are left over from another program: "+
		"tunnelcast-updown sync --dry-run --force, then without --dry-run)", len(kept), some(texts)), nil, "")
}
