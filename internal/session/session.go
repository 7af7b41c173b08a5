// Package session decides how long VPN clients may stay connected and what to
// report about them. It takes plain values: the IKE_SAs that charon lists, the
// sessions remembered from the last look, the time and the policy. Ending a
// session, storing the memory and calling a program is the caller's work.
//
// A session is one login of one device. charon lists IKE_SAs, which come and go
// within a session: IKE rekeying and reauthentication replace the IKE_SA,
// rekeying a CHILD_SA starts its counters anew. Follow joins what belongs
// together, so that the age and the traffic of a session survive all of these.
package session

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"tunnelcast/internal/lease"
)

// SA is an IKE_SA of a client, as charon lists it.
type SA struct {
	ID          string // charon's number, which terminate takes; unique until charon restarts
	Identity    string
	Addresses   []netip.Addr // virtual IPs
	Remote      string       // the client's outer address, without a port
	Connection  string
	Established time.Time // of this IKE_SA: rekeying sets it anew; zero if unknown
	Children    []Child
}

// Child is a CHILD_SA.
type Child struct {
	ID      string // charon's number
	ReqID   string // reauthentication and rekeying keep it
	In, Out uint64 // bytes since the CHILD_SA was installed
	LastIn  time.Time
	LastOut time.Time // of the last packet; zero if there was none
}

// Session is a login of a client.
type Session struct {
	Identity   string       `json:"identity"`
	Name       string       `json:"name,omitempty"` // in the zone; set by the caller
	Addresses  []netip.Addr `json:"addresses"`
	Remote     string       `json:"remote"`
	Connection string       `json:"connection"`
	IDs        []string     `json:"ids"`             // of its IKE_SAs, the newest last; reauthentication has two
	First      string       `json:"first"`           // the ID of its first IKE_SA
	ReqIDs     []string     `json:"reqids"`          // of its CHILD_SAs
	Since      time.Time    `json:"since"`           // when its first IKE_SA was established
	In         uint64       `json:"in"`              // bytes from the client over all of its CHILD_SAs
	Out        uint64       `json:"out"`             // bytes to the client
	LastIn     time.Time    `json:"last_in"`         // of the last packet from the client; zero if there was none
	LastMoved  time.Time    `json:"last_moved"`      // of the last packet in either direction, otherwise Since
	Counters   []Counter    `json:"counters"`        // the CHILD_SAs' own, to tell what is new
	Ended      string       `json:"ended,omitempty"` // the limit for which it was ended
}

// Counter is how far the counters of one CHILD_SA have been added up.
type Counter struct {
	ID  string `json:"id"`
	In  uint64 `json:"in"`
	Out uint64 `json:"out"`
}

// Age returns how long the session has lasted.
func (s Session) Age(now time.Time) time.Duration { return max(now.Sub(s.Since), 0) }

// Idle returns how long there has been no traffic in either direction.
func (s Session) Idle(now time.Time) time.Duration { return max(now.Sub(s.LastMoved), 0) }

// key is what the IKE_SAs of one session share.
func key(identity string, addresses []netip.Addr) string {
	var b strings.Builder
	b.WriteString(lease.IdentityKey(identity))
	sorted := slices.SortedFunc(slices.Values(addresses), netip.Addr.Compare)
	for _, addr := range sorted {
		b.WriteString("\x00" + addr.String())
	}
	return b.String()
}

// Follow returns the sessions that the listed IKE_SAs are, in the order in which
// they began. before are the sessions of the last look.
//
// IKE_SAs of one identity with the same virtual IPs are one session. Such a session
// continues one of the last look if an IKE_SA or a reqid of a CHILD_SA is the same,
// unless that one was ended: then only its own IKE_SAs continue it, so that a client
// that reconnects at once begins a new session.
func Follow(before []Session, sas []SA, now time.Time) []Session {
	remembered := make(map[string][]Session, len(before))
	for _, s := range before {
		k := key(s.Identity, s.Addresses)
		remembered[k] = append(remembered[k], s)
	}
	groups := make(map[string][]SA, len(sas))
	for _, sa := range sas {
		k := key(sa.Identity, sa.Addresses)
		groups[k] = append(groups[k], sa)
	}
	var sessions []Session
	for k, group := range groups {
		slices.SortStableFunc(group, func(a, b SA) int { return older(a.Established, b.Established, a.ID, b.ID) })
		// The IKE_SAs of a session that was ended stay its own until they are gone.
		slices.SortStableFunc(remembered[k], func(a, b Session) int { return -cmp.Compare(a.Ended, b.Ended) })
		for _, old := range remembered[k] {
			var own []SA
			own, group = split(group, func(sa SA) bool {
				return slices.Contains(old.IDs, sa.ID) || old.Ended == "" && old.sharesReqID(sa)
			})
			if len(own) > 0 {
				if old.Ended == "" { // the others with its virtual IPs replace its IKE_SA
					own, group = append(own, group...), nil
				}
				sessions = append(sessions, old.with(own, now))
			}
		}
		if len(group) > 0 {
			sessions = append(sessions, Session{}.with(group, now))
		}
	}
	slices.SortFunc(sessions, began)
	return sessions
}

