package h264

import (
	"bytes"
	"encoding/hex"
	"testing"
)

// square is what baseline describes.
var square = Picture{
	Width: 320, Height: 240, FromCorner: true, SARHeight: 1,
	ColourPrimaries: 2, TransferCharacteristics: 2, MatrixCoefficients: 2,
}

func with(change func(*Picture)) Picture {
	p := square
	change(&p)
	return p
}

func withSize(width, height int) Picture {
	return with(func(p *Picture) { p.Width, p.Height = width, height })
}

func withSAR(width, height int) Picture {
	return with(func(p *Picture) { p.SARWidth, p.SARHeight = width, height })
}

func TestPicture(t *testing.T) {
	tests := []struct {
		name string
		sps  []byte
		want Picture // the set is rejected if zero
	}{
		{"without VUI", baseline(0).u(2, 0).sps(), square},
		{"fields", new(bitWriter).u(24, 0x4d401e).ue(0, 0, 0, 0, 4).u(1, 0).ue(19, 14).u(5, 0x04).sps(),
			withSize(320, 480)},
		{"pic_order_cnt_type 1", new(bitWriter).u(24, 0x42c01e).ue(0, 0, 1).u(1, 0).ue(1<<31-2, 4, 2, 7, 8, 1).
			u(1, 0).ue(19, 14).u(2, 3).u(2, 0).sps(), square},
		{"cropped", baseline(0).u(1, 1).ue(0, 1, 0, 5).u(1, 0).sps(), withSize(318, 230)},
		{"cropped on the left", baseline(0).u(1, 1).ue(3, 0, 0, 0).u(1, 0).sps(),
			with(func(p *Picture) { p.Width, p.FromCorner = 314, false })},
		{"cropped to nothing", baseline(0).u(1, 1).ue(80, 80, 0, 0).u(1, 0).sps(), Picture{}},
		{"4:4:4, cropped", size(high().ue(3).u(1, 0).ue(0, 0).u(2, 0).ue(0)).u(1, 1).ue(0, 7, 0, 13).u(1, 0).sps(),
			withSize(313, 227)},
		{"4:2:2, cropped", size(high().ue(2, 2, 2).u(2, 0).ue(0)).u(1, 1).ue(0, 3, 0, 13).u(1, 0).sps(),
			withSize(314, 227)},
		{"separate colour planes", size(high().ue(3).u(1, 1).ue(0, 0).u(2, 0).ue(0)).u(2, 0).sps(), Picture{}},
		{"luma and chroma of different bit depths", size(high().ue(1, 0, 2).u(2, 0).ue(0)).u(2, 0).sps(), Picture{}},
		// The first list is complete, the second is the default list, the seventh repeats its last value.
		{"scaling lists", size(high().ue(1, 0, 0).u(3, 3).ue(1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0).
			u(1, 1).ue(16).u(4, 0).u(1, 1).ue(0, 16).u(1, 0).ue(0)).u(2, 0).sps(), square},
		{"delta_scale out of range", size(high().ue(1, 0, 0).u(3, 3).ue(300).ue(0)).u(2, 0).sps(), Picture{}},
		{"aspect ratio 12:11", vui().u(1, 1).u(8, 2).u(2, 0).end(), withSAR(12, 11)},
		{"aspect ratio 7:5", vui().u(1, 1).u(8, 255).u(16, 7).u(16, 5).u(2, 0).end(), withSAR(7, 5)},
		{"aspect ratio 7:0", vui().u(1, 1).u(8, 255).u(16, 7).u(16, 0).u(2, 0).end(), withSAR(7, 1)},
		{"less than one sample wide", vui().u(1, 1).u(8, 255).u(16, 1).u(16, 321).u(2, 0).end(), square},
		{"reserved aspect_ratio_idc", vui().u(1, 1).u(8, 17).u(2, 0).end(), square},
		{"full range", vui().u(1, 0).u(1, 0).u(1, 1).u(3, 5).u(2, 2).end(), with(func(p *Picture) { p.Range = 2 })},
		{"colours", vui().u(1, 0).u(2, 3).u(1, 1).u(3, 5).u(2, 1).u(24, 0x091209).end(), with(func(p *Picture) {
			p.Range, p.ColourPrimaries, p.TransferCharacteristics, p.MatrixCoefficients = 1, 9, 18, 9
		})},
		{"reserved colours", vui().u(1, 0).u(1, 0).u(1, 1).u(3, 5).u(2, 1).u(24, 0x0d1312).end(),
			with(func(p *Picture) { p.Range = 1 })},
		{"every element of VUI", vui().u(1, 1).u(8, 14).u(2, 0).u(1, 1).ue(2, 2).u(1, 1).u(32, 1).u(32, 50).u(1, 1).
			u(1, 1).ue(1).u(8, 0).ue(10, 10).u(1, 0).ue(11, 11).u(1, 0).u(20, 0).
			u(1, 1).ue(0).u(8, 0).ue(1<<32-2, 3).u(1, 0).u(20, 0).u(1, 0).
			u(1, 1).u(1, 1).u(1, 1).ue(0, 0, 10, 10, 2, 4).sps(), withSAR(4, 3)},
		{"max_num_reorder_frames 17", vui().u(8, 0).u(1, 1).u(1, 1).ue(0, 0, 10, 10, 17, 4).sps(), Picture{}},
		{"cpb_cnt_minus1 32", vui().u(5, 0).u(1, 1).ue(32).u(8, 0).sps(), Picture{}},
		{"truncated VUI", vui().u(1, 1).u(8, 14).u(2, 0).u(1, 1).sps(), withSAR(4, 3)},
		{"truncated after the size", new(bitWriter).u(24, 0x42c01e).ue(0, 0, 2, 1).u(1, 0).ue(19, 14).sps(), square},
		{"truncated before the size", new(bitWriter).u(24, 0x42c01e).ue(0, 0, 2, 1).sps(), Picture{}},
		{"seq_parameter_set_id 32", baseline(32).u(2, 0).sps(), Picture{}},
		{"too wide", new(bitWriter).u(24, 0x42c01e).ue(0, 0, 2, 1).u(1, 0).ue(1<<31-2, 14).u(2, 3).u(2, 0).sps(),
			Picture{}},
		{"zeros", []byte{0x67, 0, 0, 0, 0}, Picture{}},
		// From x264: square samples, VUI with timing and bitstream restrictions.
		{"x264", must(hex.DecodeString("6742c00dda0507ec0440000003004000000c83c50aa8")),
			Picture{320, 240, true, 1, 1, 0, 2, 2, 2}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			sets := NewParameterSets(configRecord([][]byte{test.sps}, [][]byte{pps(0, 0)}))
			got, ok := sets.Picture(packet(slice(0)))
			if got != test.want || ok != (test.want.Width > 0) {
				t.Errorf("%x\n got %+v\nwant %+v", test.sps, got, test.want)
			}
		})
	}
}

