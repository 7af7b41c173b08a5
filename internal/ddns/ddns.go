// Package ddns changes and reads a zone: signed updates (RFC 2136 with TSIG,
// RFC 8945), questions and transfers.
//
// The DNS library signs, verifies and packs; the exchange is here, because in
// the library's own a reply without a signature to a signed request is no error,
// a message that is sent twice goes out unsigned the second time, and all that a
// server may say against a signature is one error.
package ddns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"tunnelcast/internal/lease"
)

// Server is a DNS server that is asked about zones and given updates of them.
// The deadline of the context holds over all tries of a call; without one a
// call may last for ever.
type Server struct {
	Addr string           // host:port
	Key  *Key             // nil: nothing is signed and no reply need be
	Now  func() time.Time // for signatures; nil: time.Now
	From netip.Addr       // the address to ask from; the zero Addr: any
}

// Loopback tells whether the server is on this host, by its address alone.
func (s *Server) Loopback() bool {
	host, _, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// ErrPrerequisite says that a name was not, or was no longer, what the change
// was made for. Nothing was changed by that message.
var ErrPrerequisite = errors.New("the name has changed meanwhile")

// What else a caller may tell apart; RFC 2136 and RFC 8945 name the codes.
var (
	ErrNoReply  = errors.New("no reply in time")
	ErrBadReply = errors.New("the reply cannot be believed") // unsigned, signed wrongly, or no DNS
	ErrBadKey   = errors.New("BADKEY")                       // the server does not know the key
	ErrBadSig   = errors.New("BADSIG")                       // it has another secret
	ErrBadTime  = errors.New("BADTIME")                      // its clock is another
	ErrNotAuth  = errors.New("NOTAUTH")                      // the zone is another server's
	ErrRefused  = errors.New("REFUSED")                      // no grant, a frozen zone, or a secondary
	ErrNoZone   = errors.New("the server does not have the zone")
	ErrNotReady = errors.New("the server could not answer") // SERVFAIL to a question or a transfer

	errServerFailure = errors.New("SERVFAIL")
	errNotZone       = errors.New("NOTZONE")
	errFormat        = errors.New("FORMERR")
)

// Update sends the change. A large one is split into several messages, each of
// which is applied as a whole or not at all: after an error some may have been.
//
// An error that wraps ErrPrerequisite says that the server refused the first
// message whose names were not as seen. After a timeout a message may still be
// applied later.
func (s *Server) Update(ctx context.Context, change lease.Change, ttl time.Duration) error {
	for _, part := range split(change) {
		if err := s.send(ctx, change.Zone, part.message(change.Zone, ttl)); err != nil {
			return err
		}
	}
	return nil
}

// send sends one message of an update.
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

// badOwner explains that named refuses an address whose name has an underscore in
// it, and a pointer to one (dns_rdata_checkowner and dns_rdata_checknames), by a
// reply that says nothing of it.
func badOwner(err error, m *dns.Msg) string {
	underscore := func(rr dns.RR) bool {
		return rr.Header().Class == dns.ClassINET && strings.Contains(rr.String(), "_")
	}
	if !errors.Is(err, ErrRefused) || !slices.ContainsFunc(m.Ns, underscore) {
		return ""
	}
	return "; for a name with an underscore named also wants check-names ignore; in the zone's statement"
}

// Primary tells whether the server is the zone's primary. It sends an update of
// nothing whose signature is wrong: a primary rejects the signature, a secondary
// refuses first (RFC 2136 section 3.1.1; ns_update_start in lib/ns/update.c).
func (s *Server) Primary(ctx context.Context, zone string) bool {
	stranger := *s
	stranger.Key = &Key{Name: "tunnelcast-check.", Algorithm: "hmac-sha256", secret: "bm9ib2R5"}
	reply, err := stranger.exchange(ctx, func() *dns.Msg { return new(dns.Msg).SetUpdate(zone) })
	return err == nil && reply.Rcode == dns.RcodeNotAuth
}

// Lookup returns what stands at a name: its addresses, or whatever makes it
// somebody else's.
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
			// The authority section names the zone's own servers as well, at the
			// apex; what stands at the name itself is a delegation.
			if rr := toLease(rr); rr.Owner == name {
				owner.Holds = append(owner.Holds, rr)
			}
		}
	}
	return owner, nil
}

