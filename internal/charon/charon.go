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

// Session is one connection to charon, for one caller at a time. Calls end with
// their context; after one that failed there may be nothing left to use.
type Session struct {
	socket string
	conn   net.Conn
	from   *bufio.Reader // conn: a list has a packet per client
	packet []byte        // the last one read, its type and what follows it

	vici *vici.Session // for credentials, made when it is needed
}

// Dial connects to the VICI socket. A socket that is absent or that nobody
// listens on gives ErrNotRunning.
func Dial(ctx context.Context, socket string) (*Session, error) {
	conn, err := dial(ctx, socket)
	if err != nil {
		return nil, err
	}
	return &Session{socket: socket, conn: conn, from: bufio.NewReaderSize(conn, 1<<16)}, nil
}

func dial(ctx context.Context, socket string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("%w: nobody listens on %s", ErrNotRunning, socket)
	}
	if err != nil {
		return nil, fmt.Errorf("connect to charon: %w", err)
	}
	return conn, nil
}

// govici returns the library's session, on a connection of its own.
func (s *Session) govici(ctx context.Context) (*vici.Session, error) {
	if s.vici != nil {
		return s.vici, nil
	}
	conn, err := dial(ctx, s.socket)
	if err != nil {
		return nil, err
	}
	s.vici, err = vici.NewSession(vici.WithDialContext(func(context.Context, string, string) (net.Conn, error) { return conn, nil }))
	if err != nil {
		conn.Close()
	}
	return s.vici, err
}

// Close ends the connection.
func (s *Session) Close() error {
	if s.vici != nil {
		_ = s.vici.Close()
	}
	return s.conn.Close()
}