// A slice selects the parameter sets.
func TestPictureOfSlice(t *testing.T) {
	first, second := baseline(0).u(2, 0).sps(), baseline(7).u(1, 1).ue(0, 1, 0, 0).u(1, 0).sps()
	record := configRecord([][]byte{first, second}, [][]byte{pps(0, 0), pps(1, 7)})
	other := baseline(0).u(1, 1).ue(0, 2, 0, 0).u(1, 0).sps()
	sei := append([]byte{NALSEI, 5, 200}, bytes.Repeat([]byte{1}, 201)...)
	tests := []struct {
		name   string
		record []byte
		packet []byte
		width  int // 0 if unknown
	}{
		{"first set", record, packet(slice(0)), 320},
		{"second set", record, packet(slice(1)), 318},
		{"missing set", record, packet(slice(2)), 0},
		{"slice after messages", record, packet([]byte{9, 0xf0}, sei, slice(1)), 318},
		{"messages only", record, packet(sei), 0},
		{"same set again", record, packet(first, slice(0)), 320},
		{"other sets in the packet", record, packet(other, pps(0, 0), slice(0)), 316},
		{"another sequence set without a picture set", record, packet(other, slice(0)), 0},
		{"sets in the packet only", configRecord(nil, nil), packet(first, pps(0, 0), slice(0)), 320},
		{"packet cut in the slice", record, packet(slice(1))[:30], 318},
		{"packet cut in the slice header", record, packet(slice(1))[:5], 0},
		{"record cut in the last set", record[:len(record)-3], packet(slice(0)), 320},
		{"record cut in the first set", record[:20], packet(slice(0)), 0},
		{"no record", nil, packet(first, pps(0, 0), slice(0)), 0},
		{"empty NAL unit", record, append([]byte{0, 0, 0, 0}, packet(slice(0))...), 320},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, ok := NewParameterSets(test.record).Picture(test.packet)
			if got.Width != test.width || ok != (test.width > 0) {
				t.Errorf("%+v, %v, want a width of %d", got, ok, test.width)
			}
		})
	}
}

