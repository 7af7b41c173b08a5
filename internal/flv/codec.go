package flv

import "fmt"

// Codec is the name of an audio or video encoding.
type Codec string

// The codecs that an MP4 file can hold and whose packets this package reads.
const (
	H264 Codec = "H.264"
	HEVC Codec = "HEVC"
	AAC  Codec = "AAC"
	MP3  Codec = "MP3"
)

// InMP4 reports whether players play the codec in an MP4 file.
func (c Codec) InMP4() bool { return c == H264 || c == HEVC || c == AAC || c == MP3 }

// HasSequenceHeader reports whether a decoder needs a sequence header before the packets.
func (c Codec) HasSequenceHeader() bool { return c == H264 || c == HEVC || c == AAC }

// unread reports whether an MP4 file could hold the codec, but this program does not read it.
func (c Codec) unread() bool { return c == "MPEG-4" || c == "AV1" || c == "PCM" }

// videoCodecs is CodecID of VIDEODATA (clause E.4.3.1). 8, 9, 12 and 13 are not in the
// specification: encoders and servers have agreed on them.
var videoCodecs = map[byte]Codec{
	1: "JPEG", 2: "Sorenson H.263", 3: "Screen Video", 4: "VP6", 5: "VP6 with alpha",
	6: "Screen Video 2", 7: H264, 8: "H.263", 9: "MPEG-4", 12: HEVC, 13: "AV1",
}

// audioCodecs is SoundFormat of AUDIODATA (clause E.4.2.1).
var audioCodecs = map[byte]Codec{
	0: "PCM", 1: "ADPCM", 2: MP3, 3: "PCM", 4: "Nellymoser 16 kHz", 5: "Nellymoser 8 kHz", 6: "Nellymoser",
	7: "G.711 A-law", 8: "G.711 mu-law", 10: AAC, 11: "Speex", 14: "MP3 8 kHz", 15: "device-specific audio",
}

// fourCCs is VideoFourCc and AudioFourCc of E-RTMP.
var fourCCs = map[string]Codec{
	"avc1": "H.264 of enhanced RTMP", "hvc1": HEVC, "vvc1": "VVC", "av01": "AV1", "vp08": "VP8", "vp09": "VP9",
	"Opus": "Opus", "fLaC": "FLAC", "ac-3": "AC-3", "ec-3": "E-AC-3",
	".mp3": "MP3 of enhanced RTMP", "mp4a": "AAC of enhanced RTMP",
}

func codecOf(id byte, codecs map[byte]Codec, what string) Codec {
	if c, ok := codecs[id]; ok {
		return c
	}
	return Codec(fmt.Sprintf("%s with codec id %d", what, id))
}

func codecOfFourCC(fourCC []byte, what string) Codec {
	if c, ok := fourCCs[string(fourCC)]; ok {
		return c
	}
	return Codec(fmt.Sprintf("%s with codec id %q", what, string(fourCC))) // a copy: fourCC must not escape
}
