package charon

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
)

// Packet and element types of the VICI protocol (src/libcharon/plugins/vici/README.md).
const (
	cmdRequest, cmdResponse, eventRegister, eventUnregister, eventConfirm, event = 0, 1, 3, 4, 5, 7

	sectionStart, sectionEnd, keyValue, listStart, listItem, listEnd = 1, 2, 3, 4, 5, 6
)

// maxPacket is the largest packet that charon sends, in bytes
// (VICI_MESSAGE_SIZE_MAX in src/libcharon/plugins/vici/vici_socket.h).
const maxPacket = 512 << 10

// stream makes a request, with the elements of its message, that charon answers
// by events, and calls each with the message of every one, which is each's until
// it returns. Without an error it was all that charon had to say.
//
// It is not govici's CallStreaming: govici 0.8.1 queues 128 packets there and
// drops further ones in silence, events and the end of the answer alike, when
// charon is faster than the caller. It also makes maps of all of a message, which
// with a thousand clients takes longer than all else that updown does.
func (s *Session) stream(ctx context.Context, command, name string, request []byte, each func(message []byte) error) error {
	return s.during(ctx, func() error {
		if err := s.ask(eventRegister, name, nil, eventConfirm, nil); err != nil {
			return err
		}
		err := s.ask(cmdRequest, command, request, cmdResponse, func(message []byte) error {
			of, message, ok := cut(message)
			if !ok || string(of) != name {
				return fmt.Errorf("an event %q that was not asked for", of)
			}
			return each(message)
		})
		if err != nil {
			return err
		}
		return s.ask(eventUnregister, name, nil, eventConfirm, nil)
	})
}

// call makes a request that charon answers by one message, and calls read with
// it.
func (s *Session) call(ctx context.Context, command string, read func(message []byte) error) error {
	return s.during(ctx, func() error {
		if err := s.ask(cmdRequest, command, nil, cmdResponse, nil); err != nil {
			return err
		}
		return read(s.packet[1:])
	})
}

// during ends work with its context. Nobody knows which answer comes next on a
// connection after an error, so it is closed.
func (s *Session) during(ctx context.Context, work func() error) error {
	defer context.AfterFunc(ctx, func() { s.conn.Close() })()
	err := work()
	if err != nil {
		s.conn.Close()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return err
}

// ask sends a packet and waits for one of the type want, which is in s.packet
// then. Events before it are given to each.
func (s *Session) ask(kind byte, name string, elements []byte, want byte, each func(message []byte) error) error {
	p := binary.BigEndian.AppendUint32(nil, uint32(2+len(name)+len(elements)))
	p = append(p, kind, byte(len(name)))
	p = append(append(p, name...), elements...)
	if _, err := s.conn.Write(p); err != nil {
		return err
	}
	for {
		if err := s.next(); err != nil {
			return err
		}
		switch got := s.packet[0]; {
		case got == want:
			return success(s.packet[1:])
		case got == event && each != nil:
			if err := each(s.packet[1:]); err != nil {
				return err
			}
		default:
			return fmt.Errorf("a packet of type %d for an answer to %s", got, name)
		}
	}
}

// value makes an element of a request.
func value(key, text string) []byte {
	e := append([]byte{keyValue, byte(len(key))}, key...)
	e = binary.BigEndian.AppendUint16(e, uint16(len(text)))
	return append(e, text...)
}

// cut takes the name off an event.
func cut(message []byte) (name, rest []byte, ok bool) {
	if len(message) == 0 || len(message)-1 < int(message[0]) {
		return nil, nil, false
	}
	end := 1 + int(message[0])
	return message[1:end], message[end:], true
}

// next reads a packet into s.packet, in the same memory as the one before. An end
// in its middle, or where one is due, is an error.
func (s *Session) next() error {
	var header [4]byte
	if _, err := io.ReadFull(s.from, header[:]); err != nil {
		return early(err)
	}
	length := int(binary.BigEndian.Uint32(header[:]))
	if length < 1 || length > maxPacket {
		return fmt.Errorf("a packet of %d bytes", length)
	}
	s.packet = slices.Grow(s.packet[:0], length)[:length]
	_, err := io.ReadFull(s.from, s.packet)
	return early(err)
}

// early says of an end that something was due.
func early(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// success returns what charon's answer to a command says against it.
func success(message []byte) error {
	var failed bool
	var cause string
	for e, err := range elements(message) {
		switch {
		case err != nil:
			return err
		case e.kind != keyValue || e.depth > 0:
		case string(e.key) == "success":
			failed = string(e.value) != "yes"
		case string(e.key) == "errmsg":
			cause = string(e.value)
		}
	}
	if failed {
		return fmt.Errorf("command failed: %s", cause)
	}
	return nil
}

// element is the start or the end of a section, a value, or an item of a list.
// Its bytes are those of the message.
type element struct {
	kind  byte // sectionStart, sectionEnd, keyValue or listItem
	depth int  // how many sections it is in
	key   []byte
	value []byte
}

var errNoMessage = errors.New("a message that is cut or no message")

// elements goes through a message. An error is the last that it gives.
func elements(message []byte) iter.Seq2[element, error] {
	return func(yield func(element, error) bool) {
		rest, depth := message, 0
		var list []byte
		inList := false
		// bytes takes what has its length before it, in so many bytes.
		bytes := func(size int) (b []byte, ok bool) {
			if len(rest) < size {
				return nil, false
			}
			length := 0
			for _, b := range rest[:size] {
				length = length<<8 | int(b)
			}
			if rest = rest[size:]; len(rest) < length {
				return nil, false
			}
			b, rest = rest[:length:length], rest[length:]
			return b, true
		}
		for len(rest) > 0 {
			e := element{kind: rest[0], depth: depth}
			rest = rest[1:]
			inOrder := inList == (e.kind == listItem || e.kind == listEnd)
			ok := true
			switch e.kind {
			case sectionStart:
				e.key, ok = bytes(1)
				depth++
			case sectionEnd:
				depth--
				e.depth, ok = depth, depth >= 0
			case keyValue:
				if e.key, ok = bytes(1); ok {
					e.value, ok = bytes(2)
				}
			case listStart:
				list, ok = bytes(1)
				inList = true
			case listItem:
				e.key = list
				e.value, ok = bytes(2)
			case listEnd:
				inList = false
			default:
				ok = false
			}
			if !inOrder || !ok {
				yield(element{}, errNoMessage)
				return
			}
			if e.kind != listStart && e.kind != listEnd && !yield(e, nil) {
				return
			}
		}
		if depth > 0 || inList {
			yield(element{}, errNoMessage)
		}
	}
}

// sections goes through the sections of a message: set is called for what each
// holds itself, and end behind it.
func sections(message []byte, set func(element), end func(name []byte) error) error {
	var name []byte
	for e, err := range elements(message) {
		switch {
		case err != nil:
			return err
		case e.kind == sectionStart && e.depth == 0:
			name = e.key
		case e.kind == sectionEnd && e.depth == 0:
			if err := end(name); err != nil {
				return err
			}
		case e.depth == 1:
			set(e)
		}
	}
	return nil
}
