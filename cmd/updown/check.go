package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"tunnelcast/internal/ddns"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/lease"
)

// check says in a line per thing whether this host is ready, and changes
// nothing.
func (g *gateway) check(ctx context.Context) error {
	c := hook.NewChecks(g.env.Stdout)
	g.checkZones(ctx, c)
	g.checkCharon(ctx, c)
	for _, unit := range []string{"tunnelcast-sync.path", "tunnelcast-sync.timer"} {
		state, err := g.askUnit(ctx, unit)
		if err == nil && state.Active != "active" {
			err = fmt.Errorf("it is %s", state.Active)
		}
		c.Say("unit "+unit, err, "systemctl enable --now "+unit)
	}
	c.CheckMetrics(g.Metrics)
	return c.Err()
}

func (g *gateway) checkZones(ctx context.Context, c *hook.Checks) {
	server, err := g.server()
	c.Say("key "+g.Key, err, "")
	if err != nil {
		return
	}
	for _, zone := range append([]string{g.rules.Zone}, g.rules.Reverse...) {
		ctx, cancel := context.WithTimeout(ctx, dnsTimeout)
		serial, err := server.Serial(ctx, zone)
		what := fmt.Sprintf("zone %s at %s", zone, g.Server)
		if err == nil {
			what += fmt.Sprintf(", serial %d", serial)
		}
		c.Say(what, err, "")
		if err == nil {
			err := server.Update(ctx, nothing(zone), g.ttl())
			c.Say("update of zone "+zone, err, "allow-update or update-policy in named.conf")
			rrs, err := server.Transfer(ctx, zone)
			c.Say(fmt.Sprintf("transfer of zone %s, %d records", zone, len(rrs)), err, transferGrant(server))
		}
		cancel()
	}
}

func transferGrant(server *ddns.Server) string {
	if server.Key == nil {
		return "allow-transfer in the zone's statement in named.conf"
	}
	return fmt.Sprintf("allow-transfer { key %s; }; in the zone's statement in named.conf", strings.TrimSuffix(server.Key.Name, "."))
}

// nothing is an update that needs the same grant as a client's name and changes
// nothing: it deletes an RR that is not there.
func nothing(zone string) lease.Change {
	rr := lease.Address("tunnelcast-check."+zone, netip.MustParseAddr("192.0.2.1"))
	return lease.Change{Zone: zone, Remove: []lease.RR{rr}}
}

func (g *gateway) checkCharon(ctx context.Context, c *hook.Checks) {
	ctx, cancel := context.WithTimeout(ctx, charonTimeout)
	defer cancel()
	leases, pools, err := g.askCharon(ctx)
	what := "charon at " + g.Vici
	if err == nil {
		what += fmt.Sprintf(", %d clients", len(leases))
	}
	c.Say(what, err, "systemctl start "+g.Unit)
	switch {
	case len(g.rules.Pools) > 0:
		c.Say(fmt.Sprintf("pools %v, from the settings", g.rules.Pools), nil, "")
	case err == nil && len(pools) == 0:
		c.Say("pools", errors.New("charon has none"), "pools in swanctl.conf, or the key pools if addresses come from elsewhere")
	case err == nil:
		c.Say(fmt.Sprintf("pools %v, from charon", pools), nil, "")
	}
	state, err := g.askUnit(ctx, g.Unit)
	if err == nil && state.Load == "not-found" {
		err = os.ErrNotExist
	}
	c.Say("unit "+g.Unit, err, "the key unit names charon's unit")
}
