package recording

import (
	"cmp"
	"crypto/sha256"
	"math"
	"slices"

	"tunnelcast/internal/flv"
	"tunnelcast/internal/h264"
)

// part is a Part in the making. Arrays of two are by stream.
type part struct {
	configs     [2]config
	streams     [2]Stream
	scripts     []Extent // metadata before the first packet
	data        []Stretch
	from        int64    // offset of the first packet
	first, last [2]int64 // DTS in milliseconds, as in the file
	pace        [2]int64 // from one packet to the next, in milliseconds
	firstAt     [2]int   // index in data of the stretch with the first packet
	firstTag    [2]Extent
	runs        [2]run
	starts      []int64
	lead        int64
	started     bool  // a decoder can start at a picture that was found
	delayed     int64 // packets whose PTS is wrong
	picture     h264.Picture
	sets        *h264.ParameterSets // until the picture is known
}

// run is what Paces and Delays compare a packet with: the one before it.
type run struct{ dts, pace, delay int64 } // milliseconds

func (p *part) empty() bool { return p.streams[video].Packets+p.streams[audio].Packets == 0 }

// config is what the packets of a stream cannot be read without. Two streams with the same codec
// and sum can share a track.
type config struct {
	codec      flv.Codec
	sum        [sha256.Size]byte // of the parameters
	header     Extent            // the tag of the sequence header, empty if the codec has none
	lengthSize int               // of the length before each NAL unit, in bytes
}

func (c config) same(d config) bool { return c.codec == d.codec && c.sum == d.sum }

// header takes a sequence header: it begins another part if it differs from the last one.
func (w *walker) header(t tag, stream int, m flv.Media) error {
	sum, err := w.in.sum(t.bodyOff()+m.Skip, t.Size-m.Skip)
	if err != nil {
		return err
	}
	c := config{codec: m.Codec, sum: sum, header: t.Extent}
	// lengthSizeMinusOne of AVCDecoderConfigurationRecord and HEVCDecoderConfigurationRecord,
	// ISO/IEC 14496-15.
	at := map[flv.Codec]int64{flv.H264: 4, flv.HEVC: 21}[m.Codec]
	if at > 0 && t.Size-m.Skip > at {
		b, err := w.in.at(t.bodyOff()+m.Skip+at, 1)
		if err != nil {
			return err
		}
		c.lengthSize = int(b[0]&3) + 1
	}
	w.ensurePart()
	if w.parts[len(w.parts)-1].configs[stream].same(c) {
		w.skipped = true // with it, FFmpeg would take the sample rate of the tag
	} else {
		w.configure(stream, c)
	}
	return nil
}

// configure sets other parameters of a stream: in a new part if the last one has packets of the stream.
// Video that still continued in the part before changes to the last part at once, without a start.
func (w *walker) configure(stream int, c config) {
	p := &w.parts[len(w.parts)-1]
	had := p.configs[stream]
	if had.codec != "" && p.streams[stream].Packets > 0 {
		w.split(stream, c)
		return
	}
	w.skipped = w.skipped || had.codec != ""
	p.configs[stream] = c
	w.current[stream] = len(w.parts) - 1
}

// packet adds a packet to its part.
func (w *walker) packet(t tag, stream int, m flv.Media) error {
	w.ensurePart()
	last := &w.parts[len(w.parts)-1]
	c := config{codec: m.Codec}
	c.sum[0] = m.Format
	if m.Codec.HasSequenceHeader() {
		had := last.configs[stream]
		adts, isADTS := adtsConfig(m, t)
		switch {
		case had.codec == m.Codec && had.header.Len > 0:
			c = had
		case isADTS:
			c = adts
		default: // no decoder can decode it before its sequence header
			w.damage = append(w.damage, t.Extent)
			return nil
		}
	}
	if !last.configs[stream].same(c) {
		w.configure(stream, c)
	}
	if stream == audio {
		w.parts[w.current[audio]].streams[audio].Keys++
	} else if err := w.pictureIn(t, m, c); err != nil {
		return err
	}
	w.place(w.current[stream], t, stream, m)
	return nil
}

// pictureIn finds out what a packet of video is for a decoder: a picture at which it can start, or
// one that it cannot show. At a start the video changes to the last part.
func (w *walker) pictureIn(t tag, m flv.Media, c config) error {
	wanted := !w.parts[w.current[video]].started || w.current[video] < len(w.parts)-1
	kind, err := w.startOf(t, m, c, wanted)
	if err != nil {
		return err
	}
	if kind != noStart {
		w.current[video] = len(w.parts) - 1
	}
	p := &w.parts[w.current[video]]
	s := &p.streams[video]
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
	if m.Codec == flv.H264 && p.picture.Width == 0 && s.Packets < maxLooks {
		return w.look(p, t, m)
	}
	return nil
}

// adtsConfig returns the parameters of AAC without a sequence header, in ADTS frames
// (adts_fixed_header, ISO/IEC 14496-3): all but the buffer fullness and the lengths.
func adtsConfig(m flv.Media, t tag) (config, bool) {
	b := t.head[m.Skip:]
	if m.Codec != flv.AAC || t.Size-m.Skip < 7 || b[0] != 0xff || b[1]&0xf6 != 0xf0 { // syncword, layer
		return config{}, false
	}
	c := config{codec: flv.AAC}
	c.sum[0], c.sum[1], c.sum[2] = 1, b[2]&0xfd, b[3]&0xc0
	return c, true
}

// FFmpeg looks for streams in the first 5 MB and 90 s of an FLV file and ignores those that begin
// later (avformat_find_stream_info of libavformat/demux.c).
const (
	lateBytes = 4 << 20
	lateTime  = 30_000 // milliseconds
)

// late reports whether a stream begins after much of the other.
func (p *part) late(stream int) bool {
	other := 1 - stream
	if p.streams[stream].Packets == 0 || p.streams[other].Packets == 0 {
		return false
	}
	first := func(s int) int64 { return p.first[s] + p.data[p.firstAt[s]].Shift[s] }
	return p.firstTag[stream].Off-p.from > lateBytes || first(stream)-first(other) > lateTime
}

// finish returns the Part, and whether a demuxer finds in the file just what is in the part.
func (p *part) finish() (done Part, asIs bool) {
	asIs = true
	done = Part{Picture: p.picture, Lead: p.lead, Starts: p.starts, Moved: p.delayed}
	if p.delayed > 0 {
		done.Furthest = maxDelay
	}
	if p.streams[video].Packets > 0 && !p.started {
		// Nothing says that it cannot be decoded from its first picture.
		done.Lead, done.Starts = 0, []int64{0}
	}
	begin, moved := p.finishTimes(&done)
	var base int64
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

// finishTimes sets the duration of the part and counts what was moved. It returns the first time
// in the part, and whether any time was changed.
func (p *part) finishTimes(done *Part) (begin int64, moved bool) {
	begin, end := int64(math.MaxInt64), int64(math.MinInt64)
	moved = p.delayed > 0
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
	return begin, moved
}
