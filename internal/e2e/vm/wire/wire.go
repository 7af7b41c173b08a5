// Package wire is the protocol between a test and the agent in its virtual machine: frames, over one serial port, that
// carry the commands and their streams.
package wire

import (
	"encoding/binary"
	"fmt"
	"io"
)

// The kinds of frames.
const (
	Hello  byte = 'H' // from the agent, once, when it starts; ID 0
	Start  byte = 'S' // to the agent: run a command; Data is its words, in JSON
	Stdin  byte = 'I' // to the agent: Data for the command's standard input; empty at its end
	Kill   byte = 'K' // to the agent: kill the command and its children
	Stdout byte = 'O' // from the agent
	Stderr byte = 'E' // from the agent
	Exit   byte = 'X' // from the agent, the last of a command: Data is its exit status in decimal, or what went wrong
)

// MaxData is how many bytes a frame holds at most.
const MaxData = 64 << 10

// A Frame is one message. ID is the command's number, which the test assigns.
type Frame struct {
	Kind byte
	ID   uint32
	Data []byte
}

const header = 9

// Write writes a frame with one call of w.Write.
func Write(w io.Writer, f Frame) error {
	if len(f.Data) > MaxData {
		return fmt.Errorf("write a frame: %d bytes of data, at most %d fit", len(f.Data), MaxData)
	}
	b := make([]byte, header, header+len(f.Data))
	b[0] = f.Kind
	binary.BigEndian.PutUint32(b[1:], f.ID)
	binary.BigEndian.PutUint32(b[5:], uint32(len(f.Data)))
	_, err := w.Write(append(b, f.Data...))
	return err
}

// Read reads a frame. It returns io.EOF only at the end of a frame.
func Read(r io.Reader) (Frame, error) {
	var b [header]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return Frame{}, err
	}
	n := binary.BigEndian.Uint32(b[5:])
	if n > MaxData {
		return Frame{}, fmt.Errorf("read a frame: %d bytes of data, at most %d fit", n, MaxData)
	}
	f := Frame{Kind: b[0], ID: binary.BigEndian.Uint32(b[1:]), Data: make([]byte, n)}
	if _, err := io.ReadFull(r, f.Data); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return Frame{}, err
	}
	return f, nil
}
