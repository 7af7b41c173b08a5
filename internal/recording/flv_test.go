package recording

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"tunnelcast/internal/flv"
	"tunnelcast/internal/h264"
)

// file builds an FLV file tag by tag.
type file struct{ bytes.Buffer }

func newFile() *file {
	f := new(file)
	f.Write(flv.Header)
	return f
}

func (f *file) tag(kind byte, ms int, body ...byte) *file {
	size := len(body)
	f.Write([]byte{kind, byte(size >> 16), byte(size >> 8), byte(size), byte(ms >> 16), byte(ms >> 8), byte(ms), byte(ms >> 24), 0, 0, 0})
	f.Write(body)
	f.Write(binary.BigEndian.AppendUint32(nil, uint32(size+11)))
	return f
}

func (f *file) raw(b ...byte) *file { f.Write(b); return f }

func (f *file) avc(config byte) *file { return f.tag(9, 0, 0x17, 0, 0, 0, 0, 1, config, 2, 3) }
func (f *file) asc(config byte) *file { return f.tag(8, 0, 0xaf, 0, 0x12, config) }
func (f *file) key(ms int) *file      { return f.tag(9, ms, 0x17, 1, 0, 0, 0, 1, 2, 3, 4) }
func (f *file) frame(ms int) *file    { return f.tag(9, ms, 0x27, 1, 0, 0, 0, 1, 2) }
func (f *file) sound(ms int) *file    { return f.tag(8, ms, 0xaf, 1, 9, 9, 9) }
func (f *file) cut(n int) *file       { f.Truncate(f.Len() - n); return f }

func plainFile() *file {
	return newFile().tag(18, 0, []byte("\x02\x00\x0aonMetaData\x08")...).asc(1).avc(1).key(0).sound(1).frame(40).sound(24)
}

// text is a survey as the tables below have it: a line per part, then what is
// wrong with the file.
func text(s Survey, err error) string {
	if err != nil {
		return err.Error()
	}
	b := new(strings.Builder)
	if s.Plain {
		b.WriteString("plain ")
	}
	for _, p := range s.Parts {
		fmt.Fprintf(b, "[")
		for _, stream := range []Stream{p.Video, p.Audio} {
			if stream.Codec != "" {
				fmt.Fprintf(b, "%s %d/%d %dB, ", stream.Codec, stream.Keys, stream.Packets, stream.Bytes)
			}
		}
		fmt.Fprintf(b, "%dms, %d stretches] ", p.Duration, len(p.Stretches))
	}
	for _, d := range s.Damage {
		fmt.Fprintf(b, "damage %d ", d.Len)
	}
	if s.Cut > 0 {
		fmt.Fprintf(b, "cut %d ", s.Cut)
	}
	if err := s.Err(); err != nil {
		fmt.Fprintf(b, "(%v)", err)
	}
	return strings.TrimSpace(b.String())
}

