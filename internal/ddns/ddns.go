// Package ddns changes and reads a zone: signed updates (RFC 2136 with TSIG, RFC 8945),
// questions and transfers.
//
// It uses miekg/dns to sign, verify and pack messages, but exchanges them itself: the
// library accepts an unsigned reply to a signed request, sends a message unsigned when
// it is sent a second time, and returns one error for everything that a server may
// reject about a signature.
package ddns

import (
	"net"
	"net/netip"
	"time"
)

// Server is a DNS server of a zone. The deadline of a call's context limits all tries
// of the call together; without one the call may last forever.
type Server struct {
	Addr string           // host:port
	Key  *Key             // nil: send unsigned and accept unsigned replies
	Now  func() time.Time // for signatures; nil: time.Now
	From netip.Addr       // the source address; the zero Addr: any
}

// Loopback reports whether the server is on this host, judging by its address alone.
func (s *Server) Loopback() bool {
	host, _, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
