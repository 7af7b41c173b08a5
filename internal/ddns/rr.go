package ddns

import (
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"tunnelcast/internal/lease"
)

// fromLease returns an A, AAAA or PTR. Its class and TTL determine what an update does
// with it.
func fromLease(rr lease.RR, class uint16, ttl time.Duration) dns.RR {
	header := dns.RR_Header{Name: rr.Owner, Class: class, Ttl: uint32(ttl / time.Second)}
	switch rr.Type {
	case "A":
		header.Rrtype = dns.TypeA
		return &dns.A{Hdr: header, A: rr.Addr.AsSlice()}
	case "AAAA":
		header.Rrtype = dns.TypeAAAA
		return &dns.AAAA{Hdr: header, AAAA: rr.Addr.AsSlice()}
	default:
		header.Rrtype = dns.TypePTR
		return &dns.PTR{Hdr: header, Ptr: rr.Target}
	}
}

func toLease(rr dns.RR) lease.RR {
	to := lease.RR{Owner: dns.CanonicalName(rr.Header().Name), Type: dns.Type(rr.Header().Rrtype).String()}
	switch rr := rr.(type) {
	case *dns.A:
		addr, _ := netip.AddrFromSlice(rr.A)
		to.Addr = addr.Unmap()
	case *dns.AAAA:
		to.Addr, _ = netip.AddrFromSlice(rr.AAAA)
	case *dns.PTR:
		to.Target = dns.CanonicalName(rr.Ptr)
	}
	return to
}
