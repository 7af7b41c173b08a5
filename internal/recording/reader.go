package recording

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
)

// Reader returns an FLV file of the part alone, as a demuxer wants it: of the
// recording's tags, with their times mended, the stream id and the lengths behind
// the tags as they must be, and HEVC as enhanced RTMP has it.
func (p Part) Reader(file io.ReaderAt) io.Reader {
	return &reader{file: file, rest: p.Stretches, head: FLVHeader, in: bufio.NewReaderSize(nil, 64<<10)}
}

type reader struct {
	file io.ReaderAt
	rest []Stretch // after the one that is being read
	now  Stretch
	in   *bufio.Reader
	left int64  // bytes of the stretch
	head []byte // that come before the body
	body int64  // bytes of the tag's body that are still to come
	size uint32 // of the tag, to be written behind it
	open bool   // in a tag
	mem  [tagHeader + 8]byte
	err  error
}

// Read fills b up to the end of the file: each call costs a demuxer in C much.
func (r *reader) Read(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var some int
		some, err = r.some(b[n:])
		n += some
	}
	if n > 0 {
		return n, nil // an error comes again
	}
	return 0, err
}

// some reads a piece of a tag, or nothing and goes on to the next piece.
func (r *reader) some(b []byte) (n int, err error) {
	switch {
	case r.err != nil:
		return 0, r.err
	case len(r.head) > 0:
		n = copy(b, r.head)
		r.head = r.head[n:]
	case r.body > 0:
		n, err = r.in.Read(b[:min(int64(len(b)), r.body)])
		r.body -= int64(n)
		r.left -= int64(n)
	case r.open:
		r.open = false
		n, err := r.in.Discard(int(min(4, r.left))) // less where the file is cut
		r.left -= int64(n)
		r.err = unexpected(err)
		binary.BigEndian.PutUint32(r.mem[:], r.size)
		r.head = r.mem[:4]
		return 0, r.err
	case r.left > 0:
		err = r.tag()
	case len(r.rest) > 0:
		r.now, r.rest = r.rest[0], r.rest[1:]
		r.in.Reset(io.NewSectionReader(r.file, r.now.Off, r.now.Len))
		r.left = r.now.Len
	default:
		return 0, io.EOF
	}
	r.err = unexpected(err)
	return n, r.err
}

// unexpected: the file has become shorter.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// tag reads a tag's header, and changes what has to be changed.
func (r *reader) tag() error {
	head := r.mem[:tagHeader]
	if _, err := io.ReadFull(r.in, head); err != nil {
		return err
	}
	size := int64(head[1])<<16 | int64(head[2])<<8 | int64(head[3])
	start, err := r.in.Peek(int(min(8, size)))
	if err != nil {
		return err
	}
	dropped, first := r.first(head[0], start)
	if _, err := r.in.Discard(dropped); err != nil {
		return err
	}
	r.body = size - int64(dropped)
	r.left -= tagHeader + int64(dropped)
	size = r.body + int64(len(first))

	dts := uint32(head[7])<<24 | uint32(head[4])<<16 | uint32(head[5])<<8 | uint32(head[6])
	switch head[0] {
	case tagVideo:
		dts += uint32(r.now.Shift[video])
	case tagAudio:
		dts += uint32(r.now.Shift[audio])
	case tagScript:
		dts = 0
	}
	copy(head[1:], []byte{byte(size >> 16), byte(size >> 8), byte(size),
		byte(dts >> 16), byte(dts >> 8), byte(dts), byte(dts >> 24), 0, 0, 0})
	r.size = uint32(size + tagHeader)
	r.head = append(head, first...)
	r.open = true
	return nil
}

// first returns what is to be written instead of the first bytes of a body, and how
// many they are.
func (r *reader) first(kind byte, start []byte) (dropped int, first []byte) {
	if kind != tagVideo || len(start) < 5 {
		return 0, nil
	}
	delay := 0 // where the composition time is
	switch b := start[0]; {
	case b&0x8f == 12 && start[1] == 0:
		return 5, append([]byte{0x80 | b&0x70}, "hvc1"...)
	case b&0x8f == 12:
		dropped, first, delay = 5, append(append([]byte{0x81 | b&0x70}, "hvc1"...), start[2:5]...), 5
	case b&0x8f == 0x81 && len(start) == 8:
		dropped, first, delay = 8, append(first, start...), 5
	case b&0x8f == 7 && start[1] != 0:
		dropped, first, delay = 5, append(first, start[:5]...), 2
	default:
		return 0, nil
	}
	if r.now.NoDelay {
		clear(first[delay : delay+3])
	} else if b := start[0]; b&0x8f != 12 {
		return 0, nil
	}
	return dropped, first
}
