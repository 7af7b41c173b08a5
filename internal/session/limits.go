package session

import (
	"fmt"
	"slices"
	"time"

	"tunnelcast/internal/lease"
)

// Limits are what one identity is held to. Zero is no limit.
type Limits struct {
	MaxSession time.Duration
	MaxIdle    time.Duration
	Sessions   int // how many sessions the identity may have at a time
	Keep       Keep
}

// Keep says which sessions stay when an identity has too many.
type Keep string

// The sessions that began last, or first.
const (
	Newest Keep = "newest"
	Oldest Keep = "oldest"
)

// Policy has the limits of every identity.
type Policy struct {
	Limits
	Except []string          // identities that are free of Limits
	Of     map[string]Limits // the limits of certain identities, in place of all the others
}

// of returns the limits of an identity. Its own limits come before Except.
func (p Policy) of(identity string) Limits {
	for name, limits := range p.Of {
		if lease.SameIdentity(name, identity) {
			return limits
		}
	}
	if slices.ContainsFunc(p.Except, func(name string) bool { return lease.SameIdentity(name, identity) }) {
		return Limits{}
	}
	return p.Limits
}

// Any reports whether anybody has a limit.
func (p Policy) Any() bool {
	set := p.isSet()
	for _, limits := range p.Of {
		set = set || limits.isSet()
	}
	return set
}

func (l Limits) isSet() bool { return l.MaxSession > 0 || l.MaxIdle > 0 || l.Sessions > 0 }

// Limit names the setting that ends a session.
type Limit string

// The settings.
const (
	MaxSession Limit = "max-session"
	MaxIdle    Limit = "max-idle"
	TooMany    Limit = "sessions-per-identity"
)

// End is a session that is to be ended.
type End struct {
	Session Session
	Limit   Limit
	Reason  string // the limit and how the session exceeds it
}

// countingBegins is the age from which a session counts for sessions-per-identity.
// Before that, a client that comes back may still be replacing its old IKE_SA.
const countingBegins = 30 * time.Second

// Plan returns the sessions that exceed a limit, in the order of sessions, which
// is that of Follow. Of several limits it names the first of max-session, max-idle
// and sessions-per-identity.
//
// Sessions that end for the first two do not count for the third. Nor does a
// session that another one of the same identity replaces: a newer session from the
// same outer address, or one that began after the last packet of the older one
// (a phone that comes back without INITIAL_CONTACT). The older one stays until
// charon finds its peer dead, or counts again if it sends once more.
func (p Policy) Plan(sessions []Session, now time.Time) []End {
	ends := make([]*End, len(sessions))
	counting := map[string][]int{} // by identity, the oldest first
	for i, s := range sessions {
		limits := p.of(s.Identity)
		switch {
		case limits.MaxSession > 0 && s.Age(now) >= limits.MaxSession:
			reason := fmt.Sprintf("max-session %s: connected for %s", limits.MaxSession, full(s.Age(now)))
			ends[i] = &End{s, MaxSession, reason}
		case limits.MaxIdle > 0 && s.Idle(now) >= limits.MaxIdle:
			reason := fmt.Sprintf("max-idle %s: no traffic for %s", limits.MaxIdle, full(s.Idle(now)))
			ends[i] = &End{s, MaxIdle, reason}
		case limits.Sessions > 0:
			k := lease.IdentityKey(s.Identity)
			counting[k] = append(counting[k], i)
		}
	}
	for _, of := range counting {
		counted := slices.DeleteFunc(slices.Clone(of), func(i int) bool {
			return sessions[i].Age(now) < countingBegins || slices.ContainsFunc(of, func(j int) bool {
				return j > i && sessions[j].replaces(sessions[i])
			})
		})
		limits := p.of(sessions[of[0]].Identity)
		surplus := len(counted) - limits.Sessions
		if surplus <= 0 {
			continue
		}
		end := counted[:surplus]
		if limits.Keep == Oldest {
			end = counted[limits.Sessions:]
		}
		for _, i := range end {
			ends[i] = &End{sessions[i], TooMany, fmt.Sprintf("sessions-per-identity %d: %d sessions, the %s stay",
				limits.Sessions, len(counted), limits.keep())}
		}
	}
	var plan []End
	for _, end := range ends {
		if end != nil {
			plan = append(plan, *end)
		}
	}
	return plan
}

func (l Limits) keep() Keep {
	if l.Keep == Oldest {
		return Oldest
	}
	return Newest
}

// replaces reports whether a newer session of the same identity takes the place of
// an older one.
func (s Session) replaces(old Session) bool {
	return s.Remote == old.Remote || old.LastIn.Before(s.Since)
}

// Next returns the limit that time alone will reach first, and when. ok is false
// if there is none.
func (p Policy) Next(s Session) (limit Limit, at time.Time, ok bool) {
	limits := p.of(s.Identity)
	if limits.MaxSession > 0 {
		limit, at, ok = MaxSession, s.Since.Add(limits.MaxSession), true
	}
	if limits.MaxIdle > 0 {
		if idle := s.LastMoved.Add(limits.MaxIdle); !ok || idle.Before(at) {
			limit, at, ok = MaxIdle, idle, true
		}
	}
	return limit, at, ok
}

// full returns whole seconds.
func full(d time.Duration) time.Duration { return d.Truncate(time.Second) }
