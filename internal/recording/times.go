package recording

import "slices"

// The times of a recording are what its publisher sent. This file corrects those that no player
// could follow. FFmpeg's program ignores the time of a packet that is more than 30 hours away from
// the one before (ts_discontinuity_detect of fftools/ffmpeg_demux.c). For an FLV file that is all
// it does: times that go back it leaves to the muxer, which then shows the pictures within an
// instant.
//
// A time follows the one before it in its stream if it is not earlier and not much later. Any other
// time is held until the next packets of the stream show what it is: a single wrong time, which is
// then placed between its neighbours; a step to another range of times, which then continues the
// old one; or a gap, which is kept. All times are in milliseconds.
const (
	// longestGap is dts_error_threshold of FFmpeg's program.
	longestGap = 30 * 3600_000
	// farApart is the distance between the two streams from which on a step of one stream alone
	// is taken for an error of its times.
	farApart = 3000
	// defaultPace is the distance between packets while it is not known.
	defaultPace = 40
	// maxHeld is how many packets are held before all of them are taken for wrong.
	maxHeld = 8
	// maxDelay limits the time from the DTS of a picture to its PTS.
	maxDelay = 10_000
)

// timeline is the times of one stream.
type timeline struct {
	known     bool  // there was a time that the next ones can be compared with
	raw       int64 // of the last packet, as in the file, but not reduced to 32 bits
	out       int64 // of the last packet, corrected
	top       int64 // the latest out
	pace      int64 // from one packet to the next, 0 if not known
	shift     int64 // from raw to out
	prevShift int64 // before the last step
	held      []heldPacket
	stepped   bool  // there was a step
	stepOut   int64 // out of the first packet after the last step
	stepAt    place // and its place
}

// heldPacket is a packet whose time is not known yet.
type heldPacket struct {
	at  place
	raw int64
}

// place is the place of a packet: a stretch of a part.
type place struct{ part, stretch int }

// step is a step forwards that only one of the two streams has made so far: perhaps an error.
type step struct {
	stream     int
	at         place
	by         int64 // how much too late the times are, if it is an error
	own, other int64 // out of both streams at the step
	packets    [2]int
}

// unwrap returns a time of 32 bits as the nearest one to the last of the stream.
func (c *timeline) unwrap(ms int64) int64 {
	near := c.raw
	if n := len(c.held); n > 0 {
		near = c.held[n-1].raw
	} else if !c.known {
		return ms
	}
	return near + int64(int32(uint32(ms)-uint32(near)))
}

func (c *timeline) paceOrDefault() int64 {
	if c.pace > 0 {
		return c.pace
	}
	return defaultPace
}

// reach is how much later than the packet before it a packet may be without being held.
func (c *timeline) reach() int64 {
	if c.pace == 0 {
		return 200
	}
	return 3*c.pace + 50
}

// follows reports whether a packet at the time b follows one at a.
func (c *timeline) follows(a, b int64) bool { return b >= a && b-a <= c.reach() }

// early is how much earlier than the packet before it a packet may be: the muxer then puts it right
// after that one, which moves it by about one packet's duration. The minimum allows for delays in
// the network, because sound packets often last less than those.
func (c *timeline) early() int64 { return min(max(c.paceOrDefault(), 32), 100) }

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

// time returns the time of the next packet of a stream, and whether it is pending: the packet then
// needs a stretch of its own.
func (w *walker) time(stream int, ms int64) (raw int64, pending bool) {
	c := &w.times[stream]
	raw = c.unwrap(ms)
	return raw, !c.known || len(c.held) > 0 || raw-c.raw < -c.early() || raw-c.raw > c.reach() ||
		raw+c.shift < c.top-c.early()
}

// timed takes the packet that time was called for, when it has its place.
func (w *walker) timed(stream int, raw int64, pending bool, at place) {
	c := &w.times[stream]
	if !pending {
		if raw > c.raw {
			c.accept(raw)
		}
		w.checkStep(stream)
		return
	}
	if c.known && len(c.held) == 0 && c.follows(c.raw, raw) {
		// In a range of times that the stream was in before, and still earlier than the latest.
		c.raw = raw
		w.setAfterLast(stream, heldPacket{at, raw})
		return
	}
	c.held = append(c.held, heldPacket{at, raw})
	w.decide(stream, false)
}

