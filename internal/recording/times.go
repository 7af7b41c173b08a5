package recording

import "slices"

// The times of a recording are what its publisher sent, and are mended here where
// no player could follow them. FFmpeg's program (fftools/ffmpeg_demux.c,
// ts_discontinuity_detect) ignores the time of a packet that is more than 30 hours
// away from the one before. For an FLV file that is all it does: times that go back
// it leaves to the muxer, which then shows the pictures within an instant.
//
// A time follows the one before it in its stream if it is not earlier and not much
// later. One that does not is held until the next packets of the stream show what it
// is: a single wrong time, which then takes its place between its neighbours; a step
// to another range of times, where the new times go on from the old; or a gap, which
// stays. All times are in milliseconds.
const (
	// longestGap is dts_error_threshold of FFmpeg's program.
	longestGap = 30 * 3600_000
	// farApart is how far the two streams may be from each other in the file before
	// a step of one alone is taken for an error of its times.
	farApart = 3000
	// defaultPace is the distance between packets while it is not known.
	defaultPace = 40
	// maxHeld is how many packets are looked at before all are taken for wrong.
	maxHeld = 8
	// maxDelay bounds the time from a picture's DTS to its PTS.
	maxDelay = 10_000
)

// timeline is the times of one stream.
type timeline struct {
	known   bool  // a time that the next ones can be compared with
	raw     int64 // of the last packet, as it is in the file, without the turn of 32 bits
	out     int64 // the same, mended
	top     int64 // the latest of these
	pace    int64 // from one packet to the next, 0 if not known
	shift   int64 // from raw to out
	before  int64 // the shift before the last step
	held    []heldPacket
	stepped bool  // with a step, of which these are the first packet's
	stepOut int64 // time
	stepAt  place
}

type heldPacket struct {
	at  place
	raw int64
}

// place is that of a packet: a stretch of a part.
type place struct{ part, stretch int }

// suspect is a step forwards that only one of two streams has made so far.
type suspect struct {
	stream     int
	at         place
	by         int64 // too far, if it is an error
	own, other int64 // mended times at the step
	packets    [2]int
}

// unwrap returns a time of 32 bits as the one nearest to the last of the stream.
func (c *timeline) unwrap(ms int64) int64 {
	near := c.raw
	if n := len(c.held); n > 0 {
		near = c.held[n-1].raw
	} else if !c.known {
		return ms
	}
	return near + int64(int32(uint32(ms)-uint32(near)))
}

func (c *timeline) paceOr() int64 {
	if c.pace > 0 {
		return c.pace
	}
	return defaultPace
}

// reach is how much later than the packet before one may be without a second look.
func (c *timeline) reach() int64 {
	if c.pace == 0 {
		return 200
	}
	return 3*c.pace + 50
}

// follows reports whether a packet at the time b follows one at a.
func (c *timeline) follows(a, b int64) bool { return b >= a && b-a <= c.reach() }

// early is how much a packet may be before the last: the muxer then puts it right
// behind that, and it moves by no more than about one packet's time. The network's
// share is in it, for the distance of two packets of sound is often less than theirs.
func (c *timeline) early() int64 { return min(max(c.paceOr(), 32), 100) }

// accept takes a packet whose time is right.
func (c *timeline) accept(raw int64) {
	if d := raw - c.raw; c.known && d > 0 && (c.pace == 0 || d <= 2*c.pace+50) {
		c.pace = d
	}
	c.raw = raw
	c.out = raw + c.shift
	if !c.known {
		c.top = c.out
	}
	c.top = max(c.top, c.out)
	c.known = true
}

// time adds the packet at a place, which is the end of what was read, to its stream's
// times. The packet has a stretch of its own if pinned is returned.
func (w *walker) time(stream int, ms int64) (raw int64, pinned bool) {
	c := &w.times[stream]
	raw = c.unwrap(ms)
	return raw, !c.known || len(c.held) > 0 || raw-c.raw < -c.early() || raw-c.raw > c.reach() ||
		raw+c.shift < c.top-c.early()
}

// timed is called when the packet has its place.
func (w *walker) timed(stream int, raw int64, pinned bool, at place) {
	c := &w.times[stream]
	if !pinned {
		if raw > c.raw {
			c.accept(raw)
		}
		w.together(stream)
		return
	}
	if c.known && len(c.held) == 0 && c.follows(c.raw, raw) {
		// In times that the stream was in before, and still earlier than what came last.
		c.raw = raw
		w.squeeze(stream, heldPacket{at, raw})
		return
	}
	c.held = append(c.held, heldPacket{at, raw})
	w.decide(stream, false)
}

