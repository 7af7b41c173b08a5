package recording

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"
)

// bitString writes what bits reads.
type bitString struct{ strings.Builder }

func (s *bitString) u(n int, v uint32) *bitString {
	for i := n - 1; i >= 0; i-- {
		s.WriteByte('0' + byte(v>>i&1))
	}
	return s
}

func (s *bitString) ue(values ...uint32) *bitString {
	for _, v := range values {
		n := 0
		for (v+1)>>n > 1 {
			n++
		}
		s.u(n, 0).u(n+1, v+1)
	}
	return s
}

// nal ends the content and puts in the bytes that prevent start codes.
func (s *bitString) nal(header byte) []byte {
	text := s.String() + "1"
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

// baseline begins a sequence parameter set of 320 by 240, up to its cropping.
func baseline(id uint32) *bitString {
	return new(bitString).u(24, 0x42c01e).ue(id, 0, 2, 1).u(1, 0).ue(19, 14).u(2, 3)
}

func avcC(sequences [][]byte, pictures [][]byte) []byte {
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

func packetOf(nals ...[]byte) (b []byte) {
	for _, nal := range nals {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(nal))), nal...)
	}
	return b
}

func pictureSet(id, sequence uint32) []byte {
	return new(bitString).ue(id, sequence).u(2, 0).ue(0).nal(0x68)
}

func slice(id uint32) []byte {
	return append(new(bitString).ue(0, 7, id).u(20, 1).nal(0x65), bytes.Repeat([]byte{0xaa}, 300)...)
}

