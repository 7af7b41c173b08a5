package main

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"tunnelcast/internal/lease"
)

// zoneServer is a DNS server of unsigned zones, as far as updown needs one. It checks
// prerequisites as described in RFC 2136 section 3.2.
type zoneServer struct {
	t     failer
	addr  string
	mu    sync.Mutex
	zones map[string]map[lease.RR]bool

	beforeTransfer func(zone string) // while nothing is locked
	afterTransfer  func(zone string)
	removed        func(lease.RR) // called for each RR that an update removes
}

type failer interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

func startZoneServer(t *testing.T, zones ...string) *zoneServer {
	t.Helper()
	s := &zoneServer{t: t, zones: map[string]map[lease.RR]bool{}}
	for _, zone := range zones {
		s.zones[zone] = map[lease.RR]bool{}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	for _, server := range []*dns.Server{{Listener: l}, {PacketConn: p}} {
		server.Handler = s
		server.MsgAcceptFunc = func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept }
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		go func() { _ = server.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = server.Shutdown() })
	}
	return s
}

func (s *zoneServer) ServeDNS(w dns.ResponseWriter, m *dns.Msg) {
	reply := new(dns.Msg).SetReply(m)
	q := m.Question[0]
	transfer := q.Qtype == dns.TypeAXFR && s.beforeTransfer != nil
	if transfer {
		s.beforeTransfer(q.Name)
	}
	s.mu.Lock()
	if m.Opcode == dns.OpcodeUpdate {
		reply.Rcode = s.update(m)
	} else {
		s.answer(reply)
	}
	s.mu.Unlock()
	if transfer {
		s.afterTransfer(q.Name)
	}
	if err := w.WriteMsg(reply); err != nil {
		s.t.Errorf("zone server: %v", err)
	}
}

func (s *zoneServer) answer(reply *dns.Msg) {
	q := reply.Question[0]
	reply.Authoritative = true
	if zone, ok := s.zones[q.Name]; ok && q.Qtype == dns.TypeAXFR {
		soa := &dns.SOA{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeSOA, Class: dns.ClassINET}, Ns: "ns.",
			Mbox: "ns."}
		reply.Answer = append(reply.Answer, soa)
		for rr := range zone {
			reply.Answer = append(reply.Answer, wire(rr))
		}
		reply.Answer = append(reply.Answer, dns.Copy(soa))
		return
	}
	reply.Rcode = dns.RcodeNameError
	for _, zone := range s.zones {
		for rr := range zone {
			if rr.Owner == q.Name {
				reply.Rcode = dns.RcodeSuccess
			}
			if rr.Owner == q.Name && rr.Type == dns.TypeToString[q.Qtype] {
				reply.Answer = append(reply.Answer, wire(rr))
			}
		}
	}
}

func (s *zoneServer) update(m *dns.Msg) (rcode int) {
	zone := s.zones[m.Question[0].Name]
	existing := func(owner string, rrtype uint16) (set []lease.RR) {
		for rr := range zone {
			if rr.Owner == owner && (rrtype == dns.TypeANY || rr.Type == dns.TypeToString[rrtype]) {
				set = append(set, rr)
			}
		}
		return set
	}
	exact := map[dns.RR_Header]map[lease.RR]bool{}
	for _, rr := range m.Answer {
		h := rr.Header()
		switch {
		case h.Class == dns.ClassNONE && h.Rrtype == dns.TypeANY && len(existing(h.Name, h.Rrtype)) > 0:
			return dns.RcodeYXDomain
		case h.Class == dns.ClassNONE && len(existing(h.Name, h.Rrtype)) > 0:
			return dns.RcodeYXRrset
		case h.Class == dns.ClassINET:
			set := dns.RR_Header{Name: h.Name, Rrtype: h.Rrtype}
			if exact[set] == nil {
				exact[set] = map[lease.RR]bool{}
			}
			exact[set][unwire(rr)] = true
		case h.Class == dns.ClassANY:
			s.t.Errorf("zone server: prerequisite %s", rr)
		}
	}
	for set, want := range exact {
		have := existing(set.Name, set.Rrtype)
		if len(have) != len(want) || slices.ContainsFunc(have, func(rr lease.RR) bool { return !want[rr] }) {
			return dns.RcodeNXRrset
		}
	}
	for _, rr := range m.Ns {
		switch l := unwire(rr); rr.Header().Class {
		case dns.ClassINET:
			zone[l] = true
		case dns.ClassNONE:
			if zone[l] && s.removed != nil {
				s.removed(l)
			}
			delete(zone, l)
		default:
			s.t.Errorf("zone server: update %s", rr)
		}
	}
	return dns.RcodeSuccess
}

