package recording

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The layout of the file is Adobe's "Video File Format Specification", version
// 10.1, annex E; HEVC is as in "Enhancing RTMP, FLV", 2023. What counts as a
// packet and what is skipped follows FFmpeg's libavformat/flvdec.c, because what
// it reads is compared with what is counted here.

// FLVHeader opens an FLV file of audio and video, up to its first tag.
var FLVHeader = []byte("FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00")

var (
	// ErrNotFLV says that a file does not begin as an FLV file does.
	ErrNotFLV = errors.New("not an FLV file")
	// ErrNoMedia says that an FLV file holds nothing to see or hear.
	ErrNoMedia = errors.New("no audio and no video in it")
	// ErrCodec says that MP4 cannot hold what is in an FLV file.
	ErrCodec = errors.New("MP4 cannot hold")
)

// Codec is the name of what a stream is encoded with.
type Codec string

const (
	H264 Codec = "H.264"
	HEVC Codec = "HEVC"
	AAC  Codec = "AAC"
	MP3  Codec = "MP3"
)

// InMP4 says whether an MP4 file that players play can hold the codec.
func (c Codec) InMP4() bool { return c == H264 || c == HEVC || c == AAC || c == MP3 }

// Extent is a stretch of a file, in bytes.
type Extent struct{ Off, Len int64 }

// Stream is the video or the audio of a part.
type Stream struct {
	Codec   Codec // empty if the part has no such stream
	Packets int64
	Keys    int64 // packets that a player can start at
	Bytes   int64 // of the packets, without what FLV puts around them
	// Paces is the number of runs of packets that are equally far apart, Delays
	// that of runs with the same distance from DTS to PTS: the index of an MP4
	// file has an entry for each.
	Paces, Delays int64
}

// Part is a stretch of a recording with the same parameters from its beginning
// to its end. An MP4 file holds one part.
type Part struct {
	Video, Audio Stream
	// Picture is of H.264 video, and zero where its parameter sets do not say.
	Picture Picture
	// Duration is from the first packet to the last, in milliseconds.
	Duration int64
	// Extents are the part's tags: its sequence headers, then its packets, in
	// the order of the file. After FLVHeader they make an FLV file.
	Extents []Extent
}

// Survey is what an FLV file holds.
type Survey struct {
	// Parts are in the order of the file and none is without a packet.
	Parts []Part
	// Plain says that every byte of the file belongs to the one part, so that a
	// demuxer may read the file itself.
	Plain bool
	// Damage is what could not be read between tags that could.
	Damage []Extent
	// Cut is the length in bytes of a last tag that is not all there, or of the
	// zeros after the last tag that a power cut leaves.
	Cut int64

	tooMany bool
}

// Err says why a file with this content cannot become MP4, or is nil.
func (s Survey) Err() error {
	if len(s.Parts) == 0 && len(s.Damage) > 0 {
		return errors.New("nothing in it can be read")
	}
	if len(s.Parts) == 0 {
		return ErrNoMedia
	}
	if s.tooMany {
		return fmt.Errorf("it changes its parameters more than %d times", maxParts-1)
	}
	for _, p := range s.Parts {
		for _, stream := range []Stream{p.Video, p.Audio} {
			if stream.Codec != "" && !stream.Codec.InMP4() {
				return fmt.Errorf("%w its %s", ErrCodec, stream.Codec)
			}
		}
		if p.Video.Packets > 0 && p.Video.Keys == 0 {
			return errors.New("no key frame in its video")
		}
	}
	return nil
}

