package charon

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"tunnelcast/internal/lease"
	"tunnelcast/internal/vici"
)

// sa holds what is read of one IKE_SA (list_ike in
// src/libcharon/plugins/vici/vici_query.c). The slices are parts of the message.
type sa struct {
	state       []byte
	remoteHost  []byte
	remoteID    []byte
	eapID       []byte
	xauthID     []byte
	established []byte // how many seconds ago
	vips        [][]byte
}

// liveStates are the states in which an IKE_SA has its virtual IPs. A rekeyed one
// lists none, because its successor has them; one that is being deleted returns them.
var liveStates = []string{"ESTABLISHED", "REKEYING", "REKEYED"}

// Leases returns the live clients that have virtual IPs. charon waits for every
// IKE_SA that is busy, so the list is complete; otherwise there is an error. Only
// IKE_SAs that are established or rekeyed while charon walks its table may be
// missing.
//
// The addresses are the virtual IPs of the IKE_SA and not the traffic selectors of
// its CHILD_SAs, because a rekeyed CHILD_SA stays listed for some seconds.
func (s *Session) Leases(ctx context.Context, now time.Time) ([]lease.Lease, error) {
	var leases []lease.Lease
	err := s.stream(ctx, "list-sas", "list-sa", func(message vici.Message) (err error) {
		leases, err = appendLeases(leases, message, now)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list IKE_SAs: %w", err)
	}
	return leases, nil
}

// appendLeases appends the IKE_SAs of one event that are live and have virtual IPs.
// Each is a section with the name of its connection.
func appendLeases(leases []lease.Lease, message vici.Message, now time.Time) ([]lease.Lease, error) {
	var s sa
	err := message.Sections(s.set, func(connection []byte) error {
		l, ok, err := s.lease(now)
		if err != nil {
			return fmt.Errorf("connection %s: %w", connection, err)
		}
		if ok {
			l.Connection = string(connection)
			leases = append(leases, l)
		}
		s = sa{vips: s.vips[:0]}
		return nil
	})
	return leases, err
}

func (s *sa) set(e vici.Element) {
	switch string(e.Key) {
	case "state":
		s.state = e.Value
	case "remote-host":
		s.remoteHost = e.Value
	case "remote-id":
		s.remoteID = e.Value
	case "remote-eap-id":
		s.eapID = e.Value
	case "remote-xauth-id":
		s.xauthID = e.Value
	case "established":
		s.established = e.Value
	case "remote-vips":
		if e.Kind == vici.ListItem {
			s.vips = append(s.vips, e.Value)
		}
	}
}

func (s *sa) lease(now time.Time) (l lease.Lease, ok bool, err error) {
	if len(s.vips) == 0 || !slices.Contains(liveStates, string(s.state)) {
		return l, false, nil
	}
	l.Remote = string(s.remoteHost)
	// charon sends an EAP or XAuth identity only if it differs from the IKE identity.
	l.Identity = lease.Identity(string(s.eapID), string(s.xauthID), string(s.remoteID))
	if len(s.established) > 0 {
		seconds, err := strconv.ParseInt(string(s.established), 10, 64)
		if err != nil {
			return l, false, fmt.Errorf("established %q is not a number", s.established)
		}
		l.Established = now.Add(-time.Duration(seconds) * time.Second)
	}
	for _, text := range s.vips {
		addr, err := netip.ParseAddr(string(text))
		if err != nil || addr.Zone() != "" {
			return l, false, fmt.Errorf("virtual IP %q is not an address", text)
		}
		l.Addresses = append(l.Addresses, addr.Unmap())
	}
	return l, true, nil
}
