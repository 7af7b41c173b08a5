// Package recordingtest makes and changes FLV recordings for tests and measurements.
package recordingtest

import (
	"bytes"
	"encoding/binary"

	"tunnelcast/internal/flv"
)

// Tag is one tag of an FLV file.
type Tag struct {
	Type byte
	MS   int64 // timestamp in milliseconds
	Body []byte

	StreamID uint32
	Unsized  bool   // PreviousTagSize is 0
	Raw      []byte // bytes to be written instead of a tag
}

// Tags returns the tags of an FLV file up to the first that is cut or damaged.
func Tags(file []byte) (tags []Tag) {
	for b := file[min(len(flv.Header), len(file)):]; len(b) >= flv.TagHeaderSize+flv.PreviousTagSize; {
		h := flv.ParseTagHeader(b)
		end := flv.TagHeaderSize + h.Size
		if end+flv.PreviousTagSize > int64(len(b)) {
			break
		}
		tags = append(tags, Tag{Type: h.Type, MS: h.Timestamp, Body: b[flv.TagHeaderSize:end]})
		b = b[end+flv.PreviousTagSize:]
	}
	return tags
}

// File returns an FLV file of the tags.
func File(tags ...Tag) []byte {
	b := bytes.Clone(flv.Header)
	for _, t := range tags {
		b = t.Append(b)
	}
	return b
}

// Append appends the tag to b.
func (t Tag) Append(b []byte) []byte {
	if t.Raw != nil {
		return append(b, t.Raw...)
	}
	h := flv.TagHeader{Type: t.Type, Size: int64(len(t.Body)), Timestamp: t.MS, StreamID: t.StreamID}
	b = append(h.Append(b), t.Body...)
	size := uint32(flv.TagHeaderSize + len(t.Body))
	if t.Unsized {
		size = 0
	}
	return binary.BigEndian.AppendUint32(b, size)
}

// At returns the tag with another time.
func (t Tag) At(ms int64) Tag { t.MS = ms; return t }

// With returns the tag with another body.
func (t Tag) With(body []byte) Tag { t.Body = body; return t }

// The methods below know H.264 and HEVC with a CodecID, AAC and MP3.

// IsVideo reports whether the tag is a packet of video.
func (t Tag) IsVideo() bool { return t.Type == flv.TagVideo && len(t.Body) > 5 && t.Body[1] == 1 }

// IsAudio reports whether the tag is a packet of audio.
func (t Tag) IsAudio() bool {
	return t.Type == flv.TagAudio && len(t.Body) > 2 && (t.Body[1] == 1 || t.isMP3())
}

func (t Tag) isMP3() bool { return t.Body[0]>>4 == 2 }

// IsKey reports whether the tag is a key frame.
func (t Tag) IsKey() bool { return t.IsVideo() && t.Body[0]>>4 == 1 }

// IsHeader reports whether the tag is a sequence header.
func (t Tag) IsHeader() bool {
	return t.Type != flv.TagScript && len(t.Body) > 1 && t.Body[1] == 0 && !(t.Type == flv.TagAudio && t.isMP3())
}

// Delay returns PTS - DTS in milliseconds.
func (t Tag) Delay() int64 {
	if t.Type != flv.TagVideo {
		return 0
	}
	return int64(int32(uint32(t.Body[2])<<24|uint32(t.Body[3])<<16|uint32(t.Body[4])<<8) >> 8)
}

// fields returns the size of the fields before the content.
func (t Tag) fields() int {
	switch {
	case t.Type == flv.TagVideo:
		return 5
	case t.isMP3():
		return 1
	}
	return 2
}

// Packet returns what a decoder gets.
func (t Tag) Packet() []byte { return t.Body[t.fields():] }

// WithPacket returns the tag with another content.
func (t Tag) WithPacket(packet []byte) Tag {
	return t.With(append(bytes.Clone(t.Body[:t.fields()]), packet...))
}

// NALUnits returns the NAL units of a packet of H.264.
func (t Tag) NALUnits() (units [][]byte) {
	for b := t.Packet(); len(b) > 4; {
		n := 4 + int(binary.BigEndian.Uint32(b))
		units = append(units, b[4:n])
		b = b[n:]
	}
	return units
}

// WithNALUnits returns the tag with other NAL units.
func (t Tag) WithNALUnits(units ...[]byte) Tag {
	var b []byte
	for _, u := range units {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(u))), u...)
	}
	return t.WithPacket(b)
}

// Only returns the tags for which keep returns true.
func Only(tags []Tag, keep func(Tag) bool) (kept []Tag) {
	for _, t := range tags {
		if keep(t) {
			kept = append(kept, t)
		}
	}
	return kept
}

// Append returns the file a with the tags of the file b after it, later by ms, without script tags.
func Append(a, b []byte, ms int64) []byte {
	a = bytes.Clone(a)
	for _, t := range Tags(b) {
		if t.Type != flv.TagScript { // one set of metadata is enough
			a = t.At(t.MS + ms).Append(a)
		}
	}
	return a
}

// Change returns a file of what change returns for each tag. A tag without a body is left out.
func Change(file []byte, change func(Tag) Tag) []byte {
	var tags []Tag
	for _, t := range Tags(file) {
		if t = change(t); t.Body != nil {
			tags = append(tags, t)
		}
	}
	return File(tags...)
}

// WithoutHeaders returns the file without its sequence headers.
func WithoutHeaders(file []byte) []byte {
	return Change(file, func(t Tag) Tag {
		if t.IsHeader() {
			t.Body = nil
		}
		return t
	})
}
