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

// zoneServer is a DNS server of unsigned zones that are sets, as much of one as
// updown needs. It checks prerequisites as RFC 2136 section 3.2 has them.
type zoneServer struct {
	t     failer
	addr  string
	mu    sync.Mutex
	zones map[string]map[lease.RR]bool

	beforeTransfer func(zone string) // while nothing is locked
	afterTransfer  func(zone string)
	removed        func(lease.RR) // of an RR that stood there
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
		soa := &dns.SOA{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeSOA, Class: dns.ClassINET}, Ns: "ns.", Mbox: "ns."}
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
	stands := func(owner string, rrtype uint16) (set []lease.RR) {
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
		case h.Class == dns.ClassNONE && h.Rrtype == dns.TypeANY && len(stands(h.Name, h.Rrtype)) > 0:
			return dns.RcodeYXDomain
		case h.Class == dns.ClassNONE && len(stands(h.Name, h.Rrtype)) > 0:
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
		have := stands(set.Name, set.Rrtype)
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

// world is charon, a zone and a reverse zone, and the run directory, with some
// sessions that may be live. A point of it can be left and come back to.
type world struct {
	*testGateway
	server   *zoneServer
	sessions []lease.Lease
	now      point
	trace    func() string // how this point was reached

	mu    sync.Mutex // held by what has its turn in a sync
	order turns

	// A sync does this before it reads a zone, or when it asks charon for the nth
	// time, before the list is made up or behind it.
	atTransfer func()
	atList     map[int][2]func()
	lists      int
	missed     func(i int) bool // by its first list, as may be while it is rekeyed
}

// point is all that the next step depends on.
type point struct {
	live  []bool
	zones map[string]map[lease.RR]bool
	files map[string]string // of the run directory and of the state directory
}

func (p point) String() string {
	return fmt.Sprint(p.live, p.zones, p.files) // fmt sorts maps
}

// handMade stand inside the pool and are nobody's of ours, but stay whatever
// happens.
var handMade = []lease.RR{
	lease.Address("printer.example.", netip.MustParseAddr("10.0.0.150")),
	{Owner: "150." + modelReverse, Type: "PTR", Target: "printer.example."},
	{Owner: "151." + modelReverse, Type: "PTR", Target: "scanner.example."},
}

const modelReverse = "0.0.10.in-addr.arpa."

// newWorld is at the point after a first sync, with nobody there.
func newWorld(t *testing.T, sessions ...lease.Lease) *world {
	t.Helper()
	dir := t.TempDir()
	// sync waits for the disk under what it remembers.
	if shm, err := os.MkdirTemp("/dev/shm", "updown-model-"); err == nil {
		dir = shm
		t.Cleanup(func() { os.RemoveAll(shm) })
	}
	w := &world{server: startZoneServer(t, "example.", modelReverse), sessions: sessions}
	w.testGateway = newTestGateway(t, &bind{t: t, dir: dir, addr: w.server.addr}, "--key", "none", "--reverse-zones", modelReverse, "--timeout", "20s")
	w.now.live = make([]bool, len(sessions))
	ask := w.askCharon
	w.askCharon = func(ctx context.Context) ([]lease.Lease, lease.Pools, error) {
		turns := w.turns()
		if !turns.listFirst {
			<-turns.transferred
		}
		defer turns.endList()
		w.mu.Lock()
		defer w.mu.Unlock()
		w.lists++
		if f := w.atList[w.lists][0]; f != nil {
			f()
		}
		w.server.mu.Lock()
		w.live = w.live[:0]
		for i, l := range w.sessions {
			if w.now.live[i] && !(w.lists == 1 && w.missed != nil && w.missed(i)) {
				w.live = append(w.live, l)
			}
		}
		w.server.mu.Unlock()
		leases, pools, err := ask(ctx)
		if f := w.atList[w.lists][1]; f != nil {
			f()
		}
		return leases, pools, err
	}
	w.server.beforeTransfer = func(string) {
		if turns := w.turns(); turns.listFirst {
			<-turns.listed
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.atTransfer != nil {
			w.atTransfer()
		}
	}
	w.server.afterTransfer = func(zone string) {
		if zone == modelReverse { // the last one
			w.turns().endTransfer()
		}
	}
	w.server.removed = func(rr lease.RR) {
		for i := range w.sessions {
			if w.now.live[i] && slices.Contains(w.rrs(i)[:1], rr) {
				w.t.Errorf("the live %v is removed, after %s", rr, w.trace())
			}
		}
	}
	for _, rr := range handMade {
		w.server.zones[map[bool]string{true: modelReverse, false: "example."}[rr.Type == "PTR"]][rr] = true
	}
	w.trace = func() string { return "the start" }
	w.sync()
	w.now = w.leave()
	return w
}

// turns are those of a sync's first round. It reads the zones and asks charon at
// the same time; here the one comes after the other, and both orders are tried.
type turns struct {
	listFirst            bool
	listed, transferred  chan struct{}
	endList, endTransfer func()
}

func (w *world) turns() turns {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.order
}

func (w *world) sync() {
	w.t.Helper()
	listed, transferred := make(chan struct{}), make(chan struct{})
	w.mu.Lock()
	w.lists = 0
	w.order = turns{w.order.listFirst, listed, transferred,
		sync.OnceFunc(func() { close(listed) }), sync.OnceFunc(func() { close(transferred) })}
	w.mu.Unlock()
	w.testGateway.sync()
	w.mu.Lock() // what the others did is seen from here on
	defer w.mu.Unlock()
}

// rrs returns the address and the pointer that a session is to have.
func (w *world) rrs(i int) []lease.RR {
	l := w.sessions[i]
	name, err := w.rules.Name(l.Identity)
	if err != nil {
		w.t.Fatal(err)
	}
	_, ptr, _ := w.rules.Pointer(l.Addresses[0], name)
	return []lease.RR{lease.Address(name, l.Addresses[0]), ptr}
}

func (w *world) run(name string) string { return filepath.Join(string(w.dir), name) }

// leave returns the point that the world is at.
func (w *world) leave() point {
	w.t.Helper()
	p := point{live: slices.Clone(w.now.live), zones: map[string]map[lease.RR]bool{}, files: map[string]string{}}
	w.server.mu.Lock()
	defer w.server.mu.Unlock()
	for zone, rrs := range w.server.zones {
		p.zones[zone] = maps.Clone(rrs)
	}
	for _, pattern := range []string{w.run("pools"), w.run("leases"), w.run("poke/*"), w.state.names(), w.state.fresh() + "/*"} {
		names, _ := filepath.Glob(pattern)
		for _, name := range names {
			if filepath.Base(name) == "down" {
				continue // it starts a sync, which may start at any point
			}
			content, err := os.ReadFile(name)
			if err != nil {
				w.t.Fatal(err)
			}
			p.files[name] = string(content)
		}
	}
	return p
}

// enter takes the world back to a point.
func (w *world) enter(p point) {
	w.t.Helper()
	here := w.leave()
	for name, content := range p.files {
		if have, ok := here.files[name]; !ok || have != content {
			if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	for name := range here.files {
		if _, ok := p.files[name]; !ok {
			if err := os.Remove(name); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	w.server.mu.Lock()
	defer w.server.mu.Unlock()
	for zone, rrs := range p.zones {
		w.server.zones[zone] = maps.Clone(rrs)
	}
	w.now.live = slices.Clone(p.live)
}

// call is charon's call of the hook for a session.
func (w *world) call(verb string, i int) {
	w.t.Helper()
	l := w.sessions[i]
	w.vars = map[string]string{"PLUTO_VERB": verb + "-client", "PLUTO_XAUTH_ID": l.Identity, "PLUTO_PEER_SOURCEIP4_1": l.Addresses[0].String()}
	if err := w.hook(w.t.Context()); err != nil {
		w.t.Errorf("%s of %d: %v, after %s", verb, i, err, w.trace())
	}
	w.server.mu.Lock()
	defer w.server.mu.Unlock()
	if verb == "up" && !w.server.zones["example."][w.rrs(i)[0]] {
		w.t.Errorf("%v is not there as its hook returns, after %s", w.rrs(i)[0], w.trace())
	}
}

// settle is a sync with nothing beside it: then the zones hold exactly the live
// sessions.
func (w *world) settle() {
	w.t.Helper()
	w.sync()
	w.server.mu.Lock()
	defer w.server.mu.Unlock()
	want := map[string]map[lease.RR]bool{"example.": {handMade[0]: true}, modelReverse: {handMade[1]: true, handMade[2]: true}}
	for i := range w.sessions {
		if w.now.live[i] {
			rrs := w.rrs(i)
			want["example."][rrs[0]], want[modelReverse][rrs[1]] = true, true
		}
	}
	if got := fmt.Sprint(w.server.zones); got != fmt.Sprint(want) {
		w.t.Errorf("the zones are %s, live is %v, after %s", got, want, w.trace())
	}
}

// connect and disconnect are the whole of it: charon calls first.
func (w *world) connect(i int) {
	w.call("up", i)
	w.setLive(i, true)
}

func (w *world) disconnect(i int) {
	w.call("down", i)
	w.setLive(i, false)
}

func (w *world) setLive(i int, live bool) {
	w.server.mu.Lock()
	defer w.server.mu.Unlock()
	w.now.live[i] = live
}

// mayLive tells whether charon could have this session: an address is never two
// identities'.
func (w *world) mayLive(i int) bool {
	for j, l := range w.sessions {
		if w.now.live[j] && l.Addresses[0] == w.sessions[i].Addresses[0] && l.Identity != w.sessions[i].Identity {
			return false
		}
	}
	return true
}

type step struct {
	name string
	do   func()
}

// change is the whole of what a session does next.
func (w *world) change(i int) (do func(), name string) {
	if w.now.live[i] {
		return func() { w.disconnect(i) }, fmt.Sprint("disconnect ", i)
	}
	return func() { w.connect(i) }, fmt.Sprint("connect ", i)
}

// powerCut ends every session and takes what is in /run. What is on disk stays.
func (w *world) powerCut() {
	w.t.Helper()
	for i := range w.sessions {
		w.setLive(i, false)
	}
	for _, pattern := range []string{"*", "poke/*"} {
		names, _ := filepath.Glob(w.run(pattern))
		for _, name := range names {
			if info, err := os.Stat(name); err != nil || !info.Mode().IsRegular() {
				continue
			}
			if err := os.Remove(name); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

// steps returns all that may happen at this point. A call that is lost is a
// session that comes or goes without one; a doubled one, one for a session that
// has come or gone before; a late one is that for a session gone long ago.
func (w *world) steps() []step {
	steps := []step{{"down", func() { w.call("down", 0) }}, {"power cut", w.powerCut}}
	for _, listFirst := range []bool{false, true} {
		for _, s := range w.syncs() {
			name := s.name
			if listFirst {
				name += ", list first"
			}
			steps = append(steps, step{name, func() {
				w.order.listFirst = listFirst
				s.do()
			}})
		}
	}
	for i := range w.sessions {
		_, comes := w.change(i)
		steps = append(steps, step{fmt.Sprint("up ", i), func() { w.call("up", i) }})
		if w.now.live[i] || w.mayLive(i) {
			steps = append(steps, step{fmt.Sprintf("%s, unheard", comes), func() { w.setLive(i, !w.now.live[i]) }})
		}
	}
	return steps
}

// syncs are those steps that are one.
func (w *world) syncs() []step {
	steps := []step{{"sync", w.settle}}
	for i := range w.sessions {
		come, comes := w.change(i)
		steps = append(steps, step{fmt.Sprintf("sync that is told of %d in the second list only", i), func() {
			w.missed = func(j int) bool { return i == j }
			w.sync()
			w.missed = nil
		}})
		if !w.now.live[i] && !w.mayLive(i) {
			continue
		}
		for _, meanwhile := range []step{{comes, come}, {fmt.Sprint("up ", i), func() { w.call("up", i) }}} {
			during := func(when string, set func(f func())) {
				steps = append(steps, step{fmt.Sprintf("sync, and %s it %s", when, meanwhile.name), func() {
					once := sync.OnceFunc(meanwhile.do)
					set(once)
					w.sync()
					w.atTransfer, w.atList = nil, nil
				}})
			}
			during("before", func(f func()) { w.atTransfer = f })
			for n := 1; n <= 2; n++ {
				during(fmt.Sprintf("before list %d of", n), func(f func()) { w.atList = map[int][2]func(){n: {f, nil}} })
				during(fmt.Sprintf("behind list %d of", n), func(f func()) { w.atList = map[int][2]func(){n: {nil, f}} })
			}
		}
	}
	return steps
}

var modelSessions = map[string][]lease.Lease{
	"one address":           {client("alice", "10.0.0.100"), client("alice", "10.0.0.100")},
	"two addresses":         {client("alice", "10.0.0.100"), client("alice", "10.0.0.101")},
	"an address passed on":  {client("alice", "10.0.0.100"), client("bob", "10.0.0.100")},
	"one of three passed":   {client("alice", "10.0.0.100"), client("alice", "10.0.0.101"), client("bob", "10.0.0.100")},
	"two of three on one":   {client("alice", "10.0.0.100"), client("alice", "10.0.0.100"), client("alice", "10.0.0.101")},
	"three on one address":  {client("alice", "10.0.0.100"), client("alice", "10.0.0.100"), client("alice", "10.0.0.100")},
	"three on three":        {client("alice", "10.0.0.100"), client("alice", "10.0.0.101"), client("alice", "10.0.0.102")},
	"three, two identities": {client("alice", "10.0.0.100"), client("alice", "10.0.0.101"), client("bob", "10.0.0.102")},
}

// Two sessions in every order, of any length: all points that can be reached are
// visited, and all that may happen at each is tried.
func TestModelOfTwoSessions(t *testing.T) {
	for name, sessions := range modelSessions {
		if len(sessions) != 2 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, sessions...)
			type visit struct {
				point
				from string // the point before
				by   string // the step from there
			}
			start := w.leave()
			visited := map[string]visit{start.String(): {point: start}}
			queue := []string{start.String()}
			tried := 0
			for len(queue) > 0 && !t.Failed() {
				key := queue[0]
				queue = queue[1:]
				here := visited[key]
				w.enter(here.point)
				for _, s := range w.steps() {
					w.trace = func() string {
						path := []string{s.name}
						for v := here; v.by != ""; v = visited[v.from] {
							path = append(path, v.by)
						}
						slices.Reverse(path)
						return strings.Join(path, "; ")
					}
					w.enter(here.point)
					s.do()
					tried++
					next := w.leave()
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

// Three sessions have too many points to visit all.
func TestModelOfThreeSessions(t *testing.T) {
	for name, sessions := range modelSessions {
		if len(sessions) != 3 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, sessions...)
			start := w.leave()
			rapid.Check(t, func(rt *rapid.T) {
				w.enter(start)
				var path []string
				w.trace = func() string { return strings.Join(path, "; ") }
				for range rapid.IntRange(1, 12).Draw(rt, "length") {
					s := rapid.SampledFrom(w.steps()).Draw(rt, "step")
					path = append(path, s.name)
					s.do()
				}
				path = append(path, "sync")
				w.settle()
				if t.Failed() {
					rt.FailNow()
				}
			})
		})
	}
}
