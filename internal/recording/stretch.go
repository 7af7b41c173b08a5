package recording

import "tunnelcast/internal/flv"

// Stretch is a range of whole tags of a part, whose times are corrected by the same amount.
type Stretch struct {
	Extent
	// Shift is added to the times of video and of audio, in milliseconds.
	Shift [2]int64
	// NoDelay reports that the PTS of the pictures must be set to their DTS.
	NoDelay bool

	packets [2]int64
	last    [2]int64 // time of the last packet, as in the file
	pending bool     // its time is not known yet
}

// continues reports whether packets with this shift belong to the stretch. The shift of a stream
// without packets does not matter.
func (s *Stretch) continues(shift [2]int64) bool {
	for i := range shift {
		if s.packets[i] > 0 && s.Shift[i] != shift[i] {
			return false
		}
	}
	return true
}

// place adds a packet to the stretches of part number n.
func (w *walker) place(n int, t tag, stream int, m flv.Media) {
	p := &w.parts[n]
	s := &p.streams[stream]
	if p.empty() {
		p.from = t.Off
	}
	raw, pending := w.time(stream, t.Timestamp)
	c := &w.times[stream]
	wrongDelay := m.Delay > max(maxDelay, 16*c.pace) || m.Delay < -max(maxDelay, 16*c.pace)
	if wrongDelay {
		p.delayed++
		m.Delay = 0
	}
	shift := [2]int64{w.times[video].shift, w.times[audio].shift}
	i := len(p.data) - 1
	if pending || wrongDelay || i < 0 || p.data[i].pending || p.data[i].NoDelay ||
		p.data[i].end() != t.Off || !p.data[i].continues(shift) {
		if len(p.data) >= 64 && len(p.data) == cap(p.data) {
			w.compact(n)
		}
		next := Stretch{Extent: Extent{Off: t.Off}, Shift: shift, NoDelay: wrongDelay, pending: pending}
		p.data = append(p.data, next)
		i = len(p.data) - 1
		if pending {
			w.pending++
		}
	}
	p.data[i].Len += t.Len
	p.data[i].Shift[stream] = shift[stream]
	p.data[i].packets[stream]++
	p.data[i].last[stream] = raw
	if s.Packets == 0 {
		p.first[stream], p.firstAt[stream], p.firstTag[stream] = raw, i, t.Extent
	}
	s.Packets++
	s.Bytes += t.Size - m.Skip
	r := &p.runs[stream]
	if pace := raw - r.dts; s.Packets <= 2 || pace != r.pace {
		s.Paces++
		r.pace = pace
	}
	if s.Packets == 1 || m.Delay != r.delay {
		s.Delays++
		r.delay = m.Delay
	}
	r.dts = raw
	p.last[stream] = raw
	w.timed(stream, raw, pending, place{n, i})
	p.pace[stream] = c.pace
}

// compact joins stretches that turned out to have the same shift. Where times jump, each packet
// has a stretch of its own at first. It does nothing while a stretch is referred to by its place.
func (w *walker) compact(n int) {
	p := &w.parts[n]
	if w.pending > 0 {
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
		if last.end() == s.Off && !last.NoDelay && !s.NoDelay && last.continues(both.Shift) {
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
