package ddns

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"tunnelcast/internal/lease"
)

// picky is a server that refuses messages with certain RRs.
type picky struct {
	refuses func(u dns.RR) int // an RCODE
	frozen  bool
	exists  map[string]bool // owner names in use, which it does not return

	messages int
	done     []string
}

func (p *picky) answer(m *dns.Msg, mac, _ string) [][]byte {
	p.messages++
	return [][]byte{sign(unsigned(m, p.rcode(m)), mac)}
}

func (p *picky) rcode(m *dns.Msg) int {
	if p.frozen {
		return dns.RcodeRefused
	}
	for _, pre := range m.Answer {
		h := pre.Header()
		switch notInUse := h.Class == dns.ClassNONE && h.Rrtype == dns.TypeANY; {
		case notInUse && p.exists[h.Name]:
			return dns.RcodeYXDomain
		case h.Class == dns.ClassINET && !p.exists[h.Name] && !slices.Contains(p.done, "+"+h.Name):
			return dns.RcodeNXRrset
		}
	}
	for _, u := range m.Ns {
		if code := p.refuses(u); code != 0 {
			return code
		}
	}
	for _, u := range m.Ns {
		sign := "+"
		if u.Header().Class == dns.ClassNONE {
			sign = "-"
		}
		p.done = append(p.done, sign+u.Header().Name)
	}
	return dns.RcodeSuccess
}

func TestUpdateEach(t *testing.T) {
	change := lease.Change{Zone: "example."}
	for i := range 200 {
		add := rr(fmt.Sprintf("c%d.example.", i), fmt.Sprintf("10.0.0.%d", i))
		change.Add = append(change.Add, add, rr(add.Owner, fmt.Sprintf("fd00::%x", i+1)))
		change.Seen = append(change.Seen, lease.Owner{Name: add.Owner})
		change.Remove = append(change.Remove, rr(fmt.Sprintf("old%d.example.", i), "10.0.1.1"))
	}
	named := func(rcode int, names ...string) func(dns.RR) int {
		return func(u dns.RR) int {
			if slices.Contains(names, u.Header().Name) {
				return rcode
			}
			return 0
		}
	}
	for name, test := range map[string]struct {
		server   *picky
		refused  string // RRs
		done     int
		messages int // at most
		err      string
	}{
		"all is done": {&picky{refuses: named(0)}, "", 600, 1, ""},
		"one name": {&picky{refuses: named(dns.RcodeRefused, "c7.example.")}, "c7 10.0.0.7, c7 fd00::8", 598,
			30, ""},
		"the first and last": {&picky{refuses: named(dns.RcodeServerFailure, "c0.example.", "old199.example.")},
			"c0 10.0.0.0, c0 fd00::1, old199 10.0.1.1", 597, 50, ""},
		"a type of all": {&picky{refuses: func(u dns.RR) int {
			if u.Header().Rrtype == dns.TypeAAAA && strings.HasPrefix(u.Header().Name, "c1") {
				return dns.RcodeRefused
			}
			return 0
		}}, "many", 600 - 111, 1000, ""},
		"frozen":      {&picky{frozen: true}, "", 0, 2, "REFUSED"},
		"not for all": {&picky{refuses: named(dns.RcodeNotImplemented, "c7.example.")}, "", 0, 1, "NOTIMP"},
		// The server answers questions from an older copy of the zone: all names seem to be new.
		"exists already": {&picky{refuses: named(0), exists: all(change.Seen)}, "", 200, 8, ""},
		"one exists already": {&picky{refuses: named(0), exists: map[string]bool{"c9.example.": true}}, "", 598, 60,
			""},
	} {
		t.Run(name, func(t *testing.T) {
			s := (&fake{answer: test.server.answer}).start(t)
			done, refused, err := s.UpdateEach(t.Context(), change, time.Minute, 10*time.Second, false)
			if test.err == "" && err != nil || test.err != "" &&
				(err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Fatalf("error %v, want %q", err, test.err)
			}
			if n := len(done.Add) + len(done.Remove); n != test.done || n != len(test.server.done) {
				t.Errorf("%d are done, the server did %d, want %d", n, len(test.server.done), test.done)
			}
			var texts []string
			for _, r := range refused {
				label, _, _ := strings.Cut(r.RR.Owner, ".")
				texts = append(texts, label+" "+r.RR.Addr.String())
			}
			if got := strings.Join(texts, ", "); got != test.refused &&
				(test.refused != "many" || len(refused) != 111) {
				t.Errorf("refused are %s", got)
			}
			if test.server.messages > test.messages {
				t.Errorf("%d messages, want %d at most", test.server.messages, test.messages)
			}
		})
	}
}

func all(owners []lease.Owner) map[string]bool {
	names := map[string]bool{}
	for _, o := range owners {
		names[o.Name] = true
	}
	return names
}

// A name that is not as expected is refused with ErrPrerequisite and not changed.
func TestUpdateEachRace(t *testing.T) {
	server := &picky{refuses: func(dns.RR) int { return 0 }}
	server.exists = map[string]bool{"alice.example.": true}
	f := &fake{answer: func(m *dns.Msg, mac, network string) [][]byte {
		for _, pre := range m.Answer { // it has other addresses
			if pre.Header().Name == "alice.example." && pre.Header().Class == dns.ClassINET {
				return [][]byte{sign(unsigned(m, dns.RcodeNXRrset), mac)}
			}
		}
		return server.answer(m, mac, network)
	}}
	c := change()
	c.Seen = append(c.Seen, lease.Owner{Name: "bob.example."})
	c.Add = append(c.Add, rr("bob.example.", "10.0.0.101"))
	done, refused, err := f.start(t).UpdateEach(t.Context(), c, time.Minute, 10*time.Second, false)
	if err != nil || len(refused) != 1 || refused[0].RR != c.Add[0] ||
		!strings.Contains(refused[0].Err.Error(), ErrPrerequisite.Error()) {
		t.Errorf("refused %v, error %v", refused, err)
	}
	if len(done.Add) != 1 || done.Add[0] != c.Add[1] {
		t.Errorf("done %v", done)
	}
}