func wire(rr lease.RR) dns.RR {
	data := rr.Target
	if rr.Addr.IsValid() {
		data = rr.Addr.String()
	}
	r, err := dns.NewRR(rr.Owner + " 60 IN " + rr.Type + " " + data)
	if err != nil {
		panic(err)
	}
	return r
}

func unwire(rr dns.RR) lease.RR {
	switch rr := rr.(type) {
	case *dns.A:
		return lease.Address(rr.Hdr.Name, netip.MustParseAddr(rr.A.String()))
	case *dns.AAAA:
		return lease.Address(rr.Hdr.Name, netip.MustParseAddr(rr.AAAA.String()))
	case *dns.PTR:
		return lease.RR{Owner: rr.Hdr.Name, Type: "PTR", Target: rr.Ptr}
	}
	panic("zone server: " + rr.String())
}

// model consists of charon, a zone and a reverse zone, the run directory and some
// sessions that may be live. It can be saved as a point and set to a point.
type model struct {
	*testGateway
	server   *zoneServer
	sessions []lease.Lease
	now      point
	trace    func() string // how this point was reached

	mu    sync.Mutex // held by the part of a sync whose turn it is
	order turns

	// Called before a sync reads a zone, and when it asks charon for the nth time: before
	// the list is made and after.
	atTransfer func()
	atList     map[int][2]func()
	lists      int
	missed     func(i int) bool // sessions missing from the first list, as during a rekey
}

// point is everything that the next step depends on.
type point struct {
	live  []bool
	zones map[string]map[lease.RR]bool
	files map[string]string // of the run directory and of the state directory
}

func (p point) String() string {
	return fmt.Sprint(p.live, p.zones, p.files) // fmt sorts maps
}

// handMade are RRs inside the pool that were not added by this gateway, and always stay.
var handMade = []lease.RR{
	lease.Address("printer.example.", netip.MustParseAddr("10.0.0.150")),
	{Owner: "150." + modelReverse, Type: "PTR", Target: "printer.example."},
	{Owner: "151." + modelReverse, Type: "PTR", Target: "scanner.example."},
}

const modelReverse = "0.0.10.in-addr.arpa."

