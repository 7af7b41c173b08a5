package recording

// startKind is whether a decoder can begin at a picture.
type startKind int

const (
	noStart startKind = iota
	// intraStart: all of the picture is coded without others, but it does not say
	// that those after it are too. Encoders of cameras send these, and call them key
	// frames, between IDR pictures that are far apart.
	intraStart
	// randomStart: it says so, as an IDR picture or with a recovery point.
	randomStart
)

const (
	nalSEI = 6
	// maxUnits bounds what is looked at of one picture.
	maxUnits = 64
)

// startOf looks at the picture in a tag: at one that FLV calls a key frame, and at
// any if a start is wanted. FLV's word counts for other codecs.
func (w *walker) startOf(t tag, m media, c config, wanted bool) (startKind, error) {
	if m.codec != H264 && m.codec != HEVC {
		if m.key {
			return randomStart, nil
		}
		return noStart, nil
	}
	if c.lengthSize == 0 {
		c.lengthSize = 4
	}
	var size int64
	for _, x := range t.head[m.skip : int(m.skip)+c.lengthSize] {
		size = size<<8 | int64(x)
	}
	if size < 2 || size > t.size-m.skip-int64(c.lengthSize) {
		return m.believed(), nil // no NAL units
	}
	first := t.head[int(m.skip)+c.lengthSize] // 12 at most
	if m.codec == H264 && first&0x1f == nalIDRSlice || m.codec == HEVC && hevcStart(first) {
		return randomStart, nil
	}
	if !m.key && !wanted {
		return noStart, nil
	}
	off, end := t.off+tagHeader+m.skip, t.off+tagHeader+t.size
	intra := false
	for range maxUnits {
		b := w.unit[:min(int64(len(w.unit)), max(0, end-off))]
		if len(b) < c.lengthSize+2 {
			break
		}
		if n, err := w.in.r.ReadAt(b, off); n < len(b) {
			return noStart, unexpected(err)
		}
		var size int64
		for _, x := range b[:c.lengthSize] {
			size = size<<8 | int64(x)
		}
		off += int64(c.lengthSize) + size
		if size < 2 || off > end {
			break
		}
		unit := b[c.lengthSize:min(int64(len(b)), int64(c.lengthSize)+size)]
		if m.codec == HEVC {
			if hevcStart(unit[0]) {
				return randomStart, nil
			}
			continue
		}
		switch unit[0] & 0x1f {
		case nalIDRSlice:
			return randomStart, nil
		case nalSEI:
			if recoveryPoint(unit[1:]) {
				return randomStart, nil
			}
		case nalSlice:
			r := newBits(unit[1:])
			r.ue() // first_mb_in_slice
			if kind := r.ue() % 5; r.bad || kind != 2 && kind != 4 {
				return noStart, nil
			}
			intra = true
		}
	}
	if intra {
		return intraStart, nil
	}
	return m.believed(), nil
}

// believed is what FLV says of a picture that cannot be read.
func (m media) believed() startKind {
	if m.key {
		return intraStart
	}
	return noStart
}

// hevcStart reports whether the NAL unit with this first byte is of an intra random
// access point, ITU-T H.265 table 7-1.
func hevcStart(b byte) bool { return b>>1&0x3f >= 16 && b>>1&0x3f <= 21 }

// recoveryPoint looks for that message among those of a unit of supplemental
// enhancement information, ITU-T H.264 7.3.2.3.1 and annex D.
func recoveryPoint(b []byte) bool {
	for len(b) > 2 {
		var kind, size int
		for _, to := range []*int{&kind, &size} {
			for len(b) > 0 && b[0] == 0xff {
				*to += 255
				b = b[1:]
			}
			if len(b) == 0 {
				return false
			}
			*to += int(b[0])
			b = b[1:]
		}
		if kind == 6 {
			return true
		}
		b = b[min(size, len(b)):]
	}
	return false
}
