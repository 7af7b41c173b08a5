// Updown gives VPN clients names in DNS: charon calls it for each client, a path
// unit and a timer start `updown sync`. It also makes routes, rules and names follow
// network links: pppd calls it for each link, `updown links` does the work.
//
// charon calls it as its updown script once per pair of traffic selectors, makes
// all other clients wait until it has exited and closed its output, ignores its
// exit status and cuts each line of its output at 127 bytes
// (src/libcharon/plugins/updown/updown_listener.c). A call does not show whether
// the address that goes down is one that came up a moment ago. The hook therefore
// only adds names, and requests a run of sync, which compares the zone with what
// charon holds. Only sync removes names.
package main

import (
	"context"
	"errors"
	"os"

	"tunnelcast/internal/hook"
)

func main() { os.Exit(hook.UnitStatus(hook.Main("updown", run, runFailed))) }

const description = "Give VPN clients their names in DNS."

func run(ctx context.Context, env hook.Env) error {
	// PLUTO_VERB means charon called us: run the hook and ignore the configured
	// arguments.
	if env.Getenv("PLUTO_VERB") != "" {
		return runHook(ctx, env)
	}
	if link := pppdLink(env); link != "" {
		return runLinkHook(env, link)
	}
	var c cli
	command, err := hook.Parse(env, &c, description)
	if err != nil {
		return err
	}
	h, err := newHost(c.settings, env)
	if err != nil {
		return err
	}
	switch command {
	case "events":
		return errors.Join(runEvents(ctx, env, eventQueue(c.RunDir)), runEvents(ctx, env, linkQueue(c.RunDir)))
	case "sync":
		if c.Sync.TestEvent {
			return h.sessions().testEvent(ctx, env.Stdout)
		}
		if env.IsUnit() && !c.isSetUp() {
			return nil
		}
		err = h.sync(ctx, c.Sync)
	case "list":
		err = h.list(ctx, c.List.Format)
	case "links":
		return h.links(ctx, c.Links)
	case "check":
		err = h.check(ctx)
	default:
		return hook.Usagef("PLUTO_VERB is not set: the hook is for charon to call; use sync, list, links or check")
	}
	return h.fields(err)
}

func runHook(ctx context.Context, env hook.Env) error {
	var c hookCLI
	if err := hook.ParseCall(env, &c, description); err != nil {
		return err
	}
	h, err := newHost(c.settings, env)
	if err != nil {
		return err
	}
	return h.fields(h.hook(ctx))
}
