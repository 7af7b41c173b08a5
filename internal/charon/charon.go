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
	"os"
	"strings"
	"syscall"

	"github.com/strongswan/govici/vici"
)

// DefaultSocket is where Debian's charon-systemd listens; root only.
const DefaultSocket = "/run/charon.vici"

// ErrNotRunning reports that nobody listens on the VICI socket. charon may run
// nevertheless: it may be starting, have another socket, or lack its vici plugin.
var ErrNotRunning = errors.New("charon does not answer")

// strokeSocket is the socket of a charon that was started for ipsec.conf.
const strokeSocket = "/run/charon.ctl"

// Session is one connection to charon, for one caller at a time. Calls end with
// their context; after one that failed there may be nothing left to use.
type Session struct {
	socket string
	conn   net.Conn
	from   *bufio.Reader // conn: a list has a packet per client
	packet []byte        // the last one read, its type and what follows it

	vici *vici.Session // for credentials, made when it is needed
}

// Dial connects to the VICI socket, a path or a URI such as swanctl takes,
// unix:///run/charon.vici. A socket that is absent or that nobody listens on
// returns ErrNotRunning.
func Dial(ctx context.Context, socket string) (*Session, error) {
	conn, err := dial(ctx, socket)
	if err != nil {
		return nil, err
	}
	return &Session{socket: socket, conn: conn, from: bufio.NewReaderSize(conn, 1<<16)}, nil
}

func dial(ctx context.Context, socket string) (net.Conn, error) {
	socket = strings.TrimPrefix(socket, "unix://")
	if strings.Contains(socket, "://") {
		return nil, fmt.Errorf("connect to charon: %s is not the path of a socket", socket)
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	switch info, statErr := os.Stat(socket); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: there is no socket %s%s", ErrNotRunning, socket, elsewhere(socket))
	case errors.Is(err, syscall.ECONNREFUSED) && statErr == nil && info.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("%w: %s is not a socket%s", ErrNotRunning, socket, elsewhere(socket))
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("%w: nobody listens on %s", ErrNotRunning, socket)
	case err != nil:
		return nil, fmt.Errorf("connect to charon: %w", err)
	}
	return conn, nil
}

// elsewhere returns a hint at another socket of charon, for an error message.
func elsewhere(socket string) string {
	exists := func(file string) bool { _, err := os.Stat(file); return err == nil }
	switch {
	case socket != DefaultSocket && exists(DefaultSocket):
		return ", but one at " + DefaultSocket
	case !exists(DefaultSocket) && exists(strokeSocket):
		return fmt.Sprintf(", but one of a charon for ipsec.conf without its vici plugin, %s", strokeSocket)
	}
	return ""
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