// decide sets the times of the held packets, if the packets so far suffice for that. No others
// follow if end is set.
func (w *walker) decide(stream int, end bool) {
	c := &w.times[stream]
	h := c.held
	n := len(h) - 1
	if n < 0 {
		return
	}
	last := h[n].raw
	if !c.known {
		w.beginTimes(stream, end)
		return
	}
	switch d := last - c.raw; {
	case n > 0 && d >= -c.early() && d <= int64(n+1)*max(c.reach(), 1000):
		// It continues as before: the packets in between are wrong if their times are not in between.
		w.setBetween(stream, h[:n], c.out, max(c.out, last+c.shift))
		if last+c.shift < c.top-c.early() {
			c.raw = last
			w.setAfterLast(stream, h[n])
			break
		}
		w.setShift(h[n], stream, c.shift)
		c.accept(max(last, c.raw))
	case n > 0 && c.follows(h[n-1].raw, last) || end || n >= maxHeld:
		first := n
		for first > 0 && c.follows(h[first-1].raw, h[first].raw) {
			first--
		}
		w.stepTo(stream, h, first, end)
	default:
		return
	}
	c.held = c.held[:0]
	w.checkStep(stream)
}

// beginTimes finds the first right time of a stream.
func (w *walker) beginTimes(stream int, end bool) {
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
	// Wrong times before it do not count: it is the nearest to the time of the other stream.
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
			w.step = &step{stream: stream, at: h[0].at, by: d, own: out, other: other.out}
			w.pending++
		}
	}
	c.prevShift = c.shift
	w.setShift(h[first], stream, c.shift)
	c.accept(raw)
	rest := slices.Clone(h[first+1:])
	wrong := slices.Clone(h[:first])
	c.held = c.held[:0]
	for i, p := range wrong {
		out := c.out - int64(len(wrong)-i)*c.paceOrDefault()
		w.setShift(p, stream, out-p.raw)
	}
	for i, p := range rest {
		c.held = append(c.held, p)
		if len(c.held) == 1 && p.raw-c.raw >= -c.early() && p.raw-c.raw <= c.reach() {
			w.setShift(p, stream, c.shift)
			c.accept(max(p.raw, c.raw))
			c.held = c.held[:0]
			continue
		}
		w.decide(stream, end && i == len(rest)-1)
	}
	w.checkStep(stream)
}

// stepTo continues with other times: from the held packet number first on they follow each other.
func (w *walker) stepTo(stream int, h []heldPacket, first int, end bool) {
	c, other := &w.times[stream], &w.times[1-stream]
	raw := h[first].raw
	d := raw - c.raw
	if s := w.step; s != nil && s.stream == stream && d < 0 && raw+c.shift < s.own {
		// Back in the times before a step forwards: that one was the error.
		if back := raw + c.shift - (s.own - s.by); back >= 0 && back < c.out-s.own+2000 {
			w.move(stream, s.at, -s.by)
			c.shift += s.by
			d = raw + c.shift - c.out
		}
		w.forgetStep()
	}
	shift := c.shift
	next := c.out + int64(first+1)*c.paceOrDefault()
	alone := end && len(h) == 1 && other.known && d > farApart && raw+shift > other.out+farApart
	gap := d >= 0 && d <= longestGap && !alone
	if !gap {
		shift = w.continued(stream, raw, next)
		if alone {
			shift = next - raw
		}
	}
	out := raw + shift
	w.setBetween(stream, h[:first], c.out, max(min(out, next), c.out))
	if gap && d > farApart && w.step == nil && (!other.known || out > other.out+farApart) {
		w.step = &step{stream: stream, at: h[first].at, by: out - next, own: out, other: other.out}
		w.pending++
	}
	if shift != c.shift {
		c.prevShift, c.shift = c.shift, shift
		c.stepped, c.stepOut, c.stepAt = true, out, h[first].at
	}
	for _, p := range h[first:] {
		if p.raw+shift < c.top {
			c.raw = p.raw
			w.setAfterLast(stream, p)
			continue
		}
		w.setShift(p, stream, shift)
		c.accept(p.raw)
	}
}

