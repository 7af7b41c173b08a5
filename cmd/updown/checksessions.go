package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"

	"tunnelcast/internal/hook"
	"tunnelcast/internal/program"
	"tunnelcast/internal/swanctl"
	"tunnelcast/internal/units"
)

// checkSessions checks what the settings about sessions need. It prints nothing if
// there are none.
func (h *host) checkSessions(ctx context.Context, c *hook.Checks) {
	if h.policy.Sessions > 0 {
		// checkLine reports an unreadable file.
		if conf, err := swanctl.Read(h.SwanctlDir); err == nil {
			unique := conf.Unique()
			for _, name := range slices.Sorted(maps.Keys(unique)) {
				c.Say(fmt.Sprintf("sessions-per-identity %d: "+
					"connection %s has unique = %s, too, which acts first, at the login",
					h.policy.Sessions, name, unique[name]), nil, "")
			}
		}
	}
	if h.Page != "" {
		remedy, err := units.CheckWrites(ctx, syncService, h.pageDir())
		if _, statErr := os.Stat(h.pageDir()); statErr != nil {
			remedy, err = "`mkdir -p "+h.pageDir()+"`", statErr
		}
		c.Say(fmt.Sprintf("page %s, which %s may write", h.Page, syncService), err, remedy)
	}
	if len(h.OnEvent) == 0 {
		return
	}
	what := "on-event " + h.OnEvent[0]
	if n, err := eventQueue(h.RunDir).Waiting(); err == nil {
		made, failed := eventQueue(h.RunDir).Counts()
		what += fmt.Sprintf(": called %d times since boot, failed %d, %d wait", made, failed, n)
	}
	c.Say(what, program.Check(h.OnEvent), "`tunnelcast-updown sync --test-event` calls it once")
	h.checkUnit(ctx, c, eventsPath)
}

const eventsPath = "tunnelcast-events.path"

func (h *host) checkUnit(ctx context.Context, c *hook.Checks, unit string) {
	state, err := h.askUnit(ctx, unit)
	remedy := ""
	if err == nil {
		remedy, err = state.Fault(unit)
	}
	c.Say("unit "+unit, err, remedy)
}
