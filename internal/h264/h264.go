// Package h264 reads from H.264 video how it is displayed and where a decoder can start.
//
// Clauses and tables are those of Rec. ITU-T H.264 (08/2021), which is ISO/IEC 14496-10. A
// comment beside each read names the syntax element as the Recommendation spells it. The
// configuration record and the length before each NAL unit are those of ISO/IEC 14496-15.
//
// The input comes from anybody who may publish. The package never panics, its work is bounded
// by the length of the input, and it accepts and rejects what FFmpeg's decoder does
// (libavcodec/h264_parse.c, h264_ps.c, h2645_vui.c), because its results replace that decoder's.
package h264

// NAL unit types (nal_unit_type, table 7-1).
const (
	NALSlice    = 1 // coded slice of a non-IDR picture
	NALIDRSlice = 5 // coded slice of an IDR picture
	NALSEI      = 6 // supplemental enhancement information
	NALSPS      = 7 // sequence parameter set
	NALPPS      = 8 // picture parameter set
)

// NALType returns the nal_unit_type in the first byte of a NAL unit (nal_unit_header, clause 7.3.1).
func NALType(first byte) int { return int(first & 0x1f) }

// Picture is how a decoder displays a picture.
type Picture struct {
	Width, Height int // of the cropped picture, in luma samples
	// FromCorner reports that nothing is cropped on the left and at the top.
	FromCorner bool
	// SARWidth to SARHeight is the sample aspect ratio; 0 to 1 if it is unspecified.
	SARWidth, SARHeight int
	// Range is 1 for limited range (video_full_range_flag 0), 2 for full range, 0 if it is unspecified.
	Range int
	// The colour description, as in tables E-3, E-4 and E-5; 2 if it is unspecified.
	ColourPrimaries, TransferCharacteristics, MatrixCoefficients int
}

// IntraSlice reports whether a NAL unit of type NALSlice is an I or SI slice: it refers to no
// other picture. The first bytes of the unit suffice.
func IntraSlice(nal []byte) bool {
	if len(nal) < 2 {
		return false
	}
	r := newRBSP(nal[1:]) // slice_header, clause 7.3.3
	r.ue()                // first_mb_in_slice
	sliceType := r.ue() % 5
	const i, si = 2, 4 // table 7-6, where 5 more means that all slices of the picture are of this type
	return !r.bad && (sliceType == i || sliceType == si)
}

// RecoveryPoint reports whether a NAL unit of type NALSEI has a recovery point message (clause
// D.1.8): a decoder can start at its picture.
func RecoveryPoint(nal []byte) bool {
	const recoveryPoint = 6 // payloadType, clause D.1.1
	if len(nal) < 1 {
		return false
	}
	for b := nal[1:]; len(b) > 2; { // sei_message, clause 7.3.2.3.1
		var payloadType, payloadSize int
		for _, value := range []*int{&payloadType, &payloadSize} {
			for len(b) > 0 && b[0] == 0xff { // ff_byte
				*value += 255
				b = b[1:]
			}
			if len(b) == 0 {
				return false
			}
			*value += int(b[0]) // last_payload_type_byte, last_payload_size_byte
			b = b[1:]
		}
		if payloadType == recoveryPoint {
			return true
		}
		b = b[min(payloadSize, len(b)):]
	}
	return false
}
