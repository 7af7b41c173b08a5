package main

import (
	"errors"
	"io/fs"
	"os"
	"sync"

	"tunnelcast/internal/vici"
	"tunnelcast/internal/vici/vicitest"
)

// A standIn answers on charon's socket as a charon with these clients would. It knows
// list-sas and get-pools, which are all that updown sends: a thousand real IKE_SAs on
// one machine would measure charon.
type standIn struct {
	mu   sync.Mutex
	live map[client]vici.Message // the list-sa event of each
}

// pool is 10.9.0.1 and the 59,999 addresses after it.
var pool = vicitest.Message(vici.Section("everybody", vici.Value("base", "10.9.0.1"), vici.Value("size", "60000")))

func startStandIn(socket string) (*standIn, error) {
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	s := &standIn{live: map[client]vici.Message{}}
	_, err := (&vicitest.Server{Handle: s.answer}).Listen(socket) // until the benchmark ends
	return s, err
}

func (s *standIn) answer(command string, _ vici.Message) (answer vicitest.Answer, ok bool) {
	switch command {
	case "list-sas":
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, sa := range s.live {
			answer.Events = append(answer.Events, sa)
		}
	case "get-pools":
		answer.Response = pool
	}
	return answer, true
}

// set says who is connected from now on.
func (s *standIn) set(all []client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live = map[client]vici.Message{}
	for _, c := range all {
		s.live[c] = c.established()
	}
}

func (s *standIn) connect(c client)    { s.mu.Lock(); s.live[c] = c.established(); s.mu.Unlock() }
func (s *standIn) disconnect(c client) { s.mu.Lock(); delete(s.live, c); s.mu.Unlock() }

// established is the event about the client's IKE_SA.
func (c client) established() vici.Message {
	return vicitest.Message(vici.Section("vpn", vici.Value("state", "ESTABLISHED"),
		vici.Value("remote-host", "192.0.2.9"), vici.Value("remote-id", "198.51.100.9"),
		vici.Value("remote-eap-id", c.name), vici.Value("established", "5"), vici.List("remote-vips", c.addr)))
}
