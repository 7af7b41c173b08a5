// Package vicitest is a VICI server for tests. It answers commands with prepared
// messages, passes others on to a real charon, and can end a connection within any
// packet.
package vicitest

import (
	"bufio"
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"

	"tunnelcast/internal/vici"
)

// An Answer is what the server sends after a command.
type Answer struct {
	Events   []vici.Message // sent before the response, if the client has registered for an event
	Response vici.Message
}

// A Server answers VICI clients. Its fields must not be changed after Listen.
type Server struct {
	// Handle answers a command. If ok is false, the command goes to Upstream.
	Handle func(command string, request vici.Message) (answer Answer, ok bool)

	// Upstream is the socket of a charon that gets the commands that Handle does not
	// answer. Without it, the client is told that they are unknown.
	Upstream string

	// Cut reports whether to end a connection within a packet. Both are counted from
	// 1, the packets in each connection.
	Cut func(connection, packet int) bool

	connections atomic.Int64
}

// Start serves the clients of a new socket until the test ends.
func Start(t testing.TB, s *Server) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "vici")
	l, err := s.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return socket
}

// Listen serves the clients of a socket until the listener is closed.
func (s *Server) Listen(socket string) (io.Closer, error) {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			number := int(s.connections.Add(1))
			go func() {
				defer conn.Close()
				c := connection{server: s, number: number, to: bufio.NewWriterSize(conn, 64<<10)}
				c.serve(conn)
			}()
		}
	}()
	return l, nil
}

// Connections returns how many clients have connected.
func (s *Server) Connections() int { return int(s.connections.Load()) }

// connection is the connection of one client.
type connection struct {
	server *Server
	number int
	to     *bufio.Writer
	sent   int    // number of packets
	event  []byte // the event that the client has registered for
}

func (c *connection) serve(client net.Conn) {
	var upstream net.Conn
	if c.server.Upstream != "" {
		var err error
		if upstream, err = net.Dial("unix", c.server.Upstream); err != nil {
			return
		}
		defer upstream.Close()
		go func() {
			io.Copy(client, upstream)
			client.Close()
		}()
	}
	packets := vici.NewReader(client)
	for {
		p, err := packets.Next()
		if err != nil {
			return
		}
		answer, own := Answer{}, false
		switch {
		case p.Type == vici.EventRegister:
			c.event = append(c.event[:0], p.Name...)
		case p.Type == vici.EventUnregister:
			c.event = c.event[:0]
		case c.server.Handle != nil:
			answer, own = c.server.Handle(string(p.Name), p.Message)
		}
		switch {
		case own:
			err = c.answer(answer)
		case upstream != nil:
			err = forward(upstream, p)
		case p.Type == vici.CmdRequest:
			err = c.send(vici.Packet{Type: vici.CmdUnknown})
		default:
			err = c.send(vici.Packet{Type: vici.EventConfirm})
		}
		if err != nil || c.to.Flush() != nil {
			return
		}
	}
}

// answer sends an answer. As with charon, only a client that has registered for the
// event gets it.
func (c *connection) answer(a Answer) error {
	for _, e := range a.Events {
		if len(c.event) == 0 {
			break
		}
		if err := c.send(vici.Packet{Type: vici.Event, Name: c.event, Message: e}); err != nil {
			return err
		}
	}
	return c.send(vici.Packet{Type: vici.CmdResponse, Message: a.Response})
}

var errCut = errors.New("connection cut")

func (c *connection) send(p vici.Packet) error {
	encoded, err := p.AppendTo(c.to.AvailableBuffer())
	if err != nil {
		return err
	}
	c.sent++
	if c.server.Cut != nil && c.server.Cut(c.number, c.sent) {
		c.to.Write(encoded[:len(encoded)-1])
		c.to.Flush()
		return errCut
	}
	_, err = c.to.Write(encoded)
	return err
}

// forward passes a packet on.
func forward(to net.Conn, p vici.Packet) error {
	encoded, err := p.AppendTo(nil)
	if err != nil {
		return err
	}
	_, err = to.Write(encoded)
	return err
}
