// Certhook moves charon to a certificate that certbot has renewed, without a
// moment in which a login fails, and asks charon for proof.
//
// certbot calls it as a deploy hook, with RENEWED_LINEAGE in the environment, for every
// renewed lineage, also for those that charon does not use. It sets no deadline, reads the
// exit status only to log it, and mails whatever the hook writes to standard error
// (certbot/_internal/hooks.py).
//
// A run reads its host once (snapshot.go), has [tunnelcast/internal/rotation] decide what
// is to be done, and does that (move.go).
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"tunnelcast/internal/hook"
)

// deadline is how long one run may take: certbot holds its lock meanwhile.
const deadline = 60 * time.Second

type cli struct {
	hook.Common
	Vici        string   `help:"charon's VICI socket." default:"/run/charon.vici" placeholder:"SOCKET"`
	Swanctl     string   `help:"The program that loads charon's configuration." default:"/usr/sbin/swanctl"`
	SwanctlDir  string   `help:"The directory of swanctl.conf." default:"/etc/swanctl" placeholder:"DIR"`
	Unit        string   `help:"charon's systemd unit." default:"strongswan.service" placeholder:"UNIT"`
	ReloadUnits []string `help:"Units to reload after a switch." placeholder:"UNIT"`
	Lineages    []string `help:"Lineages to look after (default: those in swanctl.conf)." placeholder:"LINEAGE"`
	WarnDays    int      `help:"check fails with fewer days left (default: by the lifetime)." placeholder:"DAYS"`

	Hook   struct{} `cmd:"" default:"1" hidden:""`
	Deploy struct {
		Lineage string `help:"Its directory, or its name in /etc/letsencrypt/live." required:"" placeholder:"DIR"`
		DryRun  bool   `help:"Print the steps and do nothing."`
	} `cmd:"" help:"Move charon to a lineage's certificate."`
	Check struct {
		Format string `help:"table or json." enum:"table,json" default:"table" placeholder:"FORMAT"`
		Heal   bool   `help:"First do what a missed or failed hook left undone."`
	} `cmd:"" help:"Compare the certificates on disk with those that charon serves, and check this host."`
}

const description = "Move charon to a renewed certificate, without losing a login. certbot's deploy hook."

func main() { os.Exit(hook.UnitStatus(hook.Main("certhook", run, runFailed))) }

func run(ctx context.Context, env hook.Env) error { return withEvent(runCommand(ctx, env)) }

func runCommand(ctx context.Context, env hook.Env) error {
	var c cli
	command, err := hook.Parse(env, &c, description)
	if err != nil {
		return err
	}
	if c.SwanctlDir, err = filepath.Abs(c.SwanctlDir); err != nil {
		return fmt.Errorf("find swanctl's directory: %w", err)
	}
	late := hook.With(fmt.Errorf("not done within %s", deadline), tooLong)
	ctx, cancel := context.WithTimeoutCause(ctx, deadline, late)
	defer cancel()
	h := host{env: env, cli: c, root: "/"}
	switch command {
	case "deploy":
		if c.Deploy.DryRun {
			return notRoot(h.dryRun(ctx, c.Deploy.Lineage))
		}
		env.Metrics.Begin(c.Metrics, metrics...)
		outcome, err := h.deploy(ctx, c.Deploy.Lineage)
		if err == nil {
			fmt.Fprintln(env.Stdout, outcome)
		}
		return notRoot(err)
	case "check":
		return h.check(ctx)
	default:
		dir := env.Getenv("RENEWED_LINEAGE")
		if dir == "" {
			return hook.Usagef("RENEWED_LINEAGE is not set: certbot sets it for its deploy hooks; " +
				"by hand use `tunnelcast-certhook deploy --lineage DIR`")
		}
		env.Metrics.Begin(c.Metrics, metrics...)
		_, err := h.deploy(ctx, dir)
		return notRoot(err)
	}
}
