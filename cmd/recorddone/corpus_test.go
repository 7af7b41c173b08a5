//go:build cgo

package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"tunnelcast/internal/flv"
	"tunnelcast/internal/h264"
	"tunnelcast/internal/recording/recordingtest"
)

type tag = recordingtest.Tag

// field is a recording of one of the kinds that people report.
type field struct {
	name string
	tags []tag
	// logged is a part of the line in the journal, with exit status 3. If it is empty, the FLV is removed.
	// If it begins with "!", there is no MP4 and the exit status is 1.
	logged string
	// as are the packets that a viewer should get, at the times at which the viewer should get them. If
	// nil, they are those of tags.
	as []tag
	// files is the number of MP4 files; 0 means 1.
	files int
	// undecodable reports that Debian's ffmpeg cannot decode as.
	undecodable bool
}

const (
	second = int64(1000) // milliseconds
	hour   = 3600 * second
	day    = 24 * hour
)

const moved = "with wrong times moved" // what the journal says about corrected times

// corpus is a recording of four seconds and the fields that are made of it.
type corpus struct {
	*testing.T
	video, audio     tag   // sequence headers
	heads, media     []tag // both sequence headers, all packets
	pictures, sounds []tag
	fields           []field
}

// newCorpus returns a recording of each kind.
func newCorpus(t *testing.T) []field {
	c := &corpus{T: t}
	heads, media := c.encode("-f", "lavfi", "-i", "testsrc2=s=320x240:r=25", "-f", "lavfi", "-i", "sine=r=48000",
		"-t", "4", "-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-pix_fmt", "yuv420p",
		"-c:a", "aac", "-ac", "2")
	c.video, c.audio = sortHeads(heads)
	c.heads, c.media = []tag{c.audio, c.video}, media
	c.pictures, c.sounds = only(media, tag.IsVideo), only(media, tag.IsAudio)

	c.add("plain", "", c.media, nil)
	c.addWrongTimes()
	c.addSteps()
	c.addUnusualTimes()
	c.addBPictures()
	c.addKeyFrames()
	c.addOpenGOPs()
	c.addStreams()
	c.addScripts()
	c.addLateStreams()
	c.addUnusualTags()
	c.addUnsupported()
	c.addChanges()
	c.addHEVC()
	return c.fields
}

// add adds a recording of packets after the two sequence headers.
func (c *corpus) add(name, logged string, media, as []tag) *field {
	return c.addTags(name, logged, join(c.heads, media), as)
}

// addTags adds a recording of tags.
func (c *corpus) addTags(name, logged string, tags, as []tag) *field {
	c.fields = append(c.fields, field{name: name, tags: tags, logged: logged, as: as})
	return &c.fields[len(c.fields)-1]
}

