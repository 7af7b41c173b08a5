package charon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
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

// read appends the IKE_SAs of one event (list_ike and list_child in
// src/libcharon/plugins/vici/vici_query.c).
func (s *Sessions) read(message vici.Message, now time.Time) error {
	var ike sa
	var id string
	var children []session.Child
	var child session.Child
	var connection string
	for e, err := range message.Elements() {
		if err != nil {
			return err
		}
		switch {
		case e.Kind == vici.SectionStart && e.Depth == 0:
			ike, id, children, connection = sa{}, "", nil, string(e.Key)
		case e.Kind == vici.SectionStart && e.Depth == 2: // in child-sas
			child = session.Child{}
		case e.Kind == vici.SectionEnd && e.Depth == 2:
			children = append(children, child)
		case e.Kind == vici.KeyValue && e.Depth == 3:
			if err := setChild(&child, string(e.Key), string(e.Value), now); err != nil {
				return err
			}
		case e.Depth == 1 && e.Kind == vici.KeyValue && string(e.Key) == "uniqueid":
			id = string(e.Value)
		case e.Depth == 1:
			ike.set(e)
		case e.Kind == vici.SectionEnd && e.Depth == 0:
			s.States[string(ike.state)]++
			l, live, err := ike.lease(now)
			if err != nil {
				return fmt.Errorf("connection %s: %w", connection, err)
			}
			if live {
				s.Live = append(s.Live, session.SA{ID: id, Identity: l.Identity, Addresses: l.Addresses,
					Remote: l.Remote, Connection: connection, Established: l.Established,
					Children: slices.Clone(children)})
			}
		}
	}
	return nil
}

func setChild(c *session.Child, key, value string, now time.Time) error {
	number := func() (n uint64, err error) {
		if n, err = strconv.ParseUint(value, 10, 64); err != nil {
			err = fmt.Errorf("%s %q is not a number", key, value)
		}
		return n, err
	}
	ago := func() (time.Time, error) {
		n, err := number()
		return now.Add(-time.Duration(n) * time.Second), err
	}
	var err error
	switch key {
	case "uniqueid":
		c.ID = value
	case "reqid":
		c.ReqID = value
	case "bytes-in":
		c.In, err = number()
	case "bytes-out":
		c.Out, err = number()
	case "use-in":
		c.LastIn, err = ago()
	case "use-out":
		c.LastOut, err = ago()
	}
	return err
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
