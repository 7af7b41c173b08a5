package ddns

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// ErrPrerequisite is wrapped if a name was not, or was no longer, as the change assumed.
// That message changed nothing.
var ErrPrerequisite = errors.New("the name has changed meanwhile")

// Other errors that a caller may distinguish; RFC 2136 and RFC 8945 define the codes.
var (
	ErrNoReply  = errors.New("no reply in time")
	ErrBadReply = errors.New("untrusted reply") // unsigned, wrongly signed, or not a DNS message
	ErrBadKey   = errors.New("BADKEY")          // the server does not know the key
	ErrBadSig   = errors.New("BADSIG")          // its key has another secret
	ErrBadTime  = errors.New("BADTIME")         // its clock differs
	ErrNotAuth  = errors.New("NOTAUTH")         // it is not the zone's primary
	ErrRefused  = errors.New("REFUSED")         // no grant, a frozen zone, or a secondary
	ErrNoZone   = errors.New("the server does not have the zone")
	ErrNotReady = errors.New("the server could not answer") // SERVFAIL to a question or a transfer

	errServerFailure = errors.New("SERVFAIL")
	errNotZone       = errors.New("NOTZONE")
	errFormat        = errors.New("FORMERR")
)

// ErrDiscarded is wrapped if the server reported success and did nothing. named does so
// if a grant in update-policy has a limit, such as A(1).
var ErrDiscarded = errors.New("NOERROR, but the server did not do it (a limit in update-policy, such as A(1))")

// badReply is the error of a reply that is not trusted; it is an ErrBadReply.
type badReply struct{ error }

func (badReply) Is(target error) bool { return target == ErrBadReply }

// answer returns the error for the reply to a question or a transfer, with its usual
// cause.
func (s *Server) answer(reply *dns.Msg) error {
	switch reply.Rcode {
	case dns.RcodeServerFailure:
		return fmt.Errorf("%w (SERVFAIL): it could not load the zone; see its log and `named-checkconf -zj`",
			ErrNotReady)
	case dns.RcodeRefused:
		return fmt.Errorf("%w: the server does not have the zone, or does not answer this host (allow-query)",
			ErrRefused)
	}
	return s.verdict(reply)
}

// verdict returns the error for the reply to an update, with its usual cause.
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
			return fmt.Errorf("%w: the server requires a signature, the zone is frozen (`rndc thaw`), "+
				"or the server is its secondary", ErrRefused)
		}
		return fmt.Errorf("%w: the key %s has no grant for this, the zone is frozen (`rndc thaw`), "+
			"or the server is its secondary", ErrRefused, s.Key.Name)
	case dns.RcodeNotZone:
		return fmt.Errorf("%w: a name is outside the zone", errNotZone)
	case dns.RcodeServerFailure:
		return fmt.Errorf("%w: the server could not do it; see its log: often it may not write the zone's directory",
			errServerFailure)
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
	return fmt.Errorf("the server rejects the signature with error %d", t.Error)
}

// serverTime returns the server's clock from a BADTIME, which has it as 6 octets in
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

// ofName reports whether an error may concern one RR of a message. named refuses what a
// policy does not grant and what check-names rejects, and replies SERVFAIL if there
// are more RRs than max-records-per-type.
func ofName(err error) bool {
	return errors.Is(err, ErrRefused) || errors.Is(err, errServerFailure) ||
		errors.Is(err, errNotZone) || errors.Is(err, errFormat)
}

// badOwner returns a hint if an update may have been refused because of an underscore in
// a name: named then refuses the name's address and pointers to it
// (dns_rdata_checkowner and dns_rdata_checknames), and the reply does not contain the reason.
func badOwner(err error, m *dns.Msg) string {
	underscore := func(rr dns.RR) bool {
		return rr.Header().Class == dns.ClassINET && strings.Contains(rr.String(), "_")
	}
	if !errors.Is(err, ErrRefused) || !slices.ContainsFunc(m.Ns, underscore) {
		return ""
	}
	return "; for a name with an underscore named also wants check-names ignore; in the zone's statement"
}
