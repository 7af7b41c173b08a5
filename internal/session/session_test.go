package session

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var noon = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

// Outer addresses, which are compared only.
const home, work = "198.51.100.1", "198.51.100.2"

// sa is an IKE_SA that was established before noon.
func sa(id, identity, addr, remote string, ago time.Duration, children ...Child) SA {
	return SA{ID: id, Identity: identity, Addresses: []netip.Addr{netip.MustParseAddr(addr)}, Remote: remote,
		Established: noon.Add(-ago), Children: children}
}

// child has received its last packet before noon.
func child(id, reqid string, in, out uint64, ago time.Duration) Child {
	c := Child{ID: id, ReqID: reqid, In: in, Out: out}
	if in > 0 {
		c.LastIn = noon.Add(-ago)
	}
	if out > 0 {
		c.LastOut = noon.Add(-ago)
	}
	return c
}

// brief is a session in a line, with times before at.
func brief(s Session, at time.Time) string {
	return fmt.Sprintf("%s %v ids %s since %s in %d out %d idle %s", s.Identity, s.Addresses[0], strings.Join(s.IDs,
		","),
		s.Age(at), s.In, s.Out, s.Idle(at))
}

// A session lives through what charon does to its IKE_SAs.
func TestFollow(t *testing.T) {
	before := Follow(nil, []SA{sa("7", "alice", "10.0.0.100", home, time.Hour, child("1", "1", 100, 200, time.Minute))},
		noon)
	later := noon.Add(time.Minute)
	rekeyed := func(id string) SA {
		s := sa(id, "alice", "10.0.0.100", home, -50*time.Second)
		return s
	}
	ended := slices.Clone(before)
	ended[0].Ended = "max-session 1h0m0s"
	for name, test := range map[string]struct {
		before []Session
		now    []SA
		want   []string
	}{
		"nothing new": {before, []SA{sa("7", "alice", "10.0.0.100", home, time.Hour, child("1", "1", 100, 200,
			time.Minute))},
			[]string{"alice 10.0.0.100 ids 7 since 1h1m0s in 100 out 200 idle 2m0s"}},
		"traffic": {before, []SA{sa("7", "alice", "10.0.0.100", home, time.Hour, child("1", "1", 150, 200,
			-40*time.Second))},
			[]string{"alice 10.0.0.100 ids 7 since 1h1m0s in 150 out 200 idle 20s"}},
		"CHILD_SA rekeyed, the old one is gone": {before,
			[]SA{sa("7", "alice", "10.0.0.100", home, time.Hour, child("2", "1", 0, 0, 0))},
			[]string{"alice 10.0.0.100 ids 7 since 1h1m0s in 100 out 200 idle 2m0s"}},
		"CHILD_SA rekeyed, both are there": {before,
			[]SA{sa("7", "alice", "10.0.0.100", home, time.Hour, child("1", "1", 110, 200, -10*time.Second),
				child("2", "1", 5, 5, -30*time.Second))},
			[]string{"alice 10.0.0.100 ids 7 since 1h1m0s in 115 out 205 idle 30s"}},
		"IKE_SA rekeyed": {before, []SA{func() SA {
			s := rekeyed("8")
			s.Children = []Child{child("1", "1", 100, 200, time.Minute)}
			return s
		}()}, []string{"alice 10.0.0.100 ids 8 since 1h1m0s in 100 out 200 idle 2m0s"}},
		"reauthenticated, make before break": {before, []SA{
			sa("7", "alice", "10.0.0.100", home, time.Hour, child("1", "1", 100, 200, time.Minute)),
			sa("8", "ALICE", "10.0.0.100", home, -time.Second, child("2", "1", 0, 0, 0))},
			[]string{"ALICE 10.0.0.100 ids 7,8 since 1h1m0s in 100 out 200 idle 2m0s"}},
		"reconnected with another reqid": {before,
			[]SA{sa("8", "alice", "10.0.0.100", home, -30*time.Second, child("2", "2", 0, 0, 0))},
			[]string{"alice 10.0.0.100 ids 8 since 30s in 0 out 0 idle 30s"}},
		"MOBIKE": {before,
			[]SA{sa("7", "alice", "10.0.0.100", "203.0.113.9", time.Hour, child("1", "1", 100, 200, time.Minute))},
			[]string{"alice 10.0.0.100 ids 7 since 1h1m0s in 100 out 200 idle 2m0s"}},
		"another address": {before,
			[]SA{sa("8", "alice", "10.0.0.101", home, 0, child("2", "2", 0, 0, 0))},
			[]string{"alice 10.0.0.101 ids 8 since 1m0s in 0 out 0 idle 1m0s"}},
		"ended, and back at once with the same address and reqid": {ended,
			[]SA{sa("8", "alice", "10.0.0.100", home, -59*time.Second, child("2", "1", 3, 0, -59*time.Second))},
			[]string{"alice 10.0.0.100 ids 8 since 1s in 3 out 0 idle 1s"}},
		"ended, and back before the old one is gone": {ended, []SA{
			sa("7", "alice", "10.0.0.100", home, time.Hour, child("1", "1", 100, 200, time.Minute)),
			sa("8", "alice", "10.0.0.100", home, -59*time.Second, child("2", "1", 3, 0, -59*time.Second))},
			[]string{"alice 10.0.0.100 ids 7 since 1h1m0s in 100 out 200 idle 2m0s",
				"alice 10.0.0.100 ids 8 since 1s in 3 out 0 idle 1s"}},
		"charon restarted: the numbers begin anew": {before,
			[]SA{sa("1", "alice", "10.0.0.100", home, 0, child("1", "1", 20, 0, 0))},
			[]string{"alice 10.0.0.100 ids 1 since 1h1m0s in 120 out 200 idle 1m0s"}},
		"two identities, no age": {nil, []SA{{ID: "1", Identity: "bob",
			Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")}},
			{ID: "2", Identity: "eve", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2")}}},
			[]string{"bob 10.0.0.1 ids 1 since 0s in 0 out 0 idle 0s",
				"eve 10.0.0.2 ids 2 since 0s in 0 out 0 idle 0s"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, s := range Follow(test.before, test.now, later) {
				got = append(got, brief(s, later))
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
}

func TestPlan(t *testing.T) {
	quiet := func(id string) Child { return child(id, id, 10, 10, 2*time.Hour) }
	busy := func(id string) Child { return child(id, id, 10, 10, time.Second) }
	two := []SA{ // both are in use, from two places
		sa("1", "alice", "10.0.0.100", home, time.Hour, busy("1")),
		sa("2", "alice", "10.0.0.101", work, 10*time.Minute, busy("2")),
	}
	three := append(slices.Clone(two), sa("3", "Alice", "10.0.0.102", "train", time.Minute, busy("3")))
	one := Policy{Limits: Limits{Sessions: 1, Keep: Newest}}
	for name, test := range map[string]struct {
		policy Policy
		sas    []SA
		want   string // the ended IKE_SAs and their limits
	}{
		"no policy":   {Policy{}, three, ""},
		"max-session": {Policy{Limits: Limits{MaxSession: 30 * time.Minute}}, two, "1 max-session"},
		"max-session, at last": {Policy{Limits: Limits{MaxSession: 10 * time.Minute}}, two,
			"1 max-session, 2 max-session"},
		"max-idle": {Policy{Limits: Limits{MaxIdle: time.Hour}}, []SA{sa("1", "a", "10.0.0.1", home, 3*time.Hour,
			quiet("1")),
			sa("2", "b", "10.0.0.2", home, 3*time.Hour, busy("2"))}, "1 max-idle"},
		"max-idle, no CHILD_SA": {Policy{Limits: Limits{MaxIdle: time.Hour}}, []SA{sa("1", "a", "10.0.0.1", home,
			3*time.Hour)},
			"1 max-idle"},
		"the newest stays":    {one, two, "1 sessions-per-identity"},
		"the oldest stays":    {Policy{Limits: Limits{Sessions: 1, Keep: Oldest}}, two, "2 sessions-per-identity"},
		"the newest two stay": {Policy{Limits: Limits{Sessions: 2, Keep: Newest}}, three, "1 sessions-per-identity"},
		"the oldest two stay": {Policy{Limits: Limits{Sessions: 2, Keep: Oldest}}, three, "3 sessions-per-identity"},
		"as many as allowed":  {Policy{Limits: Limits{Sessions: 3}}, three, ""},
		"other identities":    {one, []SA{two[0], sa("2", "bob", "10.0.0.101", work, time.Hour, busy("2"))}, ""},
		"it has just come":    {one, []SA{two[0], sa("2", "alice", "10.0.0.101", work, 29*time.Second, busy("2"))}, ""},
		"the older is silent since before the newer came": {one,
			[]SA{sa("1", "alice", "10.0.0.100", home, 3*time.Hour, quiet("1")), two[1]}, ""},
		"the older never sent anything": {one,
			[]SA{sa("1", "alice", "10.0.0.100", home, time.Hour, child("1", "1", 0, 9, 0)), two[1]}, ""},
		"the same outer address": {one,
			[]SA{two[0], sa("2", "alice", "10.0.0.101", home, time.Hour/2, busy("2"))}, ""},
		"a replaced one beside two": {one,
			append(slices.Clone(two), sa("9", "alice", "10.0.0.104", "hotel", 4*time.Hour, quiet("9"))),
			"1 sessions-per-identity"},
		"reauthentication": {one,
			[]SA{two[0], sa("2", "alice", "10.0.0.100", "hotel", time.Minute, child("2", "1", 1, 1, 0))}, ""},
		"except": {Policy{Limits: Limits{Sessions: 1, MaxSession: time.Second}, Except: []string{"ALICE"}}, two, ""},
		"its own limits": {Policy{Limits: Limits{Sessions: 1, MaxSession: time.Second}, Except: []string{"alice"},
			Of: map[string]Limits{"Alice": {MaxSession: 30 * time.Minute}}}, two, "1 max-session"},
		"ended for its age, it does not count": {Policy{Limits: Limits{Sessions: 1, MaxSession: 30 * time.Minute}},
			two, "1 max-session"},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, end := range test.policy.Plan(Follow(nil, test.sas, noon), noon) {
				got = append(got, strings.Join(end.Session.IDs, "+")+" "+string(end.Limit))
				if !strings.HasPrefix(end.Reason, string(end.Limit)+" ") {
					t.Errorf("reason %q", end.Reason)
				}
			}
			if strings.Join(got, ", ") != test.want {
				t.Errorf("ends %q, want %q", got, test.want)
			}
		})
	}
}

// Of two logins within a second, the later one stays, although charon's ages in whole
// seconds can make it look older, and although the earlier one was rekeyed meanwhile.
func TestPlanWithinASecond(t *testing.T) {
	look := func(ms int) time.Time { return noon.Add(time.Duration(ms) * time.Millisecond) }
	at := func(s SA, established time.Time) SA { s.Established = established; return s }
	busy := func(id string) Child { return child(id, id, 1, 1, -time.Minute) }
	early := at(sa("9", "alice", "10.0.0.100", home, 0, busy("1")), look(1950)) // its age is 0 s
	first := Follow(nil, []SA{early}, look(1950))
	late := at(sa("10", "alice", "10.0.0.101", work, 0, busy("2")), look(1050)) // its age is 1 s
	both := Follow(first, []SA{late, early}, look(2050))
	rekeyed := at(early, look(31_000))
	rekeyed.ID = "11"
	both = Follow(both, []SA{late, rekeyed}, look(33_000))
	plan := Policy{Limits: Limits{Sessions: 1}}.Plan(both, look(33_000))
	if len(plan) != 1 || plan[0].Session.id() != "11" {
		t.Errorf("ends %+v, want the login of 10.0.0.100", plan)
	}
}

func TestNext(t *testing.T) {
	s := Follow(nil, []SA{sa("1", "alice", "10.0.0.100", "x", time.Hour, child("1", "1", 1, 1, 10*time.Minute))},
		noon)[0]
	for want, limits := range map[string]Limits{
		"none":                  {Sessions: 1},
		"max-session in 1h0m0s": {MaxSession: 2 * time.Hour},
		"max-idle in 20m0s":     {MaxIdle: 30 * time.Minute},
		"max-idle in 50m0s":     {MaxSession: 2 * time.Hour, MaxIdle: time.Hour},
		"max-session in 5m0s":   {MaxSession: 65 * time.Minute, MaxIdle: time.Hour},
	} {
		got := "none"
		if limit, at, ok := (Policy{Limits: limits}).Next(s); ok {
			got = fmt.Sprintf("%s in %s", limit, at.Sub(noon))
		}
		if got != want {
			t.Errorf("%+v: %s, want %s", limits, got, want)
		}
	}
}

func TestEvents(t *testing.T) {
	alice := sa("1", "alice", "10.0.0.100", "x", time.Hour, child("1", "1", 0, 0, 0))
	bob := sa("2", "bob", "10.0.0.101", "x", time.Minute, child("2", "2", 0, 0, 0))
	back := sa("3", "alice", "10.0.0.100", "x", 0, child("3", "1", 0, 0, 0))
	first := Follow(nil, []SA{alice, bob}, noon)
	tell := func(events []Event) string {
		var all []string
		for _, e := range events {
			all = append(all, strings.TrimSpace(string(e.Kind)+" "+e.Session.Identity+" "+e.Reason))
		}
		return strings.Join(all, ", ")
	}
	if got := tell(Events(nil, first)); got != "connected alice, connected bob" {
		t.Errorf("at first: %s", got)
	}
	if got := tell(Events(first, Follow(first, []SA{alice, bob}, noon))); got != "" {
		t.Errorf("again: %s", got)
	}
	if got := tell(Events(first, Follow(first, []SA{bob}, noon))); got != "disconnected alice" {
		t.Errorf("one has left: %s", got)
	}
	first[0].Ended = "max-session 1h0m0s"
	if got := tell(Events(first, Follow(first, []SA{bob, back},
		noon))); got != "ended alice max-session 1h0m0s, connected alice" {
		t.Errorf("one was ended and came back: %s", got)
	}
}

// Whatever charon lists, a plan ends nobody twice, nobody who is free of limits,
// and leaves everyone who has too many sessions at least as many as allowed. A
// second look at the same list changes nothing.
func TestPlanInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		identities := []string{"alice", "Alice", "bob", "carol"}
		var sas []SA
		for i := range rapid.IntRange(0, 12).Draw(t, "SAs") {
			id := fmt.Sprint(i + 1)
			in := uint64(rapid.IntRange(0, 2).Draw(t, "in"))
			number := func(label string, last int) int { return rapid.IntRange(1, last).Draw(t, label) }
			ago := func(label string) time.Duration { return time.Duration(number(label, 7200)) * time.Second }
			sas = append(sas, sa(id, rapid.SampledFrom(identities).Draw(t, "identity"), fmt.Sprint("10.0.0.",
				number("address", 8)),
				fmt.Sprint(number("remote", 4)), ago("age"), child(id, fmt.Sprint(number("reqid", 4)), in, 0,
					ago("idle"))))
		}
		limits := Limits{
			MaxSession: time.Duration(rapid.IntRange(0, 7200).Draw(t, "max-session")) * time.Second,
			MaxIdle:    time.Duration(rapid.IntRange(0, 7200).Draw(t, "max-idle")) * time.Second,
			Sessions:   rapid.IntRange(0, 3).Draw(t, "sessions"),
			Keep:       rapid.SampledFrom([]Keep{Newest, Oldest}).Draw(t, "keep"),
		}
		policy := Policy{Limits: limits, Except: []string{"carol"}}
		sessions := Follow(nil, sas, noon)
		listed := 0
		for _, s := range sessions {
			listed += len(s.IDs)
		}
		if listed != len(sas) {
			t.Fatalf("%d IKE_SAs in sessions, %d listed", listed, len(sas))
		}
		if again := Follow(sessions, sas, noon); len(Events(sessions, again)) > 0 || len(again) != len(sessions) {
			t.Fatalf("the same list is %d sessions, not %d, and %v", len(again), len(sessions), Events(sessions, again))
		}
		ended := map[string]bool{}
		counted := map[string]int{}
		for _, end := range policy.Plan(sessions, noon) {
			for _, id := range end.Session.IDs {
				if ended[id] {
					t.Fatalf("IKE_SA %s is ended twice", id)
				}
				ended[id] = true
			}
			switch {
			case end.Session.Identity == "carol":
				t.Fatalf("ended, though excepted: %+v", end)
			case end.Limit == TooMany && (limits.Sessions == 0 || end.Session.Age(noon) < countingBegins):
				t.Fatalf("ended for its number: %+v", end)
			case end.Limit == TooMany:
				counted[strings.ToLower(end.Session.Identity)]++
			}
		}
		for identity := range counted {
			stay := 0
			for _, s := range sessions {
				if strings.EqualFold(s.Identity, identity) && !ended[s.id()] {
					stay++
				}
			}
			if stay < limits.Sessions {
				t.Fatalf("%s keeps %d sessions of %d", identity, stay, limits.Sessions)
			}
		}
	})
}

func ExamplePolicy_Plan() {
	address := func(text string) []netip.Addr { return []netip.Addr{netip.MustParseAddr(text)} }
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	sessions := Follow(nil, []SA{
		{ID: "3", Identity: "alice", Addresses: address("10.0.0.100"), Established: now.Add(-45 * time.Minute)},
		{ID: "9", Identity: "owner", Addresses: address("10.0.0.101"), Established: now.Add(-9 * time.Hour)},
	}, now)
	lab := Policy{Limits: Limits{MaxSession: 30 * time.Minute}, Except: []string{"owner"}}
	for _, end := range lab.Plan(sessions, now) {
		fmt.Println(end.Session.Identity, end.Session.IDs, end.Reason)
	}
	// Output: alice [3] max-session 30m0s: connected for 45m0s
}

func thousand() []SA {
	sas := make([]SA, 1000)
	for i := range sas {
		id := fmt.Sprint(i)
		sas[i] = sa(id, "client"+id, fmt.Sprintf("10.9.%d.%d", i/250, i%250), id, time.Hour, child(id, id, 5, 5,
			time.Second))
	}
	return sas
}

func BenchmarkThousandSessions(b *testing.B) {
	sas := thousand()
	policy := Policy{Limits: Limits{MaxSession: 2 * time.Hour, MaxIdle: time.Hour, Sessions: 1},
		Of: map[string]Limits{"client7": {}}}
	before := Follow(nil, sas, noon)
	for b.Loop() {
		now := Follow(before, sas, noon)
		if len(policy.Plan(now, noon))+len(Events(before, now)) > 0 {
			b.Fatal("something is to be done")
		}
	}
}
