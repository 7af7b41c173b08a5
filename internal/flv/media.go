package flv

// Kind is what the body of an audio or video tag is.
type Kind int

const (
	Empty          Kind = iota // no content, such as the end of a sequence
	Truncated                  // shorter than the fields in front of its content
	Ignored                    // a command or metadata: nothing to see or hear
	Unsupported                // of a codec that an MP4 file could hold, but this program does not read
	SequenceHeader             // what a decoder needs before the packets
	Packet
)

// Media is what the first bytes of the body of an audio or video tag say.
type Media struct {
	Kind  Kind
	Codec Codec
	Key   bool  // according to the tag, a decoder can start here
	Skip  int64 // size of the fields in front of the content, in bytes
	Delay int64 // PTS - DTS, in milliseconds
	// Format is SoundFormat, SoundRate, SoundSize and SoundType of audio without a sequence header.
	Format byte
}

// HeadSize is how many bytes of a body ParseVideo and ParseAudio look at, at most.
const HeadSize = 16

// Video frame types and packet types.
const (
	keyFrame     = 1 // FrameType, clause E.4.3.1
	commandFrame = 5

	sequenceStart   = 0 // AVCPacketType, clause E.4.3.1; VideoPacketType of E-RTMP
	codedFrames     = 1 // with a composition time
	sequenceEnd     = 2
	videoMetadata   = 4 // VideoPacketType: E-RTMP only
	videoMultitrack = 6

	isExHeader = 0x80 // E-RTMP: the tag has a VideoFourCc
)

// ParseVideo reads VIDEODATA (clause E.4.3.1) and the ExVideoTagHeader of E-RTMP. b begins the
// body, of which size is the length.
func ParseVideo(b []byte, size int64) Media {
	if len(b) < 1 {
		return Media{}
	}
	frameType := b[0] >> 4 & 7
	if frameType == commandFrame {
		return Media{Kind: Ignored}
	}
	m := Media{Key: frameType == keyFrame}
	if b[0]&isExHeader != 0 {
		return m.enhancedVideo(b, size)
	}
	m.Codec, m.Skip = codecOf(b[0]&0x0f, videoCodecs, "video"), 1
	switch {
	case m.Codec.unread():
		return m.unsupported()
	case m.Codec != H264 && m.Codec != HEVC:
		return m.packet(size)
	case len(b) < 5:
		return Media{Kind: Truncated}
	}
	m.Skip, m.Delay = 5, signed24(b[2:]) // CompositionTime
	if b[1] == sequenceStart {
		return m.sequenceHeader(size)
	}
	return m.packet(size)
}

func (m Media) enhancedVideo(b []byte, size int64) Media {
	if len(b) < 5 {
		return Media{Kind: Truncated}
	}
	packetType := b[0] & 0x0f // VideoPacketType
	m.Codec, m.Skip = codecOfFourCC(b[1:5], "video"), 5
	switch packetType {
	case videoMultitrack:
		m.Codec = "video of several tracks"
		return m.unsupported()
	case sequenceEnd, videoMetadata:
		if size > m.Skip {
			return Media{Kind: Ignored}
		}
		return Media{}
	}
	if m.Codec != HEVC {
		return m.unsupported()
	}
	if packetType == codedFrames {
		m.Skip = 8
		if len(b) >= 8 {
			m.Delay = signed24(b[5:]) // compositionTimeOffset
		}
	}
	if packetType == sequenceStart {
		return m.sequenceHeader(size)
	}
	return m.packet(size)
}

const (
	exAudioHeader   = 9 // SoundFormat: the tag has an AudioFourCc, E-RTMP
	audioMultitrack = 5 // AudioPacketType of E-RTMP
)

// ParseAudio reads AUDIODATA (clause E.4.2.1). b begins the body, of which size is the length.
func ParseAudio(b []byte, size int64) Media {
	if len(b) < 1 {
		return Media{}
	}
	m := Media{Key: true, Skip: 1}
	soundFormat := b[0] >> 4
	if soundFormat == exAudioHeader && len(b) >= 5 {
		m.Codec = codecOfFourCC(b[1:5], "audio")
		if b[0]&0x0f == audioMultitrack {
			m.Codec = "audio of several tracks"
		}
		return m.unsupported()
	}
	m.Codec = codecOf(soundFormat, audioCodecs, "audio")
	if m.Codec.unread() {
		return m.unsupported()
	}
	if m.Codec == MP3 && len(b) >= 4 {
		m.Codec = mp3(b[1:])
	}
	if m.Codec != AAC {
		m.Format = b[0]
		return m.packet(size)
	}
	if len(b) < 2 {
		return Media{Kind: Truncated}
	}
	m.Skip = 2
	if b[1] == 0 { // AACPacketType
		return m.sequenceHeader(size)
	}
	return m.packet(size)
}

// mp3 returns the codec of an MP3 frame. MP4 has object types for MPEG-1 and MPEG-2 only, not for
// the lower sampling rates of MPEG-2.5, whose frame header has 11 instead of 12 bits of
// synchronization (ISO/IEC 11172-3, clause 2.4.2.3).
func mp3(frame []byte) Codec {
	const mpeg25Layer3 = 0xe2 // with or without CRC
	rate := frame[2] >> 2 & 3
	if frame[0] != 0xff || frame[1]&^1 != mpeg25Layer3 || rate == 3 {
		return MP3
	}
	return [...]Codec{"MP3 at 11025 Hz", "MP3 at 12000 Hz", "MP3 at 8000 Hz"}[rate]
}

// packet returns m as a packet, if there is something after its fields.
func (m Media) packet(size int64) Media {
	switch {
	case size > m.Skip:
		m.Kind = Packet
	case size < m.Skip:
		m.Kind = Truncated
	}
	return m
}

func (m Media) sequenceHeader(size int64) Media {
	if size <= m.Skip {
		return Media{Kind: Truncated}
	}
	m.Kind = SequenceHeader
	return m
}

func (m Media) unsupported() Media {
	m.Kind = Unsupported
	return m
}

// signed24 reads an SI24.
func signed24(b []byte) int64 {
	return int64(int32(uint32(b[0])<<24|uint32(b[1])<<16|uint32(b[2])<<8) >> 8)
}