// Confirm reports whether a name that has only addresses still is as it was seen.
// It asks by prerequisites, which the server applies to the zone itself, even where
// it answers questions from a copy.
func (s *Server) Confirm(ctx context.Context, zone string, owner lease.Owner) (bool, error) {
	err := s.send(ctx, zone, part{{seen: &owner}}.message(zone, 0))
	if errors.Is(err, ErrPrerequisite) {
		return false, nil
	}
	return err == nil, err
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

// Serial returns the serial number of a zone that the server has authority for.
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
	return 0, fmt.Errorf("look up SOA of %s at %s: %w: it has no authority for it", zone, s.Addr, ErrNoZone)
}

// unit is what an update has for one owner name, or one RR to remove.
type unit struct {
	seen        *lease.Owner // nil: nothing is added
	remove, add []lease.RR
}

// Knows tells whether the server answers a question about a zone, with authority or
// without.
func (s *Server) Knows(ctx context.Context, zone string) bool {
	reply, err := s.exchange(ctx, func() *dns.Msg { return new(dns.Msg).SetQuestion(zone, dns.TypeSOA) })
	isSOA := func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeSOA }
	return err == nil && slices.ContainsFunc(reply.Answer, isSOA)
}

// part is what one message of an update is made of.
type part []unit

// record makes a fresh RR: the library changes those it is given.
type record func() dns.RR

// maxMessage keeps a message, with its signature, below the 65,535 octets that
// TCP carries. It counts names in full, so it is met on the safe side.
const maxMessage = 60_000

// units cuts a change by its owner names. What a name gets stays together with
// its prerequisites, which would otherwise see the first message's work.
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

// split puts the units of a change into as few messages as can be sent.
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

// remove deletes one RR of an RRset (RFC 2136 section 2.5.4), which is no error
// if it is not there.
func remove(rr lease.RR) record {
	return func() dns.RR { return fromLease(rr, dns.ClassNONE, 0) }
}

// prerequisites say that a name is as it was seen (RFC 2136 section 2.4).
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
				records = append(records, func() dns.RR { return fromLease(rr, dns.ClassINET, 0) }) // 2.4.2: RRset is exactly this
			}
		}
		if !seen {
			records = append(records, header(rrtype, dns.ClassNONE)) // 2.4.3: RRset does not exist
		}
	}
	// BIND answers NOERROR to an address beside an alias and does nothing.
	for _, rrtype := range []uint16{dns.TypeCNAME, dns.TypeDNAME, dns.TypeNS} {
		records = append(records, header(rrtype, dns.ClassNONE))
	}
	return records
}

func size(records []record) int {
	n := 0
	for _, r := range records {
		n += dns.Len(r())
	}
	return n
}

// message returns what makes the update, as often as it is tried.
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

// Text returns the messages of a change as dig prints an update, without the
// header and the signature.
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

// fromLease makes an A, AAAA or PTR; class and TTL say what an update does with
// it.
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

// maxUDP is the largest message that is tried over UDP, in octets: what passes
// the networks of today in one piece.
const maxUDP = 1232

// exchange makes, signs and sends a message and returns the reply to it, whose
// signature is good unless the reply is about the signature (see verdict). Each
// try has a message, a signature and a connection of its own, twice over UDP
// and then over TCP, and its share of the time left.
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
			// A reply over UDP may be anybody's. Over TCP it is the server's.
			if network == "udp" {
				tries = []string{"tcp"}
			}
		}
		if ctx.Err() != nil {
			break
		}
	}
	if errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
		return nil, fmt.Errorf("%w; it may still be carried out", ErrNoReply)
	}
	return nil, err
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// badReply is an answer that cannot be believed.
type badReply struct{ error }

func (badReply) Is(target error) bool { return target == ErrBadReply }

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
			continue // late or forged; ours may still come
		}
		return reply, err
	}
}

// dial connects. The end of ctx, by time or by a signal, ends all that is read
// and written then.
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

// fudge is how far two clocks may be apart, in seconds (RFC 8945 section 10).
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
	m.SetTsig(s.Key.Name, algorithms[s.Key.Algorithm], fudge, now().Unix())
	return dns.TsigGenerate(m, string(s.Key.secret), "", false)
}

var errOtherID = badReply{errors.New("reply is to another message")}

