package session

// Kind is what happened to a session.
type Kind string

// A client came, went, or was ended for a limit.
const (
	Connected    Kind = "connected"
	Disconnected Kind = "disconnected"
	Ended        Kind = "ended"
)

// Event is a change of one session.
type Event struct {
	Kind    Kind
	Session Session // as it was last seen
	Reason  string  // of Ended: the limit
}

// Events returns what changed from one look to the next: first the sessions that
// are gone, then those that are new, both in the order in which they began. A
// session that both looks have is not reported again.
func Events(before, now []Session) []Event {
	had, have := map[login]bool{}, map[login]bool{}
	for _, s := range before {
		had[s.login()] = true
	}
	for _, s := range now {
		have[s.login()] = true
	}
	var events []Event
	for _, s := range before {
		if have[s.login()] {
			continue
		}
		if s.Ended != "" {
			events = append(events, Event{Ended, s, s.Ended})
		} else {
			events = append(events, Event{Disconnected, s, ""})
		}
	}
	for _, s := range now {
		if !had[s.login()] {
			events = append(events, Event{Connected, s, ""})
		}
	}
	return events
}
