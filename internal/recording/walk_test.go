package recording

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"tunnelcast/internal/flv"
	"tunnelcast/internal/h264"
	"tunnelcast/internal/recording/recordingtest"
)

var build = recordingtest.Build

type builder = recordingtest.Builder

// plainFile builds a file of metadata, two headers, two pictures and two sounds.
func plainFile() *builder {
	return build().Tag(flv.TagScript, 0, []byte(flv.MetaData+"\x08")...).
		AAC(1).AVC(1).Key(0).Sound(1).Frame(40).Sound(24)
}

// enhanced returns the body of a video tag of E-RTMP.
func enhanced(first byte, fourCC string, rest ...byte) []byte {
	return append(append([]byte{first}, fourCC...), rest...)
}

func walk(t testing.TB, b []byte) Survey {
	t.Helper()
	s, err := Walk(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// text prints a survey: the parts, then what is wrong with the file.
func text(s Survey) string {
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
	const plainParts = "[H.264 1/2 6B, AAC 2/2 6B, 80ms, 4 stretches]"
	garbage := bytes.Repeat([]byte{0xee}, 10000)
	tests := []struct {
		name string
		file *builder
		want string
	}{
		{"only the header", build(), "(no audio and no video in it)"},
		{"half the header", new(builder).Raw(flv.Header[:9]...), "(no audio and no video in it)"},
		{"sequence headers only", build().AAC(1).AVC(1), "(no audio and no video in it)"},
		{"only garbage", build().Raw(garbage...), "damage 10000 (nothing in it can be read)"},
		{"plain", plainFile(), "plain " + plainParts},
		{"audio only", build().AAC(1).Sound(0).Sound(23), "plain [AAC 2/2 6B, 46ms, 2 stretches]"},
		{"video only", build().AVC(1).Key(0).Frame(40), "plain [H.264 1/2 6B, 80ms, 2 stretches]"},
		{"MP3", build().Tag(8, 0, 0x2f, 1, 2, 3).Tag(8, 26, 0x2f, 1, 2), "plain [MP3 2/2 5B, 52ms, 1 stretches]"},
		{"HEVC", build().Tag(9, 0, enhanced(0x90, "hvc1", 1, 2)...).
			Tag(9, 0, enhanced(0x91, "hvc1", 0, 0, 0, 1, 2, 3)...).
			Tag(9, 40, enhanced(0xa3, "hvc1", 1)...).Tag(9, 40, enhanced(0x92, "hvc1")...),
			"plain [HEVC 1/2 4B, 80ms, 2 stretches]"},
		{"same headers again", plainFile().AAC(1).AVC(1).Key(80),
			"[H.264 2/3 10B, AAC 2/2 6B, 120ms, 5 stretches]"},
		{"cut in the size after the last tag", plainFile().Cut(3), "plain " + plainParts},
		{"cut in the last tag", plainFile().Cut(5), "[H.264 1/2 6B, AAC 1/1 3B, 80ms, 4 stretches] cut 15"},
		{"cut in a tag header", plainFile().Cut(12), "[H.264 1/2 6B, AAC 1/1 3B, 80ms, 4 stretches] cut 8"},
		{"zeros at the end", plainFile().Raw(make([]byte, 10000)...), plainParts + " cut 10000"},
		{"garbage at the end", plainFile().Raw(garbage...), plainParts + " damage 10000"},
		{"zeros in the middle", plainFile().Raw(make([]byte, 9000)...).Key(80).Sound(80),
			"[H.264 2/3 10B, AAC 3/3 9B, 136ms, 5 stretches] damage 9000"},
		{"tag without its body", plainFile().Raw(9, 0, 1, 0, 0, 0, 50, 0, 0, 0, 0).Key(80),
			"[H.264 2/3 10B, AAC 2/2 6B, 120ms, 5 stretches] damage 11"},
		{"tag longer than the file", plainFile().Raw(9, 0xff, 0xff, 0xff, 0, 0, 50, 0, 0, 0, 0, 1, 2).Key(80),
			"[H.264 2/3 10B, AAC 2/2 6B, 120ms, 5 stretches] damage 13"},
		{"resolution changes", plainFile().AVC(2).Key(80).Sound(80),
			plainParts + " [H.264 1/1 4B, AAC 1/1 3B, 56ms, 3 stretches]"},
		{"both headers change", plainFile().AAC(2).AVC(2).Key(80).Sound(80),
			plainParts + " [H.264 1/1 4B, AAC 1/1 3B, 56ms, 3 stretches]"},
		{"AAC changes, then H.264 before a key frame",
			build().AVC(1).AAC(1).Key(0).Sound(0).AAC(2).Sound(23).Frame(40).AVC(2).Frame(80).Key(120),
			"[H.264 1/2 6B, AAC 1/1 3B, 80ms, 4 stretches] [H.264 1/2 6B, AAC 1/1 3B, 137ms, 4 stretches]"},
		{"header changes before any packet", build().AVC(1).AVC(2).Key(0), "[H.264 1/1 4B, 0ms, 2 stretches]"},
		{"header changes after the last packet", plainFile().AVC(2), plainParts},
		{"AAC changes to MP3", plainFile().Tag(8, 50, 0x2f, 1, 2, 3),
			plainParts + " [MP3 1/1 3B, 26ms, 1 stretches]"},
		{"audio begins late", build().AVC(1).Key(0).Key(40_000).AAC(1).Sound(40_001).Key(40_040),
			"[H.264 3/3 12B, AAC 1/1 3B, 40080ms, 5 stretches]"},
		{"audio begins soon", build().AVC(1).Key(0).AAC(1).Sound(1),
			"plain [H.264 1/1 4B, AAC 1/1 3B, 1ms, 4 stretches]"},
		{"no key frame", build().AVC(1).Frame(0), "plain [H.264 0/1 2B, 0ms, 2 stretches]"},
		{"packets before their header", build().Key(0).AVC(1).Key(40), "[H.264 1/1 4B, 0ms, 2 stretches] damage 24"},
		{"truncated video tag", build().AVC(1).Key(0).Tag(9, 0, 0x17, 1), "[H.264 1/1 4B, 0ms, 2 stretches]"},
		{"end of sequence", build().AVC(1).Key(0).Tag(9, 0, 0x17, 2, 0, 0, 0),
			"plain [H.264 1/1 4B, 0ms, 2 stretches]"},
		{"time over 2^31 ms", build().AAC(1).Sound(1 << 31).Sound(1<<31 + 23),
			"plain [AAC 2/2 6B, 46ms, 2 stretches]"},
		{"Speex", build().AVC(1).Key(0).Tag(8, 0, 0xb2, 1, 2),
			"plain [H.264 1/1 4B, Speex 1/1 2B, 0ms, 2 stretches] (MP4 cannot hold its Speex)"},
		{"Sorenson H.263", build().Tag(9, 0, 0x12, 1, 2),
			"plain [Sorenson H.263 1/1 2B, 0ms, 1 stretches] (MP4 cannot hold its Sorenson H.263)"},
		{"AV1", build().Tag(9, 0, enhanced(0x91, "av01", 1, 2)...), "(its AV1 is not supported)"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := walk(t, test.file.Bytes())
			if got := text(s); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			checkSurvey(t, s, int64(test.file.Len()))
		})
	}
}

func TestWalkNotFLV(t *testing.T) {
	for _, b := range [][]byte{nil, make([]byte, 100)} {
		if _, err := Walk(bytes.NewReader(b), int64(len(b))); err != ErrNotFLV {
			t.Errorf("%d bytes: %v", len(b), err)
		}
	}
}

// The index of an MP4 file has an entry for each run of equal distances.
func TestWalkRuns(t *testing.T) {
	delayed := func(ms int) []byte { return []byte{0x27, 1, 0, byte(ms >> 8), byte(ms), 1, 2} }
	f := build().AVC(1).Key(0).Tag(9, 40, delayed(80)...).Tag(9, 80, delayed(80)...).Tag(9, 121, delayed(0)...).
		Tag(9, 200, 0x27, 1, 0xff, 0xff, 0xff, 1).AAC(1).Sound(0).Sound(21).Sound(42).Sound(64)
	s := walk(t, f.Bytes())
	if len(s.Parts) != 1 {
		t.Fatal(text(s))
	}
	v, a := s.Parts[0].Video, s.Parts[0].Audio
	if got, want := [4]int64{v.Paces, v.Delays, a.Paces, a.Delays}, [4]int64{4, 4, 3, 1}; got != want {
		t.Errorf("%d, want %d", got, want)
	}
}

// A publisher that changes its parameters with every picture makes neither files nor memory without
// limit.
func TestWalkManyChanges(t *testing.T) {
	for _, test := range []struct {
		changes int
		ok      bool
	}{{maxParts - 1, true}, {maxParts, false}, {2 * maxParts, false}} {
		f := build()
		for i := range test.changes + 1 {
			f.AVC(byte(i)).Key(int64(i))
		}
		s := walk(t, f.Bytes())
		if len(s.Parts) != maxParts || (s.Err() == nil) != test.ok {
			t.Errorf("%d changes: %d parts, error %v", test.changes, len(s.Parts), s.Err())
		}
	}
}

// Each of the files that `cat a.flv b.flv` joins becomes a part, which is as the file would be alone.
func TestWalkJoined(t *testing.T) {
	plain, other := plainFile().Bytes(), build().AVC(7).Key(0).Key(40).AAC(2).Sound(5).Sound(28).Bytes()
	files := [][]byte{plain, other, plain, other, other}
	s := walk(t, slices.Concat(files...))
	if s.Err() != nil || len(s.Losses()) > 0 || s.Cut > 0 || s.Plain || len(s.Parts) != len(files) {
		t.Fatalf("%s, losses %q", text(s), s.Losses())
	}
	for i, file := range files {
		want := walk(t, file).Parts[0]
		if got := s.Parts[i]; got.Video != want.Video || got.Audio != want.Audio || got.Duration != want.Duration {
			t.Errorf("part %d is %+v, want %+v", i, got, want)
		}
	}

	// A first file that was cut is damage, because there may be more in it.
	cut := walk(t, slices.Concat(plain[:len(plain)-7], other))
	want := packets(walk(t, plain)) - 1 + packets(walk(t, other))
	if len(cut.Parts) != 2 || len(cut.Damage) != 1 || packets(cut) != want {
		t.Errorf("%d packets: %s", packets(cut), text(cut))
	}
	if cut.Parts[1].Duration != walk(t, other).Parts[0].Duration {
		t.Errorf("after a cut file: %+v", cut.Parts[1])
	}
}

func packets(s Survey) (n int64) {
	for _, p := range s.Parts {
		n += p.Video.Packets + p.Audio.Packets
	}
	return n
}

// The sequence header and the first slice say how the video is displayed.
func TestWalkPicture(t *testing.T) {
	record, slice := unhex("0142c01effe10008"+"6742c01eda0507e4"+"010002"+"68cc"), unhex("00000006"+"65888000"+"0caa")
	f := build().AAC(1).Sound(0).Tag(9, 0, append([]byte{0x17, 0, 0, 0, 0}, record...)...).
		Tag(9, 0, 0x17, 1, 0, 0, 0, 0, 0, 0, 2, 9, 0xf0).
		Tag(9, 40, append([]byte{0x17, 1, 0, 0, 0}, slice...)...).
		AVC(1).Key(80)
	s := walk(t, f.Bytes())
	if len(s.Parts) != 2 {
		t.Fatal(text(s))
	}
	if p := s.Parts[0].Picture; p.Width != 320 || p.Height != 240 {
		t.Errorf("%+v", p)
	}
	if p := s.Parts[1].Picture; p != (h264.Picture{}) {
		t.Errorf("%+v of a part whose parameter sets are invalid", p)
	}
}

func unhex(digits string) []byte {
	b, err := hex.DecodeString(digits)
	if err != nil {
		panic(err)
	}
	return b
}

// Wherever a file is cut, every whole packet is found and nothing counts as damage.
func TestWalkCutAnywhere(t *testing.T) {
	whole := plainFile().Bytes()
	var last int64
	for n := len(flv.Header); n <= len(whole); n++ {
		s := walk(t, whole[:n])
		if len(s.Damage) > 0 || packets(s) < last {
			t.Errorf("cut at %d: %s, had %d packets before", n, text(s), last)
		}
		last = packets(s)
	}
	if last != 4 {
		t.Errorf("%d packets in the end", last)
	}
}

// counter counts calls of ReadAt and the bytes that they read.
type counter struct {
	bytes.Reader
	bytes, calls int
}

func (c *counter) ReadAt(b []byte, off int64) (int, error) {
	n, err := c.Reader.ReadAt(b, off)
	c.bytes += n
	c.calls++
	return n, err
}

// manyPackets returns a file of n key frames of so many bytes.
func manyPackets(n, size int) []byte {
	f := build().AVC(1)
	body := append([]byte{0x17, 1, 0, 0, 0}, make([]byte, size)...)
	for i := range n {
		f.Tag(9, int64(i)*40, body...)
	}
	return f.Bytes()
}

// Of large packets only the tags are read, and small packets many at a time.
func TestWalkReadsLittle(t *testing.T) {
	for _, test := range []struct{ size, bytes, calls int }{{100_000, 40, 1}, {100, 130, 0}} {
		const packets = 500
		b := manyPackets(packets, test.size)
		r := &counter{}
		r.Reset(b)
		s, err := Walk(r, int64(len(b)))
		if err != nil || !s.Plain || s.Parts[0].Video.Packets != packets {
			t.Fatal(text(s), err)
		}
		r.bytes -= maxLooks * min(lookSize, test.size) // in search of a picture, which is not there
		if r.bytes > packets*test.bytes+1<<14 || r.calls > packets*test.calls+packets/10 {
			t.Errorf("%d bytes in %d calls for %d packets of %d bytes", r.bytes, r.calls, packets, test.size)
		}
		if n := testing.AllocsPerRun(1, func() { Walk(r, int64(len(b))) }); n > packets/2 {
			t.Errorf("%v allocations for %d packets", n, packets)
		}
	}
}

func TestWalkReadError(t *testing.T) {
	f := plainFile()
	if _, err := Walk(bytes.NewReader(f.Bytes()), int64(f.Len())+100); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a file that became shorter: %v", err)
	}
	broken := errors.New("broken")
	if _, err := Walk(failing{broken}, 100); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

type failing struct{ err error }

func (f failing) ReadAt([]byte, int64) (int, error) { return 0, f.err }

// checkSurvey checks what holds for every survey: extents are in the file, and those of the packets
// do not overlap.
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
		early := p.Early[video] + p.Early[audio]
		for _, st := range p.Stretches {
			e := st.Extent
			if st.pending {
				t.Errorf("stretch %+v has no time", st)
			}
			if e.Off < int64(len(flv.Header)) || e.Len < flv.TagHeaderSize || e.end() > size {
				t.Errorf("extent %+v in a file of %d bytes", e, size)
			}
			if early > 0 && st.packets[video]+st.packets[audio] > 0 {
				early-- // a packet that is repeated
				continue
			}
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b Extent) int { return int(a.Off - b.Off) })
	all = slices.Compact(all) // a sequence header may serve several parts
	for i := 1; i < len(all); i++ {
		if all[i-1].end() > all[i].Off {
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
	for _, seed := range []*builder{
		plainFile(),
		plainFile().AAC(2).AVC(2).Key(80).Raw(1, 2, 3).Sound(80).Cut(3),
		build().Tag(9, 0, enhanced(0x90, "hvc1", 1)...).Tag(8, 0, 0xb2, 1),
		build().Tag(9, 0, 0x1c, 0, 0, 0, 0, 1).Tag(9, 0, 0x1c, 1, 0, 0, 0, 1, 2).Tag(9, 9, 0x2c, 1, 9, 0, 0, 1, 2),
		plainFile().Key(80_000_000).Frame(80).Sound(48).Frame(120).Key(-500).Frame(-460).Sound(72),
		build().AVC(1).Key(1 << 31).Key(0).Key(40).AAC(1).Sound(50_000).Sound(50_023).AAC(2).Frame(80).
			Sound(50_046).Key(120),
		build().AVC(1).Frame(0).Tag(9, 40, 0x17, 1, 0, 0, 0, 0, 0, 0, 3, 0x41, 0xb8, 0).
			Tag(8, 40, 0xaf, 1, 0xff, 0xf1, 0x4c, 0x80, 1, 0x3f, 0xfc, 1).
			Tag(9, 41, enhanced(0x84, "hvc1", 2)...).Tag(8, 42, enhanced(0x91, "Opus")...).Tag(18, 43, 2, 0, 1, 'x'),
		build().Raw(9, 0, 0, 6, 0, 0, 0, 0, 0, 0, 1, 0x17, 0, 0, 0, 0, 1, 0, 0, 0, 0).
			Raw(9, 0, 0, 6, 0, 0, 0, 0, 0, 0, 1, 0x17, 1, 0, 0, 0, 1, 0, 0, 0, 0),
	} {
		f.Add(seed.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Walk(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			if !errors.Is(err, ErrNotFLV) {
				t.Fatal(err)
			}
			return
		}
		checkSurvey(t, s, int64(len(b)))
		for _, p := range s.Parts {
			checkReader(t, p, b)
		}
	})
}

// checkReader checks that the file of a part has the packets of the part and nothing else.
func checkReader(t *testing.T, p Part, file []byte) {
	t.Helper()
	part, err := io.ReadAll(p.Reader(bytes.NewReader(file)))
	if err != nil {
		t.Fatal(err)
	}
	again := walk(t, part)
	if len(again.Parts) != 1 || len(again.Damage) > 0 {
		t.Fatalf("part %+v is read again as %s", p, text(again))
	}
	q := again.Parts[0]
	for i, stream := range []struct{ was, is Stream }{{p.Video, q.Video}, {p.Audio, q.Audio}} {
		was, is := stream.was, stream.is
		if is.Codec != was.Codec || is.Packets != was.Packets+p.Early[i] || p.Early[i] == 0 && is.Bytes != was.Bytes {
			t.Errorf("part %+v is read again as %s", p, text(again))
		}
	}
	if p.Early == [2]int64{} && q.Picture != p.Picture {
		t.Errorf("picture %+v is read again as %+v", p.Picture, q.Picture)
	}
}

func BenchmarkWalk(b *testing.B) {
	for _, size := range []int{100, 20_000} {
		b.Run(fmt.Sprintf("packets of %d bytes", size), func(b *testing.B) {
			const n = 1000
			file := manyPackets(n, size)
			b.ReportAllocs()
			for b.Loop() {
				walk(b, file)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/packet")
		})
	}
}
