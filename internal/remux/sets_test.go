//go:build cgo

package remux

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"

	"tunnelcast/internal/flv"
	"tunnelcast/internal/recording/recordingtest"
)

// withRecord changes the AVCDecoderConfigurationRecord of an H.264 recording. change may write to
// its argument.
func withRecord(content []byte, change func(record []byte) []byte) []byte {
	return recordingtest.Change(content, func(tag recordingtest.Tag) recordingtest.Tag {
		if tag.Type == flv.TagVideo && tag.IsHeader() {
			return tag.WithPacket(change(bytes.Clone(tag.Packet())))
		}
		return tag
	})
}

func recordOf(content []byte) (record []byte) {
	withRecord(content, func(r []byte) []byte { record = r; return r })
	return record
}

// sets returns the only sequence and the only picture parameter set of a record, as x264 writes it.
func sets(record []byte) (sps, pps []byte) {
	n := int(record[6])<<8 | int(record[7])
	sps, record = record[8:8+n], record[8+n:]
	return sps, record[3 : 3+int(record[1])<<8|int(record[2])]
}

// inBand repeats the parameter sets in the packet of each key frame.
func inBand(content []byte) []byte {
	sps, pps := sets(recordOf(content))
	return recordingtest.Change(content, func(tag recordingtest.Tag) recordingtest.Tag {
		if !tag.IsKey() {
			return tag
		}
		return tag.WithNALUnits(append([][]byte{sps, pps}, tag.NALUnits()...)...)
	})
}

// twoSets puts the parameter sets of another recording in front of those of the first.
func twoSets(content, other []byte) []byte {
	otherSPS, otherPPS := sets(recordOf(other))
	return withRecord(content, func(r []byte) []byte {
		sps, pps := sets(r)
		out := append(bytes.Clone(r[:5]), 0xe2)
		for _, nal := range [][]byte{otherSPS, sps} {
			out = append(binary.BigEndian.AppendUint16(out, uint16(len(nal))), nal...)
		}
		out = append(out, 2)
		for _, nal := range [][]byte{otherPPS, pps} {
			out = append(binary.BigEndian.AppendUint16(out, uint16(len(nal))), nal...)
		}
		return out
	})
}

// withoutVUI cuts the VUI off the sequence parameter set of baseline or main profile.
func withoutVUI(t *testing.T, record []byte) []byte {
	sps, pps := sets(record)
	sps = bytes.ReplaceAll(sps, []byte{0, 0, 3}, []byte{0, 0})
	pos := 32 // after level_idc
	bit := func() int {
		b := int(sps[pos/8]) >> (7 - pos%8) & 1
		pos++
		return b
	}
	ue := func() int {
		zeros, v := 0, 1
		for bit() == 0 {
			zeros++
		}
		for range zeros {
			v = v<<1 | bit()
		}
		return v - 1
	}
	if sps[1] >= 100 {
		t.Fatalf("profile_idc %d", sps[1])
	}
	ue()           // seq_parameter_set_id
	ue()           // log2_max_frame_num_minus4
	if ue() == 0 { // pic_order_cnt_type
		ue() // log2_max_pic_order_cnt_lsb_minus4
	}
	ue()            // max_num_ref_frames
	bit()           // gaps_in_frame_num_value_allowed_flag
	ue()            // pic_width_in_mbs_minus1
	ue()            // pic_height_in_map_units_minus1
	if bit() == 0 { // frame_mbs_only_flag
		bit() // mb_adaptive_frame_field_flag
	}
	bit()           // direct_8x8_inference_flag
	if bit() == 1 { // frame_cropping_flag
		t.Fatal("cropped")
	}
	if bit() == 0 { // vui_parameters_present_flag
		t.Fatal("no VUI to cut off")
	}
	pos--
	sps = sps[:pos/8+1]
	sps[pos/8] &^= 0xff >> (pos % 8)
	pos++ // rbsp_stop_one_bit
	if pos%8 == 0 {
		sps = append(sps, 0)
	}
	sps[pos/8] |= 0x80 >> (pos % 8)
	out := append(bytes.Clone(record[:6]), byte(len(sps)>>8), byte(len(sps)))
	out = append(append(out, sps...), 1, byte(len(pps)>>8), byte(len(pps)))
	return append(out, pps...)
}

// withHeight moves the metadata after the sequence header, where it counts, and changes its height.
func withHeight(t *testing.T, content []byte, height float64) []byte {
	tags := recordingtest.Tags(content)
	if tags[0].Type != flv.TagScript || !tags[1].IsHeader() {
		t.Fatal("no metadata in front of the sequence header")
	}
	script := bytes.Clone(tags[0].Body)
	at := bytes.Index(script, []byte("height\x00")) + len("height\x00")
	if at < len("height\x00") {
		t.Fatal("no height in the metadata")
	}
	binary.BigEndian.PutUint64(script[at:], math.Float64bits(height))
	tags[0], tags[1] = tags[1], tags[0].With(script)
	return recordingtest.File(tags...)
}