func TestWalk(t *testing.T) {
	tests := []struct {
		name string
		file *file
		want string
	}{
		{"nothing", new(file), "not an FLV file"},
		{"something else", new(file).raw(make([]byte, 100)...), "not an FLV file"},
		{"only the header", newFile(), "(no audio and no video in it)"},
		{"half the header", new(file).raw(flv.Header[:9]...), "(no audio and no video in it)"},
		{"sequence headers only", newFile().asc(1).avc(1), "(no audio and no video in it)"},
		{"only garbage", newFile().raw(bytes.Repeat([]byte{0xee}, 10000)...), "damage 10000 (nothing in it can be read)"},
		{"plain", plainFile(), "plain [H.264 1/2 6B, AAC 2/2 6B, 80ms, 4 stretches]"},
		{"audio only", newFile().asc(1).sound(0).sound(23), "plain [AAC 2/2 6B, 46ms, 2 stretches]"},
		{"video only", newFile().avc(1).key(0).frame(40), "plain [H.264 1/2 6B, 80ms, 2 stretches]"},
		{"MP3", newFile().tag(8, 0, 0x2f, 1, 2, 3).tag(8, 26, 0x2f, 1, 2), "plain [MP3 2/2 5B, 52ms, 1 stretches]"},
		{"HEVC", newFile().tag(9, 0, 0x90, 'h', 'v', 'c', '1', 1, 2).tag(9, 0, 0x91, 'h', 'v', 'c', '1', 0, 0, 0, 1, 2, 3).tag(9, 40, 0xa3, 'h', 'v', 'c', '1', 1).tag(9, 40, 0x92, 'h', 'v', 'c', '1'),
			"plain [HEVC 1/2 4B, 80ms, 2 stretches]"},
		{"the same headers again", plainFile().asc(1).avc(1).key(80), "[H.264 2/3 10B, AAC 2/2 6B, 120ms, 5 stretches]"},
		{"the length behind the last tag is missing", plainFile().cut(3), "plain [H.264 1/2 6B, AAC 2/2 6B, 80ms, 4 stretches]"},
		{"the last tag is cut", plainFile().cut(5), "[H.264 1/2 6B, AAC 1/1 3B, 80ms, 4 stretches] cut 15"},
		{"cut in a tag's header", plainFile().cut(12), "[H.264 1/2 6B, AAC 1/1 3B, 80ms, 4 stretches] cut 8"},
		{"zeros behind", plainFile().raw(make([]byte, 10000)...), "[H.264 1/2 6B, AAC 2/2 6B, 80ms, 4 stretches] cut 10000"},
		{"garbage behind", plainFile().raw(bytes.Repeat([]byte{0xee}, 10000)...), "[H.264 1/2 6B, AAC 2/2 6B, 80ms, 4 stretches] damage 10000"},
		{"a hole", plainFile().raw(make([]byte, 9000)...).key(80).sound(80), "[H.264 2/3 10B, AAC 3/3 9B, 136ms, 5 stretches] damage 9000"},
		{"a tag whose body was not written", plainFile().raw(9, 0, 1, 0, 0, 0, 50, 0, 0, 0, 0).key(80), "[H.264 2/3 10B, AAC 2/2 6B, 120ms, 5 stretches] damage 11"},
		{"a length beyond the end", plainFile().raw(9, 0xff, 0xff, 0xff, 0, 0, 50, 0, 0, 0, 0, 1, 2).key(80), "[H.264 2/3 10B, AAC 2/2 6B, 120ms, 5 stretches] damage 13"},
		{"the resolution changes", plainFile().avc(2).key(80).sound(80), "[H.264 1/2 6B, AAC 2/2 6B, 80ms, 4 stretches] [H.264 1/1 4B, AAC 1/1 3B, 56ms, 3 stretches]"},
		{"both change", plainFile().asc(2).avc(2).key(80).sound(80), "[H.264 1/2 6B, AAC 2/2 6B, 80ms, 4 stretches] [H.264 1/1 4B, AAC 1/1 3B, 56ms, 3 stretches]"},
		{"changes before anything", newFile().avc(1).avc(2).key(0), "[H.264 1/1 4B, 0ms, 2 stretches]"},
		{"changes and ends", plainFile().avc(2), "[H.264 1/2 6B, AAC 2/2 6B, 80ms, 4 stretches]"},
		{"audio becomes MP3", plainFile().tag(8, 50, 0x2f, 1, 2, 3), "[H.264 1/2 6B, AAC 2/2 6B, 80ms, 4 stretches] [MP3 1/1 3B, 26ms, 1 stretches]"},
		{"audio joins late", newFile().avc(1).key(0).key(40_000).asc(1).sound(40_001).key(40_040), "[H.264 3/3 12B, AAC 1/1 3B, 40080ms, 5 stretches]"},
		{"audio joins soon", newFile().avc(1).key(0).asc(1).sound(1), "plain [H.264 1/1 4B, AAC 1/1 3B, 1ms, 4 stretches]"},
		{"no key frame", newFile().avc(1).frame(0), "plain [H.264 0/1 2B, 0ms, 2 stretches]"},
		{"packets before their header", newFile().key(0).avc(1).key(40), "[H.264 1/1 4B, 0ms, 2 stretches] damage 24"},
		{"a video tag that is too short", newFile().avc(1).key(0).tag(9, 0, 0x17, 1), "[H.264 1/1 4B, 0ms, 2 stretches]"},
		{"end of sequence", newFile().avc(1).key(0).tag(9, 0, 0x17, 2, 0, 0, 0), "plain [H.264 1/1 4B, 0ms, 2 stretches]"},
		{"time beyond 2^31 ms", newFile().asc(1).sound(1 << 31).sound(1<<31 + 23), "plain [AAC 2/2 6B, 46ms, 2 stretches]"},
		{"Speex", newFile().avc(1).key(0).tag(8, 0, 0xb2, 1, 2), "plain [H.264 1/1 4B, Speex 1/1 2B, 0ms, 2 stretches] (MP4 cannot hold its Speex)"},
		{"Sorenson H.263", newFile().tag(9, 0, 0x12, 1, 2), "plain [Sorenson H.263 1/1 2B, 0ms, 1 stretches] (MP4 cannot hold its Sorenson H.263)"},
		{"AV1", newFile().tag(9, 0, 0x91, 'a', 'v', '0', '1', 1, 2), "(its AV1 is not supported)"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := test.file.Bytes()
			s, err := Walk(bytes.NewReader(b), int64(len(b)))
			if got := text(s, err); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			checkSurvey(t, s, int64(len(b)))
		})
	}
}