// newModel returns a model after a first sync, without live sessions.
func newModel(t *testing.T, sessions ...lease.Lease) *model {
	t.Helper()
	dir := t.TempDir()
	// sync waits until its memory is on disk, so use a file system in memory.
	if shm, err := os.MkdirTemp("/dev/shm", "updown-model-"); err == nil {
		dir = shm
		t.Cleanup(func() { os.RemoveAll(shm) })
	}
	m := &model{server: startZoneServer(t, "example.", modelReverse), sessions: sessions}
	m.testGateway = newTestGateway(t, &bind{t: t, dir: dir, addr: m.server.addr}, "--key", "none", "--reverse-zones",
		modelReverse, "--timeout", "20s")
	m.now.live = make([]bool, len(sessions))
	ask := m.askCharon
	m.askCharon = func(ctx context.Context) ([]lease.Lease, lease.Pools, error) {
		turns := m.turns()
		if !turns.listFirst {
			<-turns.transferred
		}
		defer turns.endList()
		m.mu.Lock()
		defer m.mu.Unlock()
		m.lists++
		if f := m.atList[m.lists][0]; f != nil {
			f()
		}
		m.server.mu.Lock()
		m.live = m.live[:0]
		for i, l := range m.sessions {
			if m.now.live[i] && !(m.lists == 1 && m.missed != nil && m.missed(i)) {
				m.live = append(m.live, l)
			}
		}
		m.server.mu.Unlock()
		leases, pools, err := ask(ctx)
		if f := m.atList[m.lists][1]; f != nil {
			f()
		}
		return leases, pools, err
	}
	m.server.beforeTransfer = func(string) {
		if turns := m.turns(); turns.listFirst {
			<-turns.listed
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.atTransfer != nil {
			m.atTransfer()
		}
	}
	m.server.afterTransfer = func(zone string) {
		if zone == modelReverse { // the last one
			m.turns().endTransfer()
		}
	}
	m.server.removed = func(rr lease.RR) {
		for i := range m.sessions {
			if m.now.live[i] && slices.Contains(m.rrs(i)[:1], rr) {
				m.t.Errorf("the live %v is removed, after %s", rr, m.trace())
			}
		}
	}
	for _, rr := range handMade {
		m.server.zones[map[bool]string{true: modelReverse, false: "example."}[rr.Type == "PTR"]][rr] = true
	}
	m.trace = func() string { return "the start" }
	m.sync()
	m.now = m.save()
	return m
}

// turns make a sync's first round, which reads the zones and asks charon at the same
// time, do one after the other. Both orders are tried.
type turns struct {
	listFirst            bool
	listed, transferred  chan struct{}
	endList, endTransfer func()
}

func (m *model) turns() turns {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.order
}

func (m *model) sync() {
	m.t.Helper()
	listed, transferred := make(chan struct{}), make(chan struct{})
	m.mu.Lock()
	m.lists = 0
	m.order = turns{m.order.listFirst, listed, transferred,
		sync.OnceFunc(func() { close(listed) }), sync.OnceFunc(func() { close(transferred) })}
	m.mu.Unlock()
	m.testGateway.sync()
	m.mu.Lock() // makes the writes of the other goroutines visible
	defer m.mu.Unlock()
}

// rrs returns the address and the pointer that a session should have.
func (m *model) rrs(i int) []lease.RR {
	l := m.sessions[i]
	name, err := m.rules.Name(l.Identity)
	if err != nil {
		m.t.Fatal(err)
	}
	_, ptr, _ := m.rules.Pointer(l.Addresses[0], name)
	return []lease.RR{lease.Address(name, l.Addresses[0]), ptr}
}

func (m *model) run(name string) string { return filepath.Join(string(m.dir), name) }

// save returns the current point.
func (m *model) save() point {
	m.t.Helper()
	p := point{live: slices.Clone(m.now.live), zones: map[string]map[lease.RR]bool{}, files: map[string]string{}}
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	for zone, rrs := range m.server.zones {
		p.zones[zone] = maps.Clone(rrs)
	}
	for _, pattern := range []string{m.run("pools"), m.run("leases"), m.run("poke/*"), m.memory.File(),
		m.memory.NewDir() + "/*"} {
		names, _ := filepath.Glob(pattern)
		for _, name := range names {
			if filepath.Base(name) == "down" {
				continue // requests a sync, which may start at any point anyway
			}
			content, err := os.ReadFile(name)
			if err != nil {
				m.t.Fatal(err)
			}
			p.files[name] = string(content)
		}
	}
	return p
}

// restore sets the model to a point.
func (m *model) restore(p point) {
	m.t.Helper()
	here := m.save()
	for name, content := range p.files {
		if have, ok := here.files[name]; !ok || have != content {
			if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
				m.t.Fatal(err)
			}
		}
	}
	for name := range here.files {
		if _, ok := p.files[name]; !ok {
			if err := os.Remove(name); err != nil {
				m.t.Fatal(err)
			}
		}
	}
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	for zone, rrs := range p.zones {
		m.server.zones[zone] = maps.Clone(rrs)
	}
	m.now.live = slices.Clone(p.live)
}

