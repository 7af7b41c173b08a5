package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tunnelcast/internal/charon"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/lease"
	"tunnelcast/internal/session"
	"tunnelcast/internal/units"
)

// testGateway is the host of a gateway whose charon is a list.
type testGateway struct {
	*host
	t      testing.TB
	live   []lease.Lease
	vars   map[string]string
	flags  syncFlags
	stdout bytes.Buffer
	log    bytes.Buffer
}

func newTestGateway(t testing.TB, b *bind, args ...string) *testGateway {
	t.Helper()
	tg := &testGateway{t: t}
	env := hook.Env{
		Name: "updown",
		Args: append([]string{"--config", os.DevNull, "--timeout", "1m", "--server", b.addr, "--key", b.key(),
			"--run-dir", filepath.Join(b.dir, "run"),
			"--state-dir", filepath.Join(b.dir, "state"), "--swanctl-dir", filepath.Join(b.dir, "swanctl")}, args...),
		Getenv: func(name string) string { return tg.vars[name] },
		Stdout: &tg.stdout,
		Stderr: io.Discard,
		Log:    slog.New(slog.NewTextHandler(&tg.log, nil)),
		Now:    time.Now,
	}
	var c cli
	if _, err := hook.Parse(env, &c, "test"); err != nil {
		t.Fatal(err)
	}
	h, err := newHost(c.settings, env)
	if err != nil {
		t.Fatal(err)
	}
	h.askCharon = func(context.Context) ([]lease.Lease, lease.Pools, error) {
		pools, err := lease.ParsePools([]string{"10.0.0.100-10.0.0.200", "fd00::100-fd00::200"})
		return slices.Clone(tg.live), pools, err
	}
	h.listSessions = func(context.Context) (listed charon.Sessions, err error) {
		for i, l := range tg.live {
			listed.Live = append(listed.Live, session.SA{ID: fmt.Sprint(i), Identity: l.Identity,
				Addresses: l.Addresses,
				Remote:    l.Remote, Connection: l.Connection, Established: l.Established})
		}
		return listed, nil
	}
	h.askUnit = func(context.Context, string) (units.State, error) {
		return units.State{Load: "loaded", Active: "active"}, nil
	}
	h.restartTime, h.burstPause = 0, 0
	h.syncTimeout = time.Minute // this machine may be busy
	tg.host = h
	return tg
}

func client(identity string, addrs ...string) lease.Lease {
	l := lease.Lease{Identity: identity}
	for _, a := range addrs {
		l.Addresses = append(l.Addresses, netip.MustParseAddr(a))
	}
	return l
}

// up makes charon hold the lease and call the hook.
func (g *testGateway) up(l lease.Lease) error {
	g.live = append(g.live, l)
	g.vars = map[string]string{"PLUTO_VERB": "up-client", "PLUTO_XAUTH_ID": l.Identity}
	n4, n6 := 0, 0
	for _, addr := range l.Addresses {
		if addr.Is4() {
			n4++
			g.vars[fmt.Sprint("PLUTO_PEER_SOURCEIP4_", n4)] = addr.String()
		} else {
			n6++
			g.vars[fmt.Sprint("PLUTO_PEER_SOURCEIP6_", n6)] = addr.String()
		}
	}
	return g.hook(g.t.Context())
}

// down makes charon call the hook for one lease and then end it.
func (g *testGateway) down(l lease.Lease) error {
	g.vars = map[string]string{"PLUTO_VERB": "down-client", "PLUTO_XAUTH_ID": l.Identity}
	err := g.hook(g.t.Context())
	for i, have := range g.live {
		if have.Identity == l.Identity && slices.Equal(have.Addresses, l.Addresses) {
			g.live = slices.Delete(g.live, i, i+1)
			break
		}
	}
	return err
}

// zone returns the RRs of the zones, such as "alice A 10.0.0.100", except those that
// were there at first.
func (g *testGateway) zone() string {
	g.t.Helper()
	s, err := g.dnsServer()
	if err != nil {
		g.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(g.t.Context(), time.Minute)
	defer cancel()
	var lines []string
	for _, zone := range append([]string{g.rules.Zone}, g.rules.Reverse...) {
		rrs, err := s.Transfer(ctx, zone)
		if err != nil {
			g.t.Fatal(err)
		}
		for _, rr := range rrs {
			label, _ := strings.CutSuffix(rr.Owner, "."+zone)
			switch {
			case rr.Type == "PTR":
				lines = append(lines, label+" PTR "+rr.Target)
			case rr.Addr.IsValid():
				lines = append(lines, label+" "+rr.Type+" "+rr.Addr.String())
			}
		}
	}
	for _, fixed := range []string{"example. A 10.0.0.1", "ns A 10.0.0.1", "printer A 10.0.0.9", "* A 10.0.0.7",
		"other A 10.1.0.5",
		"1 PTR ns.example.", "130 PTR static.elsewhere.test."} {
		if i := slices.Index(lines, fixed); i >= 0 {
			lines = slices.Delete(lines, i, i+1)
		} else if !strings.Contains(fixed, "PTR") || len(g.rules.Reverse) > 0 {
			lines = append(lines, "LOST "+fixed)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "; ")
}

func (g *testGateway) want(zone string) {
	g.t.Helper()
	if got := g.zone(); got != zone {
		g.t.Errorf("zone has %q, want %q", got, zone)
	}
}

func (g *testGateway) sync() {
	g.t.Helper()
	if err := g.host.sync(g.t.Context(), g.flags); err != nil {
		g.t.Errorf("sync: %v", err)
	}
}