// What the index of an MP4 file will need room for.
func TestWalkRuns(t *testing.T) {
	delayed := func(ms int) []byte { return []byte{0x27, 1, 0, byte(ms >> 8), byte(ms), 1, 2} }
	f := newFile().avc(1).key(0).tag(9, 40, delayed(80)...).tag(9, 80, delayed(80)...).tag(9, 121, delayed(0)...).
		tag(9, 200, 0x27, 1, 0xff, 0xff, 0xff, 1).asc(1).sound(0).sound(21).sound(42).sound(64)
	s, err := Walk(bytes.NewReader(f.Bytes()), int64(f.Len()))
	if err != nil || len(s.Parts) != 1 {
		t.Fatal(s, err)
	}
	v, a := s.Parts[0].Video, s.Parts[0].Audio
	if got, want := [4]int64{v.Paces, v.Delays, a.Paces, a.Delays}, [4]int64{4, 4, 3, 1}; got != want {
		t.Errorf("%d, want %d", got, want)
	}
}

// A publisher that changes its parameters with every frame makes neither files
// nor memory without bound.
func TestWalkManyChanges(t *testing.T) {
	for _, test := range []struct {
		changes int
		fine    bool
	}{{maxParts - 1, true}, {maxParts, false}, {2 * maxParts, false}} {
		f := newFile()
		for i := range test.changes + 1 {
			f.avc(byte(i)).key(i)
		}
		s, err := Walk(bytes.NewReader(f.Bytes()), int64(f.Len()))
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Parts) != maxParts || (s.Err() == nil) != test.fine {
			t.Errorf("%d changes: %d parts, error %v", test.changes, len(s.Parts), s.Err())
		}
	}
}

// FLV files that were put one behind the other, as `cat a.flv b.flv` does, are as many
// parts, and each is as it would be alone.
func TestWalkJoined(t *testing.T) {
	walk := func(b []byte) Survey {
		t.Helper()
		s, err := Walk(bytes.NewReader(b), int64(len(b)))
		if err != nil || s.Err() != nil {
			t.Fatal(err, s.Err())
		}
		return s
	}
	plain, other := plainFile().Bytes(), newFile().avc(7).key(0).key(40).asc(2).sound(5).sound(28).Bytes()
	files := [][]byte{plain, other, plain, other, other}
	s := walk(slices.Concat(files...))
	if len(s.Losses()) > 0 || s.Cut > 0 || s.Plain || len(s.Parts) != len(files) {
		t.Fatalf("%d parts, losses %q", len(s.Parts), s.Losses())
	}
	for i, file := range files {
		want := walk(file).Parts[0]
		if got := s.Parts[i]; got.Video != want.Video || got.Audio != want.Audio || got.Duration != want.Duration {
			t.Errorf("part %d is %+v, want %+v", i, got, want)
		}
	}

	// One that was cut is damage, for there may be more in it.
	cut := walk(slices.Concat(plain[:len(plain)-7], other))
	if len(cut.Parts) != 2 || len(cut.Damage) != 1 || packets(cut) != packets(walk(plain))-1+packets(walk(other)) {
		t.Errorf("%d parts of %d packets, damage %v", len(cut.Parts), packets(cut), cut.Damage)
	}
	if cut.Parts[1].Duration != walk(other).Parts[0].Duration {
		t.Errorf("behind one that was cut: %+v", cut.Parts[1])
	}
}

func packets(s Survey) (n int64) {
	for _, p := range s.Parts {
		n += p.Video.Packets + p.Audio.Packets
	}
	return n
}