// open reads a reply to m and verifies its signature with the MAC before it. A
// NOTAUTH, a failure either way, is let through: the server's word against our
// signature cannot be signed in most cases (RFC 8945 section 5.3.2), and of the
// others the library verifies none.
func (s *Server) open(raw []byte, m *dns.Msg, mac string, timersOnly bool) (*dns.Msg, error) {
	reply := new(dns.Msg)
	if err := reply.Unpack(raw); err != nil {
		return nil, badReply{errors.New("reply is no DNS message")} // its error quotes what was sent
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
		return nil, badReply{fmt.Errorf("%s, but the reply is not signed: the server does not know TSIG, or somebody else answers",
			dns.RcodeToString[reply.Rcode])}
	case dns.CanonicalName(signature.Hdr.Name) != s.Key.Name || dns.CanonicalName(signature.Algorithm) != algorithms[s.Key.Algorithm]:
		return nil, badReply{errors.New("reply is signed with another key")}
	case reply.Rcode == dns.RcodeNotAuth:
		return reply, nil
	}
	if err := dns.TsigVerify(raw, string(s.Key.secret), mac, timersOnly); err != nil {
		return nil, badReply{fmt.Errorf("the reply's signature is wrong: %w", err)}
	}
	return reply, nil
}

// answer turns the reply to a question or a transfer into an error with its usual
// cause.
func (s *Server) answer(reply *dns.Msg) error {
	switch reply.Rcode {
	case dns.RcodeServerFailure:
		return fmt.Errorf("%w (SERVFAIL): it could not load the zone; its log and named-checkconf -zj say why", ErrNotReady)
	case dns.RcodeRefused:
		return fmt.Errorf("%w: the server does not have the zone, or does not answer this host (allow-query)", ErrRefused)
	}
	return s.verdict(reply)
}

// verdict turns the reply to an update into an error with its usual cause.
func (s *Server) verdict(reply *dns.Msg) error {
	if reply.Rcode == dns.RcodeNotAuth && s.Key != nil {
		if t := reply.IsTsig(); t != nil && t.Error != dns.RcodeSuccess {
			return s.tsigVerdict(t)
		}
	}
	name := dns.RcodeToString[reply.Rcode]
	switch reply.Rcode {
	case dns.RcodeSuccess:
		return nil
	case dns.RcodeYXDomain, dns.RcodeYXRrset, dns.RcodeNXRrset:
		return fmt.Errorf("%w (%s)", ErrPrerequisite, name)
	case dns.RcodeNameError:
		return fmt.Errorf("%w (%s)", ErrPrerequisite, name)
	case dns.RcodeNotAuth:
		return fmt.Errorf("%w: the server is not the zone's primary; check zone and server", ErrNotAuth)
	case dns.RcodeRefused:
		if s.Key == nil {
			return fmt.Errorf("%w: the server wants a signature, the zone is frozen (rndc thaw), or the server is its secondary", ErrRefused)
		}
		return fmt.Errorf("%w: the key %s has no grant for this, the zone is frozen (rndc thaw), or the server is its secondary", ErrRefused, s.Key.Name)
	case dns.RcodeNotZone:
		return fmt.Errorf("%w: a name lies outside the zone", errNotZone)
	case dns.RcodeServerFailure:
		return fmt.Errorf("%w: the server could not do it; its log says why, often that it may not write the zone's directory", errServerFailure)
	case dns.RcodeNotImplemented:
		return fmt.Errorf("%s: the server takes no updates", name)
	case dns.RcodeFormatError:
		return fmt.Errorf("%w: the server does not understand the message", errFormat)
	}
	return fmt.Errorf("reply code %d %s", reply.Rcode, name)
}

func (s *Server) tsigVerdict(t *dns.TSIG) error {
	switch t.Error {
	case dns.RcodeBadSig:
		return fmt.Errorf("%w: the server's key %s has another secret", ErrBadSig, s.Key.Name)
	case dns.RcodeBadKey:
		return fmt.Errorf("%w: the server does not know the key %s with %s", ErrBadKey, s.Key.Name, s.Key.Algorithm)
	case dns.RcodeBadTime:
		return fmt.Errorf("%w: the clocks are more than %d s apart%s", ErrBadTime, fudge, serverTime(t.OtherData))
	}
	return fmt.Errorf("the server has error %d against the signature", t.Error)
}

// serverTime reads the server's clock out of a BADTIME, where it is 6 octets in
// hexadecimal (RFC 8945 section 5.2.3).
func serverTime(other string) string {
	var seconds int64
	if len(other) != 12 {
		return ""
	}
	if _, err := fmt.Sscanf(other, "%x", &seconds); err != nil {
		return ""
	}
	return ": the server has " + time.Unix(seconds, 0).UTC().Format(time.DateTime) + " UTC"
}
