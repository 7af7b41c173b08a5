package recording

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// timed makes a recording of packets "v80" and "a23": a picture at 80 ms and a sound
// at 23 ms; "v..200" are pictures every 40 ms up to 200, "a..200" sounds every 20 ms.
func timed(text string) *file {
	f := newFile()
	if strings.Contains(text, "v") {
		f.avc(1)
	}
	if strings.Contains(text, "a") {
		f.asc(1)
	}
	var at [2]int
	for _, word := range strings.Fields(text) {
		stream, pace, add := 0, 40, f.key
		if word[0] == 'a' {
			stream, pace, add = 1, 20, f.sound
		}
		var ms int
		if _, err := fmt.Sscanf(word[1:], "..%d", &ms); err != nil {
			fmt.Sscan(word[1:], &ms)
			at[stream] = ms - pace
		}
		for at[stream] < ms {
			at[stream] += pace
			add(at[stream])
		}
	}
	return f
}

// times are those of an FLV file's packets, as timed has them.
func times(b []byte) string {
	var words []string
	for b = b[13:]; len(b) >= 15; b = b[15+int(b[1])<<16+int(b[2])<<8+int(b[3]):] {
		ms := int32(uint32(b[4])<<16 | uint32(b[5])<<8 | uint32(b[6]) | uint32(b[7])<<24)
		if b[12] == 1 {
			words = append(words, fmt.Sprintf("%c%d", map[byte]rune{8: 'a', 9: 'v'}[b[0]], ms))
		}
	}
	return strings.Join(words, " ")
}

func TestTimes(t *testing.T) {
	tests := []struct {
		name, file, want string
		moved            int64
	}{
		{"plain", "v0 a0 v40 a20 a40 v80", "v0 a0 v40 a20 a40 v80", 0},
		{"a little early", "v0 v40 v20 v80 v120", "v0 v40 v20 v80 v120", 0},
		{"one far ahead", "v0 v40 v1728000080 v120 v160", "v0 v40 v80 v120 v160", 1},
		{"two far ahead", "v0 v40 v1728000080 v1828000080 v160 v200", "v0 v40 v80 v120 v160 v200", 2},
		{"one too early", "v1000 v1040 v80 v1120 v1160", "v0 v40 v80 v120 v160", 1},
		{"first far ahead", "v1728000000 v40 v80", "v0 v40 v80", 1},
		{"last far ahead", "v0 v40 v80 v1728000000", "v0 v40 v80 v120", 1},
		{"last two far ahead", "v0 v40 v80 v1728000000 v1728000040", "v0 v40 v80 v120 v160", 2},
		{"gap", "v0 v40 v5000 v5040", "v0 v40 v5000 v5040", 0},
		{"gap of both", "v0 a0 v40 a20 a40 v5000 a5000 v5040 a5020", "v0 a0 v40 a20 a40 v5000 a5000 v5040 a5020", 0},
		{"back", "v5000 v5040 v80 v120 v160", "v0 v40 v80 v120 v160", 3},
		{"both back", "v5000 a5000 v5040 a5020 v0 a0 v40 a20", "v0 a0 v40 a20 v80 a80 v120 a100", 4},
		{"both back, sound had been ahead", "v5000 a5000 a5020 a..5200 v5040 v0 a0 v40 a20 a..60",
			"v0 a0 a20 a40 a60 a80 a100 a120 a140 a160 a180 a200 v40 v220 a220 v260 a240 a260 a280", 6},
		{"pictures there and back", "v0 a0 v40 a20 a40 v9000 v9040 a60 a80 v160 a100 a120 v200", "v0 a0 v40 a20 a40 v80 v120 a60 a80 v160 a100 a120 v200", 2},
		{"the turn of 32 bits", "v4294967256 v4294967295 v39 v79", "v-40 v-1 v39 v79", 0},
		{"all are different", "v0 v40 v900000000 v100 v7 v800000000 v55 v3 v700000000 v1 v2", "", -1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := timed(test.file).Bytes()
			s, err := Walk(bytes.NewReader(b), int64(len(b)))
			if err != nil || len(s.Parts) != 1 {
				t.Fatal(text(s, err))
			}
			part, err := io.ReadAll(s.Parts[0].Reader(bytes.NewReader(b)))
			if err != nil {
				t.Fatal(err)
			}
			if test.moved < 0 {
				return
			}
			if got := times(part); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			if got := s.Moved(); got != test.moved {
				t.Errorf("%d packets moved, want %d", got, test.moved)
			}
			if s.Plain != (test.moved == 0) {
				t.Errorf("plain is %v", s.Plain)
			}
		})
	}
}

