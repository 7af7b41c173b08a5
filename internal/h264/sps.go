package h264

import "math"

// The values of chroma_format_idc (table 6-1).
const (
	chroma420 = 1
	chroma422 = 2
	chroma444 = 3
)

// sequenceParameterSet reads seq_parameter_set_data (clause 7.3.2.1.1): its seq_parameter_set_id
// and what it says about pictures. A truncated set is accepted if truncatable is set.
func sequenceParameterSet(r rbsp, truncatable bool) (id uint32, p Picture, ok bool) {
	profileIDC := r.u(8)       // profile_idc
	r.u(16)                    // constraint_set0_flag to reserved_zero_2bits, level_idc
	if id = r.ue(); id >= 32 { // seq_parameter_set_id
		return 0, p, false
	}
	chromaFormat := uint32(chroma420)
	switch profileIDC {
	case 100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 144: // FFmpeg's list: 144 is an early High 4:4:4
		chromaFormat = r.ue()                                                  // chroma_format_idc
		if chromaFormat > chroma444 || chromaFormat == chroma444 && r.flag() { // separate_colour_plane_flag
			return 0, p, false
		}
		bitDepthLuma := r.ue()                          // bit_depth_luma_minus8
		if r.ue() != bitDepthLuma || bitDepthLuma > 6 { // bit_depth_chroma_minus8
			return 0, p, false
		}
		r.flag()                                        // qpprime_y_zero_transform_bypass_flag
		if r.flag() && !r.scalingMatrix(chromaFormat) { // seq_scaling_matrix_present_flag
			return 0, p, false
		}
	}
	if r.ue() > 12 { // log2_max_frame_num_minus4
		return 0, p, false
	}
	switch r.ue() { // pic_order_cnt_type
	case 0:
		if r.ue() > 12 { // log2_max_pic_order_cnt_lsb_minus4
			return 0, p, false
		}
	case 1:
		r.flag()    // delta_pic_order_always_zero_flag
		r.se()      // offset_for_non_ref_pic
		r.se()      // offset_for_top_to_bottom_field
		n := r.ue() // num_ref_frames_in_pic_order_cnt_cycle
		if n > 255 {
			return 0, p, false
		}
		for range n {
			r.se() // offset_for_ref_frame
		}
	case 2:
	default:
		return 0, p, false
	}
	if r.ue() > 16 { // max_num_ref_frames
		return 0, p, false
	}
	r.flag()                       // gaps_in_frame_num_value_allowed_flag
	widthInMBs := int(r.ue()) + 1  // pic_width_in_mbs_minus1
	heightInMUs := int(r.ue()) + 1 // pic_height_in_map_units_minus1
	fields := 1                    // 2 - frame_mbs_only_flag
	if !r.flag() {                 // frame_mbs_only_flag
		fields = 2
		r.flag() // mb_adaptive_frame_field_flag
	}
	const most = math.MaxInt32 / 32
	if r.bad || widthInMBs > most || heightInMUs > most {
		return 0, p, false
	}
	p = Picture{
		Width: 16 * widthInMBs, Height: 16 * heightInMUs * fields, FromCorner: true,
		SARHeight:       1,
		ColourPrimaries: unspecified, TransferCharacteristics: unspecified, MatrixCoefficients: unspecified,
	}
	r.flag()                                           // direct_8x8_inference_flag
	if r.flag() && !r.crop(&p, chromaFormat, fields) { // frame_cropping_flag
		return 0, Picture{}, false
	}
	if r.flag() && !r.vui(&p) { // vui_parameters_present_flag
		return 0, p, false
	}
	p.checkSAR()
	return id, p, !r.bad && !r.over() || truncatable && r.over()
}

// crop reads the four offsets of the cropping rectangle. Their units are CropUnitX and CropUnitY
// (clause 7.4.2.1.1, equations 7-19 to 7-22).
func (r *rbsp) crop(p *Picture, chromaFormat uint32, fields int) bool {
	left := int(r.ue())   // frame_crop_left_offset
	right := int(r.ue())  // frame_crop_right_offset
	top := int(r.ue())    // frame_crop_top_offset
	bottom := int(r.ue()) // frame_crop_bottom_offset
	unitX, unitY := 1, fields
	if chromaFormat == chroma420 || chromaFormat == chroma422 {
		unitX = 2
	}
	if chromaFormat == chroma420 {
		unitY *= 2
	}
	if r.bad || (left+right)*unitX >= p.Width || (top+bottom)*unitY >= p.Height {
		return false
	}
	p.Width -= (left + right) * unitX
	p.Height -= (top + bottom) * unitY
	p.FromCorner = left == 0 && top == 0
	return true
}

// checkSAR removes a sample aspect ratio with which less than one sample would remain, as
// av_image_check_sar of libavutil/imgutils.c does.
func (p *Picture) checkSAR() {
	p.SARHeight = max(p.SARHeight, 1)
	w, h := p.SARWidth, p.SARHeight
	if w < h && w > 0 && p.Width*w < h || w > h && p.Height*h < w {
		p.SARWidth, p.SARHeight = 0, 1
	}
}

// scalingMatrix skips the scaling lists of a sequence parameter set (clauses 7.3.2.1.1 and 7.3.2.1.1.1).
func (r *rbsp) scalingMatrix(chromaFormat uint32) bool {
	lists := 8
	if chromaFormat == chroma444 {
		lists = 12
	}
	for i := range lists {
		if !r.flag() { // seq_scaling_list_present_flag
			continue
		}
		sizeOfScalingList := 16
		if i >= 6 {
			sizeOfScalingList = 64
		}
		lastScale, nextScale := 8, 8
		for j := 0; j < sizeOfScalingList && nextScale != 0; j++ {
			deltaScale := r.se() // delta_scale
			if deltaScale < -128 || deltaScale > 127 {
				return false
			}
			nextScale = (lastScale + deltaScale) & 0xff
			if nextScale != 0 {
				lastScale = nextScale
			}
		}
	}
	return true
}
