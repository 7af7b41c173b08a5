package recording

import (
	"io"

	"tunnelcast/internal/flv"
	"tunnelcast/internal/h264"
)

// startKind is whether a decoder can start at a picture.
type startKind int

const (
	noStart startKind = iota
	// intraStart: all of the picture is coded without others, but it does not say that the next
	// ones are too. Encoders of cameras send these as key frames between distant IDR pictures.
	intraStart
	// randomStart: it says so, as an IDR picture or with a recovery point.
	randomStart
)

// startOf looks into the picture in a tag if FLV calls it a key frame, and into any picture if a
// start is wanted. For codecs other than H.264 and HEVC the tag is believed.
func (w *walker) startOf(t tag, m flv.Media, c config, wanted bool) (startKind, error) {
	if m.Codec != flv.H264 && m.Codec != flv.HEVC {
		if m.Key {
			return randomStart, nil
		}
		return noStart, nil
	}
	if c.lengthSize == 0 {
		c.lengthSize = 4
	}
	n := int64(c.lengthSize)
	size := bigEndian(t.head[m.Skip : m.Skip+n])
	if size < 2 || size > t.Size-m.Skip-n {
		return asTagged(m), nil // no NAL units
	}
	first := t.head[m.Skip+n] // 12 at most
	if m.Codec == flv.H264 && h264.NALType(first) == h264.NALIDRSlice || m.Codec == flv.HEVC && hevcStart(first) {
		return randomStart, nil
	}
	if !m.Key && !wanted {
		return noStart, nil
	}
	return w.startInUnits(t, m, n)
}

// startInUnits looks at the beginning of each NAL unit of a picture. n is the size of the lengths.
func (w *walker) startInUnits(t tag, m flv.Media, n int64) (startKind, error) {
	const most = 64 // units of one picture
	off, end := t.bodyOff()+m.Skip, t.bodyEnd()
	intra := false
	for range most {
		b := w.unit[:min(int64(len(w.unit)), max(0, end-off))]
		if int64(len(b)) < n+2 {
			break
		}
		if read, err := w.in.r.ReadAt(b, off); read < len(b) {
			return noStart, unexpected(err)
		}
		size := bigEndian(b[:n])
		off += n + size
		if size < 2 || off > end {
			break
		}
		unit := b[n:min(int64(len(b)), n+size)]
		if m.Codec == flv.HEVC {
			if hevcStart(unit[0]) {
				return randomStart, nil
			}
			continue
		}
		switch h264.NALType(unit[0]) {
		case h264.NALIDRSlice:
			return randomStart, nil
		case h264.NALSEI:
			if h264.RecoveryPoint(unit) {
				return randomStart, nil
			}
		case h264.NALSlice:
			if !h264.IntraSlice(unit) {
				return noStart, nil
			}
			intra = true
		}
	}
	if intra {
		return intraStart, nil
	}
	return asTagged(m), nil
}

// asTagged is what the tag says about a picture that cannot be read.
func asTagged(m flv.Media) startKind {
	if m.Key {
		return intraStart
	}
	return noStart
}

// hevcStart reports whether the first byte of a NAL unit is that of an intra random access point:
// nal_unit_type is 16 to 21 (Rec. ITU-T H.265, clause 7.3.1.2 and table 7-1).
func hevcStart(b byte) bool { return b>>1&0x3f >= 16 && b>>1&0x3f <= 21 }

func bigEndian(b []byte) (n int64) {
	for _, c := range b {
		n = n<<8 | int64(c)
	}
	return n
}

const (
	// maxLooks is how many packets FFmpeg decodes to learn about a stream.
	maxLooks = 20
	// lookSize is how many bytes of a packet can have what matters for its display: the parameter
	// sets and the beginning of a slice.
	lookSize = 16 << 10
)

// look finds in a packet and in the sequence header how the part is displayed.
func (w *walker) look(p *part, t tag, m flv.Media) error {
	read := func(off, n int64) ([]byte, error) {
		b := make([]byte, max(0, min(n, lookSize)))
		_, err := io.ReadFull(io.NewSectionReader(w.in.r, off, int64(len(b))), b)
		return b, err
	}
	if p.sets == nil {
		const before = flv.TagHeaderSize + 5 // of VIDEODATA
		header := p.configs[video].header
		b, err := read(header.Off+before, header.Len-before-flv.PreviousTagSize)
		if err != nil {
			return err
		}
		p.sets = h264.NewParameterSets(b)
	}
	b, err := read(t.bodyOff()+m.Skip, t.Size-m.Skip)
	if err != nil {
		return err
	}
	if picture, ok := p.sets.Picture(b); ok {
		p.picture, p.sets = picture, nil
	}
	return nil
}
