// Package flv reads and writes the tags of FLV files.
//
// Clauses are those of Adobe's "Flash Video File Format Specification", version 10.1, annex E;
// "E-RTMP" is "Enhanced RTMP", version 2, of the Veovera Software Organization. Where encoders
// deviate from these, the package reads what FFmpeg's libavformat/flvdec.c reads, because the
// packets that FFmpeg finds are compared with those found here.
//
// The package takes and returns plain values. It knows no files.
package flv

// Header begins an FLV file with audio and video: the file header (clause E.2) and
// PreviousTagSize0 (clause E.3).
var Header = []byte("FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00")

const (
	// FileHeaderSize is the size of the file header in bytes, as DataOffset has it.
	FileHeaderSize = 9
	// TagHeaderSize is the size in bytes of what is before the body of a tag (clause E.4.1).
	TagHeaderSize = 11
	// PreviousTagSize is the size in bytes of the number after each tag (clause E.3): the size
	// of the tag with its header.
	PreviousTagSize = 4
)

// The types of tags (TagType, clause E.4.1).
const (
	TagAudio  = 8
	TagVideo  = 9
	TagScript = 18
)

// TagHeader is the header of a tag (clause E.4.1).
type TagHeader struct {
	Type      byte
	Size      int64  // DataSize, in bytes
	Timestamp int64  // with TimestampExtended as its upper 8 bits: an unsigned number of milliseconds
	StreamID  uint32 // always 0, according to the specification
}

// ParseTagHeader reads a tag header from the first TagHeaderSize bytes of b.
func ParseTagHeader(b []byte) TagHeader {
	return TagHeader{
		Type:      b[0],
		Size:      int64(b[1])<<16 | int64(b[2])<<8 | int64(b[3]),
		Timestamp: int64(b[7])<<24 | int64(b[4])<<16 | int64(b[5])<<8 | int64(b[6]),
		StreamID:  uint32(b[8])<<16 | uint32(b[9])<<8 | uint32(b[10]),
	}
}

// Append appends the header to b.
func (h TagHeader) Append(b []byte) []byte {
	return append(b, h.Type, byte(h.Size>>16), byte(h.Size>>8), byte(h.Size),
		byte(h.Timestamp>>16), byte(h.Timestamp>>8), byte(h.Timestamp), byte(h.Timestamp>>24),
		byte(h.StreamID>>16), byte(h.StreamID>>8), byte(h.StreamID))
}

// Known reports whether the tag is of one of the three types.
func (h TagHeader) Known() bool {
	return h.Type == TagAudio || h.Type == TagVideo || h.Type == TagScript
}

// AppendTag appends a tag of stream 0 with its header and its size to b.
func AppendTag(b []byte, tagType byte, timestamp int64, body []byte) []byte {
	h := TagHeader{Type: tagType, Size: int64(len(body)), Timestamp: timestamp}
	b = append(h.Append(b), body...)
	size := TagHeaderSize + len(body)
	return append(b, byte(size>>24), byte(size>>16), byte(size>>8), byte(size))
}

// MetaData begins the body of a script tag with the metadata of the file: an AMF0 string
// (type 2, its length, clause E.4.4.4) with the name of the method onMetaData (clause E.5).
const MetaData = "\x02\x00\x0aonMetaData"
