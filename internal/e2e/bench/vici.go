package main

import (
	"encoding/binary"
	"io"
	"net"
	"os"
	"sync"
)

// A standIn answers on charon's socket like a charon with these clients: list-sas and get-pools, which are all that
// updown asks. A thousand real IKE_SAs on one machine would measure charon.
type standIn struct {
	mu   sync.Mutex
	live map[client][]byte // what it says of each
}

// Packet and element types of the VICI protocol (src/libcharon/plugins/vici/README.md).
const (
	cmdRequest, cmdResponse, eventConfirm, event = 0, 1, 5, 7

	sectionStart, sectionEnd, keyValue, listStart, listItem, listEnd = 1, 2, 3, 4, 5, 6
)

// pool is 10.9.0.1 and the 59,999 addresses after it.
var pool = section("everybody", pair("base", "10.9.0.1"), pair("size", "60000"))

func startStandIn(socket string) (*standIn, error) {
	os.Remove(socket)
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	s := &standIn{live: map[client][]byte{}}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(conn)
		}
	}()
	return s, nil
}

// set says who is connected from now on.
func (s *standIn) set(all []client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live = map[client][]byte{}
	for _, c := range all {
		s.live[c] = c.established()
	}
}

func (s *standIn) connect(c client)    { s.mu.Lock(); s.live[c] = c.established(); s.mu.Unlock() }
func (s *standIn) disconnect(c client) { s.mu.Lock(); delete(s.live, c); s.mu.Unlock() }

func (s *standIn) serve(conn net.Conn) {
	defer conn.Close()
	for {
		var length [4]byte
		if _, err := io.ReadFull(conn, length[:]); err != nil {
			return
		}
		packet := make([]byte, binary.BigEndian.Uint32(length[:]))
		if _, err := io.ReadFull(conn, packet); err != nil || len(packet) < 2 {
			return
		}
		var reply []byte
		switch name := string(packet[2 : 2+packet[1]]); {
		case packet[0] != cmdRequest:
			reply = message(eventConfirm)
		case name == "list-sas":
			s.mu.Lock()
			for _, said := range s.live {
				reply = append(reply, said...)
			}
			s.mu.Unlock()
			reply = append(reply, message(cmdResponse)...)
		case name == "get-pools":
			reply = message(cmdResponse, pool)
		default:
			reply = message(cmdResponse)
		}
		if _, err := conn.Write(reply); err != nil {
			return
		}
	}
}

// established is the event that tells of the client's IKE_SA.
func (c client) established() []byte {
	return message(event, text("list-sa"), section("vpn", pair("state", "ESTABLISHED"), pair("remote-host", "192.0.2.9"),
		pair("remote-id", "198.51.100.9"), pair("remote-eap-id", c.name), pair("established", "5"), list("remote-vips", c.addr)))
}

func join(parts ...[]byte) (all []byte) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func text(s string) []byte { return append([]byte{byte(len(s))}, s...) }

func long(s string) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...) }

func message(kind byte, parts ...[]byte) []byte {
	content := join(parts...)
	return join(binary.BigEndian.AppendUint32(nil, uint32(len(content)+1)), []byte{kind}, content)
}

func section(name string, parts ...[]byte) []byte {
	return join([]byte{sectionStart}, text(name), join(parts...), []byte{sectionEnd})
}

func pair(key, value string) []byte { return join([]byte{keyValue}, text(key), long(value)) }

func list(key, item string) []byte {
	return join([]byte{listStart}, text(key), []byte{listItem}, long(item), []byte{listEnd})
}
