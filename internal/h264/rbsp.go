package h264

import "bytes"

// rbsp reads the syntax elements of a raw byte sequence payload. After its end it reads zeros.
type rbsp struct {
	b        []byte
	pos, end int  // in bits
	bad      bool // an Exp-Golomb code was longer than 32 bits
}

// newRBSP returns the payload of a NAL unit, of which b is what follows the header: without
// emulation_prevention_three_byte (clause 7.3.1) and rbsp_trailing_bits (clause 7.3.2.11).
func newRBSP(b []byte) rbsp {
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if n := len(out); i >= 2 && n >= 2 && out[n-1] == 0 && out[n-2] == 0 && b[i-1] == 0 && b[i] <= 3 && b[i] != 0 {
			if b[i] == 3 {
				continue // emulation_prevention_three_byte
			}
			out = out[:n-2] // the start code of the next NAL unit
			break
		}
		out = append(out, b[i])
	}
	out = bytes.TrimRight(out, "\x00") // rbsp_alignment_zero_bit, cabac_zero_word
	end := 8 * len(out)
	if end > 0 {
		last := out[len(out)-1]
		for last&1 == 0 {
			last >>= 1
			end--
		}
		end-- // rbsp_stop_one_bit
	}
	return rbsp{b: out, end: end}
}

// rawRBSP returns b as a payload without removing anything from it.
func rawRBSP(b []byte) rbsp { return rbsp{b: b, end: 8 * len(b)} }

// over reports whether more was read than the payload holds.
func (r *rbsp) over() bool { return r.pos > r.end }

// u reads an unsigned integer of n bits, at most 32: the descriptor u(n) of clause 7.2.
func (r *rbsp) u(n int) (v uint32) {
	for range n {
		v <<= 1
		if r.pos < r.end {
			v |= uint32(r.b[r.pos/8]>>(7-r.pos%8)) & 1
		}
		r.pos++
	}
	return v
}

// flag reads a flag: u(1).
func (r *rbsp) flag() bool { return r.u(1) == 1 }

// ue reads an unsigned Exp-Golomb code: the descriptor ue(v), clause 9.1.
func (r *rbsp) ue() uint32 {
	leadingZeroBits := 0
	for r.u(1) == 0 {
		if leadingZeroBits++; leadingZeroBits > 31 {
			r.bad = true
			return 0
		}
	}
	return 1<<leadingZeroBits - 1 + r.u(leadingZeroBits)
}

// se reads a signed Exp-Golomb code: the descriptor se(v), clause 9.1.1.
func (r *rbsp) se() int {
	k := int(r.ue())
	if k&1 == 1 {
		return (k + 1) / 2
	}
	return -k / 2
}
