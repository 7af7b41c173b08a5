package ddns

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/miekg/dns"

	"tunnelcast/internal/lease"
)

// Refused is an RR that the server did not add or remove.
type Refused struct {
	RR  lease.RR
	Err error // wraps ErrPrerequisite if the name was not as expected
}

// UpdateEach is Update for changes that do not depend on each other: it finds what the
// server refuses by splitting the message in halves, down to one RR, and does the
// rest. It returns what was done, also beside an error, and what was refused. An RR
// that was already as wanted is in neither. An error concerns the whole zone. timeout
// is the limit for one message; 0 is none. With verify, UpdateEach asks the server
// whether what it acknowledged exists.
//
// A server that answers questions from a copy of the zone (inline-signing, a secondary
// that forwards updates) may show names as they were before. A name whose
// prerequisites fail is therefore compared with the wanted state by prerequisites
// alone, which the server checks in the zone itself.
func (s *Server) UpdateEach(ctx context.Context, change lease.Change, ttl, timeout time.Duration, verify bool,
) (done lease.Change, refused []Refused, err error) {
	e := each{Server: s, zone: change.Zone, ttl: ttl, timeout: timeout, renew: map[lease.RR]bool{}}
	e.done.Zone = change.Zone
	for _, rr := range change.Renew {
		e.renew[rr] = true
	}
	for _, part := range split(change) {
		if err = e.apply(ctx, part); err != nil {
			break
		}
	}
	if err == nil && verify {
		err = e.verify(ctx, change)
	}
	return e.done, e.refused, err
}

type each struct {
	*Server
	zone         string
	ttl, timeout time.Duration
	renew        map[lease.RR]bool
	probed       bool // the zone accepts updates

	done    lease.Change
	refused []Refused
}

func (e *each) send(ctx context.Context, message func() *dns.Msg) error {
	if e.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, e.timeout)
		defer cancel()
	}
	return e.Server.send(ctx, e.zone, message)
}

// apply sends a part, and its halves if the server refuses the whole.
func (e *each) apply(ctx context.Context, p part) error {
	err := e.send(ctx, p.message(e.zone, e.ttl))
	if err == nil {
		e.count(p)
		return nil
	}
	race := errors.Is(err, ErrPrerequisite)
	switch {
	case race:
		if done, err := e.isDone(ctx, p); done || err != nil {
			return err
		}
	case !ofName(err):
		return err
	case !e.probed:
		// A zone that is frozen, or whose ACL is for others, refuses an empty update, too.
		if err := e.send(ctx, part{}.message(e.zone, e.ttl)); err != nil {
			return err
		}
		e.probed = true
	}
	if len(p) > 1 {
		if err := e.apply(ctx, p[:len(p)/2]); err != nil {
			return err
		}
		return e.apply(ctx, p[len(p)/2:])
	}
	u := p[0]
	if len(u.remove)+len(u.add) > 1 && !race {
		return e.one(ctx, u)
	}
	for _, rrs := range [][]lease.RR{u.remove, u.add} {
		for _, rr := range rrs {
			e.refused = append(e.refused, Refused{rr, err})
		}
	}
	return nil
}

// one applies the RRs of a name one after the other. The prerequisites of each expect
// those before.
func (e *each) one(ctx context.Context, u unit) error {
	for _, rr := range u.remove {
		if err := e.apply(ctx, part{{remove: []lease.RR{rr}}}); err != nil {
			return err
		}
	}
	if u.seen == nil {
		return nil
	}
	removed := e.done.Remove[len(e.done.Remove)-e.doneOf(e.done.Remove, u.seen.Name):]
	for _, rr := range u.add {
		added := e.done.Add[len(e.done.Add)-e.doneOf(e.done.Add, u.seen.Name):]
		now := after(*u.seen, removed, added)
		if err := e.apply(ctx, part{{seen: &now, add: []lease.RR{rr}}}); err != nil {
			return err
		}
	}
	return nil
}

// doneOf counts the RRs of an owner name at the end of a list.
func (e *each) doneOf(rrs []lease.RR, owner string) (n int) {
	for n < len(rrs) && rrs[len(rrs)-1-n].Owner == owner {
		n++
	}
	return n
}

// isDone reports whether every name of the part already is as wanted.
func (e *each) isDone(ctx context.Context, p part) (bool, error) {
	var goal part
	for _, u := range p {
		if u.seen == nil {
			return false, nil // a prerequisite cannot require that one RR does not exist
		}
		for _, rr := range u.add {
			if e.renew[rr] {
				return false, nil // nor a TTL
			}
		}
		wanted := after(*u.seen, u.remove, u.add)
		goal = append(goal, unit{seen: &wanted})
	}
	err := e.send(ctx, goal.message(e.zone, e.ttl))
	if errors.Is(err, ErrPrerequisite) {
		return false, nil
	}
	return err == nil, err
}

func (e *each) count(p part) {
	for _, u := range p {
		e.done.Remove = append(e.done.Remove, u.remove...)
		for _, rr := range u.add {
			if e.renew[rr] {
				e.done.Renew = append(e.done.Renew, rr)
			} else {
				e.done.Add = append(e.done.Add, rr)
			}
		}
	}
}

// verify moves what was added and does not exist from done to refused.
func (e *each) verify(ctx context.Context, change lease.Change) error {
	added, removed := byOwner(e.done.Add), byOwner(e.done.Remove)
	var goal part
	for _, owner := range change.Seen {
		if len(added[owner.Name]) > 0 {
			is := after(owner, removed[owner.Name], added[owner.Name])
			goal = append(goal, unit{seen: &is})
		}
	}
	lacking := map[string]bool{}
	if err := e.lacking(ctx, goal, lacking); err != nil {
		return err
	}
	if len(lacking) == 0 {
		return nil
	}
	var done []lease.RR
	for _, rr := range e.done.Add {
		if lacking[rr.Owner] {
			err := fmt.Errorf("update zone %s at %s: %w", e.zone, e.Addr, ErrDiscarded)
			e.refused = append(e.refused, Refused{rr, err})
		} else {
			done = append(done, rr)
		}
	}
	e.done.Add = done
	return nil
}

// lacking adds to names the owner names that are not as wanted.
func (e *each) lacking(ctx context.Context, goal part, names map[string]bool) error {
	if len(goal) == 0 {
		return nil
	}
	length := 0
	for _, u := range goal {
		length += size(u.prerequisites())
	}
	if length <= maxMessage {
		err := e.send(ctx, goal.message(e.zone, e.ttl))
		if !errors.Is(err, ErrPrerequisite) {
			return err
		}
		if len(goal) == 1 {
			names[goal[0].seen.Name] = true
			return nil
		}
	}
	if err := e.lacking(ctx, goal[:len(goal)/2], names); err != nil {
		return err
	}
	return e.lacking(ctx, goal[len(goal)/2:], names)
}

// after returns an owner name as it is after RRs were removed and added.
func after(owner lease.Owner, remove, add []lease.RR) lease.Owner {
	is := lease.Owner{Name: owner.Name}
	gone := map[lease.RR]bool{}
	for _, rr := range remove {
		gone[rr] = true
	}
	for _, rrs := range [][]lease.RR{owner.Holds, add} {
		for _, rr := range rrs {
			if !gone[rr] {
				is.Holds = append(is.Holds, rr)
			}
		}
	}
	is.InUse = len(is.Holds) > 0 || owner.InUse && len(owner.Holds) == 0
	return is
}
