// Archiveprune removes recordings that are too old, or too many for the disk, from the directories
// that nginx-rtmp records to: a daily timer starts it, another one each hour where min-free is set,
// and a person who wants to know what it would remove.
//
// The units give it flags and /etc/tunnelcast/archiveprune.toml, discard its output and read its exit
// status. nginx, viewers and recorddone use the archive meanwhile, and publishers choose the names in
// it. Therefore internal/archive removes only what is certain to be an unused recording inside the
// archive, and what stays is counted and named: in the summary, in the journal, by --dry-run.
//
// Which recordings are removed, and why, is decided in internal/retention.
package main

import (
	"context"
	"os"

	"tunnelcast/internal/hook"
)

func main() { os.Exit(hook.UnitStatus(hook.Main("archiveprune", run, runFailed))) }

const description = "Remove recordings that are too old or too many."

func run(ctx context.Context, env hook.Env) error {
	var c cli
	command, err := hook.Parse(env, &c, description)
	if err != nil {
		return err
	}
	h := &host{cli: c, env: env}
	if err := h.split(); err != nil {
		return err
	}
	switch command {
	case "crontabs":
		h.crontabs()
		return nil
	case "check":
		return h.check(ctx)
	}
	return h.prune(ctx)
}