// call calls the hook for a session, as charon does.
func (m *model) call(verb string, i int) {
	m.t.Helper()
	l := m.sessions[i]
	m.vars = map[string]string{"PLUTO_VERB": verb + "-client", "PLUTO_XAUTH_ID": l.Identity,
		"PLUTO_PEER_SOURCEIP4_1": l.Addresses[0].String()}
	if err := m.hook(m.t.Context()); err != nil {
		m.t.Errorf("%s of %d: %v, after %s", verb, i, err, m.trace())
	}
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	if verb == "up" && !m.server.zones["example."][m.rrs(i)[0]] {
		m.t.Errorf("%v is not there as its hook returns, after %s", m.rrs(i)[0], m.trace())
	}
}

// syncAlone runs a sync without concurrent calls. Afterwards the zones must hold exactly
// the live sessions.
func (m *model) syncAlone() {
	m.t.Helper()
	m.sync()
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	want := map[string]map[lease.RR]bool{"example.": {handMade[0]: true},
		modelReverse: {handMade[1]: true, handMade[2]: true}}
	for i := range m.sessions {
		if m.now.live[i] {
			rrs := m.rrs(i)
			want["example."][rrs[0]], want[modelReverse][rrs[1]] = true, true
		}
	}
	if got := fmt.Sprint(m.server.zones); got != fmt.Sprint(want) {
		m.t.Errorf("the zones are %s, live is %v, after %s", got, want, m.trace())
	}
}

// connect and disconnect are complete: the hook is called, then the session begins or ends.
func (m *model) connect(i int) {
	m.call("up", i)
	m.setLive(i, true)
}

func (m *model) disconnect(i int) {
	m.call("down", i)
	m.setLive(i, false)
}

func (m *model) setLive(i int, live bool) {
	m.server.mu.Lock()
	defer m.server.mu.Unlock()
	m.now.live[i] = live
}

// mayLive reports whether charon could have this session: no two identities have one
// address.
func (m *model) mayLive(i int) bool {
	for j, l := range m.sessions {
		if m.now.live[j] && l.Addresses[0] == m.sessions[i].Addresses[0] && l.Identity != m.sessions[i].Identity {
			return false
		}
	}
	return true
}

type step struct {
	name string
	do   func()
}

// change returns the complete next change of a session.
func (m *model) change(i int) (do func(), name string) {
	if m.now.live[i] {
		return func() { m.disconnect(i) }, fmt.Sprint("disconnect ", i)
	}
	return func() { m.connect(i) }, fmt.Sprint("connect ", i)
}

// powerCut ends every session and empties /run. Files on disk stay.
func (m *model) powerCut() {
	m.t.Helper()
	for i := range m.sessions {
		m.setLive(i, false)
	}
	for _, pattern := range []string{"*", "poke/*"} {
		names, _ := filepath.Glob(m.run(pattern))
		for _, name := range names {
			if info, err := os.Stat(name); err != nil || !info.Mode().IsRegular() {
				continue
			}
			if err := os.Remove(name); err != nil {
				m.t.Fatal(err)
			}
		}
	}
}

// steps returns everything that may happen at this point. A lost call is a session that
// begins or ends without one; a doubled call is one for a session that has begun or
// ended already; a late call is one for a session that ended long ago.
func (m *model) steps() []step {
	steps := []step{{"down", func() { m.call("down", 0) }}, {"power cut", m.powerCut}}
	for _, listFirst := range []bool{false, true} {
		for _, s := range m.syncs() {
			name := s.name
			if listFirst {
				name += ", list first"
			}
			steps = append(steps, step{name, func() {
				m.order.listFirst = listFirst
				s.do()
			}})
		}
	}
	for i := range m.sessions {
		_, comes := m.change(i)
		steps = append(steps, step{fmt.Sprint("up ", i), func() { m.call("up", i) }})
		if m.now.live[i] || m.mayLive(i) {
			steps = append(steps, step{fmt.Sprintf("%s, unheard", comes), func() { m.setLive(i, !m.now.live[i]) }})
		}
	}
	return steps
}

