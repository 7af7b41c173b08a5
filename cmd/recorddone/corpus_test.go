//go:build cgo

package main

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"

	"tunnelcast/internal/flv"
	"tunnelcast/internal/promised"
	"tunnelcast/internal/recording/recordingtest"
)

type tag = recordingtest.Tag

// encodeTags makes a recording: its sequence headers, and its packets.
func encodeTags(t *testing.T, args ...string) (heads, media []tag) {
	t.Helper()
	for _, tag := range recordingtest.Tags(recordingtest.Encode(t, args...)) {
		switch {
		case tag.Type == flv.TagScript:
		case tag.IsHeader():
			heads = append(heads, tag)
		case tag.IsVideo() || tag.IsAudio():
			media = append(media, tag)
		}
	}
	return heads, media
}

// field is a recording of one of the kinds that people report.
type field struct {
	name string
	tags []tag
	// says is what the line in the journal has, beside exit status 3; empty if the FLV
	// goes, with a "!" in front where there is no MP4, exit status 1.
	says string
	// as are the packets that a viewer should get, at the times at which he should
	// get them; those of tags, if nil.
	as []tag
	// files is the number of MP4 files, 0 for one.
	files int
	// undecodable says that Debian's ffmpeg cannot decode as.
	undecodable bool
}

// retime gives the packets that a rule picks other times.
func retime(tags []tag, rule func(n int, t tag) (ms int64, ok bool)) (out []tag) {
	var n [10]int
	for _, t := range tags {
		if ms, ok := rule(n[t.Type], t); ok {
			t.MS = ms
		}
		n[t.Type]++
		out = append(out, t)
	}
	return out
}

// laterIn moves the packets of a kind, or of both with 0, from a time on.
func laterIn(tags []tag, kind byte, from, by int64) []tag {
	return retime(tags, func(_ int, t tag) (int64, bool) { return t.MS + by, (kind == 0 || t.Type == kind) && t.MS >= from })
}

// singleIn moves one packet.
func singleIn(tags []tag, kind byte, number int, by int64) []tag {
	return retime(tags, func(n int, t tag) (int64, bool) { return t.MS + by, t.Type == kind && n == number })
}