// Walk reads the tags of the FLV file of size bytes behind r, but not the
// packets in them. Where no tag can be read it looks for the next one. An error
// is ErrNotFLV or r's.
func Walk(r io.ReaderAt, size int64) (Survey, error) {
	w := walker{in: window{r: r, size: size}}
	head, err := w.in.at(0, 9)
	if err != nil {
		return Survey{}, err
	}
	if len(head) < 9 || string(head[:3]) != "FLV" {
		return Survey{}, ErrNotFLV
	}
	w.start = int64(binary.BigEndian.Uint32(head[5:])) + 4
	if w.start < 13 {
		return Survey{}, ErrNotFLV
	}
	for pos := w.start; pos < size; {
		t, ok, err := w.tag(pos)
		if err != nil {
			return Survey{}, err
		}
		if ok {
			if err := w.take(t); err != nil {
				return Survey{}, err
			}
			pos = t.end
			continue
		}
		next, found, err := w.resync(pos + 1)
		if err != nil {
			return Survey{}, err
		}
		if !found {
			if err := w.tail(pos); err != nil {
				return Survey{}, err
			}
			break
		}
		w.damage = append(w.damage, Extent{pos, next - pos})
		pos = next
	}
	return w.survey(), nil
}

const (
	tagAudio  = 8
	tagVideo  = 9
	tagScript = 18

	tagHeader = 11 // bytes
)

// tag is a whole tag at off; end is behind the length that follows it.
type tag struct {
	kind     byte
	off, end int64
	size     int64 // of its body
	dts      int64 // milliseconds
	head     [headSize]byte
}

// headSize is how much is looked at of a tag's body, in bytes.
const headSize = 16

// tag returns the tag at off, and whether there is a whole one. The length is
// written before and behind a tag; where the two agree it is one. FFmpeg lets
// pass the two other lengths that encoders are known to write there.
func (w *walker) tag(off int64) (tag, bool, error) {
	b, err := w.in.at(off, tagHeader+headSize)
	if err != nil || len(b) < tagHeader {
		return tag{}, false, err
	}
	t := tag{
		kind: b[0],
		off:  off,
		size: int64(b[1])<<16 | int64(b[2])<<8 | int64(b[3]),
		dts:  int64(b[7])<<24 | int64(b[4])<<16 | int64(b[5])<<8 | int64(b[6]),
	}
	copy(t.head[:], b[tagHeader:])
	t.end = off + tagHeader + t.size + 4
	if t.end-4 > w.in.size || !knownTag(b) {
		return t, false, nil
	}
	b, err = w.in.at(t.end-4, 4)
	if err != nil {
		return t, false, err
	}
	if len(b) < 4 { // cut behind the tag
		t.end = w.in.size
		return t, true, nil
	}
	behind := int64(binary.BigEndian.Uint32(b))
	return t, behind == t.size+tagHeader || behind == t.size+tagHeader-1 || behind == t.size && behind != 0, nil
}

// knownTag looks at a tag's header: one of the three kinds, stream 0.
func knownTag(b []byte) bool {
	return (b[0] == tagAudio || b[0] == tagVideo || b[0] == tagScript) && b[8]|b[9]|b[10] == 0
}

// resync returns the offset of the first whole tag at off or behind it.
func (w *walker) resync(off int64) (int64, bool, error) {
	for ; off+tagHeader <= w.in.size; off++ {
		b, err := w.in.at(off, tagHeader)
		if err != nil {
			return 0, false, err
		}
		if !knownTag(b) {
			continue
		}
		if t, ok, err := w.tag(off); err != nil || ok && t.size > 0 {
			return off, ok, err
		}
	}
	return 0, false, nil
}

// tail tells what follows the last tag: the beginning of one, or zeros, holds
// nothing that anybody could read; anything else is damage.
func (w *walker) tail(off int64) error {
	b, err := w.in.at(off, tagHeader)
	if err != nil {
		return err
	}
	cut := len(b) < tagHeader || knownTag(b)
	if !cut {
		cut, err = w.in.zero(off)
		if err != nil {
			return err
		}
	}
	rest := w.in.size - off
	if cut {
		w.cut = rest
	} else {
		w.damage = append(w.damage, Extent{off, rest})
	}
	return nil
}

// config is what a stream's packets cannot be read without. Two streams of equal
// sum can share a track.
type config struct {
	codec  Codec
	sum    [sha256.Size]byte
	header Extent // the sequence header's tag, empty for a codec without
}

func (c config) same(d config) bool { return c.codec == d.codec && c.sum == d.sum }

