package charon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"tunnelcast/internal/session"
	"tunnelcast/internal/vici"
)

// Sessions are all IKE_SAs that charon has.
type Sessions struct {
	Live   []session.SA   // those that are live and have virtual IPs, as in Leases
	States map[string]int // how many there are in each of charon's states, such as ESTABLISHED
}

// Sessions returns the live clients with the counters of their CHILD_SAs. It waits
// for every IKE_SA that is busy, as Leases does.
func (s *Session) Sessions(ctx context.Context, now time.Time) (Sessions, error) {
	sessions := Sessions{States: map[string]int{}}
	err := s.stream(ctx, "list-sas", "list-sa", func(message vici.Message) error {
		return sessions.read(message, now)
	})
	if err != nil {
		return Sessions{}, fmt.Errorf("list sessions: %w", err)
	}
	return sessions, nil
}

// read appends the IKE_SAs of one event.
func (s *Sessions) read(message vici.Message, now time.Time) error {
	var sa ikeSA
	return sa.read(message, true, func() error {
		s.States[string(sa.state)]++
		if !sa.live() {
			return nil
		}
		l, err := sa.lease(now)
		if err != nil {
			return err
		}
		live := session.SA{ID: string(sa.id), Identity: l.Identity, Addresses: l.Addresses, Remote: l.Remote,
			Connection: l.Connection, Established: l.Established}
		for _, child := range sa.children {
			c, err := child.child(now)
			if err != nil {
				return err
			}
			live.Children = append(live.Children, c)
		}
		s.Live = append(s.Live, live)
		return nil
	})
}

// ErrNoSession reports that charon no longer has the IKE_SA.
var ErrNoSession = errors.New("the session has ended already")

// Terminate makes charon end an IKE_SA, named by its number. charon sends the client
// the notice and calls the updown hook before it answers; it does not wait for the
// client, which may be gone.
func (s *Session) Terminate(ctx context.Context, id string) error {
	request, err := vici.Encode(vici.Value("ike-id", id), vici.Value("timeout", "-1"))
	if err != nil {
		return err
	}
	err = s.do(ctx, func(c *vici.Client) error {
		_, err := c.Call(ctx, "terminate", request)
		return err
	})
	switch {
	case err == nil:
		return nil
	// vici_control.c has no code for it.
	case errors.Is(err, vici.ErrRefused) && strings.Contains(err.Error(), "no matching SAs"):
		return ErrNoSession
	}
	return fmt.Errorf("terminate IKE_SA %s: %w", id, err)
}
