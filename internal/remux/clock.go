//go:build cgo

package remux

import (
	"math"
	"math/bits"

	"github.com/asticode/go-astiav"
)

// clock converts the times of the packets of one stream from FLV's milliseconds to the units of the
// output, as FFmpeg's program does: ts_fixup in fftools/ffmpeg_demux.c, of_streamcopy and mux_fixup_ts in
// fftools/ffmpeg_mux.c. Without it the file begins with a gap, and the times of audio jitter by up to a
// millisecond.
type clock struct {
	audio     bool
	in, out   timeBase
	samples   timeBase // one audio sample
	frameSize int64    // samples in an audio packet, 0 if not known
	start     int64    // of the recording, in units of in

	wrapped bool  // no more times before the turn of 32 bits are expected
	next    int64 // DTS of a packet that has none, in units of in
	sample  int64 // the next sample of audio
	last    int64 // DTS of the packet before, in units of out
}

type timeBase struct{ num, den int64 }

type stamp struct{ pts, dts, duration int64 }

const noTime = math.MinInt64 // AV_NOPTS_VALUE

func newClock(t *track, startTime int64) clock {
	base := func(r astiav.Rational) timeBase { return timeBase{int64(r.Num()), int64(r.Den())} }
	c := clock{in: base(t.in.TimeBase()), out: base(t.out.TimeBase()), sample: noTime, last: noTime}
	if startTime != noTime {
		c.start = rescale(startTime, timeBase{1, int64(astiav.TimeBase)}, c.in, nearest)
	}
	p := t.out.CodecParameters()
	if p.MediaType() == astiav.MediaTypeAudio {
		c.audio = true
		c.samples = timeBase{1, int64(max(p.SampleRate(), 1))}
		c.frameSize = int64(max(p.FrameSize(), 0))
	}
	return c
}

// skip advances the clock by a packet that is left out.
func (c *clock) skip(s *stamp) {
	c.unwrap(s)
	c.next = c.guess(s) + s.duration
}

// guess subtracts the start of the recording from the times. It returns the DTS, or what to assume for it.
func (c *clock) guess(s *stamp) int64 {
	guess := c.next
	if s.dts != noTime {
		s.dts -= c.start
		guess = s.dts
	}
	if s.pts != noTime {
		s.pts -= c.start
	}
	return guess
}

// set converts the times of a packet.
func (c *clock) set(s *stamp) {
	c.unwrap(s)
	s.dts = c.guess(s)
	c.next = s.dts + s.duration
	if c.audio {
		s.dts = c.steady(s.dts)
		s.pts = s.dts
	} else {
		s.dts = rescale(s.dts, c.in, c.out, nearest)
		if s.pts != noTime {
			s.pts = rescale(s.pts, c.in, c.out, nearest)
		}
	}
	s.duration = rescale(s.duration, c.in, c.out, nearest)
	c.order(s)
}

// unwrap makes times negative that are just before the turn of 32 bits, if the recording starts after it.
func (c *clock) unwrap(s *stamp) {
	if c.wrapped {
		return
	}
	c.wrapped = true
	for _, ts := range []*int64{&s.dts, &s.pts} {
		if *ts != noTime && *ts > c.start+1<<31 {
			*ts -= 1 << 32
			c.wrapped = false
		}
	}
}

// order makes the DTS strictly increasing and not later than the PTS.
func (c *clock) order(s *stamp) {
	if s.pts != noTime && s.dts > s.pts {
		s.dts = median(s.pts, s.dts, c.last+1)
		s.pts = s.dts
	}
	if c.last != noTime && s.dts <= c.last {
		if s.pts >= s.dts {
			s.pts = max(s.pts, c.last+1)
		}
		s.dts = c.last + 1
	}
	c.last = s.dts
}

// steady does what av_rescale_delta of libavutil/mathematics.c does: audio packets follow each other without
// a gap of a sample, as long as the milliseconds agree.
func (c *clock) steady(dts int64) int64 {
	simple := func() int64 {
		c.sample = rescale(dts, c.in, c.samples, nearest) + c.frameSize
		return rescale(dts, c.in, c.out, nearest)
	}
	if c.sample == noTime || c.frameSize == 0 || c.in.num*c.out.den <= c.out.num*c.in.den {
		return simple()
	}
	from := rescale(2*dts-1, c.in, c.samples, down) >> 1
	to := (rescale(2*dts+1, c.in, c.samples, up) + 1) >> 1
	if c.sample < 2*from-to || c.sample > 2*to-from {
		return simple()
	}
	at := min(max(c.sample, from), to)
	c.sample = at + c.frameSize
	return rescale(at, c.samples, c.out, nearest)
}

func median(a, b, c int64) int64 { return max(min(a, b), min(max(a, b), c)) }

type rounding int

const (
	nearest rounding = iota // halves away from zero
	down
	up
)

// rescale does what av_rescale_q_rnd of libavutil/mathematics.c does.
func rescale(n int64, from, to timeBase, r rounding) int64 {
	if n < 0 {
		switch r {
		case down:
			r = up
		case up:
			r = down
		}
		return -rescale(-max(n, -math.MaxInt64), from, to, r)
	}
	b, c := uint64(from.num*to.den), uint64(from.den*to.num)
	var add uint64
	switch r {
	case nearest:
		add = c / 2
	case up:
		add = c - 1
	}
	hi, lo := bits.Mul64(uint64(n), b)
	lo, carry := bits.Add64(lo, add, 0)
	hi += carry
	if hi >= c {
		return noTime
	}
	q, _ := bits.Div64(hi, lo, c)
	if q > math.MaxInt64 {
		return noTime
	}
	return int64(q)
}
