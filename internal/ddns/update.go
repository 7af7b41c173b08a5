package ddns

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"tunnelcast/internal/lease"
)

// Update sends the change. A large change is split into several messages, each of which
// is applied as a whole or not at all: after an error some of them may have been.
//
// An error that wraps ErrPrerequisite means that the server refused the first message
// whose names were not as expected. After a timeout the server may still apply a
// message later.
func (s *Server) Update(ctx context.Context, change lease.Change, ttl time.Duration) error {
	for _, part := range split(change) {
		if err := s.send(ctx, change.Zone, part.message(change.Zone, ttl)); err != nil {
			return err
		}
	}
	return nil
}

// send sends one message of an update and returns an error unless it was applied.
func (s *Server) send(ctx context.Context, zone string, message func() *dns.Msg) error {
	reply, err := s.exchange(ctx, message)
	if err == nil {
		err = s.verdict(reply)
	}
	if err != nil {
		return fmt.Errorf("update zone %s at %s: %w%s", zone, s.Addr, err, badOwner(err, message()))
	}
	return nil
}

// unit is the part of an update for one owner name, or one RR to remove.
type unit struct {
	seen        *lease.Owner // nil: nothing is added
	remove, add []lease.RR
}

// part is the content of one message of an update.
type part []unit

// record makes a new RR at each call, because the library modifies the RRs that it gets.
type record func() dns.RR

// maxMessage limits the length of a message so that it and its signature fit into the
// 65,535 octets of TCP. Lengths are counted without compression of names.
const maxMessage = 60_000

// units splits a change by owner names. All changes to a name are in one message with
// its prerequisites, which would fail after a message that had changed the name.
func units(change lease.Change) []unit {
	var all []unit
	adds := byOwner(slices.Concat(change.Add, change.Renew))
	removes := byOwner(change.Remove)
	for _, owner := range change.Seen {
		all = append(all, unit{&owner, removes[owner.Name], adds[owner.Name]})
		delete(removes, owner.Name)
	}
	for _, rr := range change.Remove {
		if _, left := removes[rr.Owner]; left {
			all = append(all, unit{remove: []lease.RR{rr}})
		}
	}
	return all
}

// split distributes the units of a change over as few messages as possible.
func split(change lease.Change) []part {
	var parts []part
	length := 0
	for _, u := range units(change) {
		n := size(u.prerequisites()) + size(u.updates(0))
		if len(parts) == 0 || length+n > maxMessage {
			parts = append(parts, nil)
			length = 0
		}
		parts[len(parts)-1] = append(parts[len(parts)-1], u)
		length += n
	}
	return parts
}

func byOwner(rrs []lease.RR) map[string][]lease.RR {
	by := map[string][]lease.RR{}
	for _, rr := range rrs {
		by[rr.Owner] = append(by[rr.Owner], rr)
	}
	return by
}

func size(records []record) int {
	n := 0
	for _, r := range records {
		n += dns.Len(r())
	}
	return n
}

func (u unit) prerequisites() []record {
	if u.seen == nil {
		return nil
	}
	return prerequisites(*u.seen)
}

func (u unit) updates(ttl time.Duration) []record {
	var updates []record
	for _, rr := range u.remove {
		updates = append(updates, remove(rr))
	}
	for _, rr := range u.add {
		updates = append(updates, func() dns.RR { return fromLease(rr, dns.ClassINET, ttl) })
	}
	return updates
}

// remove deletes one RR of an RRset (RFC 2136 section 2.5.4). That the RR does not exist
// is no error.
func remove(rr lease.RR) record {
	return func() dns.RR { return fromLease(rr, dns.ClassNONE, 0) }
}

// prerequisites require that a name is as given (RFC 2136 section 2.4).
func prerequisites(owner lease.Owner) []record {
	header := func(rrtype, class uint16) record {
		return func() dns.RR {
			return &dns.ANY{Hdr: dns.RR_Header{Name: owner.Name, Rrtype: rrtype, Class: class}}
		}
	}
	if !owner.InUse {
		return []record{header(dns.TypeANY, dns.ClassNONE)} // 2.4.5: name is not in use
	}
	var records []record
	for _, rrtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypePTR} {
		seen := false
		for _, rr := range owner.Holds {
			if rr.Type == dns.TypeToString[rrtype] {
				seen = true
				// 2.4.2: RRset is exactly this
				records = append(records, func() dns.RR { return fromLease(rr, dns.ClassINET, 0) })
			}
		}
		if !seen {
			records = append(records, header(rrtype, dns.ClassNONE)) // 2.4.3: RRset does not exist
		}
	}
	// BIND replies NOERROR to an address beside an alias, and does not add it.
	for _, rrtype := range []uint16{dns.TypeCNAME, dns.TypeDNAME, dns.TypeNS} {
		if rrtype != dns.TypeNS || !owner.Apex {
			records = append(records, header(rrtype, dns.ClassNONE))
		}
	}
	return records
}

// message returns a function that makes the update; each try needs a new message.
func (p part) message(zone string, ttl time.Duration) func() *dns.Msg {
	return func() *dns.Msg {
		m := new(dns.Msg).SetUpdate(zone)
		m.Compress = true
		for _, u := range p {
			for _, r := range u.prerequisites() {
				m.Answer = append(m.Answer, r())
			}
			for _, r := range u.updates(ttl) {
				m.Ns = append(m.Ns, r())
			}
		}
		return m
	}
}

// Text returns the messages of a change as dig prints an update, without header and
// signature.
func Text(change lease.Change, ttl time.Duration) string {
	var b strings.Builder
	for _, part := range split(change) {
		m := part.message(change.Zone, ttl)()
		fmt.Fprintf(&b, ";; ZONE SECTION:\n;%s\tIN\tSOA\n", m.Question[0].Name)
		if len(m.Answer) > 0 {
			b.WriteString("\n;; PREREQUISITE SECTION:\n")
		}
		for _, rr := range m.Answer {
			b.WriteString(strings.TrimSpace(rr.String()) + "\n")
		}
		b.WriteString("\n;; UPDATE SECTION:\n")
		for _, rr := range m.Ns {
			b.WriteString(strings.TrimSpace(rr.String()) + "\n")
		}
		b.WriteString("\n")
	}
	return b.String()
}
