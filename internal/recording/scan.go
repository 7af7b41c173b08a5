package recording

import (
	"encoding/binary"

	"tunnelcast/internal/flv"
)

// scanner finds the tags of an FLV file. Where its file was damaged it finds the next whole tag.
type scanner struct {
	in       window
	first    int64  // offset of the first tag
	streamID uint32 // of the first tag; tags of other streams are taken for damage
	// unsized reports that PreviousTagSize is 0 after every tag, as some encoders write it.
	unsized bool
	// unusual reports that FFmpeg's demuxer would not read what the scanner reads.
	unusual bool
}

// tag is a whole tag of a file.
type tag struct {
	flv.TagHeader
	Extent
	head [flv.HeadSize]byte // the beginning of its body
}

// body returns the beginning of the body.
func (t *tag) body() []byte { return t.head[:min(t.Size, flv.HeadSize)] }

// bodyOff returns the offset of the body.
func (t *tag) bodyOff() int64 { return t.Off + flv.TagHeaderSize }

// bodyEnd returns the offset after the body.
func (t *tag) bodyEnd() int64 { return t.Off + flv.TagHeaderSize + t.Size }

// open reads the file header.
func (s *scanner) open() error {
	head, err := s.in.at(0, flv.FileHeaderSize)
	if err != nil {
		return err
	}
	if len(head) < flv.FileHeaderSize || string(head[:3]) != "FLV" {
		return ErrNotFLV
	}
	s.first = int64(binary.BigEndian.Uint32(head[5:])) + flv.PreviousTagSize
	if s.first < int64(len(flv.Header)) {
		return ErrNotFLV
	}
	return nil
}

// tag returns the tag at off, and whether it is a whole one: its size is written before and after
// it, and both agree. Like FFmpeg, it accepts two other numbers that encoders are known to write
// after it.
func (s *scanner) tag(off int64) (t tag, whole bool, err error) {
	b, err := s.in.at(off, flv.TagHeaderSize+flv.HeadSize)
	if err != nil || len(b) < flv.TagHeaderSize {
		return tag{}, false, err
	}
	t = tag{TagHeader: flv.ParseTagHeader(b), Extent: Extent{Off: off}}
	copy(t.head[:], b[flv.TagHeaderSize:])
	t.Len = flv.TagHeaderSize + t.Size + flv.PreviousTagSize
	if t.bodyEnd() > s.in.size || !t.Known() {
		return t, false, nil
	}
	b, err = s.in.at(t.bodyEnd(), flv.PreviousTagSize+flv.TagHeaderSize)
	if err != nil {
		return t, false, err
	}
	if len(b) < flv.PreviousTagSize { // the file is cut after the body
		t.Len = s.in.size - off
		return t, t.StreamID == s.streamID, nil
	}
	whole = s.sized(t, int64(binary.BigEndian.Uint32(b)), b[flv.PreviousTagSize:])
	if whole && off == s.first {
		s.streamID = t.StreamID
	}
	return t, whole, nil
}

// sized reports whether size is a PreviousTagSize of the tag. next is the header of the next tag,
// or less at the end of the file.
func (s *scanner) sized(t tag, size int64, next []byte) bool {
	switch {
	case size == t.Size+flv.TagHeaderSize:
		return true
	case t.StreamID != s.streamID:
		return false
	case size == t.Size+flv.TagHeaderSize-1, size == t.Size && size != 0:
		return true
	case size != 0 || len(next) >= flv.TagHeaderSize && !flv.ParseTagHeader(next).Known():
		return false
	}
	if t.Off == s.first {
		s.unsized = true
	}
	s.unusual = s.unusual || s.unsized
	return s.unsized
}

// known reports whether b begins with a tag header of a known type and of the file's stream.
func (s *scanner) known(b []byte) bool {
	h := flv.ParseTagHeader(b)
	return h.Known() && h.StreamID == s.streamID
}

// joined reports whether another FLV file begins at off, as `cat a.flv b.flv` writes it.
func (s *scanner) joined(off int64) (bool, error) {
	b, err := s.in.at(off, len(flv.Header))
	if err != nil || len(b) < len(flv.Header) {
		return false, err
	}
	return string(b[:4]) == "FLV\x01" && binary.BigEndian.Uint32(b[5:]) == flv.FileHeaderSize, nil
}

// resync returns the offset of the first whole tag at or after off, if there is one.
func (s *scanner) resync(off int64) (next int64, found bool, err error) {
	for ; off+flv.TagHeaderSize <= s.in.size; off++ {
		b, err := s.in.at(off, flv.TagHeaderSize)
		if err != nil {
			return 0, false, err
		}
		if !s.known(b) {
			continue
		}
		if t, whole, err := s.tag(off); err != nil || whole && t.Size > 0 {
			return off, whole, err
		}
	}
	return 0, false, nil
}

// cut reports whether nothing after off could be read by anybody: the beginning of a tag, or
// zeros. Anything else is damage.
func (s *scanner) cut(off int64) (bool, error) {
	b, err := s.in.at(off, flv.TagHeaderSize)
	if err != nil {
		return false, err
	}
	if len(b) < flv.TagHeaderSize || s.known(b) {
		return true, nil
	}
	return s.in.zero(off)
}
