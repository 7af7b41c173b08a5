package recording

import (
	"bufio"
	"encoding/binary"
	"io"

	"tunnelcast/internal/flv"
)

// Reader returns an FLV file of the part alone, as FFmpeg's demuxer wants it: the tags of the
// recording with corrected times, stream 0, a PreviousTagSize that fits, and HEVC with its FourCC,
// as E-RTMP has it.
func (p Part) Reader(file io.ReaderAt) io.Reader {
	return &reader{file: file, rest: p.Stretches, head: flv.Header, in: bufio.NewReaderSize(nil, 64<<10)}
}

type reader struct {
	file io.ReaderAt
	rest []Stretch // after the one that is being read
	now  Stretch
	in   *bufio.Reader
	left int64  // bytes of the stretch that were not read yet
	head []byte // what comes before the rest of the body
	body int64  // bytes of the body that were not read yet
	size uint32 // PreviousTagSize, to be written after the tag
	open bool   // in a tag
	mem  [flv.TagHeaderSize + 8]byte
	err  error
}

// Read fills b up to the end of the file, because each call is expensive for a demuxer in C.
func (r *reader) Read(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var some int
		some, err = r.some(b[n:])
		n += some
	}
	if n > 0 {
		return n, nil // the next call returns the error again
	}
	return 0, err
}

// some reads a piece of a tag, or reads nothing and continues with the next piece.
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
		n, err := r.in.Discard(int(min(flv.PreviousTagSize, r.left))) // less where the file is cut
		r.left -= int64(n)
		r.err = unexpected(err)
		binary.BigEndian.PutUint32(r.mem[:], r.size)
		r.head = r.mem[:flv.PreviousTagSize]
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

// tag reads the header of a tag and the fields at the beginning of its body, and corrects them.
func (r *reader) tag() error {
	if _, err := io.ReadFull(r.in, r.mem[:flv.TagHeaderSize]); err != nil {
		return err
	}
	h := flv.ParseTagHeader(r.mem[:])
	start, err := r.in.Peek(int(min(8, h.Size)))
	if err != nil {
		return err
	}
	dropped, fields := r.fields(h.Type, start)
	if _, err := r.in.Discard(dropped); err != nil {
		return err
	}
	r.body = h.Size - int64(dropped)
	r.left -= flv.TagHeaderSize + int64(dropped)

	h.Size = r.body + int64(len(fields))
	h.StreamID = 0
	switch h.Type {
	case flv.TagVideo:
		h.Timestamp += r.now.Shift[video]
	case flv.TagAudio:
		h.Timestamp += r.now.Shift[audio]
	case flv.TagScript:
		h.Timestamp = 0
	}
	r.size = uint32(h.Size + flv.TagHeaderSize)
	r.head = append(h.Append(r.mem[:0]), fields...)
	r.open = true
	return nil
}

// fields returns what is to be written instead of the first bytes of a body that begins with start,
// and how many bytes it replaces.
func (r *reader) fields(tagType byte, start []byte) (dropped int, fields []byte) {
	const (
		hevcID = 12   // CodecID
		ex     = 0x80 // IsExHeader
	)
	if tagType != flv.TagVideo || len(start) < 5 {
		return 0, nil
	}
	frameType, delay := start[0]&0x70, 0 // delay is the offset of the composition time
	switch format := start[0] & 0x8f; {
	case format == hevcID && start[1] == 0: // sequence header
		return 5, append([]byte{ex | frameType}, "hvc1"...)
	case format == hevcID:
		dropped, fields, delay = 5, append(append([]byte{ex | frameType | 1}, "hvc1"...), start[2:5]...), 5
	case !r.now.NoDelay:
		return 0, nil
	case format == ex|1 && len(start) == 8:
		dropped, fields, delay = 8, append(fields, start...), 5
	case format == 7 && start[1] != 0: // H.264
		dropped, fields, delay = 5, append(fields, start[:5]...), 2
	default:
		return 0, nil
	}
	if r.now.NoDelay {
		clear(fields[delay : delay+3])
	}
	return dropped, fields
}
