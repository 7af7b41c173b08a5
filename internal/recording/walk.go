package recording

import (
	"io"

	"tunnelcast/internal/flv"
)

// Walk reads the tags of the FLV file of size bytes in r, but of the packets only what it needs to
// describe them. Where no tag can be read it continues at the next one. An error is ErrNotFLV or
// an error of r.
func Walk(r io.ReaderAt, size int64) (Survey, error) {
	w := walker{scanner: scanner{in: window{r: r, size: size}}}
	if err := w.open(); err != nil {
		return Survey{}, err
	}
	for pos := w.first; pos < size; {
		t, whole, err := w.tag(pos)
		if err != nil {
			return Survey{}, err
		}
		if whole {
			if err := w.take(t); err != nil {
				return Survey{}, err
			}
			pos = t.end()
			continue
		}
		if joined, err := w.joined(pos); err != nil {
			return Survey{}, err
		} else if joined {
			pos += int64(len(flv.Header))
			w.join(pos)
			continue
		}
		next, found, err := w.resync(pos + 1)
		if err != nil {
			return Survey{}, err
		}
		if !found {
			if err := w.end(pos); err != nil {
				return Survey{}, err
			}
			break
		}
		w.damage = append(w.damage, Extent{pos, next - pos})
		pos = next
		if joined, err := w.joined(pos - int64(len(flv.Header))); err != nil {
			return Survey{}, err
		} else if joined { // and the file before it was cut
			w.join(pos)
		}
	}
	w.finishTimes()
	return w.survey(), nil
}

// end records what is after the last tag.
func (w *walker) end(off int64) error {
	cut, err := w.cut(off)
	if err != nil {
		return err
	}
	rest := w.in.size - off
	if cut {
		w.cutBytes = rest
	} else {
		w.damage = append(w.damage, Extent{off, rest})
	}
	return nil
}

// walker makes a Survey of the tags of a file.
type walker struct {
	scanner
	parts   []part
	current [2]int // by stream, the part that its packets belong to
	// fileFirst is the first part of the present file, if several files were joined.
	fileFirst int
	damage    []Extent
	cutBytes  int64
	// skipped reports that a tag is in no part: a demuxer that read the file would meet it.
	skipped     bool
	tooMany     bool
	unsupported map[flv.Codec]int64

	times   [2]timeline // by stream
	step    *step       // one that only one stream has made so far
	pending int         // stretches whose times may still be changed
	unit    [64]byte    // the beginning of a NAL unit
}

// The two streams of a recording, as indices.
const (
	video = 0
	audio = 1
)

// maxParts limits how many files a publisher can make of one recording.
const maxParts = 4096

// take adds a tag to the survey.
func (w *walker) take(t tag) error {
	var m flv.Media
	stream := video
	switch t.Type {
	case flv.TagVideo:
		m = flv.ParseVideo(t.body(), t.Size)
	case flv.TagAudio:
		m, stream = flv.ParseAudio(t.body(), t.Size), audio
	default:
		w.script(t)
		return nil
	}
	// FFmpeg knows HEVC by its FourCC only. See Reader.
	w.skipped = w.skipped || t.Type == flv.TagVideo && m.Codec == flv.HEVC && t.head[0]&0x80 == 0
	switch m.Kind {
	case flv.Truncated, flv.Ignored:
		w.skipped = true
	case flv.Unsupported:
		if w.unsupported == nil {
			w.unsupported = map[flv.Codec]int64{}
		}
		w.unsupported[m.Codec]++
		w.skipped = true
	case flv.SequenceHeader:
		return w.header(t, stream, m)
	case flv.Packet:
		return w.packet(t, stream, m)
	}
	return nil
}

// script keeps the metadata that a demuxer reads before the first packet. FFmpeg makes a stream of
// any other script tag.
func (w *walker) script(t tag) {
	const most = 16 << 10 // bytes that a demuxer can take back
	w.ensurePart()
	p := &w.parts[w.fileFirst]
	if len(w.parts) > w.fileFirst+1 || !p.empty() || t.Size > most || t.Timestamp != 0 ||
		string(t.head[:len(flv.MetaData)]) != flv.MetaData {
		w.skipped = true
		return
	}
	p.scripts = append(p.scripts, t.Extent)
}

// ensurePart adds the first part.
func (w *walker) ensurePart() {
	if len(w.parts) == 0 {
		w.parts = append(w.parts, part{})
	}
}

// join begins a part for a file that was joined and whose first tag is at off: it has its own
// parameters, and its times begin anew.
func (w *walker) join(off int64) {
	w.skipped = true
	w.first, w.unsized = off, false
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

// split begins another part, in which one stream has other parameters. If only the sound has
// changed, the video continues in the part before up to a picture at which it can start.
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

// survey returns what was found.
func (w *walker) survey() Survey {
	s := Survey{Damage: w.damage, Cut: w.cutBytes, Unsupported: w.unsupported, tooMany: w.tooMany}
	plain := len(w.parts) == 1 && !w.skipped && !w.unusual
	for n := range w.parts {
		if w.parts[n].empty() {
			continue
		}
		w.compact(n)
		done, asIs := w.parts[n].finish()
		plain = plain && asIs
		s.Parts = append(s.Parts, done)
	}
	s.Plain = plain && len(s.Parts) == 1 && len(s.Damage) == 0 && s.Cut == 0
	return s
}
