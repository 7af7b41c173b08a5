package h264

const unspecified = 2 // in tables E-3, E-4 and E-5

// Bit n is set if libavutil/pixdesc.c knows the value n of tables E-3, E-4 and E-5.
const (
	knownPrimaries = 1<<13 - 1 | 1<<22
	knownTransfers = 1<<19 - 1
	knownMatrices  = 1<<18 - 1
)

// known returns n, or unspecified if n is not in the set.
func known(n uint32, set int) int {
	if n >= 32 || set>>n&1 == 0 {
		return unspecified
	}
	return int(n)
}

// sampleAspectRatios is table E-1, by aspect_ratio_idc.
var sampleAspectRatios = [...][2]int{
	{0, 1}, {1, 1}, {12, 11}, {10, 11}, {16, 11}, {40, 33}, {24, 11}, {20, 11}, {32, 11},
	{80, 33}, {18, 11}, {15, 11}, {64, 33}, {160, 99}, {4, 3}, {3, 2}, {2, 1},
}

// extendedSAR is the aspect_ratio_idc Extended_SAR.
const extendedSAR = 255

// vui reads vui_parameters (clause E.1.1) to its end, because FFmpeg discards the whole structure
// if any part is invalid.
func (r *rbsp) vui(p *Picture) bool {
	if r.flag() { // aspect_ratio_info_present_flag
		switch idc := int(r.u(8)); { // aspect_ratio_idc
		case idc < len(sampleAspectRatios):
			p.SARWidth, p.SARHeight = sampleAspectRatios[idc][0], sampleAspectRatios[idc][1]
		case idc == extendedSAR:
			p.SARWidth, p.SARHeight = int(r.u(16)), int(r.u(16)) // sar_width, sar_height
		}
	}
	if r.flag() { // overscan_info_present_flag
		r.flag() // overscan_appropriate_flag
	}
	if r.flag() { // video_signal_type_present_flag
		r.u(3)                    // video_format
		p.Range = 1 + int(r.u(1)) // video_full_range_flag
		if r.flag() {             // colour_description_present_flag
			p.ColourPrimaries = known(r.u(8), knownPrimaries)         // colour_primaries
			p.TransferCharacteristics = known(r.u(8), knownTransfers) // transfer_characteristics
			p.MatrixCoefficients = known(r.u(8), knownMatrices)       // matrix_coefficients
		}
	}
	if r.flag() { // chroma_loc_info_present_flag
		r.ue() // chroma_sample_loc_type_top_field
		r.ue() // chroma_sample_loc_type_bottom_field
	}
	if next := *r; next.flag() && r.end-r.pos < 10 {
		return true // FFmpeg accepts a set that some encoders end here
	}
	if r.flag() { // timing_info_present_flag
		r.u(32)  // num_units_in_tick
		r.u(32)  // time_scale
		r.flag() // fixed_frame_rate_flag
	}
	nalHRD := r.flag() // nal_hrd_parameters_present_flag
	if nalHRD && !r.hrd() {
		return false
	}
	vclHRD := r.flag() // vcl_hrd_parameters_present_flag
	if vclHRD && !r.hrd() {
		return false
	}
	if nalHRD || vclHRD {
		r.flag() // low_delay_hrd_flag
	}
	r.flag()                         // pic_struct_present_flag
	if r.pos == r.end || !r.flag() { // bitstream_restriction_flag
		return true
	}
	r.flag()                      // motion_vectors_over_pic_boundaries_flag
	r.ue()                        // max_bytes_per_pic_denom
	r.ue()                        // max_bits_per_mb_denom
	r.ue()                        // log2_max_mv_length_horizontal
	r.ue()                        // log2_max_mv_length_vertical
	maxNumReorderFrames := r.ue() // max_num_reorder_frames
	r.ue()                        // max_dec_frame_buffering
	return r.over() || maxNumReorderFrames <= 16
}

// hrd skips hrd_parameters (clause E.1.2).
func (r *rbsp) hrd() bool {
	cpbCntMinus1 := r.ue() // cpb_cnt_minus1
	if cpbCntMinus1 > 31 {
		return false
	}
	r.u(4) // bit_rate_scale
	r.u(4) // cpb_size_scale
	for range cpbCntMinus1 + 1 {
		r.ue()   // bit_rate_value_minus1
		r.ue()   // cpb_size_value_minus1
		r.flag() // cbr_flag
	}
	r.u(5) // initial_cpb_removal_delay_length_minus1
	r.u(5) // cpb_removal_delay_length_minus1
	r.u(5) // dpb_output_delay_length_minus1
	r.u(5) // time_offset_length
	return true
}
