package flv

import "testing"

func TestParse(t *testing.T) {
	type parse func(b []byte, size int64) Media
	for name, test := range map[string]struct {
		parse parse
		body  string
		want  Media
	}{
		"H.264 sequence header": {ParseVideo, "\x17\x00\x00\x00\x00\x01",
			Media{Kind: SequenceHeader, Codec: H264, Key: true, Skip: 5}},
		"H.264 key frame": {ParseVideo, "\x17\x01\x00\x00\x50\x00",
			Media{Kind: Packet, Codec: H264, Key: true, Skip: 5, Delay: 80}},
		"H.264 inter frame, PTS before DTS": {ParseVideo, "\x27\x01\xff\xff\xff\x00",
			Media{Kind: Packet, Codec: H264, Skip: 5, Delay: -1}},
		"H.264 end of sequence": {ParseVideo, "\x17\x02\x00\x00\x00",
			Media{Codec: H264, Key: true, Skip: 5}},
		"H.264 truncated": {ParseVideo, "\x17\x01\x00", Media{Kind: Truncated}},
		"HEVC of E-RTMP": {ParseVideo, "\x91hvc1\x00\x00\x28\x00",
			Media{Kind: Packet, Codec: HEVC, Key: true, Skip: 8, Delay: 40}},
		"HEVC of E-RTMP without composition time": {ParseVideo, "\xa3hvc1\x00",
			Media{Kind: Packet, Codec: HEVC, Skip: 5}},
		"HEVC with CodecID 12": {ParseVideo, "\x1c\x00\x00\x00\x00\x01",
			Media{Kind: SequenceHeader, Codec: HEVC, Key: true, Skip: 5}},
		"metadata of E-RTMP": {ParseVideo, "\x94hvc1\x02", Media{Kind: Ignored}},
		"command frame":      {ParseVideo, "\x57\x00", Media{Kind: Ignored}},
		"AV1 of E-RTMP": {ParseVideo, "\x91av01\x12",
			Media{Kind: Unsupported, Codec: "AV1", Key: true, Skip: 5}},
		"several tracks": {ParseVideo, "\x96\x01hvc1",
			Media{Kind: Unsupported, Codec: "video of several tracks", Key: true, Skip: 5}},
		"unknown CodecID": {ParseVideo, "\x1f\x00",
			Media{Kind: Packet, Codec: "video with codec id 15", Key: true, Skip: 1}},
		"AAC sequence header": {ParseAudio, "\xaf\x00\x12",
			Media{Kind: SequenceHeader, Codec: AAC, Key: true, Skip: 2}},
		"AAC":       {ParseAudio, "\xaf\x01\x00", Media{Kind: Packet, Codec: AAC, Key: true, Skip: 2}},
		"AAC empty": {ParseAudio, "\xaf\x01", Media{Codec: AAC, Key: true, Skip: 2}},
		"MP3": {ParseAudio, "\x2f\xff\xfb\x90", Media{Kind: Packet, Codec: MP3, Key: true, Skip: 1,
			Format: 0x2f}},
		"Opus of E-RTMP": {ParseAudio, "\x91Opus\x12",
			Media{Kind: Unsupported, Codec: "Opus", Key: true, Skip: 1}},
		"empty": {ParseAudio, "", Media{}},
	} {
		if got := test.parse([]byte(test.body), int64(len(test.body))); got != test.want {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, test.want)
		}
	}
}

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
