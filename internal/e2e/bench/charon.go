package main

import (
	"errors"
	"io/fs"
	"os"
	"sync"

	"tunnelcast/internal/vici"
	"tunnelcast/internal/vici/vicitest"
)

// A fakeCharon answers VICI requests as a charon with these clients would. It knows list-sas and get-pools, the only
// requests of updown: a thousand real IKE_SAs on one computer would measure charon.
type fakeCharon struct {
	mu   sync.Mutex
	live map[client]vici.Message // the list-sa event of each
}

// pool is 10.9.0.1 and the 59,999 addresses after it.
var pool = vicitest.Message(vici.Section("everybody", vici.Value("base", "10.9.0.1"), vici.Value("size", "60000")))

func startFakeCharon(socket string) (*fakeCharon, error) {
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	s := &fakeCharon{live: map[client]vici.Message{}}
	_, err := (&vicitest.Server{Handle: s.answer}).Listen(socket) // until the benchmark ends
	return s, err
}

func (s *fakeCharon) answer(command string, _ vici.Message) (answer vicitest.Answer, ok bool) {
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

// set replaces the connected clients.
func (s *fakeCharon) set(all []client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live = map[client]vici.Message{}
	for _, c := range all {
		s.live[c] = c.established()
	}
}

func (s *fakeCharon) connect(c client)    { s.mu.Lock(); s.live[c] = c.established(); s.mu.Unlock() }
func (s *fakeCharon) disconnect(c client) { s.mu.Lock(); delete(s.live, c); s.mu.Unlock() }

// established is the event about the client's IKE_SA.
func (c client) established() vici.Message {
	return vicitest.Message(vici.Section("vpn", vici.Value("state", "ESTABLISHED"),
		vici.Value("remote-host", "192.0.2.9"), vici.Value("remote-id", "198.51.100.9"),
		vici.Value("remote-eap-id", c.name), vici.Value("established", "5"), vici.List("remote-vips", c.addr)))
}
