package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"tunnelcast/internal/charon"
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
	g.checkLine(c)
	g.checkMemory(ctx, c)
	for _, unit := range []string{"tunnelcast-sync.path", "tunnelcast-sync.timer"} {
		state, err := g.askUnit(ctx, unit)
		remedy := ""
		if err == nil {
			remedy, err = state.Fault(unit)
		}
		c.Say("unit "+unit, err, remedy)
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
		remedy := "named-checkconf -z; the keys zone and server in /etc/tunnelcast/updown.toml"
		if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, ddns.ErrNoReply) {
			remedy = "systemctl restart named"
		}
		c.Say(what, err, remedy)
		if err == nil {
			err := server.Update(ctx, nothing(zone), g.ttl())
			c.Say("update of zone "+zone, err, "update-policy local; in the zone's statement in named.conf")
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

// checkLine looks for the line by which charon calls the hook.
func (g *gateway) checkLine(c *hook.Checks) {
	file := filepath.Join(g.SwanctlDir, "swanctl.conf")
	children, err := charon.ReadChildren(g.SwanctlDir)
	var called, others []string
	for _, child := range children {
		program, _, _ := strings.Cut(child.Updown, " ")
		what := fmt.Sprintf("child %s of connection %s", child.Name, child.Connection)
		real, linkErr := filepath.EvalSymlinks(program)
		switch {
		case program == "":
		case linkErr != nil:
			others = append(others, fmt.Sprintf("%s calls %v", what, linkErr))
		case filepath.Base(real) != "tunnelcast-updown":
			others = append(others, fmt.Sprintf("%s calls %s", what, real))
		default:
			called = append(called, what)
		}
	}
	what := "updown line in " + file
	switch {
	case err != nil:
	case len(called) > 0:
		what += ", " + strings.Join(called, ", ")
	case len(others) > 0:
		err = errors.New(strings.Join(others, ", "))
	default:
		err = errors.New("no child of a connection has one")
	}
	c.Say(what, err, "updown = /etc/swanctl/script/updown.sh iptables in the child's section; swanctl --load-conns")
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