// Whatever the times are, each packet gets one, in the order of its stream but for what
// the network does, and what was changed is counted.
func TestTimesInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := newFile().avc(1).asc(1)
		at := [2]int{}
		n := rapid.IntRange(1, 60).Draw(t, "packets")
		wild := rapid.OneOf(rapid.IntRange(-200, 200), rapid.IntRange(-1<<31, 1<<31))
		for range n {
			stream := rapid.IntRange(0, 1).Draw(t, "stream")
			at[stream] += 40
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				at[stream] += wild.Draw(t, "step")
			case 1:
				by := wild.Draw(t, "both step")
				at[0] += by
				at[1] += by
			}
			ms := at[stream]
			if rapid.IntRange(0, 9).Draw(t, "wrong") == 0 {
				ms += wild.Draw(t, "off")
			}
			if stream == 0 {
				f.key(ms)
			} else {
				f.sound(ms)
			}
		}
		b := f.Bytes()
		s, err := Walk(bytes.NewReader(b), int64(len(b)))
		if err != nil || len(s.Parts) != 1 {
			t.Fatal(text(s, err))
		}
		p := s.Parts[0]
		part, err := io.ReadAll(p.Reader(bytes.NewReader(b)))
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Video.Packets + p.Audio.Packets; got != int64(n) {
			t.Fatalf("%d packets of %d", got, n)
		}
		top := map[byte]int64{}
		early := p.Early[0] + p.Early[1]
		for part = part[13:]; len(part) >= 15; part = part[15+int(part[1])<<16+int(part[2])<<8+int(part[3]):] {
			if part[12] == 0 {
				continue
			}
			if early > 0 {
				early--
				continue
			}
			ms := int64(int32(binary.BigEndian.Uint32([]byte{part[7], part[4], part[5], part[6]})))
			last, ok := top[part[0]]
			if ok && s.Moved() > 0 && ms < last-200-100 {
				t.Fatalf("%d ms after %d ms of the same stream: %s", ms, last, times(b))
			}
			top[part[0]] = max(last, ms)
		}
	})
}

// One error of the times, whatever it is and wherever, is put right to within a
// picture's time, and sound and picture stay together.
func TestTimesOneError(t *testing.T) {
	type packet struct {
		kind     byte
		ms, goal int
	}
	rapid.Check(t, func(t *rapid.T) {
		var all []packet
		for ms := range 6000 {
			if ms%40 == 0 {
				all = append(all, packet{9, ms, ms})
			}
			if ms%21 == 0 {
				all = append(all, packet{8, ms, ms})
			}
		}
		by := rapid.OneOf(rapid.IntRange(-20_000, -300), rapid.IntRange(4000, 20_000), rapid.IntRange(-1<<31+7000, -20_000), rapid.IntRange(20_000, 1<<31-7000)).
			Draw(t, "by")
		at := rapid.IntRange(0, len(all)-1).Draw(t, "at")
		if at < 4 && by < 0 {
			by = max(-by, 4000) // a gap after the first packet of a stream is one that ffmpeg leaves too
		}
		counted := true
		what := rapid.SampledFrom([]string{"one", "picture", "sound", "both"}).Draw(t, "what")
		if what != "one" {
			at = min(at, len(all)-8) // else it is one
			if what == "both" && at < 4 {
				at = 0
			}
		}
		switch what {
		case "one":
			all[at].ms += by
		default:
			for i := at; i < len(all); i++ {
				if what == "both" || (all[i].kind == 9) == (what == "picture") {
					all[i].ms += by
				}
			}
		}
		gap := what == "both" && at > 0 && by > 0 && by <= longestGap // as it is
		if gap {
			counted = false
			for i := at; i < len(all); i++ {
				all[i].goal += by
			}
		}
		if what != "one" && at <= 1 {
			counted = false // nothing to compare with
		}
		f := newFile().avc(1).asc(1)
		for _, p := range all {
			if p.kind == 9 {
				f.key(p.ms)
			} else {
				f.sound(p.ms)
			}
		}
		b := f.Bytes()
		s, err := Walk(bytes.NewReader(b), int64(len(b)))
		if err != nil || len(s.Parts) != 1 {
			t.Fatal(text(s, err))
		}
		part, err := io.ReadAll(s.Parts[0].Reader(bytes.NewReader(b)))
		if err != nil {
			t.Fatal(err)
		}
		if s.Moved() == 0 && counted {
			t.Error("nothing moved")
		}
		if s.Parts[0].Early != [2]int64{} {
			t.Fatal("a stream is taken for late")
		}
		var offs []int
		for part, i := part[13:], 0; len(part) >= 15; part = part[15+int(part[1])<<16+int(part[2])<<8+int(part[3]):] {
			if part[12] == 1 {
				ms := int(int32(binary.BigEndian.Uint32([]byte{part[7], part[4], part[5], part[6]})))
				offs = append(offs, int(int32(ms-all[i].goal)))
				i++
			}
		}
		sorted := slices.Sorted(slices.Values(offs))
		middle := sorted[len(sorted)/2]
		for i, off := range offs {
			if off < middle-45 || off > middle+45 {
				t.Fatalf("packet %d of %d, at %d ms: %d ms off; %v", i, len(all), all[i].ms, off-middle, s.Losses())
			}
		}
	})
}
