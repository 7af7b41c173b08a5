package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"tunnelcast/internal/charon"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/lease"
	"tunnelcast/internal/swanctl"
)

// poolsOf are charon's pools.
type poolsOf struct {
	lease.Pools
	known bool // charon returned them in this run
	none  bool // charon has none: its clients' addresses come from elsewhere
}

// live returns charon's leases and pools. If charon does not run it returns no
// leases, but only if systemd confirms that, and the pools that the last sync
// saved. It returns these also while charon has no pools because it has just
// started. If charon has clients and no pools, their addresses come from elsewhere.
func (h *host) live(ctx context.Context) (leases []lease.Lease, pools poolsOf, err error) {
	ctx, cancel := context.WithTimeout(ctx, charonTimeout)
	defer cancel()
	deadline := h.env.Now().Add(h.restartTime)
	for {
		leases, pools.Pools, err = h.askCharon(ctx)
		pools.known = err == nil && len(pools.Pools)+len(leases) > 0
		switch {
		case errors.Is(err, charon.ErrNotRunning):
			err = h.confirmStopped(ctx, err)
		case err != nil: // charon may have stopped while it replied: ask again
			err = notProven{err, true}
		}
		if err == nil && !pools.known {
			var saved bool
			pools.Pools, saved, err = h.dir.Pools()
			pools.none = saved && len(pools.Pools) == 0
		}
		pools.none = pools.none || pools.known && len(pools.Pools) == 0
		// While charon starts or stops, for example after a crash, the next answer
		// may be better.
		var n notProven
		if !errors.As(err, &n) {
			return leases, pools, err
		}
		if !n.retry || h.env.Now().After(deadline) {
			return leases, pools, hook.With(err, noEvidence)
		}
		select {
		case <-ctx.Done():
			return nil, poolsOf{}, hook.With(err, noEvidence)
		case <-time.After(retryPause):
		}
	}
}

const retryPause = 100 * time.Millisecond

// notProven is the error of a run that could not find out who is connected.
type notProven struct {
	error
	retry bool // it may be known in a moment
}

func (n notProven) Error() string { return "nothing is removed without evidence: " + n.error.Error() }
func (n notProven) Unwrap() error { return n.error }

// confirmStopped returns nil if systemd confirms that charon, which does not
// answer, is stopped.
func (h *host) confirmStopped(ctx context.Context, noAnswer error) error {
	state, err := h.askUnit(ctx, h.Unit)
	switch {
	case err != nil:
		return notProven{fmt.Errorf("%w, and %w", noAnswer, err), false}
	case state.Load == "not-found":
		return notProven{fmt.Errorf("%w, and there is no %s (key unit)", noAnswer, h.Unit), false}
	case !state.Stopped():
		return notProven{fmt.Errorf("%w, but %s is %s", noAnswer, h.Unit, state.Active), true}
	}
	return nil
}

// missing returns the leases of b that are not in a.
func missing(a, b []lease.Lease) (missed []lease.Lease) {
	of := make(map[string][][]netip.Addr, len(a)) // addresses by identity
	for _, l := range a {
		of[l.Identity] = append(of[l.Identity], l.Addresses)
	}
	for _, l := range b {
		same := func(have []netip.Addr) bool { return slices.Equal(have, l.Addresses) }
		if !slices.ContainsFunc(of[l.Identity], same) {
			missed = append(missed, l)
		}
	}
	return missed
}

// leftOut returns the connections of these clients whose clients get no names, each
// with the reason.
func (h *host) leftOut(live []lease.Lease) map[string]string {
	without := map[string]string{}
	if len(h.Connections) > 0 {
		for _, l := range live {
			if !slices.Contains(h.Connections, l.Connection) {
				without[l.Connection] = fmt.Sprintf("%s is not in the setting connections", l.Connection)
			}
		}
		return without
	}
	// A connection that is not in a readable swanctl.conf is not left out.
	conf, err := swanctl.Read(h.SwanctlDir)
	if err != nil {
		return nil
	}
	children := conf.Children()
	for _, child := range children {
		without[child.Connection] = fmt.Sprintf(
			"%s has no updown line in swanctl.conf and is not in the setting connections", child.Connection)
	}
	for _, child := range children {
		if child.Updown != "" {
			delete(without, child.Connection)
		}
	}
	return without
}