// What a decoder would show is known from the sequence header and the first slice.
func TestWalkPicture(t *testing.T) {
	record, slice := unhex("0142c01effe10008"+"6742c01eda0507e4"+"010002"+"68cc"), unhex("00000006"+"65888000"+"0caa")
	f := newFile().asc(1).sound(0).tag(9, 0, append([]byte{0x17, 0, 0, 0, 0}, record...)...).
		tag(9, 0, 0x17, 1, 0, 0, 0, 0, 0, 0, 2, 9, 0xf0).
		tag(9, 40, append([]byte{0x17, 1, 0, 0, 0}, slice...)...).
		avc(1).key(80)
	s, err := Walk(bytes.NewReader(f.Bytes()), int64(f.Len()))
	if err != nil || len(s.Parts) != 2 {
		t.Fatal(text(s, err))
	}
	if p := s.Parts[0].Picture; p.Width != 320 || p.Height != 240 {
		t.Errorf("%+v", p)
	}
	if p := s.Parts[1].Picture; p != (h264.Picture{}) {
		t.Errorf("%+v of a part whose parameter sets are invalid", p)
	}
}

// Wherever a file is cut, what is whole in it is found and nothing is called
// damaged.
func TestWalkCutAnywhere(t *testing.T) {
	whole := plainFile().Bytes()
	var last int64
	for n := len(flv.Header); n <= len(whole); n++ {
		s, err := Walk(bytes.NewReader(whole[:n]), int64(n))
		if err != nil {
			t.Fatalf("cut at %d: %v", n, err)
		}
		var packets int64
		for _, p := range s.Parts {
			packets += p.Video.Packets + p.Audio.Packets
		}
		if len(s.Damage) > 0 || packets < last {
			t.Errorf("cut at %d: %s, had %d packets before", n, text(s, nil), last)
		}
		last = packets
	}
	if last != 4 {
		t.Errorf("%d packets in the end", last)
	}
}

// counting counts the bytes that are read, and how often.
type counting struct {
	bytes.Reader
	bytes, calls int
}

func (c *counting) ReadAt(b []byte, off int64) (int, error) {
	n, err := c.Reader.ReadAt(b, off)
	c.bytes += n
	c.calls++
	return n, err
}

// Of large packets only the tags are read, and small ones many at a time.
func TestWalkReadsLittle(t *testing.T) {
	for _, test := range []struct{ size, bytes, calls int }{{100_000, 40, 1}, {100, 130, 0}} {
		f := newFile().avc(1)
		body := append([]byte{0x17, 1, 0, 0, 0}, make([]byte, test.size)...)
		const packets = 500
		for i := range packets {
			f.tag(9, i*40, body...)
		}
		r := &counting{}
		r.Reset(f.Bytes())
		s, err := Walk(r, int64(f.Len()))
		if err != nil || !s.Plain || s.Parts[0].Video.Packets != packets {
			t.Fatal(text(s, err))
		}
		r.bytes -= maxLooks * min(lookSize, test.size) // for the picture, which it does not find
		if r.bytes > packets*test.bytes+1<<14 || r.calls > packets*test.calls+packets/10 {
			t.Errorf("%d bytes in %d calls for %d packets of %d bytes", r.bytes, r.calls, packets, test.size)
		}
		if n := testing.AllocsPerRun(1, func() { Walk(r, int64(f.Len())) }); n > packets/2 {
			t.Errorf("%v allocations for %d packets", n, packets)
		}
	}
}

