package ddns

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/miekg/dns"

	"tunnelcast/internal/lease"
)

// Lookup returns what exists at a name: its addresses, or whatever makes it someone
// else's.
func (s *Server) Lookup(ctx context.Context, name string) (lease.Owner, error) {
	owner := lease.Owner{Name: name}
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		reply, err := s.exchange(ctx, func() *dns.Msg { return new(dns.Msg).SetQuestion(name, qtype) })
		if err == nil && reply.Rcode == dns.RcodeNameError {
			return owner, nil
		}
		if err == nil {
			err = s.answer(reply)
		}
		if err != nil {
			return owner, fmt.Errorf("look up %s at %s: %w", name, s.Addr, err)
		}
		owner.InUse = true
		for _, rr := range append(reply.Answer, reply.Ns...) {
			// The authority section also has the zone's own servers, at the apex. At the
			// name itself they are a delegation.
			if rr := toLease(rr); rr.Owner == name {
				owner.Holds = append(owner.Holds, rr)
			}
		}
	}
	return owner, nil
}

// Has reports whether a name has an RR of a type, such as "DHCID".
func (s *Server) Has(ctx context.Context, name, rrtype string) (bool, error) {
	reply, err := s.exchange(ctx, func() *dns.Msg { return new(dns.Msg).SetQuestion(name, dns.StringToType[rrtype]) })
	if err == nil && reply.Rcode == dns.RcodeNameError {
		return false, nil
	}
	if err == nil {
		err = s.verdict(reply)
	}
	if err != nil {
		return false, fmt.Errorf("look up %s at %s: %w", name, s.Addr, err)
	}
	for _, rr := range reply.Answer {
		if rr := toLease(rr); rr.Owner == name && rr.Type == rrtype {
			return true, nil
		}
	}
	return false, nil
}

// Serial returns the serial number of a zone for which the server has authority.
func (s *Server) Serial(ctx context.Context, zone string) (uint32, error) {
	reply, err := s.exchange(ctx, func() *dns.Msg { return new(dns.Msg).SetQuestion(zone, dns.TypeSOA) })
	if err == nil && reply.Rcode != dns.RcodeNameError {
		err = s.answer(reply)
	}
	if err != nil {
		return 0, fmt.Errorf("look up SOA of %s at %s: %w", zone, s.Addr, err)
	}
	for _, rr := range reply.Answer {
		if soa, ok := rr.(*dns.SOA); ok && reply.Authoritative {
			return soa.Serial, nil
		}
	}
	for _, rr := range reply.Ns {
		// A name inside another zone (RFC 2308 section 2).
		if soa, ok := rr.(*dns.SOA); ok && reply.Authoritative {
			return 0, fmt.Errorf("look up SOA of %s at %s: %w: the name lies in its zone %s",
				zone, s.Addr, ErrNoZone, dns.CanonicalName(soa.Hdr.Name))
		}
	}
	return 0, fmt.Errorf("look up SOA of %s at %s: %w: it has no authority for the zone", zone, s.Addr, ErrNoZone)
}

// Knows reports whether the server answers questions about a zone, with or without authority.
func (s *Server) Knows(ctx context.Context, zone string) bool {
	reply, err := s.exchange(ctx, func() *dns.Msg { return new(dns.Msg).SetQuestion(zone, dns.TypeSOA) })
	isSOA := func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeSOA }
	return err == nil && slices.ContainsFunc(reply.Answer, isSOA)
}

// Primary reports whether the server is the zone's primary. It sends an empty update
// with a wrong signature: a primary rejects the signature, a secondary refuses the
// update first (RFC 2136 section 3.1.1; ns_update_start in lib/ns/update.c).
func (s *Server) Primary(ctx context.Context, zone string) bool {
	stranger := *s
	stranger.Key = &Key{Name: "tunnelcast-check.", Algorithm: "hmac-sha256", secret: "bm9ib2R5"}
	reply, err := stranger.exchange(ctx, func() *dns.Msg { return new(dns.Msg).SetUpdate(zone) })
	return err == nil && reply.Rcode == dns.RcodeNotAuth
}

// Confirm reports whether a name that has only addresses still is as given. It asks by
// prerequisites, which the server checks in the zone itself, even if it answers
// questions from a copy.
func (s *Server) Confirm(ctx context.Context, zone string, owner lease.Owner) (bool, error) {
	err := s.send(ctx, zone, part{{seen: &owner}}.message(zone, 0))
	if errors.Is(err, ErrPrerequisite) {
		return false, nil
	}
	return err == nil, err
}