func TestShow(t *testing.T) {
	square := Picture{Width: 320, Height: 240, FromCorner: true, AspectHeight: 1, Primaries: 2, Transfer: 2, Matrix: 2}
	with := func(change func(*Picture)) Picture { p := square; change(&p); return p }
	// no cropping, VUI, and what stands before the part of a table's case
	vui := func() *bitString { return baseline(0).u(2, 1) }
	rest := func(s *bitString) []byte { return s.u(5, 0).nal(0x67) } // no chroma location, timing, models, pic_struct
	high := func() *bitString { return new(bitString).u(24, 0x64001e).ue(0) }
	size := func(s *bitString) *bitString { return s.ue(0, 2, 1).u(1, 0).ue(19, 14).u(2, 3) }
	tests := []struct {
		name string
		sps  []byte
		want Picture // none if zero
	}{
		{"without VUI", baseline(0).u(2, 0).nal(0x67), square},
		{"fields", new(bitString).u(24, 0x4d401e).ue(0, 0, 0, 0, 4).u(1, 0).ue(19, 14).u(5, 0x04).nal(0x67), with(func(p *Picture) { p.Height = 480 })},
		{"order of pictures of type 1", new(bitString).u(24, 0x42c01e).ue(0, 0, 1).u(1, 0).ue(1<<31-2, 4, 2, 7, 8, 1).u(1, 0).ue(19, 14).u(2, 3).u(2, 0).nal(0x67), square},
		{"cropped", baseline(0).u(1, 1).ue(0, 1, 0, 5).u(1, 0).nal(0x67), with(func(p *Picture) { p.Width, p.Height = 318, 230 })},
		{"cropped on the left", baseline(0).u(1, 1).ue(3, 0, 0, 0).u(1, 0).nal(0x67), with(func(p *Picture) { p.Width, p.FromCorner = 314, false })},
		{"all of it cropped", baseline(0).u(1, 1).ue(80, 80, 0, 0).u(1, 0).nal(0x67), Picture{}},
		{"4:4:4, cropped", size(high().ue(3).u(1, 0).ue(0, 0).u(2, 0)).u(1, 1).ue(0, 7, 0, 13).u(1, 0).nal(0x67), with(func(p *Picture) { p.Width, p.Height = 313, 227 })},
		{"4:2:2, cropped", size(high().ue(2, 2, 2).u(2, 0)).u(1, 1).ue(0, 3, 0, 13).u(1, 0).nal(0x67), with(func(p *Picture) { p.Width, p.Height = 314, 227 })},
		{"separate planes", size(high().ue(3).u(1, 1).ue(0, 0).u(2, 0)).u(2, 0).nal(0x67), Picture{}},
		{"luma and chroma of other depths", size(high().ue(1, 0, 2).u(2, 0)).u(2, 0).nal(0x67), Picture{}},
		// The first list goes on to its end, the second is the default, the seventh breaks off in 8s.
		{"scaling lists", size(high().ue(1, 0, 0).u(3, 3).ue(1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0).u(1, 1).ue(16).u(4, 0).u(1, 1).ue(0, 16).u(1, 0)).u(2, 0).nal(0x67), square},
		{"a scaling list out of range", size(high().ue(1, 0, 0).u(3, 3).ue(300)).u(2, 0).nal(0x67), Picture{}},
		{"aspect 12:11", rest(vui().u(1, 1).u(8, 2).u(2, 0)), with(func(p *Picture) { p.AspectWidth, p.AspectHeight = 12, 11 })},
		{"aspect 7:5", rest(vui().u(1, 1).u(8, 255).u(16, 7).u(16, 5).u(2, 0)), with(func(p *Picture) { p.AspectWidth, p.AspectHeight = 7, 5 })},
		{"aspect 7:0", rest(vui().u(1, 1).u(8, 255).u(16, 7).u(16, 0).u(2, 0)), with(func(p *Picture) { p.AspectWidth, p.AspectHeight = 7, 1 })},
		{"aspect without an inch left", rest(vui().u(1, 1).u(8, 255).u(16, 1).u(16, 321).u(2, 0)), square},
		{"aspect that is not in the table", rest(vui().u(1, 1).u(8, 17).u(2, 0)), square},
		{"full range", rest(vui().u(1, 0).u(1, 0).u(1, 1).u(3, 5).u(2, 2)), with(func(p *Picture) { p.Range = 2 })},
		{"colours", rest(vui().u(1, 0).u(2, 3).u(1, 1).u(3, 5).u(2, 1).u(24, 0x091209)), with(func(p *Picture) { p.Range, p.Primaries, p.Transfer, p.Matrix = 1, 9, 18, 9 })},
		{"colours that nobody knows", rest(vui().u(1, 0).u(1, 0).u(1, 1).u(3, 5).u(2, 1).u(24, 0x0d1312)), with(func(p *Picture) { p.Range = 1 })},
		{"all that can be in VUI", vui().u(1, 1).u(8, 14).u(2, 0).u(1, 1).ue(2, 2).u(1, 1).u(32, 1).u(32, 50).u(1, 1).
			u(1, 1).ue(1).u(8, 0).ue(10, 10).u(1, 0).ue(11, 11).u(1, 0).u(20, 0).u(1, 1).ue(0).u(8, 0).ue(1<<32-2, 3).u(1, 0).u(20, 0).u(1, 0).
			u(1, 1).u(1, 1).u(1, 1).ue(0, 0, 10, 10, 2, 4).nal(0x67), with(func(p *Picture) { p.AspectWidth, p.AspectHeight = 4, 3 })},
		{"17 pictures out of order", vui().u(8, 0).u(1, 1).u(1, 1).ue(0, 0, 10, 10, 17, 4).nal(0x67), Picture{}},
		{"33 buffer models", vui().u(5, 0).u(1, 1).ue(32).u(8, 0).nal(0x67), Picture{}},
		{"VUI broken off", vui().u(1, 1).u(8, 14).u(2, 0).u(1, 1).nal(0x67), with(func(p *Picture) { p.AspectWidth, p.AspectHeight = 4, 3 })},
		{"nothing behind the size", new(bitString).u(24, 0x42c01e).ue(0, 0, 2, 1).u(1, 0).ue(19, 14).nal(0x67), square},
		{"no size", new(bitString).u(24, 0x42c01e).ue(0, 0, 2, 1).nal(0x67), Picture{}},
		{"sets beyond 31", baseline(32).u(2, 0).nal(0x67), Picture{}},
		{"a picture too large", new(bitString).u(24, 0x42c01e).ue(0, 0, 2, 1).u(1, 0).ue(1<<31-2, 14).u(2, 3).u(2, 0).nal(0x67), Picture{}},
		{"zeros only", []byte{0x67, 0, 0, 0, 0}, Picture{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			sets := newParameterSets(avcC([][]byte{test.sps}, [][]byte{pictureSet(0, 0)}))
			got, ok := sets.show(packetOf(slice(0)))
			if got != test.want || ok != (test.want.Width > 0) {
				t.Errorf("%x\n got %+v\nwant %+v", test.sps, got, test.want)
			}
		})
	}
}