func TestWalkReadError(t *testing.T) {
	f := plainFile()
	if _, err := Walk(bytes.NewReader(f.Bytes()), int64(f.Len())+100); err == nil {
		t.Error("a file that became shorter went unnoticed")
	}
	broken := errors.New("broken")
	if _, err := Walk(failing{broken}, 100); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

type failing struct{ err error }

func (f failing) ReadAt([]byte, int64) (int, error) { return 0, f.err }

// checkSurvey holds for every survey: extents lie in the file, and those of the
// packets do not overlap.
func checkSurvey(t *testing.T, s Survey, size int64) {
	t.Helper()
	var bytes, packets int64
	var all []Extent
	for _, p := range s.Parts {
		if p.Video.Packets+p.Audio.Packets == 0 {
			t.Error("a part without packets")
		}
		if len(p.Stretches) == 0 || p.Duration < 0 {
			t.Errorf("part %+v", p)
		}
		bytes += p.Video.Bytes + p.Audio.Bytes
		packets += p.Video.Packets + p.Audio.Packets
		early := p.Early[0] + p.Early[1]
		for _, st := range p.Stretches {
			e := st.Extent
			if st.pending {
				t.Errorf("stretch %+v has no time", st)
			}
			if e.Off < 13 || e.Len < flv.TagHeaderSize || e.Off+e.Len > size {
				t.Errorf("extent %+v in a file of %d bytes", e, size)
			}
			if early > 0 && st.packets[0]+st.packets[1] > 0 {
				early-- // comes again
				continue
			}
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b Extent) int { return int(a.Off - b.Off) })
	all = slices.Compact(all) // a sequence header may serve several parts
	for i := 1; i < len(all); i++ {
		if all[i-1].Off+all[i-1].Len > all[i].Off {
			t.Errorf("extents %+v and %+v overlap", all[i-1], all[i])
		}
	}
	if bytes+packets*flv.TagHeaderSize > size {
		t.Errorf("%d bytes in %d packets of a file of %d", bytes, packets, size)
	}
	if s.Plain && (len(s.Parts) != 1 || len(s.Damage) > 0 || s.Cut > 0) {
		t.Errorf("not plain: %+v", s)
	}
}

func FuzzWalk(f *testing.F) {
	f.Add(plainFile().Bytes())
	f.Add(plainFile().asc(2).avc(2).key(80).raw(1, 2, 3).sound(80).cut(3).Bytes())
	f.Add(newFile().tag(9, 0, 0x90, 'h', 'v', 'c', '1', 1).tag(8, 0, 0xb2, 1).Bytes())
	f.Add(newFile().tag(9, 0, 0x1c, 0, 0, 0, 0, 1).tag(9, 0, 0x1c, 1, 0, 0, 0, 1, 2).tag(9, 9, 0x2c, 1, 9, 0, 0, 1, 2).Bytes())
	f.Add(plainFile().key(80_000_000).frame(80).sound(48).frame(120).key(-500).frame(-460).sound(72).Bytes())
	f.Add(newFile().avc(1).key(1 << 31).key(0).key(40).asc(1).sound(50_000).sound(50_023).asc(2).frame(80).sound(50_046).key(120).Bytes())
	f.Add(newFile().avc(1).frame(0).tag(9, 40, 0x17, 1, 0, 0, 0, 0, 0, 0, 3, 0x41, 0xb8, 0).tag(8, 40, 0xaf, 1, 0xff, 0xf1, 0x4c, 0x80, 1, 0x3f, 0xfc, 1).
		tag(9, 41, 0x84, 'h', 'v', 'c', '1', 2).tag(8, 42, 0x91, 'O', 'p', 'u', 's').tag(18, 43, 2, 0, 1, 'x').Bytes())
	f.Add(newFile().raw(9, 0, 0, 6, 0, 0, 0, 0, 0, 0, 1, 0x17, 0, 0, 0, 0, 1, 0, 0, 0, 0).raw(9, 0, 0, 6, 0, 0, 0, 0, 0, 0, 1, 0x17, 1, 0, 0, 0, 1, 0, 0, 0, 0).Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Walk(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			if !errors.Is(err, ErrNotFLV) {
				t.Fatal(err)
			}
			return
		}
		checkSurvey(t, s, int64(len(b)))

		// What is read of a part is a file of that part and nothing else, of which no
		// time has to be mended.
		for _, p := range s.Parts {
			part, err := io.ReadAll(p.Reader(bytes.NewReader(b)))
			if err != nil {
				t.Fatal(err)
			}
			again, err := Walk(bytes.NewReader(part), int64(len(part)))
			if err != nil || len(again.Parts) != 1 || len(again.Damage) > 0 {
				t.Fatalf("part %+v reads again as %s", p, text(again, err))
			}
			q := again.Parts[0]
			for i, stream := range []struct{ was, is Stream }{{p.Video, q.Video}, {p.Audio, q.Audio}} {
				was, is := stream.was, stream.is
				if is.Codec != was.Codec || is.Packets != was.Packets+p.Early[i] || p.Early[i] == 0 && is.Bytes != was.Bytes {
					t.Errorf("part %+v reads again as %s", p, text(again, err))
				}
			}
			if p.Early == [2]int64{} && q.Picture != p.Picture {
				t.Errorf("picture %+v reads again as %+v", p.Picture, q.Picture)
			}
		}
	})
}

func unhex(digits string) []byte {
	b, err := hex.DecodeString(digits)
	if err != nil {
		panic(err)
	}
	return b
}
