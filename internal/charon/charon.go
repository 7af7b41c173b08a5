// Package charon asks strongSwan's IKE daemon, over its VICI socket, who is
// connected and what credentials it holds, and gives it new ones. The protocol
// is described in src/libcharon/plugins/vici/README.md of strongSwan.
//
// It must not be used from inside an updown hook: charon answers nobody while
// it waits for the hook (bus_t's lock), so the call would last until its
// deadline.
package charon

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"syscall"

	"github.com/strongswan/govici/vici"
)

// DefaultSocket is where Debian's charon-systemd listens; root only.
const DefaultSocket = "/run/charon.vici"

// ErrNotRunning says that nobody listens on the VICI socket. It is no proof
// that charon is gone: it may be starting.
var ErrNotRunning = errors.New("charon is not running")

// Session is one connection to charon. Calls end with their context.
type Session struct {
	vici *vici.Session
}

// Dial connects to the VICI socket. A socket that is absent or that nobody
// listens on gives ErrNotRunning.
func Dial(ctx context.Context, socket string) (*Session, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("%w: nobody listens on %s", ErrNotRunning, socket)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to charon: %w", err)
	}
	s, err := vici.NewSession(vici.WithDialContext(func(context.Context, string, string) (net.Conn, error) {
		return buffered{conn, bufio.NewReaderSize(conn, 1<<16)}, nil
	}))
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("connect to charon at %s: %w", socket, err)
	}
	return &Session{vici: s}, nil
}

// buffered saves govici two system calls per packet, of which a list has one per
// client.
type buffered struct {
	net.Conn
	r *bufio.Reader
}

func (b buffered) Read(p []byte) (int, error) { return b.r.Read(p) }

// Close ends the connection.
func (s *Session) Close() error { return s.vici.Close() }
