package charon

import (
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"slices"
	"testing"
)

// fake is a VICI server that gives prepared answers.
type fake struct {
	answer map[string][]byte   // by command
	events map[string][][]byte // by command: sent before the answer
	silent bool                // answers nothing
}

func list(key string, items ...string) []byte {
	b := append([]byte{listStart, byte(len(key))}, key...)
	for _, item := range items {
		b = append(b, listItem)
		b = binary.BigEndian.AppendUint16(b, uint16(len(item)))
		b = append(b, item...)
	}
	return append(b, listEnd)
}

// start serves connections and returns a session.
func (f *fake) start(t *testing.T) *Session {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "vici")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				f.serve(conn)
			}()
		}
	}()
	s, err := Dial(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func (f *fake) serve(conn net.Conn) {
	send := func(kind byte, name string, elements []byte) {
		packet := []byte{kind}
		if kind == event {
			packet = append(packet, byte(len(name)))
			packet = append(packet, name...)
		}
		packet = append(packet, elements...)
		conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(packet))), packet...))
	}
	for {
		var length [4]byte
		if _, err := io.ReadFull(conn, length[:]); err != nil {
			return
		}
		packet := make([]byte, binary.BigEndian.Uint32(length[:]))
		if _, err := io.ReadFull(conn, packet); err != nil {
			return
		}
		if f.silent {
			continue
		}
		name := string(packet[2 : 2+packet[1]])
		if slices.Contains([]byte{eventRegister, eventUnregister}, packet[0]) {
			send(eventConfirm, "", nil)
			continue
		}
		for _, e := range f.events[name] {
			send(event, name[:len(name)-1], e) // list-certs is answered by list-cert, list-sas by list-sa
		}
		send(cmdResponse, "", f.answer[name])
	}
}
