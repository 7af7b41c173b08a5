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
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"tunnelcast/internal/lease"
)

var testKey = &Key{Name: "ddns.", Algorithm: "hmac-sha256", secret: testSecret}

// fake is a server with the given answers, over both networks.
type fake struct {
	// answer gets the request, its MAC and the network, and returns the messages
	// to send back.
	answer func(m *dns.Msg, mac, network string) [][]byte

	mu       sync.Mutex
	requests []*dns.Msg
	networks []string
}

func (f *fake) start(t *testing.T) *Server {
	t.Helper()
	var l net.Listener
	var p net.PacketConn
	for tries := 0; p == nil; tries++ { // another program may have the same port for UDP
		var err error
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if p, err = net.ListenPacket("udp", l.Addr().String()); err != nil {
			l.Close()
			if p = nil; tries == 9 {
				t.Fatal(err)
			}
		}
	}
	t.Cleanup(func() { l.Close(); p.Close() })
	go func() {
		buffer := make([]byte, dns.MaxMsgSize)
		for {
			n, from, err := p.ReadFrom(buffer)
			if err != nil {
				return
			}
			for _, wire := range f.handle(buffer[:n], "udp") {
				_, _ = p.WriteTo(wire, from)
			}
		}
	}()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			raw, err := receive(conn, "tcp")
			if err == nil {
				for _, wire := range f.handle(raw, "tcp") {
					_ = send(conn, "tcp", wire)
				}
			}
			// A silent server keeps the connection until the client has gone.
			_, _ = io.Copy(io.Discard, conn)
			conn.Close()
		}
	}()
	return &Server{Addr: l.Addr().String(), Key: testKey}
}

func (f *fake) handle(raw []byte, network string) [][]byte {
	m := new(dns.Msg)
	if m.Unpack(raw) != nil {
		return nil
	}
	mac := ""
	if t := m.IsTsig(); t != nil && dns.TsigVerify(slices.Clone(raw), testSecret, "", false) == nil {
		mac = t.MAC
	}
	f.mu.Lock()
	f.requests = append(f.requests, m)
	f.networks = append(f.networks, network)
	f.mu.Unlock()
	return f.answer(m, mac, network)
}

func unsigned(m *dns.Msg, rcode int) *dns.Msg { return new(dns.Msg).SetRcode(m, rcode) }

func pack(m *dns.Msg) []byte {
	wire, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return wire
}

func signed(reply *dns.Msg, mac, secret string, timersOnly bool) ([]byte, string) {
	reply.SetTsig(testKey.Name, dns.HmacSHA256, fudge, time.Now().Unix())
	wire, mac, err := dns.TsigGenerate(reply, secret, mac, timersOnly)
	if err != nil {
		panic(err)
	}
	return wire, mac
}

func sign(reply *dns.Msg, mac string) []byte {
	wire, _ := signed(reply, mac, testSecret, false)
	return wire
}

// tsigError returns the reply of a server that rejects a signature. The reply itself is
// not signed (RFC 8945 section 5.3.2).
func tsigError(m *dns.Msg, code uint16, otherData string) []byte {
	reply := unsigned(m, dns.RcodeNotAuth)
	reply.SetTsig(testKey.Name, dns.HmacSHA256, fudge, time.Now().Unix())
	t := reply.IsTsig()
	t.Error = code
	t.OrigId = m.Id
	t.OtherData, t.OtherLen = otherData, uint16(len(otherData)/2)
	return pack(reply)
}

func rr(owner, addr string) lease.RR { return lease.Address(owner, netip.MustParseAddr(addr)) }

func change() lease.Change {
	return lease.Change{Zone: "example.", Seen: []lease.Owner{{Name: "alice.example."}},
		Add: []lease.RR{rr("alice.example.", "10.0.0.100")}}
}