// encode makes a recording: its sequence headers, and its packets.
func (c *corpus) encode(args ...string) (heads, media []tag) {
	c.Helper()
	for _, tag := range recordingtest.Tags(recordingtest.Encode(c.T, args...)) {
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

func sortHeads(heads []tag) (video, audio tag) {
	for _, h := range heads {
		if h.Type == flv.TagVideo {
			video = h
		} else {
			audio = h
		}
	}
	return video, audio
}

func join(lists ...[]tag) []tag { return slices.Concat(lists...) }

func only(tags []tag, keep func(tag) bool) []tag { return recordingtest.Only(tags, keep) }

func change(tags []tag, to func(tag) tag) (out []tag) {
	for _, t := range tags {
		out = append(out, to(t))
	}
	return out
}

func byTime(a, b tag) int { return int(a.MS - b.MS) }

// retime changes the times of the packets for which rule returns true. n is the number of the packet in its
// stream.
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

// both is the type of all packets, for later.
const both = 0

// later moves the packets of a type from a time on.
func later(tags []tag, tagType byte, from, by int64) []tag {
	return retime(tags, func(_ int, t tag) (int64, bool) {
		return t.MS + by, (tagType == both || t.Type == tagType) && t.MS >= from
	})
}

// single moves one packet.
func single(tags []tag, tagType byte, number int, by int64) []tag {
	return retime(tags, func(n int, t tag) (int64, bool) { return t.MS + by, t.Type == tagType && n == number })
}

func (c *corpus) addWrongTimes() {
	for _, by := range []int64{20 * day, 40 * day, hour, 10 * second, 500, -500, -2 * second, -day} {
		c.add(fmt.Sprintf("one picture %d ms off", by), moved, single(c.media, flv.TagVideo, 50, by), c.media)
		c.add(fmt.Sprintf("one sound %d ms off", by), moved, single(c.media, flv.TagAudio, 90, by), c.media)
	}
	for _, by := range []int64{40 * day, 20 * day} {
		c.add(fmt.Sprintf("first picture %d ms off", by), moved, single(c.media, flv.TagVideo, 0, by), c.media)
		c.add(fmt.Sprintf("first sound %d ms off", by), moved, single(c.media, flv.TagAudio, 0, by), c.media)
		c.add(fmt.Sprintf("last picture %d ms off", by), moved, single(c.media, flv.TagVideo, 99, by), c.media)
		c.add(fmt.Sprintf("pictures %d ms off", by), moved, later(c.media, flv.TagVideo, 0, by), c.media)
		c.add(fmt.Sprintf("all %d ms off", by), "", later(c.media, both, 0, by), c.media)
	}
	c.add("last picture an hour off", moved, single(c.media, flv.TagVideo, 99, hour), c.media)
	c.add("each tenth picture off", moved, retime(c.media, func(n int, t tag) (int64, bool) {
		return t.MS + int64(n)*hour, t.Type == flv.TagVideo && n%10 == 9
	}), c.media)
	c.add("two pictures in a row off", moved, retime(c.media, func(n int, t tag) (int64, bool) {
		return t.MS + 3*hour, t.Type == flv.TagVideo && (n == 40 || n == 41)
	}), c.media)
	delayed := slices.Clone(c.media)
	for i, m := range delayed {
		if m.IsVideo() && m.MS > 2000 {
			body := bytes.Clone(m.Body)
			body[2], body[3], body[4] = 0x36, 0xee, 0x80 // an hour
			delayed[i] = m.With(body)
			break
		}
	}
	c.add("one composition time an hour off", moved, delayed, c.media)
	c.addTags("headers with wrong times", "", join([]tag{c.audio.At(40 * day), c.video.At(-hour)}, c.media), c.media)
}

func (c *corpus) addSteps() {
	for _, by := range []int64{10 * day, -500, -2 * second, -49 * second} {
		c.add(fmt.Sprintf("all step by %d ms", by), moved, later(c.media, both, 2*second, by), c.media)
		c.add(fmt.Sprintf("pictures step by %d ms", by), moved, later(c.media, flv.TagVideo, 2*second, by), c.media)
		c.add(fmt.Sprintf("sound steps by %d ms", by), moved, later(c.media, flv.TagAudio, 2*second, by), c.media)
	}
	for _, by := range []int64{10 * second, hour} { // for both streams, this is a gap
		c.add(fmt.Sprintf("all step by %d ms", by), "", later(c.media, both, 2*second, by), nil)
		c.add(fmt.Sprintf("pictures step by %d ms", by), moved, later(c.media, flv.TagVideo, 2*second, by), c.media)
		c.add(fmt.Sprintf("sound steps by %d ms", by), moved, later(c.media, flv.TagAudio, 2*second, by), c.media)
	}
	again := later(c.media, both, 0, 4040)
	c.add("times begin anew", moved, join(c.media, c.heads, c.media), join(c.media, again))
	joined := join(c.media, []tag{{Raw: flv.Header}}, c.heads, c.media)
	c.add("joined files", "", joined, join(c.media, c.media)).files = 2
}

func (c *corpus) addUnusualTimes() {
	c.add("pictures begin before 0", "", later(c.media, flv.TagVideo, 0, -1), nil)
	c.add("all begin before 0", "", later(c.media, both, 0, -300), c.media)
	c.add("beyond 32 bits", "", later(c.media, both, 0, 1<<32-2*second), c.media)
	c.add("beyond 32 bits at once", "", later(c.media, both, 0, 1<<32-1), c.media)
	c.add("beyond 31 bits", "", later(c.media, both, 0, 1<<31-2*second), c.media)
	c.add("pictures wait for 2 s", "", only(c.media, func(t tag) bool {
		return t.IsAudio() || t.MS < 1000 || t.MS > 3000 || t.IsKey()
	}), nil)
	c.add("not interleaved", "", join(c.pictures, c.sounds), nil)
}

// addBPictures adds B pictures and MP3, at other paces and with times as after a network.
func (c *corpus) addBPictures() {
	heads, media := c.encode("-f", "lavfi", "-i", "testsrc2=s=320x240:r=30", "-f", "lavfi", "-i", "sine=r=44100",
		"-t", "5", "-c:v", "libx264", "-preset", "veryfast", "-bf", "3", "-g", "60", "-pix_fmt", "yuv420p",
		"-c:a", "libmp3lame")
	random := rand.New(rand.NewPCG(1, 2))
	media = retime(media, func(_ int, t tag) (int64, bool) { return t.MS + random.Int64N(9), true })
	add := func(name, logged string, changed, as []tag) { c.addTags(name, logged, join(heads, changed), as) }
	add("B pictures and MP3", "", media, nil)
	for _, by := range []int64{20 * day, -49 * second} {
		add(fmt.Sprintf("one of the B pictures %d ms off", by), moved, single(media, flv.TagVideo, 71, by), media)
		add(fmt.Sprintf("one MP3 frame %d ms off", by), moved, single(media, flv.TagAudio, 71, by), media)
		add(fmt.Sprintf("B pictures and MP3 step by %d ms", 2*by), moved, later(media, both, 2*second, 2*by), media)
		add(fmt.Sprintf("B pictures step by %d ms", by), moved, later(media, flv.TagVideo, 2*second, by), media)
		add(fmt.Sprintf("MP3 steps by %d ms", by), moved, later(media, flv.TagAudio, 2*second, by), media)
	}
	pictures := only(media, tag.IsVideo)
	add("B pictures alone step back", moved, later(pictures, both, 2*second, -49*second), pictures)
	add("B pictures alone, there and back", moved, retime(pictures, func(n int, t tag) (int64, bool) {
		return t.MS + 20*day, n >= 60 && n < 90
	}), pictures)
}

// nalType returns the type of the last NAL unit of a picture.
func nalType(t tag) int {
	units := t.NALUnits()
	if len(units) == 0 {
		return 0
	}
	return h264.NALType(units[len(units)-1][0])
}

func isIDR(t tag) bool { return t.IsVideo() && nalType(t) == h264.NALIDRSlice }

func (c *corpus) addKeyFrames() {
	withFrameType := func(frameType byte) []tag {
		return change(c.media, func(t tag) tag {
			if t.IsVideo() {
				t.Body = bytes.Clone(t.Body)
				t.Body[0] = frameType<<4 | 7
			}
			return t
		})
	}
	c.add("IDR pictures that FLV calls inter frames", "", withFrameType(2), c.media)
	c.add("all pictures called key frames", "", withFrameType(1), c.media)
	c.add("no intra picture", "", only(c.media, func(t tag) bool { return !isIDR(t) }), nil)

	noFirst := only(c.media, func(t tag) bool { return !t.IsVideo() || t.MS > 500 })
	seen := false
	decodable := only(noFirst, func(t tag) bool {
		seen = seen || isIDR(t)
		return !t.IsVideo() || seen
	})
	logged := fmt.Sprintf("%d pictures left out before", len(noFirst)-len(decodable))
	c.add("begins with pictures that nothing can show", logged, noFirst, decodable)
}

// addOpenGOPs adds recordings whose key frames are intra pictures without a recovery point.
func (c *corpus) addOpenGOPs() {
	heads, media := c.encode("-f", "lavfi", "-i", "testsrc2=s=320x240:r=25", "-t", "8", "-c:v", "libx264",
		"-preset", "veryfast", "-pix_fmt", "yuv420p", "-x264-params",
		"open-gop=1:keyint=26:min-keyint=26:scenecut=0:ref=1:bframes=1:b-adapt=0:b-pyramid=none")
	isReference := func(nal []byte) bool {
		kind, refIDC := h264.NALType(nal[0]), nal[0]>>5
		return (kind == h264.NALSlice || kind == h264.NALIDRSlice) && refIDC > 0
	}
	media = only(media, func(t tag) bool { return slices.ContainsFunc(t.NALUnits(), isReference) }) // no B pictures
	isSEI := func(nal []byte) bool { return h264.NALType(nal[0]) == h264.NALSEI }
	media = change(media, func(t tag) tag { return t.WithNALUnits(slices.DeleteFunc(t.NALUnits(), isSEI)...) })
	second := only(media, tag.IsKey)[1].MS // the first is an IDR picture
	noIDR := only(media, func(t tag) bool { return t.MS >= second })
	var idr []tag
	for _, m := range only(media, func(t tag) bool { return t.MS < second }) {
		idr = append(idr, m.At(m.MS+noIDR[len(noIDR)-1].MS+40))
	}
	c.addTags("begins at an intra picture", "", join(heads, noIDR, idr), nil)
	c.addTags("no IDR picture", "", join(heads, noIDR), nil)
}

func (c *corpus) addStreams() {
	c.add("AAC announced, none sent", "", c.pictures, nil)
	c.add("H.264 announced, none sent", "", c.sounds, nil)
	c.add("one picture", "", c.pictures[:1], nil)
	c.add("one sound", "", c.sounds[:1], nil)
	var adts []tag
	for _, m := range c.media {
		if m.IsAudio() {
			n := len(m.Packet()) + 7
			header := []byte{0xff, 0xf1, 1<<6 | 3<<2, 2<<6 | byte(n>>11), byte(n >> 3), byte(n<<5) | 0x1f, 0xfc}
			m = m.WithPacket(append(header, m.Packet()...))
		}
		adts = append(adts, m)
	}
	c.addTags("AAC in ADTS frames", "", join([]tag{c.video}, adts), c.media)
}

// addScripts adds script tags of several kinds.
func (c *corpus) addScripts() {
	body := func(name string, more int) []byte {
		b := append([]byte{2, 0, byte(len(name))}, name...)
		b = append(b, 8, 0, 0, 0, 1, 0, 5) // an array with the key "width" and a number
		b = append(b, "width\x00\x40\x74\x00\x00\x00\x00\x00\x00\x00\x00\x09"...)
		return append(b, make([]byte, more)...)
	}
	script := func(ms int64, body []byte) []tag { return []tag{{Type: flv.TagScript, MS: ms, Body: body}} }
	half := len(c.media) / 2
	first, second := c.media[:half], c.media[half:]
	for _, name := range []string{"onMetaData", "onCuePoint", "onTextData", "onLastSecond", "x"} {
		for _, more := range []int{0, 100_000} {
			b := body(name, more)
			c.addTags(fmt.Sprintf("%s with %d bytes, anywhere", name, more), "", join(script(0, b), c.heads,
				script(0, b), first, script(second[0].MS, b), second, script(0, b)), c.media)
		}
	}
	c.addTags("empty script tags", "",
		join(script(0, nil), c.heads, script(0, nil), first, script(2000, nil), second), c.media)
}

// addLateStreams adds streams that begin late or end early.
func (c *corpus) addLateStreams() {
	var long []tag
	for i := range int64(12) {
		long = append(long, later(c.media, both, 0, 4000*i)...)
	}
	slices.SortStableFunc(long, byTime)
	c.add("sound ends early", "", only(long, func(t tag) bool { return t.IsVideo() || t.MS < 2000 }), nil)

	sound := only(long, func(t tag) bool { return t.IsVideo() || t.MS > 40_000 })
	c.add("sound begins late", "", sound, nil)
	first := slices.IndexFunc(sound, tag.IsAudio)
	c.addTags("sound is announced late", "",
		join([]tag{c.video}, sound[:first], []tag{c.audio.At(40_000)}, sound[first:]), sound)

	pictures := only(long, func(t tag) bool { return t.IsAudio() || t.MS >= 40_000 })
	c.add("pictures begin late", "", pictures, nil)
	first = slices.IndexFunc(pictures, tag.IsVideo)
	c.addTags("pictures are announced late", "",
		join([]tag{c.audio}, pictures[:first], []tag{c.video.At(40_000)}, pictures[first:]), pictures)
}

func (c *corpus) addUnusualTags() {
	var repeated, empty []tag
	for _, m := range c.media {
		if m.IsKey() {
			repeated = append(repeated, c.audio.At(m.MS), c.video.At(m.MS))
		}
		repeated = append(repeated, m)
		empty = append(empty, m, m.With(nil), m.With(m.Body[:1]))
		if m.IsAudio() {
			empty = append(empty, m.With(m.Body[:2]))
		} else { // the end of a sequence, a command frame
			empty = append(empty, m.With([]byte{0x17, 2, 0, 0, 0}), m.With([]byte{0x57, 0}))
		}
	}
	c.add("headers at each key frame", "", repeated, c.media)
	c.add("empty tags", "", empty, c.media)
	all := join(c.heads, c.media)
	c.addTags("stream id", "", change(all, func(t tag) tag { t.StreamID = 1; return t }), c.media)
	c.addTags("no sizes after the tags", "", change(all, func(t tag) tag { t.Unsized = true; return t }), c.media)
}

func (c *corpus) addUnsupported() {
	body := func(tagType byte, ms int64, body string) tag { return tag{Type: tagType, MS: ms, Body: []byte(body)} }
	av1Header := body(flv.TagVideo, 0, "\x90av01\x81\x00\x0c\x00")
	av1, opus := body(flv.TagVideo, 1, "\x91av01\x12\x00"), body(flv.TagAudio, 9, "\x91Opus\x12\x00")
	c.addTags("AV1 beside AAC", "2 packets of AV1 left out, which is not supported",
		join([]tag{c.audio}, c.sounds[:19], []tag{av1Header, av1}, c.sounds[19:]), c.sounds)
	c.addTags("Opus beside H.264", "1 packet of Opus left out, which is not supported",
		join([]tag{c.video}, c.pictures, []tag{opus}), c.pictures)
	c.addTags("AV1", "!its AV1 is not supported", []tag{av1}, nil)
	c.addTags("VP6", "!MP4 cannot hold its VP6",
		join([]tag{c.audio}, c.sounds[:3], []tag{body(flv.TagVideo, 0, "\x14\x12\x00")}), nil)
}

// addChanges adds recordings whose parameters change: there are two files, and nothing is lost.
func (c *corpus) addChanges() {
	heads, media := c.encode("-f", "lavfi", "-i", "testsrc2=s=480x208:r=25", "-f", "lavfi", "-i", "sine=r=44100",
		"-t", "2", "-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-pix_fmt", "yuv420p",
		"-c:a", "aac", "-ac", "2")
	video, audio := sortHeads(heads)
	wide := only(later(media, both, 0, 4040), tag.IsVideo)
	c.add("the resolution changes", "", join(c.media, []tag{video}, wide), join(c.media, wide)).files = 2

	mixed := only(c.media, func(t tag) bool { return t.IsVideo() || t.MS < 1500 })
	mixed = append(mixed, audio.At(1500)) // between two key frames
	mixed = append(mixed, later(only(media, tag.IsAudio), both, 0, 1510)...)
	slices.SortStableFunc(mixed, byTime)
	noHeader := only(mixed, func(t tag) bool { return !t.IsHeader() })
	c.add("the sample rate changes between key frames", "", mixed, noHeader).files = 2
}

func (c *corpus) addHEVC() {
	enhanced, id12, _ := recordingtest.HEVC(c.T)
	as := id12[1:]
	colours := "\x02\x00\x09colorInfo\x03\x00\x00\x09"
	hdr := []tag{
		{Type: flv.TagVideo, Body: []byte("\x84hvc1" + colours)},
		{Type: flv.TagVideo, Body: []byte("\x94hvc1" + colours)},
	}
	for name, tags := range map[string][]tag{
		"HEVC":                         enhanced,
		"HEVC with codec id 12":        id12,
		"HEVC with OBS's HDR metadata": slices.Insert(slices.Clone(enhanced), 1, hdr...),
	} {
		c.addTags(name, "", tags, as).undecodable = true
	}
}
