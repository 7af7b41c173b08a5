package h264

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// bitWriter writes what rbsp reads, as a string of the digits 0 and 1.
type bitWriter struct{ strings.Builder }

// u writes an unsigned integer of n bits.
func (w *bitWriter) u(n int, v uint32) *bitWriter {
	for i := n - 1; i >= 0; i-- {
		w.WriteByte('0' + byte(v>>i&1))
	}
	return w
}

// ue writes Exp-Golomb codes.
func (w *bitWriter) ue(values ...uint32) *bitWriter {
	for _, v := range values {
		n := 0
		for (v+1)>>n > 1 {
			n++
		}
		w.u(n, 0).u(n+1, v+1)
	}
	return w
}

// nal returns a NAL unit of the bits, with trailing bits and emulation prevention.
func (w *bitWriter) nal(header byte) []byte {
	text := w.String() + "1"
	text += strings.Repeat("0", (8-len(text)%8)%8)
	b, zeros := []byte{header}, 0
	for ; len(text) > 0; text = text[8:] {
		var c byte
		for _, bit := range text[:8] {
			c = c<<1 | byte(bit-'0')
		}
		if zeros >= 2 && c <= 3 {
			b, zeros = append(b, 3), 0
		}
		if b = append(b, c); c == 0 {
			zeros++
		} else {
			zeros = 0
		}
	}
	return b
}

func (w *bitWriter) sps() []byte { return w.nal(0x67) }

// configRecord returns an AVCDecoderConfigurationRecord.
func configRecord(sequences, pictures [][]byte) []byte {
	b := []byte{1, 0x42, 0xc0, 0x1e, 0xff}
	for i, nals := range [][][]byte{sequences, pictures} {
		b = append(b, byte(len(nals)))
		if i == 0 {
			b[5] |= 0xe0
		}
		for _, nal := range nals {
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(nal))), nal...)
		}
	}
	return b
}

// packet returns NAL units with their lengths in front.
func packet(nals ...[]byte) (b []byte) {
	for _, nal := range nals {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(nal))), nal...)
	}
	return b
}

// pps returns a picture parameter set.
func pps(id, sps uint32) []byte { return new(bitWriter).ue(id, sps).u(2, 0).ue(0).nal(0x68) }

// slice returns an IDR slice that refers to a picture parameter set.
func slice(pps uint32) []byte {
	return append(new(bitWriter).ue(0, 7, pps).u(20, 1).nal(0x65), bytes.Repeat([]byte{0xaa}, 300)...)
}

// baseline begins a sequence parameter set of 320 by 240, up to frame_cropping_flag.
func baseline(id uint32) *bitWriter { return size(new(bitWriter).u(24, 0x42c01e).ue(id).ue(0)) }

// high begins a sequence parameter set of high profile, up to chroma_format_idc.
func high() *bitWriter { return new(bitWriter).u(24, 0x64001e).ue(0) }

// size continues a sequence parameter set from pic_order_cnt_type to frame_cropping_flag.
func size(w *bitWriter) *bitWriter { return w.ue(2, 1).u(1, 0).ue(19, 14).u(2, 3) }

// vui begins a sequence parameter set of 320 by 240, up to aspect_ratio_info_present_flag.
func vui() *bitWriter { return baseline(0).u(2, 1) }

// end ends a VUI after the colours: no chroma location, no timing, no buffer models, no pic_struct.
func (w *bitWriter) end() []byte { return w.u(5, 0).sps() }
