package flv

import (
	"bytes"
	"testing"
)

func TestTagHeader(t *testing.T) {
	for _, h := range []TagHeader{
		{Type: TagVideo, Size: 1, Timestamp: 40},
		{Type: TagAudio, Size: 1<<24 - 1, Timestamp: 1<<32 - 1, StreamID: 1<<24 - 1},
		{Type: TagScript, Timestamp: 1 << 24},
	} {
		b := h.Append(nil)
		if got := ParseTagHeader(b); got != h || len(b) != TagHeaderSize || !got.Known() {
			t.Errorf("%+v becomes % x and then %+v", h, b, got)
		}
	}
	// Times before 0 turn at 32 bits.
	if got := ParseTagHeader(TagHeader{Timestamp: -1}.Append(nil)).Timestamp; got != 1<<32-1 {
		t.Errorf("-1 becomes %d", got)
	}
}

func TestAppendTag(t *testing.T) {
	want := []byte{TagAudio, 0, 0, 2, 0, 0, 21, 0, 0, 0, 0, 0xaf, 1, 0, 0, 0, 13}
	if got := AppendTag(nil, TagAudio, 21, []byte{0xaf, 1}); !bytes.Equal(got, want) {
		t.Errorf("got % x, want % x", got, want)
	}
}
