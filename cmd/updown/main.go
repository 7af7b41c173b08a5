// The command updown gives VPN clients their names.
//
// charon calls it as its updown script, once per pair of traffic selectors,
// holds all other clients until it has ended and closed its output, ignores its
// exit status and cuts what it prints at 127 bytes a line
// (src/libcharon/plugins/updown/updown_listener.c). Nothing in such a call tells
// whether the address that goes down is the same as one that came up a moment
// ago, so the hook only adds, and asks `updown sync` to look: that compares the
// zone with what charon holds and is the only one to remove a name.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"tunnelcast/internal/charon"
	"tunnelcast/internal/ddns"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/lease"
	"tunnelcast/internal/units"
)

func main() { os.Exit(hook.UnitStatus(hook.Main("updown", run, failures))) }

type cli struct {
	hook.Common
	Server       string        `help:"Send updates to this DNS server, HOST or HOST:PORT." default:"127.0.0.1:53"`
	Zone         string        `help:"The zone that gets the clients' names." default:"example"`
	ReverseZones []string      `help:"Zones that get the clients' PTRs, such as 0.0.10.in-addr.arpa." placeholder:"ZONE"`
	Key          string        `help:"Sign with the TSIG key in this file. The word none signs nothing, for a server on this host only." default:"/run/named/session.key"`
	TTL          seconds       `name:"ttl" help:"How long a resolver may keep a client's name, in seconds or as 5m." default:"60"`
	Timeout      time.Duration `help:"The longest that one call holds charon, over all tries." default:"1s"`
	Pools        []string      `help:"The gateway's pools, as 10.0.0.0/24 or 10.0.0.100-10.0.0.200. Without them charon is asked for its own." placeholder:"POOL"`
	Connections  []string      `help:"The connections of swanctl.conf whose clients get names. Without them it is all but those without an updown line." placeholder:"NAME"`
	Reserved     []string      `help:"Names besides ns, wpad, isatap and localhost that no client gets." placeholder:"LABEL"`
	Mend         bool          `help:"Give a client whose login is not a name one with a hyphen for each run of other characters."`
	Names        nameTable     `kong:"-" toml:"names"`
	Vici         string        `help:"charon's VICI socket." default:"/run/charon.vici" placeholder:"SOCKET"`
	Unit         string        `help:"charon's systemd unit." default:"strongswan.service"`
	RunDir       string        `hidden:"" default:"/run/tunnelcast"`
	StateDir     string        `hidden:"" default:"/var/lib/tunnelcast"`
	SwanctlDir   string        `hidden:"" default:"/etc/swanctl"`

	Hook struct {
		Args []string `arg:"" optional:"" passthrough:"" help:"Ignored."`
	} `cmd:"" default:"withargs" hidden:""`
	Sync struct {
		DryRun bool `help:"Print what would be changed, as dig prints an update, and change nothing."`
		Force  bool `help:"Also remove names inside the pools that this gateway did not add and no client has."`
	} `cmd:"" help:"Make the zones hold exactly the live clients."`
	List struct {
		Format string `help:"table, json or html." enum:"table,json,html" default:"table"`
	} `cmd:"" help:"Print who is connected, under which name, since when and from where."`
	Check struct{} `cmd:"" help:"Say whether this host is ready."`
}

// seconds is a TTL: a bare number is in seconds, as in a zone file.
type seconds time.Duration

func (s *seconds) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if n, numErr := strconv.ParseUint(string(text), 10, 31); numErr == nil {
		d, err = time.Duration(n)*time.Second, nil
	}
	if err != nil || d < time.Second || d > 7*24*time.Hour || d%time.Second != 0 {
		return fmt.Errorf("%q is no TTL between 1 second and a week", text)
	}
	*s = seconds(d)
	return nil
}

// nameTable has the labels of certain identities.
type nameTable struct{ lease.Names }

// UnmarshalTOML implements hook.Table.
func (n *nameTable) UnmarshalTOML(value any) error {
	table, ok := value.(map[string]any)
	if !ok {
		return errors.New(`names is a table: [names] and below it lines such as "first.last@corp" = "flast"`)
	}
	labels := make(map[string]string, len(table))
	for identity, value := range table {
		if labels[identity], ok = value.(string); !ok {
			return fmt.Errorf("names: %q: the name must be in quotes, and so must be an identity with a dot", identity)
		}
	}
	names, err := lease.ParseNames(labels)
	if err != nil {
		return fmt.Errorf("names: %w", err)
	}
	n.Names = names
	return nil
}

func run(ctx context.Context, env hook.Env) error {
	var c cli
	// What charon calls is the hook, whatever the configured line has behind it.
	command, called := "hook", env.Getenv("PLUTO_VERB") != ""
	switch {
	case called && hook.Settings(env, &c):
	case !called && plainSync(env.Args) && hook.Settings(env, &c):
		command = "sync"
		env.CatchSignals()
	default:
		parsed, err := hook.Parse(env, &c, "Give VPN clients their names in DNS.")
		if err != nil {
			return err
		}
		if !called {
			command = parsed
		}
	}
	g, err := newGateway(c, env)
	if err != nil {
		return err
	}
	if command == "hook" && !called {
		return hook.Usagef("PLUTO_VERB is not set: the hook is for charon to call; for you there are sync, list and check")
	}
	if command == "sync" && env.IsUnit() && !c.isSetUp() {
		return nil
	}
	return hook.With(g.run(ctx, command), "zone", g.rules.Zone, "server", g.Server)
}

