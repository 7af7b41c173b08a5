package vici

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

// PacketType is the purpose of a packet.
type PacketType byte

// The packet types, as they are encoded.
const (
	CmdRequest PacketType = iota
	CmdResponse
	CmdUnknown
	EventRegister
	EventUnregister
	EventConfirm
	EventUnknown
	Event
)

// named reports whether packets of the type carry a name.
func (t PacketType) named() bool {
	return t == CmdRequest || t == EventRegister || t == EventUnregister || t == Event
}

// A Packet is one unit of the protocol: a command, an event, or a reply.
type Packet struct {
	Type    PacketType
	Name    []byte // of the command or event; replies have none
	Message Message
}

// AppendTo appends the encoded packet, with its length in front, to b. It fails if
// charon would not accept the packet.
func (p Packet) AppendTo(b []byte) ([]byte, error) {
	size := 1 + len(p.Message)
	if p.Type.named() {
		if err := checkName(string(p.Name)); err != nil {
			return nil, err
		}
		size += 1 + len(p.Name)
	}
	if size > maxPacket {
		return nil, fmt.Errorf("packet too long: %d bytes, VICI allows %d", size, maxPacket)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(size))
	b = append(b, byte(p.Type))
	if p.Type.named() {
		b = append(b, byte(len(p.Name)))
		b = append(b, p.Name...)
	}
	return append(b, p.Message...), nil
}

// A Reader reads packets from a stream.
type Reader struct {
	from *bufio.Reader
	last []byte // the last packet
}

// NewReader returns a reader of the packets on a stream.
func NewReader(from io.Reader) *Reader {
	const size = 64 << 10 // bytes; a list has a packet of one or two kilobytes per client
	return &Reader{from: bufio.NewReaderSize(from, size)}
}

// Next returns the next packet, which is valid until the next call. The end of the
// stream is io.EOF between two packets and io.ErrUnexpectedEOF within one.
func (r *Reader) Next() (Packet, error) {
	var header [4]byte
	if _, err := io.ReadFull(r.from, header[:]); err != nil {
		return Packet{}, err
	}
	size := int(binary.BigEndian.Uint32(header[:]))
	if size < 1 || size > maxPacket {
		return Packet{}, fmt.Errorf("invalid packet length %d: VICI allows 1 to %d bytes", size, maxPacket)
	}
	r.last = slices.Grow(r.last[:0], size)[:size]
	if _, err := io.ReadFull(r.from, r.last); err != nil {
		return Packet{}, unexpectedEOF(err)
	}
	p := Packet{Type: PacketType(r.last[0]), Message: r.last[1:]}
	if p.Type.named() {
		name, end := p.Message.name(0)
		if end > len(p.Message) {
			return Packet{}, errors.New("malformed VICI packet: it ends within its name")
		}
		p.Name, p.Message = name, p.Message[end:]
	}
	return p, nil
}

// unexpectedEOF turns io.EOF into io.ErrUnexpectedEOF.
func unexpectedEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