func split(sas []SA, is func(SA) bool) (yes, no []SA) {
	for _, sa := range sas {
		if is(sa) {
			yes = append(yes, sa)
		} else {
			no = append(no, sa)
		}
	}
	return yes, no
}

// older compares by time, then by charon's numbers.
func older(a, b time.Time, aID, bID string) int {
	return cmp.Or(a.Compare(b), byNumber(aID, bID))
}

// began compares sessions by when they began. charon lists ages in whole seconds, so a
// time of one look may be a second before that of another look, although it was later.
// charon's numbers grow.
func began(a, b Session) int {
	const apart = 2 * time.Second
	if d := a.Since.Sub(b.Since); d <= -apart || d >= apart {
		return cmp.Compare(d, 0)
	}
	return byNumber(a.First, b.First)
}

func byNumber(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}

func (s Session) sharesReqID(sa SA) bool {
	return slices.ContainsFunc(sa.Children, func(c Child) bool {
		return c.ReqID != "" && slices.Contains(s.ReqIDs, c.ReqID)
	})
}

// id is the number of the newest IKE_SA.
func (s Session) id() string {
	if len(s.IDs) == 0 {
		return ""
	}
	return s.IDs[len(s.IDs)-1]
}

// with returns the session as its listed IKE_SAs, the newest last, have it.
func (s Session) with(sas []SA, now time.Time) Session {
	newest := sas[len(sas)-1]
	s.Identity, s.Remote, s.Connection = newest.Identity, newest.Remote, newest.Connection
	s.Addresses = newest.Addresses
	if s.Since.IsZero() {
		s.Since = sas[0].Established
		if s.Since.IsZero() {
			s.Since = now
		}
		s.LastMoved = s.Since
	}
	if s.First == "" {
		s.First = sas[0].ID
	}
	before := s.Counters
	s.IDs, s.ReqIDs, s.Counters = nil, nil, nil
	for _, sa := range sas {
		s.IDs = append(s.IDs, sa.ID)
		for _, child := range sa.Children {
			s.count(before, child, now)
		}
	}
	return s
}

// count adds what a CHILD_SA has carried since the last look.
func (s *Session) count(before []Counter, child Child, now time.Time) {
	if child.ReqID != "" && !slices.Contains(s.ReqIDs, child.ReqID) {
		s.ReqIDs = append(s.ReqIDs, child.ReqID)
	}
	if slices.ContainsFunc(s.Counters, func(c Counter) bool { return c.ID == child.ID }) {
		return // listed twice while charon rekeyed the IKE_SA
	}
	var last Counter
	if i := slices.IndexFunc(before, func(c Counter) bool { return c.ID == child.ID }); i >= 0 {
		last = before[i]
	}
	// A counter that fell is another CHILD_SA's, of a charon that was restarted.
	if child.In < last.In || child.Out < last.Out {
		last = Counter{}
	}
	in, out := child.In-last.In, child.Out-last.Out
	s.In += in
	s.Out += out
	s.Counters = append(s.Counters, Counter{child.ID, child.In, child.Out})
	if in > 0 {
		s.LastIn = latest(s.LastIn, orNow(child.LastIn, now))
		s.LastMoved = latest(s.LastMoved, s.LastIn)
	}
	if out > 0 {
		s.LastMoved = latest(s.LastMoved, orNow(child.LastOut, now))
	}
}

// Same reports whether two looks at sessions saw the same one.
func Same(a, b Session) bool { return a.login() == b.login() }

// login tells sessions apart: Follow keeps the identity, the virtual IPs and the
// beginning of each.
type login struct {
	key   string
	since int64
}

func (s Session) login() login { return login{key(s.Identity, s.Addresses), s.Since.UnixNano()} }

// Carried returns how many bytes went through the sessions from one look to the
// next. What a session carried after its last look is not known.
func Carried(before, now []Session) (in, out uint64) {
	had := make(map[login]Session, len(before))
	for _, s := range before {
		had[s.login()] = s
	}
	for _, s := range now {
		last := had[s.login()]
		in += s.In - min(s.In, last.In)
		out += s.Out - min(s.Out, last.Out)
	}
	return in, out
}

// Example returns a session that nobody has, for trying what is told of one.
func Example(now time.Time) Session {
	since := now.Add(-time.Minute)
	return Session{Identity: "test", Name: "test.example", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
		Remote: "198.51.100.1", Connection: "test", Since: since, LastMoved: since}
}

// Shift moves all times of remembered sessions by d, by which somebody has set the
// host's clock since.
func Shift(sessions []Session, d time.Duration) {
	for i := range sessions {
		s := &sessions[i]
		for _, t := range []*time.Time{&s.Since, &s.LastIn, &s.LastMoved} {
			if !t.IsZero() {
				*t = t.Add(d)
			}
		}
	}
}

func orNow(t, now time.Time) time.Time {
	if t.IsZero() || t.After(now) {
		return now
	}
	return t
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
