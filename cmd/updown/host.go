package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tunnelcast/internal/charon"
	"tunnelcast/internal/ddns"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/lease"
	"tunnelcast/internal/rundir"
	"tunnelcast/internal/session"
	"tunnelcast/internal/units"
)

// host is what one run knows of this host: the settings, and how to reach charon,
// systemd and the DNS server.
type host struct {
	settings
	env    hook.Env
	rules  lease.Rules // with pools only if the settings have them
	dir    rundir.Dir
	memory rundir.Memory

	// askCharon returns the live leases and charon's pools, or an error that wraps
	// charon.ErrNotRunning.
	askCharon func(context.Context) ([]lease.Lease, lease.Pools, error)
	askUnit   func(ctx context.Context, unit string) (units.State, error)

	policy session.Policy
	// listSessions and endSession ask charon, as askCharon does.
	listSessions func(context.Context) (charon.Sessions, error)
	endSession   func(ctx context.Context, id string) error

	clientPort string // the port of the DNS servers that clients use

	syncTimeout time.Duration // limit for one update or transfer of sync
	restartTime time.Duration // how long charon may take to start or to stop
	burstPause  time.Duration // pause before the next sync while clients connect in a burst
}

func newHost(c settings, env hook.Env) (*host, error) {
	h := &host{
		settings:    c,
		env:         env,
		dir:         rundir.Dir(c.RunDir),
		memory:      rundir.Memory(c.StateDir),
		askUnit:     units.Get,
		clientPort:  "53",
		syncTimeout: dnsTimeout,
		restartTime: 15 * time.Second,
		burstPause:  500 * time.Millisecond,
	}
	for _, zone := range append([]string{c.Zone}, c.ReverseZones...) {
		if err := lease.CheckZone(zone); err != nil {
			return nil, hook.Usagef("%w", err)
		}
	}
	var err error
	if h.Server, err = withPort(c.Server); err != nil {
		return nil, hook.Usagef("server %q: not HOST or HOST:PORT, such as 127.0.0.1:53", c.Server)
	}
	if h.policy, err = c.policy(); err != nil {
		return nil, err
	}
	if err := c.checkSessionSettings(); err != nil {
		return nil, err
	}
	if c.Timeout <= 0 {
		return nil, hook.Usagef("timeout %s: must be positive", c.Timeout)
	}
	pools, err := lease.ParsePools(c.Pools)
	if err != nil {
		return nil, hook.Usagef("%w", err)
	}
	h.rules = lease.Rules{
		Zone:     lease.FQDN(c.Zone),
		Pools:    pools,
		Reserved: c.Reserved,
		Names:    c.Names.Names,
		Mend:     c.Mend,
	}
	if err := h.rules.CheckNames(); err != nil {
		return nil, hook.Usagef("names: %w", err)
	}
	for _, zone := range c.ReverseZones {
		h.rules.Reverse = append(h.rules.Reverse, lease.FQDN(zone))
	}
	h.askCharon = func(ctx context.Context) ([]lease.Lease, lease.Pools, error) {
		s, err := charon.Dial(ctx, c.Vici)
		if err != nil {
			return nil, nil, err
		}
		defer s.Close()
		pools, err := s.Pools(ctx)
		if err != nil {
			return nil, nil, err
		}
		leases, err := s.Leases(ctx, env.Now())
		return leases, pools, err
	}
	h.listSessions = func(ctx context.Context) (charon.Sessions, error) {
		s, err := charon.Dial(ctx, c.Vici)
		if err != nil {
			return charon.Sessions{}, err
		}
		defer s.Close()
		return s.Sessions(ctx, env.Now())
	}
	h.endSession = func(ctx context.Context, id string) error {
		s, err := charon.Dial(ctx, c.Vici)
		if err != nil {
			return err
		}
		defer s.Close()
		return s.Terminate(ctx, id)
	}
	return h, nil
}

// withPort adds the port of DNS if there is none. An IPv6 address may be in
// brackets.
func withPort(server string) (string, error) {
	if name, port, err := net.SplitHostPort(server); err == nil {
		if port == "" || strings.ContainsAny(name+port, "/ ") {
			return "", errors.New("not a host and a port")
		}
		return server, nil
	}
	name := server
	if strings.HasPrefix(server, "[") && strings.HasSuffix(server, "]") && strings.Contains(server, ":") {
		name = server[1 : len(server)-1]
	}
	if _, err := netip.ParseAddr(name); err != nil && (name == "" || strings.ContainsAny(name, ":[]/ ")) {
		return "", errors.New("neither a name nor an address")
	}
	return net.JoinHostPort(name, "53"), nil
}

// dnsServer returns the DNS server with its key, which it reads in each run: named
// makes a new session key whenever it starts.
func (h *host) dnsServer() (*ddns.Server, error) {
	s := &ddns.Server{Addr: h.Server, Now: h.env.Now}
	if h.Key == "none" {
		if !s.Loopback() {
			return nil, hook.Usagef(
				"key is none, but the server %s is not on this host: updates across a network must be signed", h.Server)
		}
		return s, nil
	}
	key, err := ddns.ReadKey(h.Key)
	if errors.Is(err, os.ErrNotExist) && filepath.Base(h.Key) == "session.key" {
		err = fmt.Errorf("%w (is named running? its session key is made when it starts)", err)
	}
	s.Key = key
	return s, hook.With(err, keyUnreadable)
}

func (h *host) nameTTL() time.Duration { return time.Duration(h.TTL) }

// fields adds to an error the fields that every failure has in the journal.
func (h *host) fields(err error) error {
	return hook.With(err, "zone", h.rules.Zone, "server", h.Server)
}
