//go:build cgo

package main

import (
	"bytes"
	"crypto/md5"
	"encoding/binary"
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
)

// tag is one of an FLV file, ms its time.
type tag struct {
	kind   byte
	ms     int64
	body   []byte
	stream byte
	// noLength says that the length behind it is 0.
	noLength bool
	raw      []byte // instead of all else
}

func (t tag) video() bool { return t.kind == 9 && len(t.body) > 5 && t.body[1] == 1 }
func (t tag) audio() bool { return t.kind == 8 && len(t.body) > 2 && (t.body[1] == 1 || t.mp3()) }
func (t tag) mp3() bool   { return t.body[0]>>4 == 2 }
func (t tag) key() bool   { return t.video() && t.body[0]>>4 == 1 }
func (t tag) header() bool {
	return t.kind != 18 && len(t.body) > 1 && t.body[1] == 0 && !(t.kind == 8 && t.mp3())
}

// delay is from DTS to PTS.
func (t tag) delay() int64 {
	if t.kind != 9 {
		return 0
	}
	return int64(int32(uint32(t.body[2])<<24|uint32(t.body[3])<<16|uint32(t.body[4])<<8) >> 8)
}

// packet is what a decoder gets.
func (t tag) packet() []byte {
	switch {
	case t.kind == 8 && t.mp3():
		return t.body[1:]
	case t.kind == 8:
		return t.body[2:]
	}
	return t.body[5:]
}

func (t tag) at(ms int64) tag { t.ms = ms; return t }

func (t tag) with(body []byte) tag { t.body = body; return t }

func readTags(flv []byte) (tags []tag) {
	for b := flv[13:]; len(b) >= 15; {
		n := int(b[1])<<16 | int(b[2])<<8 | int(b[3])
		ms := int64(b[7])<<24 | int64(b[4])<<16 | int64(b[5])<<8 | int64(b[6])
		tags = append(tags, tag{kind: b[0], ms: ms, body: b[11 : 11+n]})
		b = b[15+n:]
	}
	return tags
}

func writeTags(tags []tag) []byte {
	flv := bytes.Clone(flv.Header)
	for _, t := range tags {
		if t.raw != nil {
			flv = append(flv, t.raw...)
			continue
		}
		n, ms := len(t.body), uint32(t.ms)
		flv = append(flv, t.kind, byte(n>>16), byte(n>>8), byte(n), byte(ms>>16), byte(ms>>8), byte(ms), byte(ms>>24), 0, 0, t.stream)
		flv = append(flv, t.body...)
		behind := uint32(n + 11)
		if t.noLength {
			behind = 0
		}
		flv = binary.BigEndian.AppendUint32(flv, behind)
	}
	return flv
}

// encodeTags makes a recording: its headers, and its packets.
func encodeTags(t *testing.T, args ...string) (heads, media []tag) {
	t.Helper()
	promised.Program(t, "ffmpeg")
	path := filepath.Join(t.TempDir(), "made.flv")
	args = append([]string{"-v", "error", "-nostdin"}, args...)
	if out, err := exec.Command("ffmpeg", append(args, path)...).CombinedOutput(); err != nil {
		t.Fatalf("ffmpeg: %v\n%s", err, out)
	}
	for _, tag := range readTags(must(os.ReadFile(path))) {
		switch {
		case tag.kind == 18:
		case tag.header():
			heads = append(heads, tag)
		case tag.video() || tag.audio():
			media = append(media, tag)
		}
	}
	return heads, media
}

// nals are the NAL units of H.264 in a tag.
func nals(t tag) (units [][]byte) {
	for b := t.packet(); len(b) > 4; {
		n := 4 + int(binary.BigEndian.Uint32(b))
		units = append(units, b[4:n])
		b = b[n:]
	}
	return units
}

func withNALs(t tag, units [][]byte) tag {
	body := bytes.Clone(t.body[:5])
	for _, u := range units {
		body = append(binary.BigEndian.AppendUint32(body, uint32(len(u))), u...)
	}
	return t.with(body)
}

func only(tags []tag, keep func(tag) bool) (out []tag) {
	for _, t := range tags {
		if keep(t) {
			out = append(out, t)
		}
	}
	return out
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
		if ms, ok := rule(n[t.kind], t); ok {
			t.ms = ms
		}
		n[t.kind]++
		out = append(out, t)
	}
	return out
}

