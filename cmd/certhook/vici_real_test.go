package main

import (
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"testing"
)

// between listens on a socket that leads to the gateway's charon, and answers one
// command itself: by an error, or by success if cause is empty.
func (c *charons) between(t testing.TB, command, cause string) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "vici")
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
			go relay(conn, c.socket("gw"), command, cause)
		}
	}()
	return socket
}

// relay passes packets of the VICI protocol on in both directions.
func relay(client net.Conn, socket, command, cause string) {
	defer client.Close()
	charon, err := net.Dial("unix", socket)
	if err != nil {
		return
	}
	defer charon.Close()
	go io.Copy(client, charon)
	answer := []byte{1, 3, byte(len("success"))} // a response; success = ...
	answer = append(answer, "success\x00\x03yes"...)
	if cause != "" {
		answer = append([]byte{1, 3, byte(len("success"))}, "success\x00\x02no"...)
		answer = append(append(answer, 3, byte(len("errmsg"))), "errmsg"...)
		answer = append(binary.BigEndian.AppendUint16(answer, uint16(len(cause))), cause...)
	}
	for {
		var length [4]byte
		if _, err := io.ReadFull(client, length[:]); err != nil {
			return
		}
		packet := make([]byte, binary.BigEndian.Uint32(length[:]))
		if _, err := io.ReadFull(client, packet); err != nil {
			return
		}
		const request = 0
		if packet[0] == request && string(packet[2:2+packet[1]]) == command {
			client.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(answer))), answer...))
			continue
		}
		charon.Write(append(length[:], packet...))
	}
}
