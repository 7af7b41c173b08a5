//go:build cgo

package remux

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
)

// boxes calls visit for the boxes of an MP4 file, or of the content of a box, in order and with their
// headers.
func boxes(t *testing.T, b []byte, visit func(kind string, box []byte)) {
	t.Helper()
	for len(b) > 0 {
		n := len(b)
		if len(b) >= 8 {
			n = int(binary.BigEndian.Uint32(b))
		}
		if n < 8 || n > len(b) {
			t.Fatalf("a box of %d bytes in %d", n, len(b))
		}
		visit(string(b[4:8]), b[:n])
		b = b[n:]
	}
}

// box returns the first box of a kind.
func box(t *testing.T, b []byte, kind string) (found []byte) {
	t.Helper()
	boxes(t, b, func(k string, box []byte) {
		if k == kind && found == nil {
			found = box
		}
	})
	return found
}

// unpad removes the padding between index and media, and changes the offsets of the chunks in the
// index accordingly. It returns the length of the padding.
func unpad(t *testing.T, mp4 []byte) (out []byte, padding int) {
	t.Helper()
	var kinds []string
	boxes(t, mp4, func(kind string, box []byte) {
		kinds = append(kinds, kind)
		if kind == "free" && padding == 0 {
			padding = len(box)
			if len(bytes.Trim(box[8:], "\x00")) > 0 {
				t.Error("the padding is not zeros")
			}
			return
		}
		out = append(out, box...)
	})
	if got := strings.Join(kinds, " "); got != "ftyp moov free free mdat" {
		t.Fatalf("the file has %s: no room was left for the index, or too little", got)
	}
	var chunks func(kind string, box []byte)
	chunks = func(kind string, box []byte) {
		switch kind {
		case "moov", "trak", "mdia", "minf", "stbl":
			boxes(t, box[8:], chunks)
		case "stco":
			for b := box[16:]; len(b) > 0; b = b[4:] {
				binary.BigEndian.PutUint32(b, binary.BigEndian.Uint32(b)-uint32(padding))
			}
		}
	}
	boxes(t, out, chunks)
	return out, padding
}

// difference describes how our file differs from ffmpeg's.
func difference(ours, ffmpeg []byte) string {
	first := 0
	for first < min(len(ours), len(ffmpeg)) && ours[first] == ffmpeg[first] {
		first++
	}
	return fmt.Sprintf("%d bytes, ffmpeg's %d; the first that differs is %d", len(ours), len(ffmpeg), first)
}