// decide finds out what the held packets are, if that can be said already.
func (w *walker) decide(stream int, end bool) {
	c := &w.times[stream]
	h := c.held
	n := len(h) - 1
	if n < 0 {
		return
	}
	last := h[n].raw
	if !c.known {
		w.begin(stream, end)
		return
	}
	switch d := last - c.raw; {
	case n > 0 && d >= -c.early() && d <= int64(n+1)*max(c.reach(), 1000):
		// It goes on as before; those between are wrong where they are not between.
		w.between(stream, h[:n], c.out, max(c.out, last+c.shift))
		if last+c.shift < c.top-c.early() {
			c.raw = last
			w.squeeze(stream, h[n])
			break
		}
		w.settle(h[n], stream, c.shift)
		c.accept(max(last, c.raw))
	case n > 0 && c.follows(h[n-1].raw, last) || end || n >= maxHeld:
		first := n
		for first > 0 && c.follows(h[first-1].raw, h[first].raw) {
			first--
		}
		w.step(stream, h, first, end)
	default:
		return
	}
	c.held = c.held[:0]
	w.together(stream)
}

// begin finds the time that a stream begins at.
func (w *walker) begin(stream int, end bool) {
	c, other := &w.times[stream], &w.times[1-stream]
	h := c.held
	n := len(h) - 1
	first := -1
	near := func(a, b int64) bool { return b >= a-c.early() && b-a <= longestGap }
	switch {
	case n == 0 && end:
		first = 0
	case n == 0:
		return
	case near(h[0].raw, h[1].raw):
		first = 0
	case n == 1 && !end:
		return
	case n == 1, near(h[1].raw, h[2].raw):
		first = 1
	default:
		first = 0
	}
	// Whatever a wrong time before it was, this is the nearest to the other stream's.
	raw := int64(uint32(h[first].raw))
	if other.known {
		raw = other.raw + int64(int32(uint32(raw)-uint32(other.raw)))
	}
	for i, turn := 0, raw-h[first].raw; i < len(h); i++ {
		h[i].raw += turn
	}
	c.shift = 0
	if other.known {
		c.shift = other.shift
		out := raw + c.shift
		switch d := out - other.out; {
		case d > longestGap || d < -longestGap:
			c.shift = other.out - raw
		case d > farApart || d < -farApart:
			w.suspect = &suspect{stream: stream, at: h[0].at, by: d, own: out, other: other.out}
			w.pins++
		}
	}
	c.before = c.shift
	w.settle(h[first], stream, c.shift)
	c.accept(raw)
	rest := slices.Clone(h[first+1:])
	early := slices.Clone(h[:first])
	c.held = c.held[:0]
	for i, p := range early { // wrong times before the first right one
		out := c.out - int64(len(early)-i)*c.paceOr()
		w.settle(p, stream, out-p.raw)
	}
	for i, p := range rest {
		c.held = append(c.held, p)
		if len(c.held) == 1 && p.raw-c.raw >= -c.early() && p.raw-c.raw <= c.reach() {
			w.settle(p, stream, c.shift)
			c.accept(max(p.raw, c.raw))
			c.held = c.held[:0]
			continue
		}
		w.decide(stream, end && i == len(rest)-1)
	}
	w.together(stream)
}

// between gives packets a place between two times, if they are not there.
func (w *walker) between(stream int, held []heldPacket, from, to int64) {
	c := &w.times[stream]
	for i, p := range held {
		out := p.raw + c.shift
		if next := from; out < next || out > to {
			out = from + (to-from)/int64(len(held)-i+1)
		}
		w.settle(p, stream, out-p.raw)
		from = max(from, out)
	}
}

// step goes on with other times: from the held packet number first on they follow
// each other.
func (w *walker) step(stream int, h []heldPacket, first int, end bool) {
	c, other := &w.times[stream], &w.times[1-stream]
	raw := h[first].raw
	d := raw - c.raw
	if s := w.suspect; s != nil && s.stream == stream && d < 0 && raw+c.shift < s.own {
		// Back in the times before a step forwards: that was the error.
		if back := raw + c.shift - (s.own - s.by); back >= 0 && back < c.out-s.own+2000 {
			w.move(stream, s.at, -s.by)
			c.shift += s.by
			d = raw + c.shift - c.out
		}
		w.acquit()
	}
	shift := c.shift
	next := c.out + int64(first+1)*c.paceOr()
	alone := end && len(h) == 1 && other.known && d > farApart && raw+shift > other.out+farApart
	gap := d >= 0 && d <= longestGap && !alone
	if !gap {
		shift = w.continued(stream, raw, next)
		if alone {
			shift = next - raw
		}
	}
	out := raw + shift
	w.between(stream, h[:first], c.out, max(min(out, next), c.out))
	if gap && d > farApart && w.suspect == nil && (!other.known || out > other.out+farApart) {
		w.suspect = &suspect{stream: stream, at: h[first].at, by: out - next, own: out, other: other.out}
		w.pins++
	}
	if shift != c.shift {
		c.before, c.shift = c.shift, shift
		c.stepped, c.stepOut, c.stepAt = true, out, h[first].at
	}
	for _, p := range h[first:] {
		if p.raw+shift < c.top {
			c.raw = p.raw
			w.squeeze(stream, p)
			continue
		}
		w.settle(p, stream, shift)
		c.accept(p.raw)
	}
}

