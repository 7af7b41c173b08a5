package main

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"

	"tunnelcast/internal/hook"
	"tunnelcast/internal/lease"
)

// checkMemory checks the memory of names, and lists the names inside the pools that
// this gateway did not add. It lists none if a zone or charon does not answer, which
// other lines report.
func (h *host) checkMemory(ctx context.Context, c *hook.Checks) {
	known, err := h.memory.Load()
	if info, statErr := os.Stat(string(h.memory)); err == nil && statErr == nil && !info.IsDir() {
		err = &fs.PathError{Op: "open", Path: string(h.memory), Err: fs.ErrInvalid}
	}
	c.Say(fmt.Sprintf("memory %s, %d names", h.memory.File(), len(known)), err,
		"nothing is lost: names that it does not have stay in the zone, and the next sync writes it anew")
	for _, zone := range h.ReverseZones {
		if err := lease.CheckReverse(zone); err != nil {
			c.Say("reverse zone "+zone, err, "the key reverse-zones in /etc/tunnelcast/updown.toml")
		}
	}

	server, err := h.dnsServer()
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, dnsTimeout)
	defer cancel()
	live, pools, err := h.askCharon(ctx)
	if err != nil {
		return
	}
	view, _, err := h.readZones(ctx, server)
	if err != nil {
		return
	}
	rules := h.rules
	if rules.Known = known; len(rules.Pools) == 0 {
		rules.Pools = pools
	}
	rules.LeftOut = h.leftOut(live)
	// Hooks may have added names since the last sync.
	if registered, err := h.dir.Registered(rules.Zone); err == nil {
		maps.Copy(rules.Known, registered)
	}
	kept := rules.Look(live, view.zones).Kept()
	if len(kept) == 0 {
		return
	}
	texts := make([]string, len(kept))
	for i, rr := range kept {
		texts[i] = text(rr)
	}
	c.Say(fmt.Sprintf("%d names inside the pools that this gateway did not add, which stay: %s "+
		"(if they are left over from another program: "+
		"`tunnelcast-updown sync --dry-run --force` lists what `tunnelcast-updown sync --force` removes)",
		len(kept), some(texts)), nil, "")
}