// syncs returns the steps that are a sync.
func (m *model) syncs() []step {
	steps := []step{{"sync", m.syncAlone}}
	for i := range m.sessions {
		come, comes := m.change(i)
		steps = append(steps, step{fmt.Sprintf("sync with %d in the second list only", i), func() {
			m.missed = func(j int) bool { return i == j }
			m.sync()
			m.missed = nil
		}})
		if !m.now.live[i] && !m.mayLive(i) {
			continue
		}
		for _, meanwhile := range []step{{comes, come}, {fmt.Sprint("up ", i), func() { m.call("up", i) }}} {
			during := func(when string, set func(f func())) {
				steps = append(steps, step{fmt.Sprintf("sync, and %s it %s", when, meanwhile.name), func() {
					once := sync.OnceFunc(meanwhile.do)
					set(once)
					m.sync()
					m.atTransfer, m.atList = nil, nil
				}})
			}
			during("before", func(f func()) { m.atTransfer = f })
			for n := 1; n <= 2; n++ {
				during(fmt.Sprintf("before list %d of", n),
					func(f func()) { m.atList = map[int][2]func(){n: {f, nil}} })
				during(fmt.Sprintf("after list %d of", n),
					func(f func()) { m.atList = map[int][2]func(){n: {nil, f}} })
			}
		}
	}
	return steps
}

var modelSessions = map[string][]lease.Lease{
	"one address":          {client("alice", "10.0.0.100"), client("alice", "10.0.0.100")},
	"two addresses":        {client("alice", "10.0.0.100"), client("alice", "10.0.0.101")},
	"an address passed on": {client("alice", "10.0.0.100"), client("bob", "10.0.0.100")},
	"one of three passed": {client("alice", "10.0.0.100"), client("alice", "10.0.0.101"),
		client("bob", "10.0.0.100")},
	"two of three on one": {client("alice", "10.0.0.100"), client("alice", "10.0.0.100"),
		client("alice", "10.0.0.101")},
	"three on one address": {client("alice", "10.0.0.100"), client("alice", "10.0.0.100"),
		client("alice", "10.0.0.100")},
	"three on three": {client("alice", "10.0.0.100"), client("alice", "10.0.0.101"),
		client("alice", "10.0.0.102")},
	"three, two identities": {client("alice", "10.0.0.100"), client("alice", "10.0.0.101"),
		client("bob", "10.0.0.102")},
}

// Two sessions, in sequences of any length: every reachable point is visited, and every
// step is tried at each.
func TestModelOfTwoSessions(t *testing.T) {
	for name, sessions := range modelSessions {
		if len(sessions) != 2 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newModel(t, sessions...)
			type visit struct {
				point
				from string // the point before
				by   string // the step from there
			}
			start := m.save()
			visited := map[string]visit{start.String(): {point: start}}
			queue := []string{start.String()}
			tried := 0
			for len(queue) > 0 && !t.Failed() {
				key := queue[0]
				queue = queue[1:]
				here := visited[key]
				m.restore(here.point)
				for _, s := range m.steps() {
					m.trace = func() string {
						path := []string{s.name}
						for v := here; v.by != ""; v = visited[v.from] {
							path = append(path, v.by)
						}
						slices.Reverse(path)
						return strings.Join(path, "; ")
					}
					m.restore(here.point)
					s.do()
					tried++
					next := m.save()
					if k := next.String(); visited[k].zones == nil {
						visited[k] = visit{next, key, s.name}
						queue = append(queue, k)
					}
				}
			}
			t.Logf("%d points, %d steps", len(visited), tried)
		})
	}
}

// Three sessions have too many points to visit all of them.
func TestModelOfThreeSessions(t *testing.T) {
	for name, sessions := range modelSessions {
		if len(sessions) != 3 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newModel(t, sessions...)
			start := m.save()
			rapid.Check(t, func(rt *rapid.T) {
				m.restore(start)
				var path []string
				m.trace = func() string { return strings.Join(path, "; ") }
				for range rapid.IntRange(1, 12).Draw(rt, "length") {
					s := rapid.SampledFrom(m.steps()).Draw(rt, "step")
					path = append(path, s.name)
					s.do()
				}
				path = append(path, "sync")
				m.syncAlone()
				if t.Failed() {
					rt.FailNow()
				}
			})
		})
	}
}
