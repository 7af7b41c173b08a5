package recording

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tunnelcast/internal/flv"
	"tunnelcast/internal/recording/recordingtest"
)

// timedFile builds a recording of packets: "v80" is a picture at 80 ms, "a23" a sound at 23 ms,
// "v..200" are pictures every 40 ms up to 200, "a..200" sounds every 20 ms.
func timedFile(text string) *builder {
	f := build()
	if strings.Contains(text, "v") {
		f.AVC(1)
	}
	if strings.Contains(text, "a") {
		f.AAC(1)
	}
	var at [2]int64
	for _, word := range strings.Fields(text) {
		stream, pace, add := video, int64(40), f.Key
		if word[0] == 'a' {
			stream, pace, add = audio, 20, f.Sound
		}
		var ms int64
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

// partTags returns the packets of the only part of a recording, as a demuxer gets them.
func partTags(t interface{ Fatal(...any) }, file []byte) (Survey, []recordingtest.Tag) {
	s, err := Walk(bytes.NewReader(file), int64(len(file)))
	if err != nil || len(s.Parts) != 1 {
		t.Fatal(text(s), err)
	}
	part, err := io.ReadAll(s.Parts[0].Reader(bytes.NewReader(file)))
	if err != nil {
		t.Fatal(err)
	}
	tags := recordingtest.Only(recordingtest.Tags(part), func(t recordingtest.Tag) bool { return !t.IsHeader() })
	for i := range tags {
		tags[i].MS = int64(int32(tags[i].MS))
	}
	return s, tags
}

// times prints the times of packets as timedFile has them.
func times(tags []recordingtest.Tag) string {
	var words []string
	for _, t := range tags {
		words = append(words, fmt.Sprintf("%c%d", map[byte]rune{flv.TagAudio: 'a', flv.TagVideo: 'v'}[t.Type], t.MS))
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
		{"gap in both streams", "v0 a0 v40 a20 a40 v5000 a5000 v5040 a5020",
			"v0 a0 v40 a20 a40 v5000 a5000 v5040 a5020", 0},
		{"step back", "v5000 v5040 v80 v120 v160", "v0 v40 v80 v120 v160", 3},
		{"both streams step back", "v5000 a5000 v5040 a5020 v0 a0 v40 a20", "v0 a0 v40 a20 v80 a80 v120 a100", 4},
		{"both step back, sound was ahead", "v5000 a5000 a5020 a..5200 v5040 v0 a0 v40 a20 a..60",
			"v0 a0 a20 a40 a60 a80 a100 a120 a140 a160 a180 a200 v40 v220 a220 v260 a240 a260 a280", 6},
		{"pictures step there and back", "v0 a0 v40 a20 a40 v9000 v9040 a60 a80 v160 a100 a120 v200",
			"v0 a0 v40 a20 a40 v80 v120 a60 a80 v160 a100 a120 v200", 2},
		{"beyond 32 bits", "v4294967256 v4294967295 v39 v79", "v-40 v-1 v39 v79", 0},
		{"no two times fit", "v0 v40 v900000000 v100 v7 v800000000 v55 v3 v700000000 v1 v2", "", -1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, tags := partTags(t, timedFile(test.file).Bytes())
			if test.moved < 0 {
				return
			}
			if got := times(tags); got != test.want {
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

// Whatever the times are, each packet gets one, in the order of its stream apart from delays in the
// network, and what was changed is counted.
func TestTimesInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := build().AVC(1).AAC(1)
		var at [2]int64
		n := rapid.IntRange(1, 60).Draw(t, "packets")
		wild := rapid.OneOf(rapid.Int64Range(-200, 200), rapid.Int64Range(-1<<31, 1<<31))
		for range n {
			stream := rapid.IntRange(0, 1).Draw(t, "stream")
			at[stream] += 40
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				at[stream] += wild.Draw(t, "step")
			case 1:
				by := wild.Draw(t, "both step")
				at[video] += by
				at[audio] += by
			}
			ms := at[stream]
			if rapid.IntRange(0, 9).Draw(t, "wrong") == 0 {
				ms += wild.Draw(t, "off")
			}
			if stream == video {
				f.Key(ms)
			} else {
				f.Sound(ms)
			}
		}
		s, tags := partTags(t, f.Bytes())
		p := s.Parts[0]
		if got := p.Video.Packets + p.Audio.Packets; got != int64(n) {
			t.Fatalf("%d packets of %d", got, n)
		}
		latest := map[byte]int64{}
		for _, tag := range tags[p.Early[video]+p.Early[audio]:] {
			last, ok := latest[tag.Type]
			if ok && s.Moved() > 0 && tag.MS < last-200-100 {
				t.Fatalf("%d ms after %d ms of the same stream: %s", tag.MS, last, times(recordingtest.Tags(f.Bytes())))
			}
			latest[tag.Type] = max(last, tag.MS)
		}
	})
}

// A single error of the times, whatever and wherever it is, is corrected to within the duration of a
// picture, and sound and picture stay together.
func TestTimesOneError(t *testing.T) {
	type packet struct {
		tagType  byte
		ms, goal int64
	}
	rapid.Check(t, func(t *rapid.T) {
		var all []packet
		for ms := range int64(6000) {
			if ms%40 == 0 {
				all = append(all, packet{flv.TagVideo, ms, ms})
			}
			if ms%21 == 0 {
				all = append(all, packet{flv.TagAudio, ms, ms})
			}
		}
		by := rapid.OneOf(rapid.Int64Range(-20_000, -300), rapid.Int64Range(4000, 20_000),
			rapid.Int64Range(-1<<31+7000, -20_000), rapid.Int64Range(20_000, 1<<31-7000)).Draw(t, "by")
		at := rapid.IntRange(0, len(all)-1).Draw(t, "at")
		if at < 4 && by < 0 {
			by = max(-by, 4000) // ffmpeg keeps a gap after the first packet of a stream, too
		}
		counted := true
		what := rapid.SampledFrom([]string{"one", "picture", "sound", "both"}).Draw(t, "what")
		if what != "one" {
			at = min(at, len(all)-8) // later, it would be a single wrong time
			if what == "both" && at < 4 {
				at = 0
			}
		}
		switch what {
		case "one":
			all[at].ms += by
		default:
			for i := at; i < len(all); i++ {
				if what == "both" || (all[i].tagType == flv.TagVideo) == (what == "picture") {
					all[i].ms += by
				}
			}
		}
		if gap := what == "both" && at > 0 && by > 0 && by <= longestGap; gap { // which is kept
			counted = false
			for i := at; i < len(all); i++ {
				all[i].goal += by
			}
		}
		if what != "one" && at <= 1 {
			counted = false // there is nothing to compare with
		}
		f := build().AVC(1).AAC(1)
		for _, p := range all {
			if p.tagType == flv.TagVideo {
				f.Key(p.ms)
			} else {
				f.Sound(p.ms)
			}
		}
		s, tags := partTags(t, f.Bytes())
		if s.Moved() == 0 && counted {
			t.Error("nothing moved")
		}
		if s.Parts[0].Early != [2]int64{} {
			t.Fatal("a stream is taken for late")
		}
		var offs []int64
		for i, tag := range tags {
			offs = append(offs, int64(int32(tag.MS-all[i].goal)))
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