type walker struct {
	in     window
	start  int64
	parts  []part
	damage []Extent
	cut    int64
	// skipped: a tag was left out that a demuxer would stumble over.
	skipped bool
	tooMany bool
}

// part is a Part in the making.
type part struct {
	configs     [2]config // video, audio
	streams     [2]Stream
	data        []Extent
	from        int64 // offset of the first packet
	first, last int64 // DTS in milliseconds
	runs        [2]run
	picture     Picture
	sets        *parameterSets // while the picture is looked for
}

// run is what Paces and Delays compare a packet with: the one before.
type run struct{ dts, pace, delay int64 } // milliseconds

func (p *part) empty() bool { return p.streams[0].Packets+p.streams[1].Packets == 0 }

// A stream that joins late begins another part. FFmpeg looks for streams in the
// first 5 MB and 90 s of an FLV file and ignores those it meets later
// (libavformat/demux.c, avformat_find_stream_info).
const (
	lateBytes = 4 << 20
	lateTime  = 30_000 // milliseconds
)

// maxScript is the size in bytes of a script tag that a demuxer can take back.
const maxScript = 16 << 10

// maxParts bounds how many files one publisher can make of one recording.
const maxParts = 64

const (
	video = 0
	audio = 1
)

// take adds a tag to the survey.
func (w *walker) take(t tag) error {
	b := t.head[:min(t.size, headSize)]
	var m media
	switch t.kind {
	case tagVideo:
		m = videoTag(b, t.size)
	case tagAudio:
		m = audioTag(b, t.size)
	default:
		// FFmpeg reads these and then goes back, as far as its buffer of 32 KiB.
		w.skipped = w.skipped || t.size > maxScript
		return nil
	}
	switch m.kind {
	case broken:
		w.skipped = true
	case sequenceHeader:
		sum, err := w.in.sum(t.off+tagHeader+m.skip, t.size-m.skip)
		if err != nil {
			return err
		}
		w.open(m.stream, config{m.codec, sum, Extent{t.off, t.end - t.off}}, t)
	case packet:
		c := config{codec: m.codec, sum: m.sum}
		if hasHeader(m.codec) {
			if len(w.parts) == 0 || w.parts[len(w.parts)-1].configs[m.stream].codec != m.codec {
				// Nobody can decode it before its sequence header.
				w.damage = append(w.damage, Extent{t.off, t.end - t.off})
				return nil
			}
			c = w.parts[len(w.parts)-1].configs[m.stream]
		}
		p := w.open(m.stream, c, t)
		if p.empty() {
			p.from, p.first = t.off, t.dts
		}
		s := &p.streams[m.stream]
		if m.codec == H264 && p.picture.Width == 0 && s.Packets < maxLooks {
			if err := w.look(p, t, m.skip); err != nil {
				return err
			}
		}
		s.Packets++
		s.Bytes += t.size - m.skip
		if m.key {
			s.Keys++
		}
		r := &p.runs[m.stream]
		if pace := t.dts - r.dts; s.Packets <= 2 || pace != r.pace {
			s.Paces++
			r.pace = pace
		}
		if s.Packets == 1 || m.delay != r.delay {
			s.Delays++
			r.delay = m.delay
		}
		r.dts = t.dts
		p.last = max(p.last, t.dts)
		if n := len(p.data); n > 0 && p.data[n-1].Off+p.data[n-1].Len == t.off {
			p.data[n-1].Len += t.end - t.off
		} else {
			p.data = append(p.data, Extent{t.off, t.end - t.off})
		}
	}
	return nil
}

// maxLooks is how many packets FFmpeg decodes at most to know a stream, and
// lookSize how many bytes of one can have what matters: the parameter sets and the
// beginning of a slice.
const (
	maxLooks = 20
	lookSize = 16 << 10
)