// squeeze puts a packet that comes too early right behind the last.
func (w *walker) squeeze(stream int, h heldPacket) {
	c := &w.times[stream]
	c.top++
	c.out = c.top
	w.settle(h, stream, c.out-h.raw)
}

// continued returns the shift with which a stream goes on at the time raw, so that it
// does so at next or near it. The other stream may have made the same step: then both
// keep the distance that they have after it.
func (w *walker) continued(stream int, raw, next int64) int64 {
	c, other := &w.times[stream], &w.times[1-stream]
	target := next
	if other.known && other.out > next+farApart/3 {
		target = other.out // it was silent before the step
	}
	recent := other.stepped && other.out-other.stepOut < farApart
	latest := target + farApart/2
	if recent {
		latest = target + farApart
	}
	// A wrong time that was let pass may have been this much too late.
	earliest := c.top - c.reach() + c.paceOr()
	if out := raw + other.shift; other.known && out <= latest && (out >= c.top || !recent && out >= earliest) {
		return other.shift
	}
	for _, shift := range []int64{c.shift, c.before} {
		if out := raw + shift; out >= earliest && out <= latest {
			return shift
		}
	}
	shift := target - raw
	if recent && shift > other.shift && shift-other.shift < farApart {
		w.move(1-stream, other.stepAt, shift-other.shift)
	}
	return shift
}

// move adds by to the times of a stream from a place on.
func (w *walker) move(stream int, from place, by int64) {
	for i := from.part; i < len(w.parts); i++ {
		j := 0
		if i == from.part {
			j = from.stretch
		}
		for ; j < len(w.parts[i].data); j++ {
			w.parts[i].data[j].Shift[stream] += by
		}
	}
	c := &w.times[stream]
	c.shift += by
	c.out += by
	c.top = c.out
	c.stepOut += by
}

// together looks at a step of one stream: is it an error, or has the other made it too?
func (w *walker) together(stream int) {
	s := w.suspect
	if s == nil {
		return
	}
	s.packets[stream]++
	c, other := &w.times[s.stream], &w.times[1-s.stream]
	if !other.known {
		if c.out-s.own > 10_000 {
			w.acquit()
		}
		return
	}
	apart := c.out - other.out
	if apart < farApart && apart > -farApart {
		w.acquit()
		return
	}
	if c.out-s.own < 60_000 && (c.out-s.own < 1000 || s.packets[s.stream] < 10 || s.packets[1-s.stream] < 5) {
		return
	}
	w.judge(5)
}

// judge moves the suspect's stream back if both have gone on side by side, for so many
// packets at least.
func (w *walker) judge(least int) {
	s := w.suspect
	c, other := &w.times[s.stream], &w.times[1-s.stream]
	own, others := c.out-s.own, other.out-s.other
	apart := c.out - other.out
	if s.packets[s.stream] >= least && s.packets[1-s.stream] >= least && others > own/3 && others < 3*own+1000 &&
		(apart > farApart || apart < -farApart) {
		w.move(s.stream, s.at, -s.by)
	}
	w.acquit()
}

func (w *walker) acquit() {
	w.suspect = nil
	w.pins--
}

// settle gives a held packet its time.
func (w *walker) settle(h heldPacket, stream int, shift int64) {
	p := &w.parts[h.at.part]
	s := &p.data[h.at.stretch]
	s.Shift[stream], s.last[stream] = shift, h.raw
	if p.firstAt[stream] == h.at.stretch {
		p.first[stream] = h.raw
	}
	s.pinned = false
	w.pins--
}

// finishTimes decides about what is held at the end.
func (w *walker) finishTimes() {
	for stream := range w.times {
		w.decide(stream, true)
	}
	if w.suspect != nil {
		w.judge(1) // without the other stream it is none
	}
}
