package recording

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
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
	// ErrUnsupported says that MP4 could, but this program does not read it.
	ErrUnsupported = errors.New("not supported")
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

// Stretch is a stretch of whole tags of a part.
type Stretch struct {
	Extent
	// Shift is what its video's and audio's times have to be moved by, in milliseconds.
	Shift [2]int64
	// NoDelay says that its pictures' PTS are to be their DTS.
	NoDelay bool

	packets [2]int64
	last    [2]int64 // time of the last packet, as in the file
	pinned  bool     // its time is not known yet
}

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
	// Duration is how long it plays, in milliseconds.
	Duration int64
	// Lead is the number of pictures in front of the first that a decoder can start
	// at: nothing can show them.
	Lead int64
	// Starts are the numbers, from 0, of the pictures that a player can start at
	// though they do not say so: of intra slices only, or the first of a video that
	// has no such picture.
	Starts []int64
	// Early is the number of packets, none or one of each stream, in front of all
	// others that come again in their place: a demuxer that looks for what it knows
	// at the beginning finds a stream that begins late.
	Early [2]int64
	// Moved is the number of packets whose time was wrong by more than a packet's
	// time, and Furthest how much the worst was wrong, in milliseconds.
	Moved, Furthest int64
	// Stretches are the part's tags: its sequence headers, then its packets, in
	// the order of the file. See Reader.
	Stretches []Stretch
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
	// Unsupported are the tags of streams that MP4 could hold and this program
	// does not support, by codec.
	Unsupported map[Codec]int64

	tooMany bool
}

// Err says why a file with this content cannot become MP4, or is nil.
func (s Survey) Err() error {
	if len(s.Parts) == 0 && len(s.Unsupported) > 0 {
		return fmt.Errorf("its %s is %w", strings.Join(s.unsupported(), " and its "), ErrUnsupported)
	}
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
	}
	return nil
}

func (s Survey) unsupported() []string {
	var codecs []string
	for c := range s.Unsupported {
		codecs = append(codecs, string(c))
	}
	slices.Sort(codecs)
	return codecs
}

// Losses says, a phrase each, what of the recording is not in the MP4 files of its
// parts, or not at the time that the FLV file gives it. Where there is such a thing
// the FLV file has something that they have not.
func (s Survey) Losses() (losses []string) {
	say := func(format string, args ...any) { losses = append(losses, fmt.Sprintf(format, args...)) }
	switch n := len(s.Damage); {
	case n == 1:
		say("damaged at byte %d", s.Damage[0].Off)
	case n > 1:
		say("damaged at byte %d and in %d places in all", s.Damage[0].Off, n)
	}
	var lead, moved, furthest int64
	for _, p := range s.Parts {
		lead += p.Lead
		moved += p.Moved
		furthest = max(furthest, p.Furthest)
	}
	if lead > 0 {
		say("%s left out before the first that can be decoded", counted(lead, "picture"))
	}
	if moved > 0 {
		say("%s with wrong times moved, by up to %.3f s", counted(moved, "packet"), float64(furthest)/1000)
	}
	for _, c := range s.unsupported() {
		say("%s of %s left out, which is %v", counted(s.Unsupported[Codec(c)], "packet"), c, ErrUnsupported)
	}
	return losses
}