// look reads in the packet at t, and in what came before, how to show it.
func (w *walker) look(p *part, t tag, skip int64) error {
	read := func(off, n int64) ([]byte, error) {
		b := make([]byte, max(0, min(n, lookSize)))
		_, err := io.ReadFull(io.NewSectionReader(w.in.r, off, int64(len(b))), b)
		return b, err
	}
	if p.sets == nil {
		const before = tagHeader + 5 // of VIDEODATA
		header := p.configs[video].header
		b, err := read(header.Off+before, header.Len-before-4)
		if err != nil {
			return err
		}
		p.sets = newParameterSets(b)
	}
	b, err := read(t.off+tagHeader+skip, t.size-skip)
	if err != nil {
		return err
	}
	if picture, ok := p.sets.show(b); ok {
		p.picture, p.sets = picture, nil
	}
	return nil
}

// open returns the part that a stream of configuration c goes on in: the last
// one if it holds that already or nothing that contradicts it, else a new one
// that keeps the other stream's configuration.
func (w *walker) open(stream int, c config, t tag) *part {
	if len(w.parts) == 0 {
		w.parts = append(w.parts, part{})
	}
	p := &w.parts[len(w.parts)-1]
	switch had := p.configs[stream]; {
	case had.same(c):
		return p
	case p.empty():
		w.skipped = w.skipped || had.codec != ""
	case had.codec != "", t.off-p.from > lateBytes, max(t.dts, p.last)-p.first > lateTime:
		if len(w.parts) == maxParts {
			w.tooMany = true
			return p
		}
		other := p.configs[1-stream]
		if other.header.Len == 0 {
			other = config{} // nothing to open the part with: it may join late again
		}
		w.parts = append(w.parts, part{})
		p = &w.parts[len(w.parts)-1]
		p.configs[1-stream] = other
	}
	p.configs[stream] = c
	return p
}

func (w *walker) survey() Survey {
	s := Survey{Damage: w.damage, Cut: w.cut, tooMany: w.tooMany}
	for _, p := range w.parts {
		if p.empty() {
			continue
		}
		done := Part{Duration: p.last - p.first, Picture: p.picture}
		for stream, to := range []*Stream{&done.Video, &done.Audio} {
			*to = p.streams[stream]
			if to.Packets == 0 {
				continue
			}
			to.Codec = p.configs[stream].codec
			if h := p.configs[stream].header; h.Len > 0 {
				done.Extents = append(done.Extents, h)
			}
		}
		done.Extents = append(done.Extents, p.data...)
		s.Parts = append(s.Parts, done)
	}
	s.Plain = len(s.Parts) == 1 && len(w.parts) == 1 && len(s.Damage) == 0 && s.Cut == 0 && !w.skipped
	return s
}

// media is what the first bytes of a tag's body say.
type media struct {
	kind   mediaKind
	stream int
	codec  Codec
	key    bool
	skip   int64             // bytes of the body before the packet
	delay  int64             // of its PTS behind its DTS, in milliseconds
	sum    [sha256.Size]byte // parameters that are in every packet's tag
}

type mediaKind int

const (
	nothing mediaKind = iota
	broken
	sequenceHeader
	packet
)

func hasHeader(c Codec) bool { return c == H264 || c == HEVC || c == AAC }

var videoCodecs = map[byte]Codec{
	1: "JPEG", 2: "Sorenson H.263", 3: "Screen Video", 4: "VP6", 5: "VP6 with alpha",
	6: "Screen Video 2", 7: H264, 8: "H.263", 9: "MPEG-4", 12: "HEVC with codec id 12",
}

