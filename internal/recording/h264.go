package recording

import (
	"bytes"
	"math"
)

// Picture is what the parameter sets of H.264 video say about how to show it.
// The numbers are those of ITU-T H.264, annex E.
type Picture struct {
	Width, Height int // in samples, without what is cropped
	// FromCorner says that nothing is cropped at the top or on the left.
	FromCorner bool
	// AspectWidth to AspectHeight is the shape of a sample; 0 to 1 if not said.
	AspectWidth, AspectHeight int
	// Range is 1 for luma from 16 to 235, 2 for 0 to 255, 0 if not said.
	Range int
	// Primaries, Transfer and Matrix are 2 if not said.
	Primaries, Transfer, Matrix int
}

// parameterSets are those that a decoder would have. Which of them count is known
// when a slice names one, so they are read as libav's decoder does, and what it
// refuses is refused here: libavcodec/h264_parse.c, h264_ps.c, h2645_vui.c.
type parameterSets struct {
	lengthSize int // of the length before each NAL unit, bytes
	sequences  map[uint32]sequence
	pictures   map[uint32]uint32 // from a picture parameter set to its sequence's
}

type sequence struct {
	nal     []byte
	picture Picture
}

// NAL unit types, ITU-T H.264 table 7-1.
const (
	nalSlice    = 1
	nalIDRSlice = 5
	nalSequence = 7
	nalPicture  = 8
)

// newParameterSets reads an AVCDecoderConfigurationRecord, ISO/IEC 14496-15. Of
// one that is broken off it has what comes before.
func newParameterSets(config []byte) *parameterSets {
	p := &parameterSets{sequences: map[uint32]sequence{}, pictures: map[uint32]uint32{}}
	if len(config) < 7 || config[0] != 1 {
		return p
	}
	p.lengthSize = int(config[4]&3) + 1
	count, b := int(config[5]&0x1f), config[6:]
	for range 2 { // sequence, picture parameter sets
		for ; count > 0; count-- {
			if len(b) < 2 {
				return p
			}
			n := int(b[0])<<8 | int(b[1])
			if n > len(b)-2 {
				return p
			}
			p.add(b[2 : 2+n])
			b = b[2+n:]
		}
		if len(b) == 0 {
			return p
		}
		count, b = int(b[0]), b[1:]
	}
	return p
}

// add takes a NAL unit, if it is one of a kind that is kept.
func (p *parameterSets) add(nal []byte) {
	if len(nal) < 2 {
		return
	}
	r := newBits(nal[1:])
	switch nal[0] & 0x1f {
	case nalSequence:
		id, picture, ok := readSequence(r, false)
		if !ok { // some write it without the bytes that prevent start codes
			id, picture, ok = readSequence(bits{b: nal[1:], end: 8 * (len(nal) - 1)}, false)
		}
		if !ok {
			id, picture, ok = readSequence(r, true)
		}
		if !ok || bytes.Equal(nal, p.sequences[id].nal) {
			return
		}
		for pps, sps := range p.pictures {
			if sps == id {
				delete(p.pictures, pps)
			}
		}
		p.sequences[id] = sequence{bytes.Clone(nal), picture}
	case nalPicture:
		pps, sps := r.ue(), r.ue()
		if _, ok := p.sequences[sps]; ok && pps < 256 && !r.bad {
			p.pictures[pps] = sps
		}
	}
}

// show returns what a decoder would show a packet as, of which b is the beginning;
// false if it holds no slice or the sets that it needs are not there.
func (p *parameterSets) show(b []byte) (Picture, bool) {
	for p.lengthSize > 0 && len(b) > p.lengthSize {
		var n int
		for _, c := range b[:p.lengthSize] {
			n = n<<8 | int(c)
		}
		b = b[p.lengthSize:]
		nal := b[:min(n, len(b))]
		b = b[len(nal):]
		if len(nal) < 2 {
			continue
		}
		if kind := nal[0] & 0x1f; kind != nalSlice && kind != nalIDRSlice {
			p.add(nal)
			continue
		}
		r := newBits(nal[1:min(len(nal), 32)])
		r.ue() // first_mb_in_slice
		r.ue() // slice_type
		id := r.ue()
		sps, ok := p.pictures[id]
		if !ok || r.bad {
			continue
		}
		return p.sequences[sps].picture, true
	}
	return Picture{}, false
}