// corpus is a recording of each kind.
func corpus(t *testing.T) (all []field) {
	heads, media := encodeTags(t, "-f", "lavfi", "-i", "testsrc2=s=320x240:r=25", "-f", "lavfi", "-i", "sine=r=48000", "-t", "4",
		"-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-pix_fmt", "yuv420p", "-c:a", "aac", "-ac", "2")
	var vh, ah tag
	for _, h := range heads {
		if h.Type == 9 {
			vh = h
		} else {
			ah = h
		}
	}
	join := func(lists ...[]tag) []tag { return slices.Concat(lists...) }
	heads = []tag{ah, vh}
	pictures, sounds := recordingtest.Only(media, tag.IsVideo), recordingtest.Only(media, tag.IsAudio)
	later := func(kind byte, from, by int64) []tag { return laterIn(media, kind, from, by) }
	single := func(kind byte, number int, by int64) []tag { return singleIn(media, kind, number, by) }
	add := func(name, says string, tags, as []tag) *field {
		all = append(all, field{name: name, tags: tags, says: says, as: as})
		return &all[len(all)-1]
	}
	const second, hour, day = int64(1000), int64(3600_000), int64(86400_000)
	moved := "with wrong times moved"

	add("plain", "", join(heads, media), nil)

	// Times.
	for _, by := range []int64{20 * day, 40 * day, hour, 10 * second, 500, -500, -2 * second, -day} {
		add(fmt.Sprintf("one picture %d ms off", by), moved, join(heads, single(9, 50, by)), media)
		add(fmt.Sprintf("one sound %d ms off", by), moved, join(heads, single(8, 90, by)), media)
	}
	for _, by := range []int64{40 * day, 20 * day} {
		add(fmt.Sprintf("first picture %d ms off", by), moved, join(heads, single(9, 0, by)), media)
		add(fmt.Sprintf("first sound %d ms off", by), moved, join(heads, single(8, 0, by)), media)
		add(fmt.Sprintf("last picture %d ms off", by), moved, join(heads, single(9, 99, by)), media)
		add(fmt.Sprintf("pictures %d ms off", by), moved, join(heads, later(9, 0, by)), media)
		add(fmt.Sprintf("all %d ms off", by), "", join(heads, later(0, 0, by)), media)
	}
	add("last picture an hour off", moved, join(heads, single(9, 99, hour)), media)
	add("each tenth picture off", moved, join(heads, retime(media, func(n int, t tag) (int64, bool) {
		return t.MS + int64(n)*hour, t.Type == 9 && n%10 == 9
	})), media)
	add("two pictures in a row off", moved, join(heads, retime(media, func(n int, t tag) (int64, bool) {
		return t.MS + 3*hour, t.Type == 9 && (n == 40 || n == 41)
	})), media)
	for _, by := range []int64{10 * day, -500, -2 * second, -49 * second} {
		add(fmt.Sprintf("all step by %d ms", by), moved, join(heads, later(0, 2*second, by)), media)
		add(fmt.Sprintf("pictures step by %d ms", by), moved, join(heads, later(9, 2*second, by)), media)
		add(fmt.Sprintf("sound steps by %d ms", by), moved, join(heads, later(8, 2*second, by)), media)
	}
	for _, by := range []int64{10 * second, hour} {
		add(fmt.Sprintf("all step by %d ms", by), "", join(heads, later(0, 2*second, by)), nil)
		add(fmt.Sprintf("pictures step by %d ms", by), moved, join(heads, later(9, 2*second, by)), media)
		add(fmt.Sprintf("sound steps by %d ms", by), moved, join(heads, later(8, 2*second, by)), media)
	}
	anew := later(0, 0, 0)
	var again []tag
	for _, m := range media {
		again = append(again, m.At(m.MS+4040))
	}
	add("times begin anew", moved, join(heads, anew, heads, media), join(media, again))
	add("joined files", "", join(heads, media, []tag{{Raw: flv.Header}}, heads, media), join(media, media)).files = 2
	add("pictures begin before 0", "", join(heads, later(9, 0, -1)), nil)
	add("all begin before 0", "", join(heads, later(0, 0, -300)), media)
	add("headers with wrong times", "", join([]tag{ah.At(40 * day), vh.At(-hour)}, media), media)
	add("32 bits turn", "", join(heads, later(0, 0, 1<<32-2*second)), media)
	add("32 bits turn at once", "", join(heads, later(0, 0, 1<<32-1)), media)
	add("31 bits turn", "", join(heads, later(0, 0, 1<<31-2*second)), media)
	add("pictures wait for 2 s", "", join(heads, recordingtest.Only(media, func(t tag) bool {
		return t.Type == 8 || t.MS < 1000 || t.MS > 3000 || t.IsKey()
	})), nil)
	add("not interleaved", "", join(heads, pictures, sounds), nil)
	delayed := slices.Clone(media)
	for i, m := range delayed {
		if m.IsVideo() && m.MS > 2000 {
			body := bytes.Clone(m.Body)
			body[2], body[3], body[4] = 0x36, 0xee, 0x80
			delayed[i] = m.With(body)
			break
		}
	}
	add("one composition time an hour off", moved, join(heads, delayed), media)

	// The same with B pictures and MP3, at other paces and as times come off a network.
	bHeads, b := encodeTags(t, "-f", "lavfi", "-i", "testsrc2=s=320x240:r=30", "-f", "lavfi", "-i", "sine=r=44100", "-t", "5",
		"-c:v", "libx264", "-preset", "veryfast", "-bf", "3", "-g", "60", "-pix_fmt", "yuv420p", "-c:a", "libmp3lame")
	random := rand.New(rand.NewPCG(1, 2))
	b = retime(b, func(_ int, t tag) (int64, bool) { return t.MS + random.Int64N(9), true })
	add("B pictures and MP3", "", join(bHeads, b), nil)
	for _, by := range []int64{20 * day, -49 * second} {
		add(fmt.Sprintf("one of the B pictures %d ms off", by), moved, join(bHeads, singleIn(b, 9, 71, by)), b)
		add(fmt.Sprintf("one MP3 frame %d ms off", by), moved, join(bHeads, singleIn(b, 8, 71, by)), b)
		add(fmt.Sprintf("B pictures and MP3 step by %d ms", 2*by), moved, join(bHeads, laterIn(b, 0, 2*second, 2*by)), b)
		add(fmt.Sprintf("B pictures step by %d ms", by), moved, join(bHeads, laterIn(b, 9, 2*second, by)), b)
		add(fmt.Sprintf("MP3 steps by %d ms", by), moved, join(bHeads, laterIn(b, 8, 2*second, by)), b)
	}
	bPictures := recordingtest.Only(b, tag.IsVideo)
	add("B pictures alone step back", moved, join(bHeads, laterIn(bPictures, 0, 2*second, -49*second)), bPictures)
	add("B pictures alone, there and back", moved, join(bHeads, retime(bPictures, func(n int, t tag) (int64, bool) {
		return t.MS + 20*day, n >= 60 && n < 90
	})), bPictures)

	// Key frames.
	intra := func(t tag) bool { return len(t.NALUnits()) > 0 && t.NALUnits()[len(t.NALUnits())-1][0]&0x1f == 5 }
	flags := func(change func(t tag) byte) (out []tag) {
		for _, m := range media {
			if m.IsVideo() {
				body := bytes.Clone(m.Body)
				body[0] = change(m)<<4 | 7
				m = m.With(body)
			}
			out = append(out, m)
		}
		return out
	}
	add("IDR pictures that FLV calls inter", "", join(heads, flags(func(tag) byte { return 2 })), media)
	add("all called key frames", "", join(heads, flags(func(tag) byte { return 1 })), media)
	noFirst := recordingtest.Only(media, func(t tag) bool { return !t.IsVideo() || t.MS > 500 })
	seen := false
	decodable := recordingtest.Only(noFirst, func(t tag) bool { seen = seen || t.IsVideo() && intra(t); return !t.IsVideo() || seen })
	lead := len(noFirst) - len(decodable)
	add("begins with pictures that nothing can show", fmt.Sprintf("%d pictures left out before", lead), join(heads, noFirst), decodable)

	openHeads, openMedia := encodeTags(t, "-f", "lavfi", "-i", "testsrc2=s=320x240:r=25", "-t", "8", "-c:v", "libx264", "-preset", "veryfast",
		"-pix_fmt", "yuv420p", "-x264-params", "open-gop=1:keyint=26:min-keyint=26:scenecut=0:ref=1:bframes=1:b-adapt=0:b-pyramid=none")
	openMedia = recordingtest.Only(openMedia, func(t tag) bool { // no B pictures
		return slices.ContainsFunc(t.NALUnits(), func(u []byte) bool { return (u[0]&0x1f == 1 || u[0]&0x1f == 5) && u[0]>>5 > 0 })
	})
	var keys []int64
	for i, m := range openMedia { // no recovery points
		openMedia[i] = m.WithNALUnits(slices.DeleteFunc(m.NALUnits(), func(u []byte) bool { return u[0]&0x1f == 6 })...)
		if m.IsKey() {
			keys = append(keys, m.MS)
		}
	}
	noIDR := recordingtest.Only(openMedia, func(t tag) bool { return t.MS >= keys[1] })
	var idr []tag
	for _, m := range recordingtest.Only(openMedia, func(t tag) bool { return t.MS < keys[1] }) {
		idr = append(idr, m.At(m.MS+noIDR[len(noIDR)-1].MS+40))
	}
	add("begins at an intra picture", "", join(openHeads, noIDR, idr), nil)
	add("no IDR picture", "", join(openHeads, noIDR), nil)
	add("no intra picture", "", join(heads, recordingtest.Only(media, func(t tag) bool { return !t.IsVideo() || !intra(t) })), nil)

	// Streams.
	add("AAC announced, none sent", "", join(heads, pictures), nil)
	add("H.264 announced, none sent", "", join(heads, sounds), nil)
	add("one picture", "", join(heads, pictures[:1]), nil)
	add("one sound", "", join(heads, sounds[:1]), nil)
	meta := func(name string, more int) []byte {
		b := append([]byte{2, 0, byte(len(name))}, name...)
		b = append(b, 8, 0, 0, 0, 1, 0, 5)
		b = append(b, "width\x00\x40\x74\x00\x00\x00\x00\x00\x00\x00\x00\x09"...)
		return append(b, make([]byte, more)...)
	}
	script := func(ms int64, body []byte) []tag { return []tag{{Type: 18, MS: ms, Body: body}} }
	half := len(media) / 2
	for _, name := range []string{"onMetaData", "onCuePoint", "onTextData", "onLastSecond", "x"} {
		for _, more := range []int{0, 100_000} {
			add(fmt.Sprintf("%s with %d bytes, anywhere", name, more), "", join(script(0, meta(name, more)), heads,
				script(0, meta(name, more)), media[:half], script(media[half].MS, meta(name, more)), media[half:],
				script(0, meta(name, more))), media)
		}
	}
	add("empty script tags", "", join(script(0, nil), heads, script(0, nil), media[:half], script(2000, nil), media[half:]), media)
	var repeated []tag
	for _, m := range media {
		if m.IsKey() {
			repeated = append(repeated, ah.At(m.MS), vh.At(m.MS))
		}
		repeated = append(repeated, m)
	}
	add("headers at each key frame", "", join(heads, repeated), media)
	var empty []tag
	for _, m := range media {
		empty = append(empty, m, m.With(nil), m.With(m.Body[:1]))
		if m.Type == 8 {
			empty = append(empty, m.With(m.Body[:2]))
		} else {
			empty = append(empty, m.With([]byte{0x17, 2, 0, 0, 0}), m.With([]byte{0x57, 0}))
		}
	}
	add("empty tags", "", join(heads, empty), media)
	var long []tag
	for i := range int64(12) {
		for _, m := range media {
			long = append(long, m.At(m.MS+4000*i))
		}
	}
	slices.SortStableFunc(long, func(a, b tag) int { return int(a.MS - b.MS) })
	lateSound := recordingtest.Only(long, func(t tag) bool { return t.IsVideo() || t.MS > 40_000 })
	add("sound begins late", "", join(heads, lateSound), nil)
	first := slices.IndexFunc(lateSound, tag.IsAudio)
	add("sound is announced late", "", join([]tag{vh}, lateSound[:first], []tag{ah.At(40_000)}, lateSound[first:]), lateSound)
	latePictures := recordingtest.Only(long, func(t tag) bool { return t.IsAudio() || t.MS >= 40_000 })
	add("pictures begin late", "", join(heads, latePictures), nil)
	first = slices.IndexFunc(latePictures, tag.IsVideo)
	add("pictures are announced late", "", join([]tag{ah}, latePictures[:first], []tag{vh.At(40_000)}, latePictures[first:]), latePictures)
	add("sound ends early", "", join(heads, recordingtest.Only(long, func(t tag) bool { return t.IsVideo() || t.MS < 2000 })), nil)
	var adts []tag
	for _, m := range media {
		if m.IsAudio() {
			n := len(m.Body) - 2 + 7
			frame := []byte{0xff, 0xf1, 1<<6 | 3<<2, 2<<6 | byte(n>>11), byte(n >> 3), byte(n<<5) | 0x1f, 0xfc}
			m = m.With(slices.Concat(m.Body[:2], frame, m.Body[2:]))
		}
		adts = append(adts, m)
	}
	add("AAC in ADTS frames", "", join([]tag{vh}, adts), media)
	change := func(tags []tag, to func(tag) tag) (out []tag) {
		for _, t := range tags {
			out = append(out, to(t))
		}
		return out
	}
	add("stream id", "", change(join(heads, media), func(t tag) tag { t.StreamID = 1; return t }), media)
	add("no lengths behind the tags", "", change(join(heads, media), func(t tag) tag { t.Unsized = true; return t }), media)

	// What is not supported.
	av1 := recordingtest.Only(join(heads, media), func(t tag) bool { return t.Type == 8 })
	add("AV1 beside AAC", "2 packets of AV1 left out, which is not supported",
		join(av1[:20], []tag{{Type: 9, MS: 0, Body: []byte("\x90av01\x81\x00\x0c\x00")}, {Type: 9, MS: 1, Body: []byte("\x91av01\x12\x00")}}, av1[20:]), sounds)
	add("Opus beside H.264", "1 packet of Opus left out, which is not supported",
		join([]tag{vh}, pictures, []tag{{Type: 8, MS: 9, Body: []byte("\x91Opus\x12\x00")}}), pictures)
	add("AV1", "!its AV1 is not supported", []tag{{Type: 9, Body: []byte("\x91av01\x12\x00")}}, nil)
	add("VP6", "!MP4 cannot hold its VP6", join([]tag{ah}, sounds[:3], []tag{{Type: 9, Body: []byte("\x14\x12\x00")}}), nil)

	// Parameters that change: two files, nothing lost.
	wideHeads, wide := encodeTags(t, "-f", "lavfi", "-i", "testsrc2=s=480x208:r=25", "-f", "lavfi", "-i", "sine=r=44100", "-t", "2",
		"-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-pix_fmt", "yuv420p", "-c:a", "aac", "-ac", "2")
	var wvh, wah tag
	for _, h := range wideHeads {
		if h.Type == 9 {
			wvh = h
		} else {
			wah = h
		}
	}
	wide = change(wide, func(t tag) tag { return t.At(t.MS + 4040) })
	add("the resolution changes", "", join(heads, media, []tag{wvh}, recordingtest.Only(wide, tag.IsVideo)), join(media, recordingtest.Only(wide, tag.IsVideo))).files = 2
	var mixed []tag // the sound changes between two key frames
	for _, m := range media {
		if m.IsVideo() || m.MS < 1500 {
			mixed = append(mixed, m)
		}
	}
	mixed = append(mixed, wah.At(1500))
	for _, m := range recordingtest.Only(wide, tag.IsAudio) {
		mixed = append(mixed, m.At(m.MS-4040+1510))
	}
	slices.SortStableFunc(mixed, func(a, b tag) int { return int(a.MS - b.MS) })
	add("the sample rate changes between key frames", "", join(heads, mixed), recordingtest.Only(mixed, func(t tag) bool { return !t.IsHeader() })).files = 2

	hevc(t, &all)
	return all
}