// videoTag reads VIDEODATA, of which b are the first bytes and size the length.
func videoTag(b []byte, size int64) media {
	m := media{stream: video}
	if len(b) < 1 {
		return m
	}
	frame := b[0] >> 4 & 7
	if frame == 5 { // a command to the player, or metadata
		return m
	}
	m.key = frame == 1
	var kind byte
	if b[0]&0x80 == 0 {
		id := b[0] & 0x0f
		codec, known := videoCodecs[id]
		if !known {
			codec = Codec(fmt.Sprintf("video with codec id %d", id))
		}
		m.codec, m.skip = codec, 1
		if codec != H264 {
			return m.packet(size)
		}
		if len(b) < 5 {
			return m.broken()
		}
		kind, m.skip, m.delay = b[1], 5, signed24(b[2:])
	} else {
		if len(b) < 5 {
			return m.broken()
		}
		m.codec, m.skip = Codec(fmt.Sprintf("video with codec id %q", string(b[1:5]))), 5
		if !bytes.Equal(b[1:5], []byte("hvc1")) {
			return m.packet(size)
		}
		m.codec, kind = HEVC, b[0]&0x0f
		switch kind {
		case 1: // with a composition time, which 3 has not
			m.skip = 8
			if len(b) >= 8 {
				m.delay = signed24(b[5:])
			}
		case 2, 4: // end of sequence, metadata
			return media{}
		}
	}
	if kind == 0 {
		return m.header(size)
	}
	return m.packet(size)
}

func signed24(b []byte) int64 {
	return int64(int32(uint32(b[0])<<24|uint32(b[1])<<16|uint32(b[2])<<8) >> 8)
}

var audioCodecs = map[byte]Codec{
	0: "PCM", 1: "ADPCM", 2: MP3, 3: "PCM", 4: "Nellymoser 16 kHz", 5: "Nellymoser 8 kHz", 6: "Nellymoser",
	7: "G.711 A-law", 8: "G.711 mu-law", 10: AAC, 11: "Speex", 14: "MP3 8 kHz", 15: "device-specific audio",
}

// audioTag reads AUDIODATA, of which b are the first bytes and size the length.
func audioTag(b []byte, size int64) media {
	m := media{stream: audio, key: true, skip: 1}
	if len(b) < 1 {
		return m
	}
	id := b[0] >> 4
	codec, known := audioCodecs[id]
	if !known {
		codec = Codec(fmt.Sprintf("audio with codec id %d", id))
	}
	m.codec = codec
	if codec != AAC {
		m.sum[0] = b[0] // rate, sample size, channels
		return m.packet(size)
	}
	if len(b) < 2 {
		return m.broken()
	}
	m.skip = 2
	if b[1] == 0 {
		return m.header(size)
	}
	return m.packet(size)
}

func (m media) packet(size int64) media {
	switch {
	case size > m.skip:
		m.kind = packet
	case size < m.skip:
		m.kind = broken
	}
	return m
}

func (m media) header(size int64) media {
	if size <= m.skip {
		return m.broken()
	}
	m.kind = sequenceHeader
	return m
}

func (m media) broken() media { return media{kind: broken} }

// window reads a file a few kilobytes at a time where tags are small, and only
// what is asked for where the last was large.
type window struct {
	r    io.ReaderAt
	size int64
	off  int64
	buf  []byte
	mem  [4096]byte
}

// at returns the n bytes at off, or fewer at the end of the file. They are good
// until the next call.
func (w *window) at(off int64, n int) ([]byte, error) {
	n = int(max(0, min(int64(n), w.size-off)))
	if off < w.off || off+int64(n) > w.off+int64(len(w.buf)) {
		most := int64(len(w.mem))
		if off-w.off > 4*most {
			most = max(int64(n), 4+tagHeader+headSize) // the end of a tag, and the next one's beginning
		}
		read, err := w.r.ReadAt(w.mem[:min(most, max(0, w.size-off))], off)
		if read < n {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF // the file was longer when we came
			}
			return nil, err
		}
		w.off, w.buf = off, w.mem[:read]
	}
	from := off - w.off
	return w.buf[from : from+int64(n)], nil
}

// zero says whether nothing but zeros stands from off on.
func (w *window) zero(off int64) (bool, error) {
	for off < w.size {
		b, err := w.at(off, len(w.mem))
		if err != nil {
			return false, err
		}
		for _, c := range b {
			if c != 0 {
				return false, nil
			}
		}
		off += int64(len(b))
	}
	return true, nil
}

func (w *window) sum(off, n int64) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(w.r, off, n)); err != nil {
		return sum, err
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}