// continued returns the shift with which a stream continues at the time raw, so that it is at next
// or near it. If the other stream has made the same step, both keep the distance that they have
// after it.
func (w *walker) continued(stream int, raw, next int64) int64 {
	c, other := &w.times[stream], &w.times[1-stream]
	target := next
	if other.known && other.out > next+farApart/3 {
		target = other.out // the stream was silent before the step
	}
	recent := other.stepped && other.out-other.stepOut < farApart
	latest := target + farApart/2
	if recent {
		latest = target + farApart
	}
	// A wrong time that was accepted may have been this much too late.
	earliest := c.top - c.reach() + c.paceOrDefault()
	if out := raw + other.shift; other.known && out <= latest && (out >= c.top || !recent && out >= earliest) {
		return other.shift
	}
	for _, shift := range []int64{c.shift, c.prevShift} {
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

// checkStep is called for each packet. It finds out, as soon as that is possible, whether the step
// of one stream is an error or the other stream has made it too.
func (w *walker) checkStep(stream int) {
	s := w.step
	if s == nil {
		return
	}
	s.packets[stream]++
	c, other := &w.times[s.stream], &w.times[1-s.stream]
	if !other.known {
		if c.out-s.own > 10_000 {
			w.forgetStep()
		}
		return
	}
	apart := c.out - other.out
	if apart < farApart && apart > -farApart {
		w.forgetStep()
		return
	}
	if c.out-s.own < 60_000 && (c.out-s.own < 1000 || s.packets[s.stream] < 10 || s.packets[1-s.stream] < 5) {
		return
	}
	w.decideStep(5)
}

// decideStep takes the step back if both streams have continued side by side since, with at least
// so many packets each.
func (w *walker) decideStep(least int) {
	s := w.step
	c, other := &w.times[s.stream], &w.times[1-s.stream]
	own, others := c.out-s.own, other.out-s.other
	apart := c.out - other.out
	if s.packets[s.stream] >= least && s.packets[1-s.stream] >= least && others > own/3 && others < 3*own+1000 &&
		(apart > farApart || apart < -farApart) {
		w.move(s.stream, s.at, -s.by)
	}
	w.forgetStep()
}

// forgetStep keeps a step as it is.
func (w *walker) forgetStep() {
	w.step = nil
	w.pending--
}

// setShift sets the time of a held packet.
func (w *walker) setShift(h heldPacket, stream int, shift int64) {
	p := &w.parts[h.at.part]
	s := &p.data[h.at.stretch]
	s.Shift[stream], s.last[stream] = shift, h.raw
	if p.firstAt[stream] == h.at.stretch {
		p.first[stream] = h.raw
	}
	s.pending = false
	w.pending--
}

// setBetween places held packets between two times, if they are not there.
func (w *walker) setBetween(stream int, held []heldPacket, from, to int64) {
	c := &w.times[stream]
	for i, p := range held {
		out := p.raw + c.shift
		if out < from || out > to {
			out = from + (to-from)/int64(len(held)-i+1)
		}
		w.setShift(p, stream, out-p.raw)
		from = max(from, out)
	}
}

// setAfterLast places a held packet that is too early right after the last.
func (w *walker) setAfterLast(stream int, h heldPacket) {
	c := &w.times[stream]
	c.top++
	c.out = c.top
	w.setShift(h, stream, c.out-h.raw)
}

// finishTimes decides about what is held at the end of a file.
func (w *walker) finishTimes() {
	for stream := range w.times {
		w.decide(stream, true)
	}
	if w.step != nil {
		w.decideStep(1) // with no packet of the other stream, the step stays
	}
}
