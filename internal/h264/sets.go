package h264

import "bytes"

// ParameterSets holds the parameter sets that a decoder has received. A picture parameter set
// counts only while the sequence parameter set that it refers to is unchanged.
type ParameterSets struct {
	lengthSize int // of the length before each NAL unit, in bytes; 0 without a configuration record
	sequences  map[uint32]sequence
	pictures   map[uint32]uint32 // from pic_parameter_set_id to seq_parameter_set_id
}

type sequence struct {
	nal     []byte
	picture Picture
}

// NewParameterSets reads an AVCDecoderConfigurationRecord (ISO/IEC 14496-15, clause 5.3.3.1.2).
// From a truncated record it takes the sets before the cut.
func NewParameterSets(record []byte) *ParameterSets {
	p := &ParameterSets{sequences: map[uint32]sequence{}, pictures: map[uint32]uint32{}}
	const header = 6                             // bytes up to the first set
	if len(record) <= header || record[0] != 1 { // configurationVersion
		return p
	}
	p.lengthSize = int(record[4]&3) + 1              // lengthSizeMinusOne
	count, b := int(record[5]&0x1f), record[header:] // numOfSequenceParameterSets
	for range 2 {
		for ; count > 0; count-- {
			if len(b) < 2 {
				return p
			}
			n := int(b[0])<<8 | int(b[1]) // sequenceParameterSetLength, pictureParameterSetLength
			if n > len(b)-2 {
				return p
			}
			p.add(b[2 : 2+n])
			b = b[2+n:]
		}
		if len(b) == 0 {
			return p
		}
		count, b = int(b[0]), b[1:] // numOfPictureParameterSets
	}
	return p
}

// add stores a NAL unit if it is a parameter set.
func (p *ParameterSets) add(nal []byte) {
	if len(nal) < 2 {
		return
	}
	r := newRBSP(nal[1:])
	switch NALType(nal[0]) {
	case NALSPS:
		id, picture, ok := sequenceParameterSet(r, false)
		if !ok { // some encoders write it without emulation prevention
			id, picture, ok = sequenceParameterSet(rawRBSP(nal[1:]), false)
		}
		if !ok {
			id, picture, ok = sequenceParameterSet(r, true)
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
	case NALPPS: // pic_parameter_set_rbsp, clause 7.3.2.2
		pps := r.ue() // pic_parameter_set_id
		sps := r.ue() // seq_parameter_set_id
		if _, ok := p.sequences[sps]; ok && pps < 256 && !r.bad {
			p.pictures[pps] = sps
		}
	}
}

// Picture returns how a decoder displays the packet that begins with b, and stores the parameter
// sets before the packet's first slice. It returns false if there is no slice in b, or the slice
// refers to parameter sets that are missing or invalid.
func (p *ParameterSets) Picture(b []byte) (Picture, bool) {
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
		if kind := NALType(nal[0]); kind != NALSlice && kind != NALIDRSlice {
			p.add(nal)
			continue
		}
		r := newRBSP(nal[1:min(len(nal), 32)]) // slice_header, clause 7.3.3
		r.ue()                                 // first_mb_in_slice
		r.ue()                                 // slice_type
		pps := r.ue()                          // pic_parameter_set_id
		sps, ok := p.pictures[pps]
		if !ok || r.bad {
			continue
		}
		return p.sequences[sps].picture, true
	}
	return Picture{}, false
}