// hevc adds recordings of HEVC.
func hevc(t *testing.T, all *[]field) {
	enhanced, id12, _ := recordingtest.HEVC(t)
	as := id12[1:]
	colours := []byte("\x02\x00\x09colorInfo\x03\x00\x00\x09")
	for name, tags := range map[string][]tag{
		"HEVC":                  enhanced,
		"HEVC with codec id 12": id12,
		"HEVC with OBS's HDR metadata": slices.Insert(slices.Clone(enhanced), 1,
			tag{Type: 9, Body: append([]byte("\x84hvc1"), colours...)}, tag{Type: 9, Body: append([]byte("\x94hvc1"), colours...)}),
	} {
		*all = append(*all, field{name: name, tags: tags, as: as, undecodable: true})
	}
}

// In recordings of every kind that is known from the field, each packet is in an MP4 at
// its time, or was counted; and the FLV is gone only where none was.
func TestCorpus(t *testing.T) {
	promised.Program(t, "ffprobe")
	for _, f := range corpus(t) {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "cam.flv")
			if err := os.WriteFile(path, recordingtest.File(f.tags...), 0o644); err != nil {
				t.Fatal(err)
			}
			said, err := exec.Command("recorddone", "--no-sandbox", path).CombinedOutput()
			want := 0
			says, none := strings.CutPrefix(f.says, "!")
			switch {
			case none:
				want = 1
			case says != "":
				want = 3
			}
			code := 0
			if failed := (*exec.ExitError)(nil); errors.As(err, &failed) {
				code = failed.ExitCode()
			}
			if code != want || !strings.Contains(string(said), says) {
				t.Errorf("exit status %d, want %d with %q:\n%s", code, want, says, said)
			}
			if _, err := os.Stat(path); (err == nil) != (code != 0) {
				t.Errorf("exit status %d, and the FLV: %v", code, err)
			}
			mp4s, _ := filepath.Glob(filepath.Join(dir, "cam*.mp4"))
			if none {
				if len(mp4s) > 0 {
					t.Errorf("made %s", mp4s)
				}
				return
			}
			if len(mp4s) != max(1, f.files) {
				t.Fatalf("made %s, want %d:\n%s", mp4s, max(1, f.files), said)
			}
			sort.Slice(mp4s, func(i, j int) bool { return len(mp4s[i]) < len(mp4s[j]) })
			as := f.as
			if as == nil {
				for _, tag := range f.tags {
					if tag.IsVideo() || tag.IsAudio() {
						as = append(as, tag)
					}
				}
			}
			sum := checkPackets(t, as, mp4s)
			if !f.undecodable {
				checkPictures(t, as, f.tags, mp4s, sum)
			}
			checkSeconds(t, string(said), mp4s)

			// A sweep does not do again what was done.
			if said, err := exec.Command("recorddone", "sweep", "--no-sandbox", dir).CombinedOutput(); err != nil {
				t.Errorf("sweep: %v %s", err, said)
			}
			if again, _ := filepath.Glob(filepath.Join(dir, "cam*.mp4")); len(again) != len(mp4s) {
				t.Errorf("a sweep made %d of %d MP4s", len(again), len(mp4s))
			}
		})
	}
}