// Which sets count, a slice says.
func TestShowWhich(t *testing.T) {
	one, two := baseline(0).u(2, 0).nal(0x67), baseline(7).u(1, 1).ue(0, 1, 0, 0).u(1, 0).nal(0x67)
	config := avcC([][]byte{one, two}, [][]byte{pictureSet(0, 0), pictureSet(1, 7)})
	other := baseline(0).u(1, 1).ue(0, 2, 0, 0).u(1, 0).nal(0x67)
	sei := append([]byte{6, 5, 200}, bytes.Repeat([]byte{1}, 201)...)
	tests := []struct {
		name   string
		config []byte
		packet []byte
		width  int // 0 if not known
	}{
		{"the first", config, packetOf(slice(0)), 320},
		{"the second", config, packetOf(slice(1)), 318},
		{"a third", config, packetOf(slice(2)), 0},
		{"behind messages", config, packetOf([]byte{9, 0xf0}, sei, slice(1)), 318},
		{"messages only", config, packetOf(sei), 0},
		{"the same again", config, packetOf(one, slice(0)), 320},
		{"others in the packet", config, packetOf(other, pictureSet(0, 0), slice(0)), 316},
		{"others without what depends on them", config, packetOf(other, slice(0)), 0},
		{"in the packet only", avcC(nil, nil), packetOf(one, pictureSet(0, 0), slice(0)), 320},
		{"a packet that is cut", config, packetOf(slice(1))[:30], 318},
		{"a packet that is cut early", config, packetOf(slice(1))[:5], 0},
		{"a config that is cut", config[:len(config)-3], packetOf(slice(0)), 320},
		{"a config that is cut early", config[:20], packetOf(slice(0)), 0},
		{"no config", nil, packetOf(one, pictureSet(0, 0), slice(0)), 0},
		{"a length of zero", config, append([]byte{0, 0, 0, 0}, packetOf(slice(0))...), 320},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, ok := newParameterSets(test.config).show(test.packet)
			if got.Width != test.width || ok != (test.width > 0) {
				t.Errorf("%+v, %v, want a width of %d", got, ok, test.width)
			}
		})
	}
}

// What x264 writes.
func TestShowReal(t *testing.T) {
	for _, test := range []struct {
		sps  string
		want Picture
	}{
		// Square samples, VUI with timing and the order of pictures.
		{"6742c00dda0507ec0440000003004000000c83c50aa8", Picture{320, 240, true, 1, 1, 0, 2, 2, 2}},
	} {
		sps, err := hex.DecodeString(test.sps)
		if err != nil {
			t.Fatal(err)
		}
		p := newParameterSets(avcC([][]byte{sps}, [][]byte{pictureSet(0, 0)}))
		if got, _ := p.show(packetOf(slice(0))); got != test.want {
			t.Errorf("%s is %+v, want %+v", test.sps, got, test.want)
		}
	}
}

func TestWalkPicture(t *testing.T) {
	config := avcC([][]byte{baseline(0).u(2, 0).nal(0x67)}, [][]byte{pictureSet(0, 0)})
	media := packetOf(slice(0))
	f := newFile().asc(1).sound(0).tag(9, 0, append([]byte{0x17, 0, 0, 0, 0}, config...)...).
		tag(9, 0, append([]byte{0x17, 1, 0, 0, 0}, packetOf([]byte{9, 0xf0})...)...).
		tag(9, 40, append([]byte{0x17, 1, 0, 0, 0}, media...)...).
		avc(1).key(80)
	s, err := Walk(bytes.NewReader(f.Bytes()), int64(f.Len()))
	if err != nil || len(s.Parts) != 2 {
		t.Fatal(text(s, err))
	}
	if p := s.Parts[0].Picture; p.Width != 320 || p.Height != 240 {
		t.Errorf("%+v", p)
	}
	if p := s.Parts[1].Picture; p != (Picture{}) {
		t.Errorf("%+v of a part whose sets cannot be read", p)
	}
}

// Whatever a publisher sends is read without a panic and in bounded time, and what
// it says makes sense.
func FuzzShow(f *testing.F) {
	sps := baseline(0).u(2, 1).u(1, 1).u(8, 14).u(7, 0).nal(0x67)
	f.Add(avcC([][]byte{sps}, [][]byte{pictureSet(0, 0)}), packetOf(slice(0)))
	f.Add(avcC(nil, nil), packetOf(sps, pictureSet(0, 0), slice(0)))
	f.Fuzz(func(t *testing.T, config, packet []byte) {
		sets := newParameterSets(config)
		for range 2 {
			p, ok := sets.show(packet)
			if !ok {
				if p != (Picture{}) {
					t.Errorf("%+v of nothing", p)
				}
				continue
			}
			if p.Width < 1 || p.Height < 1 || p.AspectWidth < 0 || p.AspectHeight < 1 || p.AspectWidth > 1<<16 || p.AspectHeight > 1<<16 ||
				p.Range < 0 || p.Range > 2 || min(p.Primaries, p.Transfer, p.Matrix) < 0 || max(p.Primaries, p.Transfer, p.Matrix) > 22 {
				t.Errorf("%+v", p)
			}
		}
	})
}
