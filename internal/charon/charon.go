// Package charon asks strongSwan's IKE daemon, over its VICI socket, who is
// connected and what credentials it holds, and loads and unloads credentials. The
// commands are described in src/libcharon/plugins/vici/README.md of strongSwan.
//
// It must not be used from inside an updown hook: while charon waits for the hook it
// answers nobody (the lock of bus_t), so a call would last until its deadline.
package charon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"tunnelcast/internal/vici"
)

// ErrNotRunning reports that nobody listens on the VICI socket. charon may run
// nevertheless: it may be starting, have another socket, or lack its vici plugin.
var ErrNotRunning = errors.New("charon does not answer")

const (
	defaultSocket = "/run/charon.vici" // of Debian's charon-systemd
	strokeSocket  = "/run/charon.ctl"  // of a charon that was started for ipsec.conf
)

// callTime limits one command, except Leases, Sessions, Pools and Terminate, which only
// their context limits. charon answers in milliseconds unless it waits for an updown
// hook.
const callTime = 5 * time.Second

// Session is a connection to charon, for one caller at a time. A call ends with its
// context. After a call that failed, the next call connects again.
type Session struct {
	socket string
	client *vici.Client // nil after an error
}

// Dial connects to the VICI socket: a path, or a URI as swanctl accepts it,
// unix:///run/charon.vici. If the socket does not exist or nobody listens on it, the
// error is ErrNotRunning.
func Dial(ctx context.Context, socket string) (*Session, error) {
	s := &Session{socket: socket}
	if err := s.connect(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// Close closes the connection.
func (s *Session) Close() error {
	if s.client == nil {
		return nil
	}
	return s.client.Close()
}

func (s *Session) connect(ctx context.Context) error {
	path := strings.TrimPrefix(s.socket, "unix://")
	if strings.Contains(path, "://") {
		return fmt.Errorf("connect to charon: %s is not the path of a socket", path)
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	switch info, statErr := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: there is no socket %s%s", ErrNotRunning, path, elsewhere(path))
	case errors.Is(err, syscall.ECONNREFUSED) && statErr == nil && info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%w: %s is not a socket%s", ErrNotRunning, path, elsewhere(path))
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: nobody listens on %s", ErrNotRunning, path)
	case err != nil:
		return fmt.Errorf("connect to charon: %w", err)
	}
	s.client = vici.NewClient(conn)
	return nil
}

// elsewhere returns a hint that charon has another socket, for an error message.
func elsewhere(socket string) string {
	exists := func(file string) bool { _, err := os.Stat(file); return err == nil }
	switch {
	case socket != defaultSocket && exists(defaultSocket):
		return ", but one at " + defaultSocket
	case !exists(defaultSocket) && exists(strokeSocket):
		return fmt.Sprintf(", but one of a charon for ipsec.conf without its vici plugin, %s", strokeSocket)
	}
	return ""
}

// call sends a command with these fields and returns charon's response.
func (s *Session) call(ctx context.Context, command string, fields ...vici.Field) (vici.Message, error) {
	request, err := vici.Encode(fields...)
	if err != nil {
		return nil, fmt.Errorf("charon %s: %w", command, err)
	}
	return s.callMessage(ctx, command, request)
}

// callMessage is call with a message that is encoded already.
func (s *Session) callMessage(ctx context.Context, command string, request vici.Message) (vici.Message, error) {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	var response vici.Message
	err := s.do(ctx, func(c *vici.Client) (err error) {
		response, err = c.Call(ctx, command, request)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("charon %s: %w", command, err)
	}
	return response, nil
}

// callList sends a command without fields and returns a list in charon's response.
func (s *Session) callList(ctx context.Context, command, list string) ([]string, error) {
	response, err := s.call(ctx, command)
	if err != nil {
		return nil, err
	}
	items, err := response.List(list)
	if err != nil {
		return nil, fmt.Errorf("charon %s: %w", command, err)
	}
	return items, nil
}

// stream sends a command with these fields and calls each for every event message.
func (s *Session) stream(
	ctx context.Context, command, event string, each func(vici.Message) error, fields ...vici.Field,
) error {
	request, err := vici.Encode(fields...)
	if err != nil {
		return err
	}
	return s.do(ctx, func(c *vici.Client) error { return c.Stream(ctx, command, event, request, each) })
}

// do connects if necessary and runs work. If work fails or ctx ends, the connection is
// closed and the next call connects again.
func (s *Session) do(ctx context.Context, work func(*vici.Client) error) error {
	if s.client == nil {
		if err := s.connect(ctx); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
	}
	err := work(s.client)
	if ctx.Err() != nil || err != nil && !errors.Is(err, vici.ErrRefused) {
		s.client.Close()
		s.client = nil
	}
	return err
}

// withDeadline limits ctx to callTime, with an error that reports the limit.
func withDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	silent := fmt.Errorf("no answer within %s: %w", callTime, context.DeadlineExceeded)
	return context.WithTimeoutCause(ctx, callTime, silent)
}