const unspecified = 2 // tables E-3, E-4, E-5

// Bit n is set if the tables have a meaning for n, as of libavutil/pixdesc.c.
const (
	primaries = 1<<13 - 1 | 1<<22
	transfers = 1<<19 - 1
	matrices  = 1<<18 - 1
)

func known(n, among int) int {
	if n >= 32 || among>>n&1 == 0 {
		return unspecified
	}
	return n
}

// aspects is table E-1.
var aspects = [...][2]int{
	{0, 1}, {1, 1}, {12, 11}, {10, 11}, {16, 11}, {40, 33}, {24, 11}, {20, 11}, {32, 11},
	{80, 33}, {18, 11}, {15, 11}, {64, 33}, {160, 99}, {4, 3}, {3, 2}, {2, 1},
}

const extendedSAR = 255

// readSequence reads seq_parameter_set_data, ITU-T H.264 7.3.2.1.1. If lenient
// it may be shorter than what it says it holds.
func readSequence(r bits, lenient bool) (id uint32, p Picture, ok bool) {
	profile := r.read(8)
	r.read(16) // constraints, level
	if id = r.ue(); id >= 32 {
		return 0, p, false
	}
	format, depth := uint32(1), uint32(0)
	switch profile {
	case 100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 144:
		format = r.ue()
		if format > 3 || format == 3 && r.read(1) == 1 {
			return 0, p, false
		}
		depth = r.ue()
		if r.ue() != depth || depth > 6 {
			return 0, p, false
		}
		r.read(1) // qpprime_y_zero_transform_bypass_flag
		if r.read(1) == 1 && !r.scalingLists(format) {
			return 0, p, false
		}
	}
	if r.ue() > 12 { // log2_max_frame_num_minus4
		return 0, p, false
	}
	switch r.ue() { // pic_order_cnt_type
	case 0:
		if r.ue() > 12 {
			return 0, p, false
		}
	case 1:
		r.read(1)
		r.ue()
		r.ue()
		n := r.ue()
		if n > 255 {
			return 0, p, false
		}
		for range n {
			r.ue()
		}
	case 2:
	default:
		return 0, p, false
	}
	if r.ue() > 16 { // max_num_ref_frames
		return 0, p, false
	}
	r.read(1)
	width, height := int(r.ue())+1, int(r.ue())+1
	fields := 1
	if r.read(1) == 0 { // frame_mbs_only_flag
		fields = 2
		r.read(1)
	}
	const most = math.MaxInt32 / 32
	if r.bad || width > most || height > most {
		return 0, p, false
	}
	width, height = 16*width, 16*height*fields
	r.read(1)
	var left, right, top, bottom int
	if r.read(1) == 1 {
		left, right, top, bottom = int(r.ue()), int(r.ue()), int(r.ue()), int(r.ue())
		across, down := 1, fields
		if format == 1 || format == 2 {
			across = 2
		}
		if format == 1 {
			down *= 2
		}
		if r.bad || (left+right)*across >= width || (top+bottom)*down >= height {
			return 0, p, false
		}
		width -= (left + right) * across
		height -= (top + bottom) * down
	}
	p = Picture{
		Width: width, Height: height, FromCorner: left == 0 && top == 0,
		AspectHeight: 1, Primaries: unspecified, Transfer: unspecified, Matrix: unspecified,
	}
	if r.read(1) == 1 && !r.usability(&p) {
		return 0, p, false
	}
	p.checkAspect()
	return id, p, !r.bad && !r.over() || lenient && r.over()
}

// checkAspect is av_image_check_sar of libavutil/imgutils.c.
func (p *Picture) checkAspect() {
	p.AspectHeight = max(p.AspectHeight, 1)
	w, h := p.AspectWidth, p.AspectHeight
	if w < h && w > 0 && p.Width*w < h || w > h && p.Height*h < w {
		p.AspectWidth, p.AspectHeight = 0, 1
	}
}

