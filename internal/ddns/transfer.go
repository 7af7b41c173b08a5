package ddns

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/miekg/dns"

	"tunnelcast/internal/lease"
)

// Transfer returns all RRs of a zone (AXFR, RFC 5936). Every message of the transfer must
// be signed, as those of named are, although RFC 8945 section 5.3.1 permits less.
func (s *Server) Transfer(ctx context.Context, zone string) ([]lease.RR, error) {
	rrs, _, err := s.TransferTTL(ctx, zone, 0)
	return rrs, err
}

// TransferTTL is Transfer. It also returns the addresses and pointers that have another
// TTL.
func (s *Server) TransferTTL(ctx context.Context, zone string, ttl time.Duration) (rrs, other []lease.RR, err error) {
	err = s.transfer(ctx, zone, func(rr dns.RR) {
		l := toLease(rr)
		rrs = append(rrs, l)
		if (l.Addr.IsValid() || l.Target != "") && rr.Header().Ttl != uint32(ttl/time.Second) {
			other = append(other, l)
		}
	})
	if isTimeout(err) {
		err = ErrNoReply
	}
	if err != nil {
		return nil, nil, fmt.Errorf("transfer zone %s from %s: %w", zone, s.Addr, err)
	}
	return rrs, other, nil
}

func (s *Server) transfer(ctx context.Context, zone string, found func(dns.RR)) error {
	m := new(dns.Msg).SetAxfr(zone)
	wire, mac, err := s.sign(m)
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	conn, err := s.dial(ctx, "tcp")
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := send(conn, "tcp", wire); err != nil {
		return err
	}
	var first *dns.SOA
	for n := 0; ; n++ {
		raw, err := receive(conn, "tcp")
		if err != nil {
			return err
		}
		reply, err := s.open(raw, m, mac, n > 0)
		if err != nil {
			return err
		}
		switch err := s.answer(reply); {
		case errors.Is(err, ErrRefused) && s.Key != nil:
			return fmt.Errorf("%w: the zone may not be transferred with the key %s "+
				"(allow-transfer; by default bind9 9.20 and later refuse everyone)", ErrRefused, s.Key.Name)
		case err != nil:
			return err
		}
		if s.Key != nil {
			mac = reply.IsTsig().MAC
		}
		for _, rr := range reply.Answer {
			soa, isSOA := rr.(*dns.SOA)
			switch {
			case first == nil && !isSOA:
				return errors.New("the transfer does not begin with the SOA")
			case first == nil:
				first = soa
			case isSOA && soa.Serial != first.Serial:
				return errors.New("the zone changed during the transfer")
			case isSOA:
				return nil
			}
			found(rr)
		}
		if len(reply.Answer) == 0 {
			return errors.New("a message of the transfer is empty")
		}
	}
}