func TestIntraSlice(t *testing.T) {
	for sliceType, want := range []bool{false, false, true, false, true, false, false, true, false, true} {
		nal := new(bitWriter).ue(3, uint32(sliceType), 0).u(20, 1).nal(0x41)
		if got := IntraSlice(nal); got != want {
			t.Errorf("slice_type %d: %v, want %v", sliceType, got, want)
		}
	}
	for _, nal := range [][]byte{nil, {0x41}, {0x41, 0, 0, 0, 0, 0, 0}} {
		if IntraSlice(nal) {
			t.Errorf("% x is an intra slice", nal)
		}
	}
}

func TestRecoveryPoint(t *testing.T) {
	for name, test := range map[string]struct {
		nal  []byte
		want bool
	}{
		"alone":                 {[]byte{6, 6, 1, 0x80, 0x80}, true},
		"after another message": {append(append([]byte{6, 5, 2}, 0, 0), 6, 1, 0x80, 0x80), true},
		"after a message of 300 bytes": {
			append(append([]byte{6, 5, 255, 45}, make([]byte, 300)...), 6, 1, 0x80, 0x80), true},
		"payload type 261": {[]byte{6, 255, 6, 1, 0x80, 0x80}, false},
		"other messages":   {[]byte{6, 5, 2, 6, 6, 1, 1, 6, 0x80}, false},
		"truncated":        {[]byte{6, 5, 255, 255}, false},
		"empty":            {nil, false},
	} {
		if got := RecoveryPoint(test.nal); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

// Whatever a publisher sends is read without a panic, and the result is within its limits.
func FuzzPicture(f *testing.F) {
	sps := baseline(0).u(2, 1).u(1, 1).u(8, 14).u(7, 0).sps()
	f.Add(configRecord([][]byte{sps}, [][]byte{pps(0, 0)}), packet(slice(0)))
	f.Add(configRecord(nil, nil), packet(sps, pps(0, 0), slice(0)))
	f.Fuzz(func(t *testing.T, record, packet []byte) {
		IntraSlice(packet)
		RecoveryPoint(packet)
		sets := NewParameterSets(record)
		for range 2 {
			p, ok := sets.Picture(packet)
			switch {
			case !ok && p != (Picture{}):
				t.Errorf("%+v without a slice", p)
			case !ok:
			case p.Width < 1 || p.Height < 1,
				p.SARWidth < 0 || p.SARHeight < 1 || p.SARWidth > 1<<16 || p.SARHeight > 1<<16,
				p.Range < 0 || p.Range > 2,
				min(p.ColourPrimaries, p.TransferCharacteristics, p.MatrixCoefficients) < 0,
				max(p.ColourPrimaries, p.TransferCharacteristics, p.MatrixCoefficients) > 22:
				t.Errorf("%+v", p)
			}
		}
	})
}

func BenchmarkPicture(b *testing.B) {
	record := configRecord([][]byte{vui().u(1, 1).u(8, 14).u(2, 0).end()}, [][]byte{pps(0, 0)})
	key := packet(slice(0))
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := NewParameterSets(record).Picture(key); !ok {
			b.Fatal("no picture")
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