func TestReplies(t *testing.T) {
	reply := func(rcode int) func(*dns.Msg, string, string) [][]byte {
		return func(m *dns.Msg, mac, _ string) [][]byte { return [][]byte{sign(unsigned(m, rcode), mac)} }
	}
	for name, test := range map[string]struct {
		answer func(m *dns.Msg, mac, network string) [][]byte
		want   string // in the error; "" is success
	}{
		"done":         {reply(dns.RcodeSuccess), ""},
		"prerequisite": {reply(dns.RcodeYXDomain), "the name has changed meanwhile (YXDOMAIN)"},
		"no grant": {reply(dns.RcodeRefused), "REFUSED: the key ddns. has no grant for this, " +
			"the zone is frozen (`rndc thaw`), or the server is its secondary"},
		"not served":   {reply(dns.RcodeNotAuth), "NOTAUTH: the server is not the zone's primary"},
		"outside":      {reply(dns.RcodeNotZone), "NOTZONE: a name is outside"},
		"cannot write": {reply(dns.RcodeServerFailure), "SERVFAIL: "},
		"takes none":   {reply(dns.RcodeNotImplemented), "NOTIMP: "},
		"another secret": {func(m *dns.Msg, _, _ string) [][]byte {
			return [][]byte{tsigError(m, dns.RcodeBadSig,
				"")}
		}, "BADSIG: the server's key ddns. has another secret"},
		"another key": {func(m *dns.Msg, _, _ string) [][]byte {
			return [][]byte{tsigError(m, dns.RcodeBadKey,
				"")}
		}, "BADKEY: the server does not know the key ddns. with hmac-sha256"},
		"clocks differ": {func(m *dns.Msg, _, _ string) [][]byte {
			return [][]byte{tsigError(m, dns.RcodeBadTime, "000065920080")}
		}, "BADTIME: the clocks are more than 300 s apart: the server has 2024-01-01 00:00:00 UTC"},
		"unsigned": {func(m *dns.Msg, _, _ string) [][]byte { return [][]byte{pack(unsigned(m, dns.RcodeSuccess))} },
			"NOERROR, but the reply is not signed"},
		"unsigned no": {func(m *dns.Msg, _, _ string) [][]byte { return [][]byte{pack(unsigned(m, dns.RcodeRefused))} },
			"REFUSED, but the reply is not signed"},
		"garbage": {func(m *dns.Msg, _, _ string) [][]byte { return [][]byte{[]byte("garbage " + testSecret)} },
			"reply is not a DNS message"},
		"wrong MAC": {func(m *dns.Msg, mac, _ string) [][]byte {
			w, _ := signed(unsigned(m, 0), mac, other, false)
			return [][]byte{w}
		}, "the reply's signature is wrong"},
		"to no request": {func(m *dns.Msg, _, _ string) [][]byte {
			w, _ := signed(unsigned(m, 0), "", testSecret, false)
			return [][]byte{w}
		}, "the reply's signature is wrong"},
		"another's key": {func(m *dns.Msg, mac, _ string) [][]byte {
			r := unsigned(m, 0)
			r.SetTsig("else.", dns.HmacSHA256, fudge, time.Now().Unix())
			w, _, _ := dns.TsigGenerate(r, testSecret, mac, false)
			return [][]byte{w}
		}, "reply is signed with another key"},
		"no reply bit": {func(m *dns.Msg, mac, _ string) [][]byte {
			r := unsigned(m, 0)
			r.Response = false
			return [][]byte{sign(r, mac)}
		}, "reply is to another message"},
		"another id": {func(m *dns.Msg, mac, _ string) [][]byte {
			r := unsigned(m,
				0)
			r.Id++
			return [][]byte{sign(r, mac)}
		}, "reply is to another message"},
		"late one before": {func(m *dns.Msg, mac, network string) [][]byte {
			r := unsigned(m, 0)
			r.Id++
			late := sign(r, mac)
			if network == "tcp" {
				return nil
			}
			return [][]byte{late, sign(unsigned(m, 0), mac)}
		}, ""},
		"truncated": {func(m *dns.Msg, mac, network string) [][]byte {
			r := unsigned(m, 0)
			r.Truncated = network == "udp"
			return [][]byte{sign(r, mac)}
		}, ""},
		"forged over UDP": {func(m *dns.Msg, mac, network string) [][]byte {
			if network == "udp" {
				return [][]byte{pack(unsigned(m, dns.RcodeSuccess))}
			}
			return [][]byte{sign(unsigned(m, 0), mac)}
		}, ""},
		"UDP lost": {func(m *dns.Msg, mac, network string) [][]byte {
			if network == "udp" {
				return nil
			}
			return [][]byte{sign(unsigned(m, 0), mac)}
		}, ""},
		"silent": {func(m *dns.Msg, mac, network string) [][]byte { return nil },
			"no reply in time; the server may still carry it out"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fake{answer: test.answer}
			s := f.start(t)
			// The deadline is short only in cases that wait for it, because this machine may be slow.
			deadline, most := time.Minute, time.Minute
			switch name {
			case "UDP lost", "no reply bit", "another id": // UDP's share of the deadline passes before TCP is tried
				deadline = 6 * time.Second
			case "silent":
				deadline, most = 600*time.Millisecond, 20*time.Second
			}
			ctx, cancel := context.WithTimeout(t.Context(), deadline)
			defer cancel()
			start := time.Now()
			err := s.Update(ctx, change(), time.Minute)
			if took := time.Since(start); took > most {
				t.Errorf("it took %s, the deadline is %s", took, deadline)
			}
			if test.want == "" && err != nil || test.want != "" &&
				(err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if err != nil && (strings.Contains(err.Error(), testSecret) || strings.Contains(err.Error(), "\n")) {
				t.Errorf("error %q", err)
			}
			is := map[string]error{
				"prerequisite": ErrPrerequisite, "no grant": ErrRefused, "not served": ErrNotAuth, "silent": ErrNoReply,
				"another secret": ErrBadSig, "another key": ErrBadKey, "clocks differ": ErrBadTime,
				"unsigned": ErrBadReply, "unsigned no": ErrBadReply, "garbage": ErrBadReply, "wrong MAC": ErrBadReply,
			}
			if want := is[name]; want != nil && !errors.Is(err, want) {
				t.Errorf("%v is not %v", err, want)
			}
			if errors.Is(err, ErrPrerequisite) != (name == "prerequisite") {
				t.Errorf("ErrPrerequisite is %v", errors.Is(err, ErrPrerequisite))
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			ids := map[uint16]bool{}
			for i, m := range f.requests {
				if m.IsTsig() == nil || ids[m.Id] {
					t.Errorf("try %d over %s is unsigned or repeats an earlier one", i+1, f.networks[i])
				}
				ids[m.Id] = true
			}
		})
	}
}

func TestClosedPortFailsAtOnce(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	// Far longer than an error takes on a slow machine.
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	start := time.Now()
	err = (&Server{Addr: l.Addr().String(), Key: testKey}).Update(ctx, change(), time.Minute)
	if took := time.Since(start); err == nil || took > 30*time.Second ||
		!strings.Contains(err.Error(), "connection refused") {
		t.Errorf("after %s: %v", took, err)
	}
}

func TestCancelledBySignal(t *testing.T) {
	s := (&fake{answer: func(*dns.Msg, string, string) [][]byte { return nil }}).start(t)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if err := s.Update(ctx, change(), time.Minute); err == nil {
		t.Error("no error without a reply")
	}
	if _, err := s.Transfer(ctx, "example."); err == nil {
		t.Error("a zone without a reply")
	}
}

func TestOwnClockIsWrong(t *testing.T) {
	f := &fake{}
	f.answer = func(m *dns.Msg, mac, _ string) [][]byte {
		if mac != "" {
			return [][]byte{sign(unsigned(m, 0), mac)}
		}
		return [][]byte{tsigError(m, dns.RcodeBadTime, "")}
	}
	s := f.start(t)
	s.Now = func() time.Time { return time.Now().Add(-1000 * time.Second) }
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.Update(ctx, change(), time.Minute); err == nil || !strings.Contains(err.Error(), "BADTIME") {
		t.Errorf("got %v", err)
	}
}

func TestTextOfAnUpdate(t *testing.T) {
	c := lease.Change{
		Zone: "example.",
		Seen: []lease.Owner{
			{Name: "alice.example."},
			{Name: "bob.example.", InUse: true, Holds: []lease.RR{rr("bob.example.", "10.0.0.101"),
				{Owner: "bob.example.", Type: "TXT"}}},
		},
		Add: []lease.RR{rr("alice.example.", "10.0.0.100"), rr("alice.example.", "fd00::100"),
			rr("bob.example.", "10.0.0.102")},
		Remove: []lease.RR{rr("bob.example.", "10.0.0.101"), rr("carol.example.", "10.0.0.103")},
	}
	want := `;; ZONE SECTION:
;example.	IN	SOA

;; PREREQUISITE SECTION:
alice.example.	0	NONE	ANY
bob.example.	0	IN	A	10.0.0.101
bob.example.	0	NONE	AAAA
bob.example.	0	NONE	PTR
bob.example.	0	NONE	CNAME
bob.example.	0	NONE	DNAME
bob.example.	0	NONE	NS

;; UPDATE SECTION:
alice.example.	60	IN	A	10.0.0.100
alice.example.	60	IN	AAAA	fd00::100
bob.example.	0	NONE	A	10.0.0.101
bob.example.	60	IN	A	10.0.0.102
carol.example.	0	NONE	A	10.0.0.103

`
	for range 2 { // what is made changes nothing that it was made of
		if got := Text(c, time.Minute); got != want {
			t.Errorf("got\n%s", got)
		}
	}
}

// Every message of a large change fits into TCP, and the prerequisites of a name
// travel with what is done to it.
func TestSplit(t *testing.T) {
	c := lease.Change{Zone: "example."}
	for i := range 5000 {
		add := rr(fmt.Sprintf("client%d.example.", i), fmt.Sprintf("10.0.%d.%d", i/250, i%250))
		c.Add = append(c.Add, add)
		c.Seen = append(c.Seen, lease.Owner{Name: add.Owner, InUse: i%2 == 0})
		c.Remove = append(c.Remove, rr(fmt.Sprintf("old%d.example.", i), "10.0.0.1"))
	}
	updates := 0
	parts := split(c)
	for _, part := range parts {
		m := part.message(c.Zone, time.Minute)()
		updates += len(m.Ns)
		wire, _, err := (&Server{Key: testKey}).sign(m)
		if err != nil || len(wire) > 65535 {
			t.Fatalf("message of %d octets: %v", len(wire), err)
		}
		needs := map[string]bool{}
		for _, p := range m.Answer {
			needs[p.Header().Name] = true
		}
		for _, u := range m.Ns {
			if u.Header().Class == dns.ClassINET && !needs[u.Header().Name] {
				t.Fatalf("%s has no prerequisite in its message", u)
			}
		}
	}
	if updates != 10000 || len(parts) < 2 {
		t.Errorf("%d updates in %d messages", updates, len(parts))
	}
}

func TestTransfer(t *testing.T) {
	soa := func(serial int) string {
		return fmt.Sprintf("example. 60 IN SOA ns.example. h.example. %d 1 1 1 1", serial)
	}
	envelope := func(m *dns.Msg, lines ...string) *dns.Msg {
		reply := unsigned(m, 0)
		for _, line := range lines {
			r, err := dns.NewRR(line)
			if err != nil {
				panic(err)
			}
			reply.Answer = append(reply.Answer, r)
		}
		return reply
	}
	// stream signs each message with the MAC of the one before.
	stream := func(mac string, replies ...*dns.Msg) (wires [][]byte) {
		for i, reply := range replies {
			var wire []byte
			wire, mac = signed(reply, mac, testSecret, i > 0)
			wires = append(wires, wire)
		}
		return wires
	}
	for name, test := range map[string]struct {
		answer func(m *dns.Msg, mac string) [][]byte
		want   string
	}{
		"two messages": {func(m *dns.Msg, mac string) [][]byte {
			return stream(mac, envelope(m, soa(1), "Alice.example. 60 IN A 10.0.0.100"),
				envelope(m, "bob.example. 60 IN AAAA fd00::1", "x.example. IN CNAME y.", soa(1)))
		}, ""},
		"unsigned second": {func(m *dns.Msg, mac string) [][]byte {
			return append(stream(mac, envelope(m, soa(1))), pack(envelope(m, soa(1))))
		}, "not signed"},
		"replayed first": {func(m *dns.Msg, mac string) [][]byte {
			w := stream(mac, envelope(m, soa(1)))
			return append(w, w[0])
		}, "signature is wrong"},
		"cut": {func(m *dns.Msg, mac string) [][]byte {
			return stream(mac, envelope(m, soa(1), "a.example. IN A 10.0.0.1"))
		}, "no reply in time"},
		"changed": {func(m *dns.Msg, mac string) [][]byte { return stream(mac, envelope(m, soa(1), soa(2))) },
			"changed during the transfer"},
		"no SOA": {func(m *dns.Msg, mac string) [][]byte {
			return stream(mac, envelope(m, "a.example. IN A 10.0.0.1", soa(2)))
		}, "does not begin"},
		"empty": {func(m *dns.Msg, mac string) [][]byte { return stream(mac, envelope(m)) }, "empty"},
		"refused": {func(m *dns.Msg, mac string) [][]byte { return stream(mac, unsigned(m, dns.RcodeRefused)) },
			"REFUSED"},
		"not served": {func(m *dns.Msg, mac string) [][]byte { return stream(mac, unsigned(m, dns.RcodeNotAuth)) },
			"NOTAUTH"},
	} {
		t.Run(name, func(t *testing.T) {
			s := (&fake{answer: func(m *dns.Msg, mac, _ string) [][]byte { return test.answer(m, mac) }}).start(t)
			deadline := time.Minute
			if name == "cut" { // the rest never comes
				deadline = 600 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), deadline)
			defer cancel()
			rrs, err := s.Transfer(ctx, "example.")
			if test.want != "" {
				if err == nil || !strings.Contains(err.Error(), test.want) || rrs != nil {
					t.Errorf("got %v, %v; want %q", rrs, err, test.want)
				}
				return
			}
			want := []lease.RR{{Owner: "example.", Type: "SOA"}, rr("alice.example.", "10.0.0.100"),
				rr("bob.example.", "fd00::1"), {Owner: "x.example.", Type: "CNAME"}}
			if err != nil || !slices.Equal(rrs, want) {
				t.Errorf("got %+v, %v", rrs, err)
			}
		})
	}
}

func TestLoopback(t *testing.T) {
	for addr, want := range map[string]bool{"127.0.0.1:53": true, "[::1]:53": true, "localhost:53": true,
		"10.0.0.1:53": false, "localhost.evil:53": false, "127.0.0.1": false, "": false} {
		if got := (&Server{Addr: addr}).Loopback(); got != want {
			t.Errorf("%q: %v", addr, got)
		}
	}
}

// What a reply holds never breaks us.
func FuzzOpen(f *testing.F) {
	m := new(dns.Msg).SetUpdate("example.")
	f.Add(pack(unsigned(m, 0)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) >= 2 {
			binary.BigEndian.PutUint16(raw, m.Id)
		}
		s := &Server{Key: testKey}
		reply, err := s.open(raw, m, "00", false)
		if err == nil && s.verdict(reply) == nil {
			t.Error("an unsigned reply is accepted")
		}
	})
}
