package recordingtest

import (
	"bytes"

	"tunnelcast/internal/flv"
)

// Builder builds an FLV file tag by tag. Its packets have a few bytes and no decoder can decode
// them. The methods return the builder.
type Builder struct{ bytes.Buffer }

// Build returns a builder of a file that has the header of an FLV file.
func Build() *Builder { return new(Builder).Raw(flv.Header...) }

// Raw adds bytes.
func (b *Builder) Raw(bytes ...byte) *Builder { b.Write(bytes); return b }

// Tag adds a tag.
func (b *Builder) Tag(tagType byte, ms int64, body ...byte) *Builder {
	return b.Raw(flv.AppendTag(nil, tagType, ms, body)...)
}

// AVC adds a sequence header of H.264 video. Another parameter makes another header.
func (b *Builder) AVC(parameter byte) *Builder {
	return b.Tag(flv.TagVideo, 0, 0x17, 0, 0, 0, 0, 1, parameter, 2, 3)
}

// AAC adds a sequence header of AAC audio. Another parameter makes another header.
func (b *Builder) AAC(parameter byte) *Builder {
	return b.Tag(flv.TagAudio, 0, 0xaf, 0, 0x12, parameter)
}

// Key adds a key frame of 4 bytes.
func (b *Builder) Key(ms int64) *Builder {
	return b.Tag(flv.TagVideo, ms, 0x17, 1, 0, 0, 0, 1, 2, 3, 4)
}

// Frame adds a picture of 2 bytes that is not a key frame.
func (b *Builder) Frame(ms int64) *Builder { return b.Tag(flv.TagVideo, ms, 0x27, 1, 0, 0, 0, 1, 2) }

// Sound adds an AAC packet of 3 bytes.
func (b *Builder) Sound(ms int64) *Builder { return b.Tag(flv.TagAudio, ms, 0xaf, 1, 9, 9, 9) }

// Cut removes bytes from the end.
func (b *Builder) Cut(n int) *Builder { b.Truncate(b.Len() - n); return b }