// usability reads vui_parameters, annex E.1.1. To its end, for where that fails
// libav takes nothing of it.
func (r *bits) usability(p *Picture) bool {
	if r.read(1) == 1 {
		switch idc := int(r.read(8)); {
		case idc < len(aspects):
			p.AspectWidth, p.AspectHeight = aspects[idc][0], aspects[idc][1]
		case idc == extendedSAR:
			p.AspectWidth, p.AspectHeight = int(r.read(16)), int(r.read(16))
		}
	}
	if r.read(1) == 1 { // overscan
		r.read(1)
	}
	if r.read(1) == 1 {
		r.read(3) // video_format
		p.Range = 1 + int(r.read(1))
		if r.read(1) == 1 {
			p.Primaries = known(int(r.read(8)), primaries)
			p.Transfer = known(int(r.read(8)), transfers)
			p.Matrix = known(int(r.read(8)), matrices)
		}
	}
	if r.read(1) == 1 { // where the chroma samples are
		r.ue()
		r.ue()
	}
	if next := *r; next.read(1) == 1 && r.end-r.pos < 10 {
		return true // an encoder that writes no more than this
	}
	if r.read(1) == 1 { // timing
		r.read(32)
		r.read(32)
		r.read(1)
	}
	nal := r.read(1) == 1
	if nal && !r.bufferModel() {
		return false
	}
	vcl := r.read(1) == 1
	if vcl && !r.bufferModel() {
		return false
	}
	if nal || vcl {
		r.read(1)
	}
	r.read(1) // pic_struct_present_flag
	if r.pos == r.end || r.read(1) == 0 {
		return true
	}
	r.read(1)
	for range 4 {
		r.ue()
	}
	reorder := r.ue()
	r.ue()
	return r.over() || reorder <= 16
}

// bufferModel reads hrd_parameters, annex E.1.2.
func (r *bits) bufferModel() bool {
	n := r.ue()
	if n > 31 {
		return false
	}
	r.read(8)
	for range n + 1 {
		r.ue()
		r.ue()
		r.read(1)
	}
	r.read(20)
	return true
}

// scalingLists reads over those of a sequence, 7.3.2.1.1.1.
func (r *bits) scalingLists(format uint32) bool {
	lists := 8
	if format == 3 {
		lists = 12
	}
	for i := range lists {
		if r.read(1) == 0 {
			continue
		}
		size := 16
		if i >= 6 {
			size = 64
		}
		last, next := 8, 8
		for j := 0; j < size && next != 0; j++ {
			delta := r.se()
			if delta < -128 || delta > 127 {
				return false
			}
			next = (last + delta) & 0xff
			if next != 0 {
				last = next
			}
		}
	}
	return true
}

// bits reads a NAL unit's content bit by bit. Behind its end there are zeros.
type bits struct {
	b        []byte
	pos, end int // bits
	bad      bool
}

// newBits takes out the bytes that prevent start codes, and the bits behind the
// content, ITU-T H.264 7.3.1 and 7.3.2.11.
func newBits(b []byte) bits {
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if n := len(out); i >= 2 && n >= 2 && out[n-1] == 0 && out[n-2] == 0 && b[i-1] == 0 && b[i] <= 3 && b[i] != 0 {
			if b[i] == 3 {
				continue
			}
			out = out[:n-2] // the next start code
			break
		}
		out = append(out, b[i])
	}
	out = bytes.TrimRight(out, "\x00")
	end := 8 * len(out)
	if end > 0 {
		last := out[len(out)-1]
		for last&1 == 0 {
			last >>= 1
			end--
		}
		end--
	}
	return bits{b: out, end: end}
}

func (r *bits) over() bool { return r.pos > r.end }

// read returns the next n bits, at most 32.
func (r *bits) read(n int) (v uint32) {
	for range n {
		v <<= 1
		if r.pos < r.end {
			v |= uint32(r.b[r.pos/8]>>(7-r.pos%8)) & 1
		}
		r.pos++
	}
	return v
}

// ue reads an Exp-Golomb code, 9.1. One of more than 32 bits is bad.
func (r *bits) ue() uint32 {
	zeros := 0
	for r.read(1) == 0 {
		if zeros++; zeros > 31 {
			r.bad = true
			return 0
		}
	}
	return 1<<zeros - 1 + r.read(zeros)
}

func (r *bits) se() int {
	v := int(r.ue())
	if v&1 == 1 {
		return (v + 1) / 2
	}
	return -v / 2
}
