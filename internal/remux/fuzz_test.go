//go:build cgo

package remux

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"

	"tunnelcast/internal/flv"
	"tunnelcast/internal/recording/recordingtest"
)

// FuzzRun damages recordings of several kinds between their tags and in them.
func FuzzRun(f *testing.F) {
	content := makeFLV(f, picture, sound, avc, aac, []string{"-t", "0.2"})
	noHeaders := recordingtest.WithoutHeaders(content)
	then := recordingtest.Append
	changeVideo := func(change func(tag recordingtest.Tag)) []byte {
		return recordingtest.Change(content, func(tag recordingtest.Tag) recordingtest.Tag {
			if tag.Type == flv.TagVideo {
				tag.Body = bytes.Clone(tag.Body)
				change(tag)
			}
			return tag
		})
	}
	kinds := [][]byte{
		content,
		then(content, content, math.MaxUint32-5000),
		then(content, then(flv.Header, noHeaders, 80_000_000), 200),
		then(flv.Header, noHeaders, 0),
		changeVideo(func(tag recordingtest.Tag) { // key frames that are not IDR pictures
			if tag.IsVideo() {
				tag.Body[0], tag.Body[9] = 0x17, tag.Body[9]&^0x1f|1
			}
		}),
		changeVideo(func(tag recordingtest.Tag) { tag.Body[0] = tag.Body[0]&^0xf | 12 }), // CodecID of HEVC
	}
	for i := range kinds {
		f.Add(uint8(i), uint32(100), uint32(0), byte(0))
		f.Add(uint8(i), uint32(13), uint32(4), byte(1))
		f.Add(uint8(i), uint32(900), uint32(60), byte(7))
	}
	f.Fuzz(func(t *testing.T, kind uint8, at, length uint32, with byte) {
		b := bytes.Clone(kinds[int(kind)%len(kinds)])
		at %= uint32(len(b))
		for i := at; i < min(at+length%64, uint32(len(b))); i++ {
			b[i] ^= with
		}
		b = binary.BigEndian.AppendUint32(b, length)
		outs, err := remuxAll(t, b, with&1 == 0)
		if err == nil && len(outs) == 0 {
			t.Error("neither a file nor an error")
		}
	})
}
