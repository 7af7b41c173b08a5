package charon

import (
	"context"
	"fmt"
	"time"

	"tunnelcast/internal/lease"
	"tunnelcast/internal/vici"
)

// Leases returns the live clients that have virtual IPs. charon waits for every
// IKE_SA that is busy, so the list is complete; otherwise there is an error. Only
// IKE_SAs that are established or rekeyed while charon walks its table may be
// missing.
//
// The addresses are the virtual IPs of the IKE_SA and not the traffic selectors of
// its CHILD_SAs, because a rekeyed CHILD_SA stays listed for some seconds.
func (s *Session) Leases(ctx context.Context, now time.Time) ([]lease.Lease, error) {
	var leases []lease.Lease
	var sa ikeSA
	err := s.stream(ctx, "list-sas", "list-sa", func(message vici.Message) (err error) {
		leases, err = appendLeases(leases, &sa, message, now)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list IKE_SAs: %w", err)
	}
	return leases, nil
}

// appendLeases reads one event into sa and appends the IKE_SAs that are live and have
// virtual IPs.
func appendLeases(leases []lease.Lease, sa *ikeSA, message vici.Message, now time.Time) ([]lease.Lease, error) {
	err := sa.read(message, false, func() error {
		if !sa.live() {
			return nil
		}
		l, err := sa.lease(now)
		leases = append(leases, l)
		return err
	})
	return leases, err
}