// plainSync tells whether this is the call of tunnelcast-sync.service, which may
// come twice a second.
func plainSync(args []string) bool {
	if len(args) == 3 && args[0] == "--config" {
		args = args[2:]
	}
	return slices.Equal(args, []string{"sync"})
}

func (g *gateway) run(ctx context.Context, command string) error {
	switch command {
	case "sync":
		return g.sync(ctx, g.Sync.DryRun)
	case "list":
		return g.list(ctx, g.List.Format)
	case "check":
		return g.check(ctx)
	}
	return g.hook(ctx)
}

// gateway is what one run knows of this host: the settings, and the ways to
// those it asks.
type gateway struct {
	cli
	env   hook.Env
	rules lease.Rules // without pools, unless the setting has them
	dir   runDir
	state stateDir

	// askCharon returns the live leases and charon's pools. Not running is
	// charon.ErrNotRunning.
	askCharon func(context.Context) ([]lease.Lease, lease.Pools, error)
	askUnit   func(ctx context.Context, unit string) (units.State, error)

	clientPort string // on which clients ask their DNS servers

	settle time.Duration // how long charon may take to start or to stop
	breath time.Duration // between a run of sync and the next in a storm
}

func newGateway(c cli, env hook.Env) (*gateway, error) {
	g := &gateway{clientPort: "53", cli: c, env: env, dir: runDir(c.RunDir), state: stateDir(c.StateDir), askUnit: units.Get, settle: 15 * time.Second, breath: 500 * time.Millisecond}
	for _, zone := range append([]string{c.Zone}, c.ReverseZones...) {
		if err := lease.CheckZone(zone); err != nil {
			return nil, hook.Usagef("%w", err)
		}
	}
	var err error
	if g.Server, err = withPort(c.Server); err != nil {
		return nil, hook.Usagef("server %q: HOST or HOST:PORT is wanted, such as 127.0.0.1:53", c.Server)
	}
	if c.Timeout <= 0 {
		return nil, hook.Usagef("timeout %s: it must be more than nothing", c.Timeout)
	}
	pools, err := lease.ParsePools(c.Pools)
	if err != nil {
		return nil, hook.Usagef("%w", err)
	}
	g.rules = lease.Rules{Zone: lease.FQDN(c.Zone), Pools: pools, Reserved: c.Reserved, Names: c.Names.Names, Mend: c.Mend}
	if err := g.rules.CheckNames(); err != nil {
		return nil, hook.Usagef("names: %w", err)
	}
	for _, zone := range c.ReverseZones {
		g.rules.Reverse = append(g.rules.Reverse, lease.FQDN(zone))
	}
	g.askCharon = func(ctx context.Context) ([]lease.Lease, lease.Pools, error) {
		session, err := charon.Dial(ctx, c.Vici)
		if err != nil {
			return nil, nil, err
		}
		defer session.Close()
		pools, err := session.Pools(ctx)
		if err != nil {
			return nil, nil, err
		}
		leases, err := session.Leases(ctx, env.Now())
		return leases, pools, err
	}
	return g, nil
}

// withPort adds the port of DNS where none is given. An IPv6 address may be in
// brackets.
func withPort(server string) (string, error) {
	if host, port, err := net.SplitHostPort(server); err == nil {
		if port == "" || strings.ContainsAny(host+port, "/ ") {
			return "", errors.New("not a host and a port")
		}
		return server, nil
	}
	host := server
	if inner, ok := strings.CutPrefix(server, "["); ok && strings.HasSuffix(inner, "]") && strings.Contains(inner, ":") {
		host = strings.TrimSuffix(inner, "]")
	}
	if _, err := netip.ParseAddr(host); err != nil && (host == "" || strings.ContainsAny(host, ":[]/ ")) {
		return "", errors.New("neither a name nor an address")
	}
	return net.JoinHostPort(host, "53"), nil
}

// server reads the key, anew in each run: named makes a new session key whenever
// it starts.
func (g *gateway) server() (*ddns.Server, error) {
	s := &ddns.Server{Addr: g.Server, Now: g.env.Now}
	if g.Key == "none" {
		if !s.Loopback() {
			return nil, hook.Usagef("key is none, but the server %s is not on this host: updates across a network must be signed", g.Server)
		}
		return s, nil
	}
	key, err := ddns.ReadKey(g.Key)
	if errors.Is(err, os.ErrNotExist) && filepath.Base(g.Key) == "session.key" {
		err = fmt.Errorf("%w (is named running? its session key is made when it starts)", err)
	}
	s.Key = key
	return s, err
}

func (g *gateway) ttl() time.Duration { return time.Duration(g.TTL) }