// checkPackets compares the packets by their content, and their times. It returns a
// sum of all that a decoder would get.
func checkPackets(t *testing.T, as []tag, mp4s []string) [md5.Size]byte {
	t.Helper()
	got := map[string][]float64{} // PTS in milliseconds
	total, all := 0, md5.New()
	for _, path := range mp4s {
		out, err := exec.Command("ffprobe", "-v", "error", "-show_packets", "-show_data_hash", "md5",
			"-show_entries", "packet=pts_time,data_hash:stream=extradata_hash", "-of", "csv=p=0", path).CombinedOutput()
		if err != nil {
			t.Fatalf("%v %s", err, out)
		}
		for line := range strings.Lines(string(out)) {
			pts, hash, ok := strings.Cut(strings.TrimSpace(line), ",")
			if !ok { // of a stream
				fmt.Fprintln(all, pts)
				continue
			}
			fmt.Fprintln(all, hash)
			seconds, err := strconv.ParseFloat(pts, 64)
			if err != nil {
				t.Fatal(line)
			}
			hash = strings.TrimSuffix(strings.TrimPrefix(hash, "MD5:"), ",")
			got[hash] = append(got[hash], seconds*1000)
			total++
		}
	}
	if total != len(as) {
		t.Errorf("%d packets in MP4, want %d", total, len(as))
	}
	var offs []float64
	missing := 0
	for _, tag := range as {
		sum := md5.Sum(tag.Packet())
		hash := hex.EncodeToString(sum[:])
		if len(got[hash]) == 0 {
			missing++
			continue
		}
		offs = append(offs, got[hash][0]-float64(tag.MS+tag.Delay()))
		got[hash] = got[hash][1:]
	}
	if missing > 0 {
		t.Errorf("%d packets are missing", missing)
	}
	if len(mp4s) > 1 || len(offs) == 0 {
		return [md5.Size]byte(all.Sum(nil)) // each begins at 0
	}
	sorted := slices.Sorted(slices.Values(offs))
	middle := sorted[len(sorted)/2]
	for i, off := range offs {
		if off < middle-41 || off > middle+41 {
			t.Errorf("packet %d (kind %d) is %.0f ms off its time of %d ms; the first such of offsets from %.0f to %.0f",
				i, as[i].Type, off-middle, as[i].MS, sorted[0]-middle, sorted[len(sorted)-1]-middle)
			break
		}
	}
	return [md5.Size]byte(all.Sum(nil))
}

