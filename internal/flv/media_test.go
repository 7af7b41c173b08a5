package flv

import "testing"

func TestMP3OfMPEG25(t *testing.T) {
	for frame, want := range map[[3]byte]Codec{
		{0xff, 0xfb, 0x90}: MP3, // MPEG-1
		{0xff, 0xf3, 0x80}: MP3, // MPEG-2
		{0xff, 0xe3, 0x80}: "MP3 at 11025 Hz",
		{0xff, 0xe2, 0x84}: "MP3 at 12000 Hz",
		{0xff, 0xe3, 0x88}: "MP3 at 8000 Hz",
		{0xff, 0xe3, 0x8c}: MP3, // a reserved rate
		{0xff, 0xe1, 0x80}: MP3, // another layer
		{0, 0, 0}:          MP3,
	} {
		if m := ParseAudio(append([]byte{0x2e}, frame[:]...), 100); m.Codec != want {
			t.Errorf("% x: %s, want %s", frame, m.Codec, want)
		}
	}
}