func counted(n int64, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// Dropped and Moved count the packets that Losses tells of.
func (s Survey) Dropped() (n int64) {
	for _, p := range s.Parts {
		n += p.Lead
	}
	for _, of := range s.Unsupported {
		n += of
	}
	return n
}

func (s Survey) Moved() (n int64) {
	for _, p := range s.Parts {
		n += p.Moved
	}
	return n
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
		if header, err := w.joined(pos); err != nil {
			return Survey{}, err
		} else if header > 0 {
			pos += header
			w.join(pos)
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
		if header, err := w.joined(pos - headerSize); err != nil {
			return Survey{}, err
		} else if header > 0 { // the file before was cut
			w.join(pos)
		}
	}
	w.finishTimes()
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
	id := uint32(b[8])<<16 | uint32(b[9])<<8 | uint32(b[10])
	if t.end-4 > w.in.size || !knownKind(b) {
		return t, false, nil
	}
	b, err = w.in.at(t.end-4, 4+tagHeader)
	if err != nil {
		return t, false, err
	}
	if len(b) < 4 { // cut behind the tag
		t.end = w.in.size
		return t, id == w.id, nil
	}
	behind := int64(binary.BigEndian.Uint32(b))
	ok := behind == t.size+tagHeader
	if !ok && id == w.id {
		ok = behind == t.size+tagHeader-1 || behind == t.size && behind != 0
		if next := b[4:]; behind == 0 && (len(next) < tagHeader || knownKind(next)) {
			// Some write no length behind any tag.
			if off == w.start {
				w.unsized = true
			}
			ok = w.unsized
			w.skipped = w.skipped || ok
		}
	}
	if ok && off == w.start {
		w.id = id // always 0, the specification says
	}
	return t, ok, nil
}

func knownKind(b []byte) bool { return b[0] == tagAudio || b[0] == tagVideo || b[0] == tagScript }

// knownTag looks at a tag's header: one of the three kinds, and the stream of the
// file's first tag.
func (w *walker) knownTag(b []byte) bool {
	return knownKind(b) && uint32(b[8])<<16|uint32(b[9])<<8|uint32(b[10]) == w.id
}

// headerSize is the length in bytes of an FLV file's header, with the length behind the
// tag before the first, which is 0.
const headerSize = 13

// joined returns the length of the header of an FLV file that was put behind another
// one, 0 if there is none at off.
func (w *walker) joined(off int64) (int64, error) {
	b, err := w.in.at(off, headerSize)
	if err != nil || len(b) < headerSize || string(b[:4]) != "FLV\x01" || binary.BigEndian.Uint32(b[5:]) != headerSize-4 {
		return 0, err
	}
	return headerSize, nil
}

// join begins a part of its own for the file that was joined and whose first tag is at
// off: it has its own parameters, and its times begin again.
func (w *walker) join(off int64) {
	w.skipped = true
	w.start, w.unsized = off, false
	w.finishTimes()
	w.times = [2]timeline{}
	if len(w.parts) == maxParts {
		w.tooMany = true
		return
	}
	w.parts = append(w.parts, part{})
	w.fileFirst = len(w.parts) - 1
	w.current = [2]int{w.fileFirst, w.fileFirst}
}

// resync returns the offset of the first whole tag at off or behind it.
func (w *walker) resync(off int64) (int64, bool, error) {
	for ; off+tagHeader <= w.in.size; off++ {
		b, err := w.in.at(off, tagHeader)
		if err != nil {
			return 0, false, err
		}
		if !w.knownTag(b) {
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
	cut := len(b) < tagHeader || w.knownTag(b)
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
	codec      Codec
	sum        [sha256.Size]byte
	header     Extent // the sequence header's tag, empty for a codec without
	lengthSize int    // of the length before each NAL unit, bytes
}

func (c config) same(d config) bool { return c.codec == d.codec && c.sum == d.sum }

type walker struct {
	in      window
	start   int64
	id      uint32 // of the stream that the tags belong to
	unsized bool   // there is no length behind the tags
	parts   []part
	current [2]int // the part that a stream is in
	// fileFirst is the first part of the file, where several were joined.
	fileFirst int
	damage    []Extent
	cut       int64
	// skipped: a tag was left out that a demuxer would stumble over.
	skipped     bool
	tooMany     bool
	unsupported map[Codec]int64
	times       [2]timeline
	suspect     *suspect
	pins        int      // stretches that something refers to
	unit        [64]byte // the beginning of a NAL unit
}

// part is a Part in the making.
type part struct {
	configs     [2]config // video, audio
	streams     [2]Stream
	scripts     []Extent // metadata before the first packet
	data        []Stretch
	from        int64    // offset of the first packet
	first, last [2]int64 // DTS in milliseconds, as in the file
	pace        [2]int64 // milliseconds from one packet to the next
	firstAt     [2]int   // stretch of the first packet
	firstTag    [2]Extent
	runs        [2]run
	starts      []int64
	lead        int64
	started     bool
	delayed     int64 // packets whose PTS is wrong
	picture     Picture
	sets        *parameterSets // while the picture is looked for
}

// run is what Paces and Delays compare a packet with: the one before.
type run struct{ dts, pace, delay int64 } // milliseconds

func (p *part) empty() bool { return p.streams[0].Packets+p.streams[1].Packets == 0 }

// FFmpeg looks for streams in the first 5 MB and 90 s of an FLV file and ignores
// those it meets later (libavformat/demux.c, avformat_find_stream_info).
const (
	lateBytes = 4 << 20
	lateTime  = 30_000 // milliseconds
)

// maxScript is the size in bytes of a script tag that a demuxer can take back.
const maxScript = 16 << 10

// maxParts bounds how many files one publisher can make of one recording.
const maxParts = 4096

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
		w.script(t)
		return nil
	}
	// FFmpeg knows HEVC by its name in enhanced RTMP alone, see Reader.
	w.skipped = w.skipped || t.kind == tagVideo && m.codec == HEVC && b[0]&0x80 == 0
	switch m.kind {
	case broken, ignored:
		w.skipped = true
	case unsupported:
		if w.unsupported == nil {
			w.unsupported = map[Codec]int64{}
		}
		w.unsupported[m.codec]++
		w.skipped = true
	case sequenceHeader:
		return w.header(t, m)
	case packet:
		return w.packet(t, m)
	}
	return nil
}

// script keeps the metadata that a demuxer reads before the first packet. FFmpeg
// makes a stream of any other.
func (w *walker) script(t tag) {
	const name = "\x02\x00\x0aonMetaData"
	if len(w.parts) == 0 {
		w.parts = append(w.parts, part{})
	}
	p := &w.parts[w.fileFirst]
	if len(w.parts) > w.fileFirst+1 || !p.empty() || t.size > maxScript || t.dts != 0 || string(t.head[:len(name)]) != name {
		w.skipped = true
		return
	}
	p.scripts = append(p.scripts, t.extent())
}

func (t tag) extent() Extent { return Extent{t.off, t.end - t.off} }

func (w *walker) header(t tag, m media) error {
	sum, err := w.in.sum(t.off+tagHeader+m.skip, t.size-m.skip)
	if err != nil {
		return err
	}
	c := config{codec: m.codec, sum: sum, header: t.extent()}
	// ISO/IEC 14496-15, AVCDecoderConfigurationRecord and that of HEVC.
	at := map[Codec]int64{H264: 4, HEVC: 21}[m.codec]
	if at > 0 && t.size-m.skip > at {
		b, err := w.in.at(t.off+tagHeader+m.skip+at, 1)
		if err != nil {
			return err
		}
		c.lengthSize = int(b[0]&3) + 1
	}
	if len(w.parts) == 0 {
		w.parts = append(w.parts, part{})
	}
	p := &w.parts[len(w.parts)-1]
	had := p.configs[m.stream]
	switch {
	case had.same(c):
		w.skipped = true // FFmpeg would take FLV's idea of the sample rate with it
	case had.codec != "" && p.streams[m.stream].Packets > 0:
		w.split(m.stream, c)
	default:
		w.skipped = w.skipped || had.codec != ""
		p.configs[m.stream] = c
	}
	return nil
}

// split begins another part, in which one stream has other parameters.
func (w *walker) split(stream int, c config) {
	if len(w.parts) == maxParts {
		w.tooMany = true
		return
	}
	p := &w.parts[len(w.parts)-1]
	next := part{configs: p.configs}
	next.configs[stream] = c
	w.parts = append(w.parts, next)
	w.current[audio] = len(w.parts) - 1
	if stream == video || p.streams[video].Packets == 0 && w.current[video] == len(w.parts)-2 {
		w.current[video] = len(w.parts) - 1
	}
}

// packet adds a packet to its part. Where only the sound has changed its parameters
// the video goes on in the part before, up to a picture that it can start at.
func (w *walker) packet(t tag, m media) error {
	if len(w.parts) == 0 {
		w.parts = append(w.parts, part{})
	}
	last := &w.parts[len(w.parts)-1]
	c := config{codec: m.codec, sum: m.sum}
	if hasHeader(m.codec) {
		had := last.configs[m.stream]
		adts, isADTS := adtsConfig(m, t)
		switch {
		case had.codec == m.codec && had.header.Len > 0:
			c = had
		case isADTS:
			c = adts
		default:
			// Nobody can decode it before its sequence header.
			w.damage = append(w.damage, t.extent())
			return nil
		}
	}
	switch had := last.configs[m.stream]; {
	case had.same(c):
	case had.codec != "" && last.streams[m.stream].Packets > 0:
		w.split(m.stream, c)
	default:
		w.skipped = w.skipped || had.codec != ""
		last.configs[m.stream] = c
	}
	kind := noStart
	if m.stream == video {
		var err error
		if kind, err = w.startOf(t, m, c, !w.parts[w.current[video]].started || w.current[video] < len(w.parts)-1); err != nil {
			return err
		}
		if kind != noStart {
			w.current[video] = len(w.parts) - 1
		}
	}
	n := w.current[m.stream]
	p := &w.parts[n]
	s := &p.streams[m.stream]
	if m.stream == video {
		switch {
		case kind == intraStart:
			p.starts = append(p.starts, s.Packets)
			p.started = true
			s.Keys++
		case kind == randomStart:
			p.started = true
			s.Keys++
		case !p.started:
			p.lead++
		}
	}
	if m.codec == H264 && p.picture.Width == 0 && s.Packets < maxLooks {
		if err := w.look(p, t, m.skip); err != nil {
			return err
		}
	}
	if m.stream == audio {
		s.Keys++
	}
	w.place(n, t, m)
	return nil
}

// place adds the packet to the part's stretches.
func (w *walker) place(n int, t tag, m media) {
	p := &w.parts[n]
	s := &p.streams[m.stream]
	if p.empty() {
		p.from = t.off
	}
	raw, pinned := w.time(m.stream, t.dts)
	c := &w.times[m.stream]
	wrongDelay := m.delay > max(maxDelay, 16*c.pace) || m.delay < -max(maxDelay, 16*c.pace)
	if wrongDelay {
		p.delayed++
		m.delay = 0
	}
	shift := [2]int64{w.times[video].shift, w.times[audio].shift}
	i := len(p.data) - 1
	if pinned || wrongDelay || i < 0 || p.data[i].pinned || p.data[i].NoDelay ||
		p.data[i].Off+p.data[i].Len != t.off || !p.data[i].goesOn(shift) {
		if len(p.data) >= 64 && len(p.data) == cap(p.data) {
			w.compact(n)
		}
		p.data = append(p.data, Stretch{Extent: Extent{Off: t.off}, Shift: shift, NoDelay: wrongDelay, pinned: pinned})
		i = len(p.data) - 1
		if pinned {
			w.pins++
		}
	}
	p.data[i].Len += t.end - t.off
	p.data[i].Shift[m.stream] = shift[m.stream]
	p.data[i].packets[m.stream]++
	p.data[i].last[m.stream] = raw
	if s.Packets == 0 {
		p.first[m.stream], p.firstAt[m.stream], p.firstTag[m.stream] = raw, i, t.extent()
	}
	s.Packets++
	s.Bytes += t.size - m.skip
	r := &p.runs[m.stream]
	if pace := raw - r.dts; s.Packets <= 2 || pace != r.pace {
		s.Paces++
		r.pace = pace
	}
	if s.Packets == 1 || m.delay != r.delay {
		s.Delays++
		r.delay = m.delay
	}
	r.dts = raw
	p.last[m.stream] = raw
	w.timed(m.stream, raw, pinned, place{n, i})
	p.pace[m.stream] = c.pace
}

// goesOn reports whether packets that are moved by shift belong to the stretch. What
// it has no packets of does not matter.
func (s *Stretch) goesOn(shift [2]int64) bool {
	for i := range shift {
		if s.packets[i] > 0 && s.Shift[i] != shift[i] {
			return false
		}
	}
	return true
}

// compact makes one of stretches that turned out to be. Times that jump about have a
// stretch for each packet at first.
func (w *walker) compact(n int) {
	p := &w.parts[n]
	if w.pins > 0 {
		return
	}
	kept := p.data[:1]
	at := make([]int, len(p.data)) // where a stretch is now
	for i, s := range p.data[1:] {
		last := &kept[len(kept)-1]
		both := s
		for j := range s.packets {
			if s.packets[j] == 0 {
				both.Shift[j], both.last[j] = last.Shift[j], last.last[j]
			}
		}
		if last.Off+last.Len == s.Off && !last.NoDelay && !s.NoDelay && last.goesOn(both.Shift) {
			last.Len += s.Len
			last.Shift, last.last = both.Shift, both.last
			last.packets[video] += s.packets[video]
			last.packets[audio] += s.packets[audio]
		} else {
			kept = append(kept, s)
		}
		at[i+1] = len(kept) - 1
	}
	p.data = kept
	for stream := range 2 {
		p.firstAt[stream] = at[p.firstAt[stream]]
		if c := &w.times[stream]; c.stepAt.part == n {
			c.stepAt.stretch = at[c.stepAt.stretch]
		}
	}
}

// adtsConfig returns the parameters of AAC that comes without a sequence header, in
// ADTS frames: ISO/IEC 14496-3, adts_fixed_header.
func adtsConfig(m media, t tag) (config, bool) {
	b := t.head[m.skip:]
	if m.codec != AAC || t.size-m.skip < 7 || b[0] != 0xff || b[1]&0xf6 != 0xf0 {
		return config{}, false
	}
	c := config{codec: AAC}
	c.sum[0], c.sum[1], c.sum[2] = 1, b[2]&0xfd, b[3]&0xc0
	return c, true
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

func (w *walker) survey() Survey {
	s := Survey{Damage: w.damage, Cut: w.cut, Unsupported: w.unsupported, tooMany: w.tooMany}
	plain := len(w.parts) == 1 && !w.skipped
	for n := range w.parts {
		if w.parts[n].empty() {
			continue
		}
		w.compact(n)
		done, asIs := w.finish(&w.parts[n])
		plain = plain && asIs
		s.Parts = append(s.Parts, done)
	}
	s.Plain = plain && len(s.Parts) == 1 && len(s.Damage) == 0 && s.Cut == 0
	return s
}

// late reports whether a stream comes after much of the other.
func (p *part) late(stream int) bool {
	other := 1 - stream
	if p.streams[stream].Packets == 0 || p.streams[other].Packets == 0 {
		return false
	}
	first := func(s int) int64 { return p.first[s] + p.data[p.firstAt[s]].Shift[s] }
	return p.firstTag[stream].Off-p.from > lateBytes || first(stream)-first(other) > lateTime
}

// finish makes a Part, and tells whether it is all that the file has of it.
func (w *walker) finish(p *part) (done Part, asIs bool) {
	asIs = true
	done = Part{Picture: p.picture, Lead: p.lead, Starts: p.starts, Moved: p.delayed}
	if p.delayed > 0 {
		done.Furthest = maxDelay
	}
	if p.streams[video].Packets > 0 && !p.started {
		// Nothing says that it cannot be decoded from its beginning on.
		done.Lead, done.Starts = 0, []int64{0}
	}
	var base int64
	begin, end := int64(math.MaxInt64), int64(math.MinInt64)
	moved := p.delayed > 0
	for i, st := range p.data {
		for stream, n := range st.packets {
			if n == 0 {
				continue
			}
			moved = moved || st.Shift[stream] != 0
			by := max(st.Shift[stream], -st.Shift[stream])
			if by > max(p.pace[stream], 1) {
				done.Moved += n
				done.Furthest = max(done.Furthest, by)
			}
			if i == p.firstAt[stream] {
				begin = min(begin, p.first[stream]+st.Shift[stream])
			}
			end = max(end, st.last[stream]+st.Shift[stream]+p.pace[stream])
		}
	}
	done.Duration = max(0, end-begin)
	if moved {
		asIs, base = false, begin
	}
	heads := p.scripts
	for stream, to := range []*Stream{&done.Video, &done.Audio} {
		h := p.configs[stream].header
		if p.streams[stream].Packets == 0 {
			asIs = asIs && h.Len == 0
			continue
		}
		*to = p.streams[stream]
		to.Codec = p.configs[stream].codec
		if h.Len > 0 {
			heads = append(heads, h)
		}
	}
	slices.SortStableFunc(heads, func(a, b Extent) int { return cmp.Compare(a.Off, b.Off) })
	for _, h := range heads {
		done.Stretches = append(done.Stretches, Stretch{Extent: h})
	}
	for stream := range 2 {
		if p.late(stream) {
			asIs = false
			done.Early[stream] = 1
			first := p.data[p.firstAt[stream]]
			first.Extent = p.firstTag[stream]
			done.Stretches = append(done.Stretches, first)
		}
	}
	done.Stretches = append(done.Stretches, p.data...)
	for i := range done.Stretches {
		for stream := range 2 {
			done.Stretches[i].Shift[stream] -= base
		}
	}
	return done, asIs
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
	ignored // that says how to show it, and nothing to show
	unsupported
	sequenceHeader
	packet
)

func hasHeader(c Codec) bool { return c == H264 || c == HEVC || c == AAC }

var videoCodecs = map[byte]Codec{
	1: "JPEG", 2: "Sorenson H.263", 3: "Screen Video", 4: "VP6", 5: "VP6 with alpha",
	6: "Screen Video 2", 7: H264, 8: "H.263", 9: "MPEG-4", 12: HEVC, 13: "AV1",
}

// fourCCs are the names of "Enhanced RTMP", version 2.
var fourCCs = map[string]Codec{
	"avc1": "H.264 of enhanced RTMP", "hvc1": HEVC, "vvc1": "VVC", "av01": "AV1", "vp08": "VP8", "vp09": "VP9",
	"Opus": "Opus", "fLaC": "FLAC", "ac-3": "AC-3", "ec-3": "E-AC-3", ".mp3": "MP3 of enhanced RTMP", "mp4a": "AAC of enhanced RTMP",
}

func fourCC(b []byte, what string) Codec {
	if c, ok := fourCCs[string(b)]; ok {
		return c
	}
	return Codec(fmt.Sprintf("%s with codec id %q", what, string(b)))
}

// couldBe are the codecs that an MP4 file of this program's could hold, but does not.
func couldBe(c Codec) bool {
	switch c {
	case "MPEG-4", "AV1", "PCM":
		return true
	}
	return false
}

// videoTag reads VIDEODATA, of which b are the first bytes and size the length.
func videoTag(b []byte, size int64) media {
	m := media{stream: video}
	if len(b) < 1 {
		return m
	}
	frame := b[0] >> 4 & 7
	if frame == 5 { // a command to the player, or metadata
		return m.ignored()
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
		if couldBe(codec) {
			return m.unsupported()
		}
		if codec != H264 && codec != HEVC {
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
		m.codec, m.skip, kind = fourCC(b[1:5], "video"), 5, b[0]&0x0f
		if kind == 6 { // several tracks
			m.codec = "video of several tracks"
			return m.unsupported()
		}
		switch kind {
		case 2, 4: // end of sequence, metadata
			if size > m.skip {
				return m.ignored()
			}
			return media{}
		}
		if m.codec != HEVC {
			return m.unsupported()
		}
		if kind == 1 { // with a composition time, which 3 has not
			m.skip = 8
			if len(b) >= 8 {
				m.delay = signed24(b[5:])
			}
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
	if id == 9 && len(b) >= 5 { // enhanced RTMP
		m.codec = fourCC(b[1:5], "audio")
		if b[0]&0x0f == 5 {
			m.codec = "audio of several tracks"
		}
		return m.unsupported()
	}
	codec, known := audioCodecs[id]
	if !known {
		codec = Codec(fmt.Sprintf("audio with codec id %d", id))
	}
	m.codec = codec
	if couldBe(codec) {
		return m.unsupported()
	}
	if codec == MP3 && len(b) >= 4 && b[1] == 0xff && b[2]&^1 == 0xe2 && b[3]>>2&3 < 3 {
		// The frame's header says MPEG-2.5; MP4 has numbers for MPEG-1 and MPEG-2 only.
		m.codec = Codec(fmt.Sprintf("MP3 at %d Hz", [...]int{11025, 12000, 8000}[b[3]>>2&3]))
	}
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

func (m media) ignored() media { return media{kind: ignored} }

func (m media) unsupported() media {
	m.kind = unsupported
	return m
}

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