// decoded has what recordings decode to: many are the same, had their times been right.
var decoded sync.Map

// checkPictures compares what a decoder shows of the MP4s with what it shows of the
// recording, had its times been right.
func checkPictures(t *testing.T, as, tags []tag, mp4s []string, sum [md5.Size]byte) {
	t.Helper()
	// One file for each of the recording's headers, which here come in order.
	var clean []tag
	for _, tag := range tags {
		if tag.Type == 9 && len(tag.Body) > 5 && tag.IsHeader() {
			clean = append(clean, tag.At(0))
			break
		}
	}
	if len(mp4s) > 1 || len(recordingtest.Only(as, tag.IsVideo)) < 2 {
		return
	}
	for _, tag := range as {
		if tag.IsVideo() {
			clean = append(clean, tag)
		}
	}
	path := filepath.Join(t.TempDir(), "clean.flv")
	if err := os.WriteFile(path, recordingtest.File(clean...), 0o644); err != nil {
		t.Fatal(err)
	}
	decode := func(sum [md5.Size]byte, path string) []string {
		once, _ := decoded.LoadOrStore(sum, sync.OnceValue(func() []string { return pictures(t, path) }))
		return slices.Clone(once.(func() []string)())
	}
	want, got := decode(md5.Sum(recordingtest.File(clean...)), path), decode(sum, mp4s[0])
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%d pictures in MP4, %d in the recording, or others", len(got), len(want))
	}
}

