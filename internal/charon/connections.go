package charon

import (
	"context"
	"fmt"

	"tunnelcast/internal/vici"
)

// Connections returns the names of the connections that are loaded.
func (s *Session) Connections(ctx context.Context) ([]string, error) {
	return s.callList(ctx, "get-conns", "conns")
}

// LoadConnection loads a connection of swanctl.conf
// ([tunnelcast/internal/swanctl.Config.ConnectionMessage]).
//
// If the connection has start_action = start and changed, charon closes its tunnels
// and starts them again. Established SAs of other connections stay.
func (s *Session) LoadConnection(ctx context.Context, connection vici.Message) error {
	_, err := s.callMessage(ctx, "load-conn", connection)
	return err
}

// Up reports whether a connection has an IKE_SA, established or not yet.
func (s *Session) Up(ctx context.Context, connection string) (bool, error) {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	up := false
	err := s.stream(ctx, "list-sas", "list-sa", func(vici.Message) error {
		up = true
		return nil
	}, vici.Value("ike", connection))
	if err != nil {
		return false, fmt.Errorf("charon list-sas: %w", err)
	}
	return up, nil
}