// laterIn moves the packets of a kind, or of both with 0, from a time on.
func laterIn(tags []tag, kind byte, from, by int64) []tag {
	return retime(tags, func(_ int, t tag) (int64, bool) { return t.ms + by, (kind == 0 || t.kind == kind) && t.ms >= from })
}

// singleIn moves one packet.
func singleIn(tags []tag, kind byte, number int, by int64) []tag {
	return retime(tags, func(n int, t tag) (int64, bool) { return t.ms + by, t.kind == kind && n == number })
}

// corpus is a recording of each kind.
func corpus(t *testing.T) (all []field) {
	heads, media := encodeTags(t, "-f", "lavfi", "-i", "testsrc2=s=320x240:r=25", "-f", "lavfi", "-i", "sine=r=48000", "-t", "4",
		"-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-pix_fmt", "yuv420p", "-c:a", "aac", "-ac", "2")
	var vh, ah tag
	for _, h := range heads {
		if h.kind == 9 {
			vh = h
		} else {
			ah = h
		}
	}
	join := func(lists ...[]tag) []tag { return slices.Concat(lists...) }
	heads = []tag{ah, vh}
	pictures, sounds := only(media, tag.video), only(media, tag.audio)
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
		return t.ms + int64(n)*hour, t.kind == 9 && n%10 == 9
	})), media)
	add("two pictures in a row off", moved, join(heads, retime(media, func(n int, t tag) (int64, bool) {
		return t.ms + 3*hour, t.kind == 9 && (n == 40 || n == 41)
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
		again = append(again, m.at(m.ms+4040))
	}
	add("times begin anew", moved, join(heads, anew, heads, media), join(media, again))
	add("joined files", "", join(heads, media, []tag{{raw: flv.Header}}, heads, media), join(media, media)).files = 2
	add("pictures begin before 0", "", join(heads, later(9, 0, -1)), nil)
	add("all begin before 0", "", join(heads, later(0, 0, -300)), media)
	add("headers with wrong times", "", join([]tag{ah.at(40 * day), vh.at(-hour)}, media), media)
	add("32 bits turn", "", join(heads, later(0, 0, 1<<32-2*second)), media)
	add("32 bits turn at once", "", join(heads, later(0, 0, 1<<32-1)), media)
	add("31 bits turn", "", join(heads, later(0, 0, 1<<31-2*second)), media)
	add("pictures wait for 2 s", "", join(heads, only(media, func(t tag) bool {
		return t.kind == 8 || t.ms < 1000 || t.ms > 3000 || t.key()
	})), nil)
	add("not interleaved", "", join(heads, pictures, sounds), nil)
	delayed := slices.Clone(media)
	for i, m := range delayed {
		if m.video() && m.ms > 2000 {
			body := bytes.Clone(m.body)
			body[2], body[3], body[4] = 0x36, 0xee, 0x80
			delayed[i] = m.with(body)
			break
		}
	}
	add("one composition time an hour off", moved, join(heads, delayed), media)

	// The same with B pictures and MP3, at other paces and as times come off a network.
	bHeads, b := encodeTags(t, "-f", "lavfi", "-i", "testsrc2=s=320x240:r=30", "-f", "lavfi", "-i", "sine=r=44100", "-t", "5",
		"-c:v", "libx264", "-preset", "veryfast", "-bf", "3", "-g", "60", "-pix_fmt", "yuv420p", "-c:a", "libmp3lame")
	random := rand.New(rand.NewPCG(1, 2))
	b = retime(b, func(_ int, t tag) (int64, bool) { return t.ms + random.Int64N(9), true })
	add("B pictures and MP3", "", join(bHeads, b), nil)
	for _, by := range []int64{20 * day, -49 * second} {
		add(fmt.Sprintf("one of the B pictures %d ms off", by), moved, join(bHeads, singleIn(b, 9, 71, by)), b)
		add(fmt.Sprintf("one MP3 frame %d ms off", by), moved, join(bHeads, singleIn(b, 8, 71, by)), b)
		add(fmt.Sprintf("B pictures and MP3 step by %d ms", 2*by), moved, join(bHeads, laterIn(b, 0, 2*second, 2*by)), b)
		add(fmt.Sprintf("B pictures step by %d ms", by), moved, join(bHeads, laterIn(b, 9, 2*second, by)), b)
		add(fmt.Sprintf("MP3 steps by %d ms", by), moved, join(bHeads, laterIn(b, 8, 2*second, by)), b)
	}
	bPictures := only(b, tag.video)
	add("B pictures alone step back", moved, join(bHeads, laterIn(bPictures, 0, 2*second, -49*second)), bPictures)
	add("B pictures alone, there and back", moved, join(bHeads, retime(bPictures, func(n int, t tag) (int64, bool) {
		return t.ms + 20*day, n >= 60 && n < 90
	})), bPictures)

	// Key frames.
	intra := func(t tag) bool { return len(nals(t)) > 0 && nals(t)[len(nals(t))-1][0]&0x1f == 5 }
	flags := func(change func(t tag) byte) (out []tag) {
		for _, m := range media {
			if m.video() {
				body := bytes.Clone(m.body)
				body[0] = change(m)<<4 | 7
				m = m.with(body)
			}
			out = append(out, m)
		}
		return out
	}
	add("IDR pictures that FLV calls inter", "", join(heads, flags(func(tag) byte { return 2 })), media)
	add("all called key frames", "", join(heads, flags(func(tag) byte { return 1 })), media)
	noFirst := only(media, func(t tag) bool { return !t.video() || t.ms > 500 })
	seen := false
	decodable := only(noFirst, func(t tag) bool { seen = seen || t.video() && intra(t); return !t.video() || seen })
	lead := len(noFirst) - len(decodable)
	add("begins with pictures that nothing can show", fmt.Sprintf("%d pictures left out before", lead), join(heads, noFirst), decodable)

	openHeads, openMedia := encodeTags(t, "-f", "lavfi", "-i", "testsrc2=s=320x240:r=25", "-t", "8", "-c:v", "libx264", "-preset", "veryfast",
		"-pix_fmt", "yuv420p", "-x264-params", "open-gop=1:keyint=26:min-keyint=26:scenecut=0:ref=1:bframes=1:b-adapt=0:b-pyramid=none")
	openMedia = only(openMedia, func(t tag) bool { // no B pictures
		return slices.ContainsFunc(nals(t), func(u []byte) bool { return (u[0]&0x1f == 1 || u[0]&0x1f == 5) && u[0]>>5 > 0 })
	})
	var keys []int64
	for i, m := range openMedia { // no recovery points
		openMedia[i] = withNALs(m, slices.DeleteFunc(nals(m), func(u []byte) bool { return u[0]&0x1f == 6 }))
		if m.key() {
			keys = append(keys, m.ms)
		}
	}
	noIDR := only(openMedia, func(t tag) bool { return t.ms >= keys[1] })
	var idr []tag
	for _, m := range only(openMedia, func(t tag) bool { return t.ms < keys[1] }) {
		idr = append(idr, m.at(m.ms+noIDR[len(noIDR)-1].ms+40))
	}
	add("begins at an intra picture", "", join(openHeads, noIDR, idr), nil)
	add("no IDR picture", "", join(openHeads, noIDR), nil)
	add("no intra picture", "", join(heads, only(media, func(t tag) bool { return !t.video() || !intra(t) })), nil)

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
	script := func(ms int64, body []byte) []tag { return []tag{{kind: 18, ms: ms, body: body}} }
	half := len(media) / 2
	for _, name := range []string{"onMetaData", "onCuePoint", "onTextData", "onLastSecond", "x"} {
		for _, more := range []int{0, 100_000} {
			add(fmt.Sprintf("%s with %d bytes, anywhere", name, more), "", join(script(0, meta(name, more)), heads,
				script(0, meta(name, more)), media[:half], script(media[half].ms, meta(name, more)), media[half:],
				script(0, meta(name, more))), media)
		}
	}
	add("empty script tags", "", join(script(0, nil), heads, script(0, nil), media[:half], script(2000, nil), media[half:]), media)
	var repeated []tag
	for _, m := range media {
		if m.key() {
			repeated = append(repeated, ah.at(m.ms), vh.at(m.ms))
		}
		repeated = append(repeated, m)
	}
	add("headers at each key frame", "", join(heads, repeated), media)
	var empty []tag
	for _, m := range media {
		empty = append(empty, m, m.with(nil), m.with(m.body[:1]))
		if m.kind == 8 {
			empty = append(empty, m.with(m.body[:2]))
		} else {
			empty = append(empty, m.with([]byte{0x17, 2, 0, 0, 0}), m.with([]byte{0x57, 0}))
		}
	}
	add("empty tags", "", join(heads, empty), media)
	var long []tag
	for i := range int64(12) {
		for _, m := range media {
			long = append(long, m.at(m.ms+4000*i))
		}
	}
	slices.SortStableFunc(long, func(a, b tag) int { return int(a.ms - b.ms) })
	lateSound := only(long, func(t tag) bool { return t.video() || t.ms > 40_000 })
	add("sound begins late", "", join(heads, lateSound), nil)
	first := slices.IndexFunc(lateSound, tag.audio)
	add("sound is announced late", "", join([]tag{vh}, lateSound[:first], []tag{ah.at(40_000)}, lateSound[first:]), lateSound)
	latePictures := only(long, func(t tag) bool { return t.audio() || t.ms >= 40_000 })
	add("pictures begin late", "", join(heads, latePictures), nil)
	first = slices.IndexFunc(latePictures, tag.video)
	add("pictures are announced late", "", join([]tag{ah}, latePictures[:first], []tag{vh.at(40_000)}, latePictures[first:]), latePictures)
	add("sound ends early", "", join(heads, only(long, func(t tag) bool { return t.video() || t.ms < 2000 })), nil)
	var adts []tag
	for _, m := range media {
		if m.audio() {
			n := len(m.body) - 2 + 7
			frame := []byte{0xff, 0xf1, 1<<6 | 3<<2, 2<<6 | byte(n>>11), byte(n >> 3), byte(n<<5) | 0x1f, 0xfc}
			m = m.with(slices.Concat(m.body[:2], frame, m.body[2:]))
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
	add("stream id", "", change(join(heads, media), func(t tag) tag { t.stream = 1; return t }), media)
	add("no lengths behind the tags", "", change(join(heads, media), func(t tag) tag { t.noLength = true; return t }), media)

	// What is not supported.
	av1 := only(join(heads, media), func(t tag) bool { return t.kind == 8 })
	add("AV1 beside AAC", "2 packets of AV1 left out, which is not supported",
		join(av1[:20], []tag{{kind: 9, ms: 0, body: []byte("\x90av01\x81\x00\x0c\x00")}, {kind: 9, ms: 1, body: []byte("\x91av01\x12\x00")}}, av1[20:]), sounds)
	add("Opus beside H.264", "1 packet of Opus left out, which is not supported",
		join([]tag{vh}, pictures, []tag{{kind: 8, ms: 9, body: []byte("\x91Opus\x12\x00")}}), pictures)
	add("AV1", "!its AV1 is not supported", []tag{{kind: 9, body: []byte("\x91av01\x12\x00")}}, nil)
	add("VP6", "!MP4 cannot hold its VP6", join([]tag{ah}, sounds[:3], []tag{{kind: 9, body: []byte("\x14\x12\x00")}}), nil)

	// Parameters that change: two files, nothing lost.
	wideHeads, wide := encodeTags(t, "-f", "lavfi", "-i", "testsrc2=s=480x208:r=25", "-f", "lavfi", "-i", "sine=r=44100", "-t", "2",
		"-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-pix_fmt", "yuv420p", "-c:a", "aac", "-ac", "2")
	var wvh, wah tag
	for _, h := range wideHeads {
		if h.kind == 9 {
			wvh = h
		} else {
			wah = h
		}
	}
	wide = change(wide, func(t tag) tag { return t.at(t.ms + 4040) })
	add("the resolution changes", "", join(heads, media, []tag{wvh}, only(wide, tag.video)), join(media, only(wide, tag.video))).files = 2
	var mixed []tag // the sound changes between two key frames
	for _, m := range media {
		if m.video() || m.ms < 1500 {
			mixed = append(mixed, m)
		}
	}
	mixed = append(mixed, wah.at(1500))
	for _, m := range only(wide, tag.audio) {
		mixed = append(mixed, m.at(m.ms-4040+1510))
	}
	slices.SortStableFunc(mixed, func(a, b tag) int { return int(a.ms - b.ms) })
	add("the sample rate changes between key frames", "", join(heads, mixed), only(mixed, func(t tag) bool { return !t.header() })).files = 2

	hevc(t, &all)
	return all
}

// hevc adds recordings of HEVC, which no ffmpeg here writes into FLV: they are made of
// an MP4's packets.
func hevc(t *testing.T, all *[]field) {
	path := filepath.Join(t.TempDir(), "made.mp4")
	if out, err := exec.Command("ffmpeg", "-v", "error", "-nostdin", "-f", "lavfi", "-i", "testsrc2=s=320x240:r=25", "-t", "2", "-c:v", "libx265",
		"-preset", "ultrafast", "-x265-params", "bframes=0:keyint=12:log-level=none", "-pix_fmt", "yuv420p", "-f", "mp4", path).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	mp4 := must(os.ReadFile(path))
	box := func(kind string) []byte { // that is but once in the file
		at := bytes.Index(mp4, []byte(kind))
		return mp4[at+4 : at-4+int(binary.BigEndian.Uint32(mp4[at-4:]))]
	}
	keys := map[int]bool{}
	for b := box("stss")[8:]; len(b) > 0; b = b[4:] {
		keys[int(binary.BigEndian.Uint32(b))] = true
	}
	var enhanced, id12, as []tag
	add := func(ms int64, frame, kind byte, packet []byte) {
		e := append([]byte{0x80 | frame<<4 | kind}, "hvc1"...)
		if kind == 1 {
			e = append(e, 0, 0, 0)
		}
		enhanced = append(enhanced, tag{kind: 9, ms: ms, body: append(e, packet...)})
		o := tag{kind: 9, ms: ms, body: append([]byte{frame<<4 | 12, kind, 0, 0, 0}, packet...)}
		id12 = append(id12, o)
		if kind == 1 {
			as = append(as, o)
		}
	}
	add(0, 1, 0, box("hvcC"))
	media, n := box("mdat"), 0
	for sizes := box("stsz")[12:]; len(sizes) > 0; sizes = sizes[4:] {
		size := binary.BigEndian.Uint32(sizes)
		n++
		frame := byte(2)
		if keys[n] {
			frame = 1
		}
		add(int64(n-1)*40, frame, 1, media[:size])
		media = media[size:]
	}
	colours := []byte("\x02\x00\x09colorInfo\x03\x00\x00\x09")
	for name, tags := range map[string][]tag{
		"HEVC":                  enhanced,
		"HEVC with codec id 12": id12,
		"HEVC with OBS's HDR metadata": slices.Insert(slices.Clone(enhanced), 1,
			tag{kind: 9, body: append([]byte("\x84hvc1"), colours...)}, tag{kind: 9, body: append([]byte("\x94hvc1"), colours...)}),
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
			if err := os.WriteFile(path, writeTags(f.tags), 0o644); err != nil {
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
					if tag.video() || tag.audio() {
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
		sum := md5.Sum(tag.packet())
		hash := hex.EncodeToString(sum[:])
		if len(got[hash]) == 0 {
			missing++
			continue
		}
		offs = append(offs, got[hash][0]-float64(tag.ms+tag.delay()))
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
				i, as[i].kind, off-middle, as[i].ms, sorted[0]-middle, sorted[len(sorted)-1]-middle)
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
		if tag.kind == 9 && len(tag.body) > 5 && tag.header() {
			clean = append(clean, tag.at(0))
			break
		}
	}
	if len(mp4s) > 1 || len(only(as, tag.video)) < 2 {
		return
	}
	for _, tag := range as {
		if tag.video() {
			clean = append(clean, tag)
		}
	}
	path := filepath.Join(t.TempDir(), "clean.flv")
	if err := os.WriteFile(path, writeTags(clean), 0o644); err != nil {
		t.Fatal(err)
	}
	decode := func(sum [md5.Size]byte, path string) []string {
		once, _ := decoded.LoadOrStore(sum, sync.OnceValue(func() []string { return pictures(t, path) }))
		return slices.Clone(once.(func() []string)())
	}
	want, got := decode(md5.Sum(writeTags(clean)), path), decode(sum, mp4s[0])
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