// pictures returns a sum of each picture that a decoder makes of a file.
func pictures(t *testing.T, path string) (sums []string) {
	out, err := exec.Command("ffmpeg", "-v", "quiet", "-nostdin", "-i", path, "-map", "0:v", "-fps_mode", "passthrough",
		"-f", "framemd5", "-").Output()
	if err != nil {
		t.Errorf("decode %s: %v %s", path, err, out)
	}
	for line := range strings.Lines(string(out)) {
		if fields := strings.Split(line, ","); line[0] != '#' {
			sums = append(sums, strings.TrimSpace(fields[len(fields)-1]))
		}
	}
	return sums
}

// checkSeconds compares the length that was said with that which plays.
func checkSeconds(t *testing.T, said string, mp4s []string) {
	t.Helper()
	lengths := regexp.MustCompile(`seconds=(\d+)`).FindAllStringSubmatch(said, -1)
	if len(lengths) == 0 {
		return // in the journal
	}
	for i, path := range mp4s {
		out, err := exec.Command("ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", path).Output()
		if err != nil {
			t.Fatal(err)
		}
		plays, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
		if err != nil {
			t.Fatal(err)
		}
		if said, _ := strconv.ParseFloat(lengths[i][1], 64); said > plays+0.1 || said < plays-1.1 {
			t.Errorf("%s: %.0f s were said, %.3f s play", path, said, plays)
		}
	}
}
