package vici

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
)

// ErrRefused reports that charon received a command and did not execute it.
var ErrRefused = errors.New("refused")

// A Client is one connection to charon, for one caller at a time. A call that returns
// an error other than ErrRefused has closed the connection.
type Client struct {
	conn net.Conn
	from *Reader
}

// NewClient returns a client that uses and owns conn.
func NewClient(conn net.Conn) *Client { return &Client{conn: conn, from: NewReader(conn)} }

// Close closes the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Call sends a command and returns charon's response to it.
func (c *Client) Call(ctx context.Context, command string, request Message) (response Message, err error) {
	err = c.withContext(ctx, func() error {
		m, err := c.command(command, request, nil)
		response = bytes.Clone(m)
		return err
	})
	return response, err
}

// Stream sends a command that charon answers with a series of events, and calls each
// for every event message. The message is valid only during the call. A nil error
// means that the list is complete.
func (c *Client) Stream(ctx context.Context, command, event string, request Message, each func(Message) error) error {
	return c.withContext(ctx, func() error {
		if err := c.register(EventRegister, event); err != nil {
			return err
		}
		_, err := c.command(command, request, func(p Packet) error {
			if string(p.Name) != event {
				return fmt.Errorf("unexpected event %q", p.Name)
			}
			return each(p.Message)
		})
		if err != nil && !errors.Is(err, ErrRefused) {
			return err
		}
		return cmp.Or(c.register(EventUnregister, event), err)
	})
}

// withContext runs work and closes the connection when ctx ends or work fails: after
// an error the packets are out of step. Closing it also interrupts a read or write.
func (c *Client) withContext(ctx context.Context, work func() error) error {
	defer context.AfterFunc(ctx, func() { c.conn.Close() })()
	err := work()
	if err == nil || errors.Is(err, ErrRefused) {
		return err
	}
	c.conn.Close()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// command sends a command and returns the response, which is valid until the next
// packet is read.
func (c *Client) command(name string, request Message, each func(Packet) error) (Message, error) {
	p, err := c.exchange(Packet{CmdRequest, []byte(name), request}, each)
	switch {
	case err != nil:
		return nil, err
	case p.Type == CmdUnknown:
		return nil, fmt.Errorf("%w: charon has no such command", ErrRefused)
	case p.Type != CmdResponse:
		return nil, fmt.Errorf("unexpected packet of type %d in reply to %s", p.Type, name)
	}
	return p.Message, refusal(p.Message)
}

// register registers or unregisters the client for an event.
func (c *Client) register(how PacketType, event string) error {
	p, err := c.exchange(Packet{Type: how, Name: []byte(event)}, nil)
	switch {
	case err != nil:
		return err
	case p.Type == EventUnknown:
		return fmt.Errorf("%w: charon has no event %s", ErrRefused, event)
	case p.Type != EventConfirm:
		return fmt.Errorf("unexpected packet of type %d in reply to the registration for %s", p.Type, event)
	}
	return nil
}

// exchange sends a packet and returns the reply. It calls each for the events before
// the reply; without each, an event counts as the reply.
func (c *Client) exchange(request Packet, each func(Packet) error) (Packet, error) {
	encoded, err := request.AppendTo(nil)
	if err != nil {
		return Packet{}, err
	}
	if _, err := c.conn.Write(encoded); err != nil {
		return Packet{}, err
	}
	for {
		p, err := c.from.Next()
		if err != nil || p.Type != Event || each == nil {
			return p, unexpectedEOF(err)
		}
		if err := each(p); err != nil {
			return p, err
		}
	}
}

// refusal returns ErrRefused with charon's reason if a response reports a failure. A
// response without the key success does not.
func refusal(response Message) error {
	success, err := response.Value("success")
	if err != nil || success == "" || success == "yes" {
		return err
	}
	reason, err := response.Value("errmsg")
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: %s", ErrRefused, cmp.Or(reason, "charon reports no reason"))
}
