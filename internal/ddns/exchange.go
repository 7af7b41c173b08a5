package ddns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// maxUDP is the length in octets up to which a message is sent over UDP: such a message
// is not fragmented in today's networks.
const maxUDP = 1232

// exchange makes, signs and sends a message and returns the reply, whose signature is
// valid unless the reply rejects the signature (see verdict). It tries UDP twice and
// then TCP. Each try has a message, a signature and a connection of its own, and an
// equal share of the time that is left.
func (s *Server) exchange(ctx context.Context, message func() *dns.Msg) (*dns.Msg, error) {
	tries := []string{"udp", "udp", "tcp"}
	m := message()
	if m.Len() > maxUDP {
		tries = tries[2:]
	}
	var err error
	for ; len(tries) > 0; m = message() {
		network := tries[0]
		tryCtx, cancel := ctx, context.CancelFunc(func() {})
		if deadline, ok := ctx.Deadline(); ok {
			tryCtx, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(len(tries)))
		}
		tries = tries[1:]
		var reply *dns.Msg
		reply, err = s.try(tryCtx, network, m)
		cancel()
		switch {
		case err == nil && !(reply.Truncated && network == "udp"):
			return reply, nil
		case err == nil, errors.As(err, new(badReply)):
			// Anyone can send a reply over UDP; over TCP it is the server's.
			if network == "udp" {
				tries = []string{"tcp"}
			}
		}
		if ctx.Err() != nil {
			break
		}
	}
	if errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
		return nil, fmt.Errorf("%w; the server may still carry it out", ErrNoReply)
	}
	return nil, err
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

func (s *Server) try(ctx context.Context, network string, m *dns.Msg) (*dns.Msg, error) {
	wire, mac, err := s.sign(m)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	conn, err := s.dial(ctx, network)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := send(conn, network, wire); err != nil {
		return nil, err
	}
	for {
		raw, err := receive(conn, network)
		if err != nil {
			return nil, err
		}
		reply, err := s.open(raw, m, mac, false)
		if errors.Is(err, errOtherID) && network == "udp" {
			continue // late or forged; the right one may still arrive
		}
		return reply, err
	}
}

// dial connects. When ctx ends, by a timeout or a signal, all reads and writes on the
// connection fail.
func (s *Server) dial(ctx context.Context, network string) (net.Conn, error) {
	var dialer net.Dialer
	switch {
	case s.From.IsValid() && network == "udp":
		dialer.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(s.From, 0))
	case s.From.IsValid():
		dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(s.From, 0))
	}
	conn, err := dialer.DialContext(ctx, network, s.Addr)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return conn, nil
}

func send(conn net.Conn, network string, wire []byte) error {
	if network == "tcp" {
		if len(wire) > dns.MaxMsgSize {
			return fmt.Errorf("message of %d octets is too long", len(wire))
		}
		wire = append(binary.BigEndian.AppendUint16(nil, uint16(len(wire))), wire...)
	}
	_, err := conn.Write(wire)
	return err
}

func receive(conn net.Conn, network string) ([]byte, error) {
	if network == "udp" {
		buffer := make([]byte, dns.MaxMsgSize)
		n, err := conn.Read(buffer)
		return buffer[:n], err
	}
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return nil, err
	}
	buffer := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(conn, buffer)
	return buffer, err
}

// fudge is the permitted difference of the clocks in seconds (RFC 8945 section 10).
const fudge = 300

func (s *Server) sign(m *dns.Msg) (wire []byte, mac string, err error) {
	if s.Key == nil {
		wire, err = m.Pack()
		return wire, "", err
	}
	now := time.Now
	if s.Now != nil {
		now = s.Now
	}
	m.SetTsig(s.Key.Name, dns.Fqdn(s.Key.Algorithm), fudge, now().Unix())
	return dns.TsigGenerate(m, string(s.Key.secret), "", false)
}

var errOtherID = badReply{errors.New("reply is to another message")}

// open parses a reply to m and verifies its signature with the MAC of the message before.
//
// NOTAUTH passes unverified; it is a failure in any case. A server rejecting our
// signature usually cannot sign its reply (RFC 8945 section 5.3.2), and the library
// never verifies one that does.
func (s *Server) open(raw []byte, m *dns.Msg, mac string, timersOnly bool) (*dns.Msg, error) {
	reply := new(dns.Msg)
	if err := reply.Unpack(raw); err != nil {
		return nil, badReply{errors.New("reply is not a DNS message")} // the library's error quotes the message
	}
	if reply.Id != m.Id || !reply.Response || reply.Opcode != m.Opcode {
		return nil, errOtherID
	}
	if s.Key == nil {
		return reply, nil
	}
	signature := reply.IsTsig()
	switch {
	case signature == nil:
		return nil, badReply{fmt.Errorf("%s, but the reply is not signed: the server does not know TSIG, "+
			"or another one answered", dns.RcodeToString[reply.Rcode])}
	case dns.CanonicalName(signature.Hdr.Name) != s.Key.Name ||
		dns.CanonicalName(signature.Algorithm) != dns.Fqdn(s.Key.Algorithm):
		return nil, badReply{errors.New("reply is signed with another key")}
	case reply.Rcode == dns.RcodeNotAuth:
		return reply, nil
	}
	if err := dns.TsigVerify(raw, string(s.Key.secret), mac, timersOnly); err != nil {
		return nil, badReply{fmt.Errorf("the reply's signature is wrong: %w", err)}
	}
	return reply, nil
}
