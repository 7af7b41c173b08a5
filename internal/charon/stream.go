package charon

import (
	"context"
	"fmt"

	"github.com/strongswan/govici/vici"
)

// mostEvents is how many events one answer may have: memory for them is taken
// before they come, 48 bytes each.
const mostEvents = 1 << 15

// stream makes a request that charon answers by events and returns all of them.
//
// It is not Session.CallStreaming: govici 0.8.1 queues 128 packets there and
// drops further ones in silence, events and the end of the answer alike, when
// charon is faster than the caller. A subscriber's channel has room for all.
//
// Subscribe takes no context, so the end of ctx closes the session.
func (s *Session) stream(ctx context.Context, command, event string, request *vici.Message) (answer []*vici.Message, err error) {
	defer context.AfterFunc(ctx, func() { s.vici.Close() })()
	defer func() {
		if err != nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
	}()
	events := make(chan vici.Event, mostEvents)
	s.vici.NotifyEvents(events)
	defer s.vici.StopEvents(events)
	if err := s.vici.Subscribe(event); err != nil {
		return nil, err
	}
	if _, err := s.vici.Call(ctx, command, request); err != nil {
		return nil, err
	}
	// govici hands on packets in their order, so the events of this answer were
	// all in the channel before the call returned.
	if err := s.vici.Unsubscribe(event); err != nil {
		return nil, err
	}
	if len(events) == mostEvents {
		return nil, fmt.Errorf("the answer has %d events or more, some of which are lost", mostEvents)
	}
	for range len(events) {
		answer = append(answer, (<-events).Message)
	}
	return answer, nil
}
