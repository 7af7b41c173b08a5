package main

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tunnelcast/internal/hook"
	"tunnelcast/internal/units"
)

// Packet and element types of the VICI protocol (plugins/vici/README.md).
const (
	cmdResponse, eventRegister, eventUnregister, eventConfirm, viciEvent = 1, 3, 4, 5, 7

	sectionStart, sectionEnd, keyValue, listStart, listItem, listEnd = 1, 2, 3, 4, 5, 6
)

func section(name string, elements ...[]byte) []byte {
	b := append([]byte{sectionStart, byte(len(name))}, name...)
	for _, e := range elements {
		b = append(b, e...)
	}
	return append(b, sectionEnd)
}

func pair(key, value string) []byte {
	b := append([]byte{keyValue, byte(len(key))}, key...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
	return append(b, value...)
}

func ikeSA(identity, addr string) []byte {
	vips := append([]byte{listStart, byte(len("remote-vips"))}, "remote-vips"...)
	vips = append(vips, listItem)
	vips = binary.BigEndian.AppendUint16(vips, uint16(len(addr)))
	vips = append(append(vips, addr...), listEnd)
	return section("vpn", pair("state", "ESTABLISHED"), pair("remote-eap-id", identity), vips)
}

// dyingCharon has two clients. On its first connection it ends after so many
// packets, the last of them cut in two; on further ones it answers whole.
type dyingCharon struct {
	packets     int
	connections int
}

func (d *dyingCharon) serve(conn net.Conn) {
	defer conn.Close()
	d.connections++
	sent := 0
	send := func(packet ...byte) (alive bool) {
		packet = append(binary.BigEndian.AppendUint32(nil, uint32(len(packet))), packet...)
		if sent++; d.connections == 1 && sent > d.packets {
			_, _ = conn.Write(packet[:len(packet)-1])
			return false
		}
		_, err := conn.Write(packet)
		return err == nil
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
		alive := true
		switch name := string(packet[2 : 2+packet[1]]); {
		case packet[0] == eventRegister, packet[0] == eventUnregister:
			alive = send(eventConfirm)
		case name == "get-pools":
			alive = send(append([]byte{cmdResponse}, section("clients", pair("base", "10.0.0.100"), pair("size", "101"))...)...)
		case name == "list-sas":
			event := append([]byte{viciEvent, byte(len("list-sa"))}, "list-sa"...)
			alive = send(append(event[:len(event):len(event)], ikeSA("alice", "10.0.0.100")...)...) &&
				send(append(event[:len(event):len(event)], ikeSA("bob", "10.0.0.101")...)...) &&
				send(cmdResponse)
		}
		if !alive {
			return
		}
	}
}

// Wherever charon ends in its answer, half of it is never taken for the whole.
// The next charon's is.
func TestCharonEndsWhileItAnswers(t *testing.T) {
	for packets, where := range []string{"the pools", "the registration", "the first client", "the second client", "the end of the list", "the last confirmation"} {
		t.Run(where, func(t *testing.T) {
			g, charon := gatewayOf(t, packets)
			leases, pools, err := g.live(t.Context())
			if err != nil || len(leases) != 2 || len(pools.Pools) != 1 || charon.connections != 2 {
				t.Errorf("leases %v, pools %v, error %v after %d connections", leases, pools, err, charon.connections)
			}
		})
	}
	t.Run("and nobody comes after it", func(t *testing.T) {
		g, _ := gatewayOf(t, 3)
		g.settle = 0
		leases, _, err := g.live(t.Context())
		if !errors.Is(err, errNoEvidence) || strings.Count(err.Error(), errNoEvidence.Error()) != 1 || leases != nil {
			t.Errorf("leases %v, error %v", leases, err)
		}
	})
}

func gatewayOf(t *testing.T, packets int) (*gateway, *dyingCharon) {
	t.Helper()
	charon := &dyingCharon{packets: packets}
	socket := filepath.Join(t.TempDir(), "vici")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			charon.serve(conn)
		}
	}()
	c := cli{Server: "127.0.0.1:53", Zone: "example", Timeout: time.Second, Vici: socket, RunDir: t.TempDir()}
	g, err := newGateway(c, hook.Env{Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	g.askUnit = func(context.Context, string) (units.State, error) {
		return units.State{Load: "loaded", Active: "active"}, nil
	}
	return g, charon
}
