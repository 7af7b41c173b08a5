package ddns

import (
	"context"
	"errors"
	"fmt"

	"github.com/miekg/dns"

	"tunnelcast/internal/lease"
)

// Transfer reads a whole zone (AXFR, RFC 5936). Every message of it must be
// signed, as named does it, though RFC 8945 section 5.3.1 lets a server sign
// less.
func (s *Server) Transfer(ctx context.Context, zone string) ([]lease.RR, error) {
	rrs, err := s.transfer(ctx, zone)
	if isTimeout(err) {
		err = ErrNoReply
	}
	if err != nil {
		return nil, fmt.Errorf("transfer zone %s from %s: %w", zone, s.Addr, err)
	}
	return rrs, nil
}

func (s *Server) transfer(ctx context.Context, zone string) ([]lease.RR, error) {
	m := new(dns.Msg).SetAxfr(zone)
	wire, mac, err := s.sign(m)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	conn, err := s.dial(ctx, "tcp")
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := send(conn, "tcp", wire); err != nil {
		return nil, err
	}
	var rrs []lease.RR
	var first *dns.SOA
	for n := 0; ; n++ {
		raw, err := receive(conn, "tcp")
		if err != nil {
			return nil, err
		}
		reply, err := s.open(raw, m, mac, n > 0)
		if err != nil {
			return nil, err
		}
		switch err := s.verdict(reply); {
		case errors.Is(err, ErrRefused) && s.Key != nil:
			return nil, fmt.Errorf("%w: the zone may not be transferred with the key %s (allow-transfer; bind9 9.20 and later let nobody)", ErrRefused, s.Key.Name)
		case err != nil:
			return nil, err
		}
		if s.Key != nil {
			mac = reply.IsTsig().MAC
		}
		for _, rr := range reply.Answer {
			soa, isSOA := rr.(*dns.SOA)
			switch {
			case first == nil && !isSOA:
				return nil, errors.New("it does not begin with the SOA")
			case first == nil:
				first = soa
			case isSOA && soa.Serial != first.Serial:
				return nil, errors.New("the zone changed meanwhile")
			case isSOA:
				return rrs, nil
			}
			rrs = append(rrs, toLease(rr))
		}
		if len(reply.Answer) == 0 {
			return nil, errors.New("a message of it is empty")
		}
	}
}
