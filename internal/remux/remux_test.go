//go:build cgo

package remux

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/asticode/go-astiav"
	"pgregory.net/rapid"

	"tunnelcast/internal/flv"
	"tunnelcast/internal/promised"
	"tunnelcast/internal/recording"
)

// ffmpeg runs the host's ffmpeg and returns what it says and prints.
func ffmpeg(t testing.TB, args ...string) string {
	t.Helper()
	promised.Program(t, "ffmpeg")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "ffmpeg", append([]string{"-v", "error", "-nostdin", "-y"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("ffmpeg %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// What ffmpeg makes recordings of: two seconds each.
var (
	picture = []string{"-f", "lavfi", "-i", "testsrc2=s=320x240:r=25:d=2"}
	wide    = []string{"-f", "lavfi", "-i", "testsrc2=s=480x208:r=25:d=2"}
	sound   = []string{"-f", "lavfi", "-i", "sine=r=48000:d=2"}
	avc     = []string{"-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "12"}
	aac     = []string{"-c:a", "aac"}
)

func args(lists ...[]string) []string {
	var all []string
	for _, list := range lists {
		all = append(all, list...)
	}
	return all
}

func makeFLV(t testing.TB, lists ...[]string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "made.flv")
	ffmpeg(t, append(args(lists...), "-f", "flv", path)...)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// later appends the tags of the FLV file b to those of a, ms later.
func later(a, b []byte, ms uint32) []byte {
	a = bytes.Clone(a)
	for b = b[13:]; len(b) >= 15; {
		n := 15 + int(b[1])<<16 + int(b[2])<<8 + int(b[3])
		tag := bytes.Clone(b[:n])
		ts := ms + (uint32(tag[7])<<24 | uint32(tag[4])<<16 | uint32(tag[5])<<8 | uint32(tag[6]))
		tag[4], tag[5], tag[6], tag[7] = byte(ts>>16), byte(ts>>8), byte(ts), byte(ts>>24)
		if tag[0] != 18 { // one set of metadata is enough
			a = append(a, tag...)
		}
		b = b[n:]
	}
	return a
}

// remuxAll does what recorddone does with a file of this content, and returns the
// paths of the MP4 files.
func remuxAll(t testing.TB, flv []byte, faststart bool) ([]string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a:b%d.flv")
	if err := os.WriteFile(path, flv, 0o644); err != nil {
		t.Fatal(err)
	}
	survey, err := recording.Walk(bytes.NewReader(flv), int64(len(flv)))
	if err == nil {
		err = survey.Err()
	}
	if err != nil {
		return nil, err
	}
	var outs []string
	for i, part := range survey.Parts {
		out := filepath.Join(filepath.Dir(path), fmt.Sprintf("out%d", i))
		in := Input{Path: path, File: bytes.NewReader(flv), Part: part, Plain: survey.Plain}
		wrote, err := Run(context.Background(), in, out, faststart)
		if err == nil {
			err = Verify(out, wrote)
		}
		if err != nil {
			return nil, err
		}
		outs = append(outs, out)
	}
	return outs, nil
}

// decode returns a sum over all decoded frames of a kind, "v" or "a", and fails
// if the decoder has anything to say.
func decode(t *testing.T, path, kind string) string {
	t.Helper()
	out := ffmpeg(t, "-i", path, "-map", "0:"+kind, "-fps_mode", "passthrough", "-f", "md5", "-")
	if !strings.HasPrefix(out, "MD5=") || strings.Count(out, "\n") != 1 {
		t.Errorf("%s: the decoder says %s", path, out)
	}
	return out
}

func TestRun(t *testing.T) {
	tests := []struct {
		name  string
		flv   [][]string
		kinds string
	}{
		{"H.264 and AAC 48 kHz", [][]string{picture, sound, avc, aac}, "va"},
		{"B-frames", [][]string{picture, sound, avc, {"-bf", "2"}, aac}, "va"},
		{"AAC 44.1 kHz", [][]string{picture, sound, avc, aac, {"-ar", "44100"}}, "va"},
		{"AAC 22.05 kHz mono", [][]string{picture, sound, avc, aac, {"-ar", "22050", "-ac", "1"}}, "va"},
		{"MP3", [][]string{picture, sound, avc, {"-c:a", "libmp3lame", "-ar", "44100"}}, "va"},
		{"video only", [][]string{picture, avc}, "v"},
		{"audio only", [][]string{sound, aac}, "a"},
		{"not square", [][]string{picture, avc, {"-vf", "setsar=4/3"}}, "v"},
		{"starts late", [][]string{picture, sound, avc, aac, {"-output_ts_offset", "100"}}, "va"},
	}
	for _, test := range tests {
		for _, faststart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/faststart=%v", test.name, faststart), func(t *testing.T) {
				flv := makeFLV(t, test.flv...)
				outs, err := remuxAll(t, flv, faststart)
				if err != nil || len(outs) != 1 {
					t.Fatal(outs, err)
				}
				source := filepath.Join(filepath.Dir(outs[0]), "a:b%d.flv")
				for _, kind := range strings.Split(test.kinds, "") {
					if got, want := decode(t, outs[0], kind), decode(t, "file:"+source, kind); got != want {
						t.Errorf("%s: other frames than in the FLV", kind)
					}
				}
				b, err := os.ReadFile(outs[0])
				if err != nil {
					t.Fatal(err)
				}
				if front := bytes.Index(b, []byte("moov")) < bytes.Index(b, []byte("mdat")); front != faststart {
					t.Errorf("index in front: %v", front)
				}
			})
		}
	}
}

// reference is FFmpeg built from the same source, with its H.264 decoder.
func reference(t *testing.T) string {
	t.Helper()
	path := os.Getenv("TUNNELCAST_LIBAV_FFMPEG")
	if path == "" {
		promised.Lacking(t, "TUNNELCAST_LIBAV_FFMPEG names no ffmpeg of the same libav")
	}
	return path
}

// What FFmpeg writes is compared byte by byte, with faststart after the padding was
// taken out.
func TestRunIdentical(t *testing.T) {
	reference := reference(t)
	av := makeFLV(t, picture, sound, avc, aac)
	noFirstKey := func(flv []byte) []byte { // drops the first video packet
		out := bytes.Clone(flv[:13])
		for b, dropped := flv[13:], false; len(b) > 0; {
			n := 15 + int(b[1])<<16 + int(b[2])<<8 + int(b[3])
			if dropped || b[0] != 9 || b[12] == 0 {
				out = append(out, b[:n]...)
			} else {
				dropped = true
			}
			b = b[n:]
		}
		return out
	}
	// Long enough for an index that is more than the fixed part of its estimate,
	// and with times as they come off a network.
	uneven := func(flv []byte) []byte {
		random := rand.New(rand.NewPCG(1, 2))
		long := flv
		for i := range uint32(29) {
			long = later(long, withoutHeaders(flv), (i+1)*2000)
		}
		for b := long[13:]; len(b) > 0; b = b[15+int(b[1])<<16+int(b[2])<<8+int(b[3]):] {
			ts := (uint32(b[4])<<16 | uint32(b[5])<<8 | uint32(b[6])) + random.Uint32N(8)
			b[4], b[5], b[6] = byte(ts>>16), byte(ts>>8), byte(ts)
		}
		return long
	}
	vectors := map[string][]byte{
		"plain":           av,
		"uneven":          uneven(av),
		"uneven B-frames": uneven(makeFLV(t, picture, sound, avc, []string{"-bf", "2"}, aac)),
		"uneven video":    uneven(makeFLV(t, picture, avc)),
		"uneven audio":    uneven(makeFLV(t, sound, aac, []string{"-ar", "44100"})),
		"B-frames":        makeFLV(t, picture, sound, avc, []string{"-bf", "2"}, aac),
		"44.1 kHz":        makeFLV(t, picture, sound, avc, aac, []string{"-ar", "44100"}),
		"MP3":             makeFLV(t, picture, sound, avc, []string{"-c:a", "libmp3lame", "-ar", "44100"}),
		"video only":      makeFLV(t, picture, avc),
		"audio only":      makeFLV(t, sound, aac),
		"not square":      makeFLV(t, picture, avc, []string{"-vf", "setsar=4/3"}),
		"23.976 fps":      makeFLV(t, picture, sound, avc, aac, []string{"-r", "24000/1001"}),
		"starts late":     later(flv.Header, av, 100_000),
		"over 2^31 ms":    later(flv.Header, av, 1<<31-1000),
		"over 2^32 ms":    later(flv.Header, av, math.MaxUint32-1000),
		"no first key":    noFirstKey(av),
		"appended":        later(av, av, 2000),
		"appended, gap":   later(av, av, 60_000),
		"no metadata":     later(flv.Header, av, 0),
		"header again":    later(later(flv.Header, av, 0), av, 2000),
		"audio then none": later(av, makeFLV(t, picture, avc), 2000),
	}
	addPictures(t, vectors)
	for name, flv := range vectors {
		for _, faststart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/faststart=%v", name, faststart), func(t *testing.T) {
				outs, err := remuxAll(t, flv, faststart)
				if err != nil || len(outs) != 1 {
					t.Fatal(outs, err)
				}
				want := filepath.Join(t.TempDir(), "want.mp4")
				args := []string{"-v", "error", "-i", "file:" + filepath.Join(filepath.Dir(outs[0]), "a:b%d.flv"), "-c", "copy"}
				if faststart {
					args = append(args, "-movflags", "+faststart")
				}
				if out, err := exec.Command(reference, append(args, want)...).CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				a, err := os.ReadFile(outs[0])
				if err != nil {
					t.Fatal(err)
				}
				b, err := os.ReadFile(want)
				if err != nil {
					t.Fatal(err)
				}
				if faststart {
					var padding int
					a, padding = unpad(t, a)
					index := len(box(t, b, "moov"))
					t.Logf("%d bytes of padding behind an index of %d in %d", padding, index, len(b))
					if padding > 4<<10+index*3/2 {
						t.Errorf("%d bytes of padding behind an index of %d", padding, index)
					}
				}
				if !bytes.Equal(a, b) {
					t.Errorf("%d bytes, ffmpeg's %d; the first that differs is %d", len(a), len(b), firstDifference(a, b))
				}
			})
		}
	}
}

// addPictures adds what a decoder would have to say about a picture.
func addPictures(t *testing.T, vectors map[string][]byte) {
	x264 := func(params string, more ...string) []byte {
		return makeFLV(t, picture, []string{"-c:v", "libx264", "-preset", "ultrafast", "-g", "12", "-x264-params", params}, more)
	}
	plain := x264("", "-pix_fmt", "yuv420p")
	b := x264("bframes=3:b-pyramid=normal:b-adapt=0", "-pix_fmt", "yuv420p", "-profile:v", "main")
	for name, flv := range map[string][]byte{
		"colours":           x264("colorprim=bt709:transfer=bt709:colormatrix=bt709:fullrange=off:chromaloc=1", "-pix_fmt", "yuv420p", "-vf", "setsar=12/11"),
		"full range":        x264("colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:fullrange=on", "-pix_fmt", "yuv420p"),
		"some colours":      x264("colorprim=smpte170m:transfer=bt709", "-pix_fmt", "yuv420p"),
		"RGB":               x264("colormatrix=GBR:colorprim=bt470bg:transfer=iec61966-2-1", "-pix_fmt", "yuv444p"),
		"odd shape":         x264("", "-pix_fmt", "yuv420p", "-vf", "setsar=1217/719"),
		"thin":              x264("sar=1/1000", "-pix_fmt", "yuv420p"),
		"cropped":           x264("", "-pix_fmt", "yuv420p", "-vf", "scale=318:230"),
		"cropped 4:2:2":     x264("", "-pix_fmt", "yuv422p", "-vf", "scale=314:227"),
		"cropped 4:4:4":     x264("", "-pix_fmt", "yuv444p", "-vf", "scale=313:227"),
		"cropped corner":    x264("crop-rect=4,6,10,12", "-pix_fmt", "yuv420p"),
		"interlaced":        x264("tff=1:pic-struct=1", "-pix_fmt", "yuv420p", "-vf", "scale=320:228"),
		"bottom first":      x264("bff=1", "-pix_fmt", "yuv420p"),
		"fake interlaced":   x264("fake-interlaced=1", "-pix_fmt", "yuv420p"),
		"grey":              x264("", "-pix_fmt", "gray"),
		"10 bit":            x264("", "-pix_fmt", "yuv420p10le"),
		"4:2:2 10 bit":      x264("colorprim=bt2020:transfer=arib-std-b67:colormatrix=bt2020nc", "-pix_fmt", "yuv422p10le"),
		"scaling matrices":  x264("cqm=jvt:8x8dct=1", "-pix_fmt", "yuv420p", "-vf", "setsar=4/3"),
		"own matrices":      x264("cqm4=9:8x8dct=1:cqm8=33", "-pix_fmt", "yuv444p", "-vf", "setsar=4/3"),
		"HRD":               x264("nal-hrd=cbr:vbv-maxrate=900:vbv-bufsize=900:bitrate=900:aud=1", "-pix_fmt", "yuv420p", "-vf", "setsar=4/3"),
		"pyramid":           b,
		"no VUI":            withConfig(plain, func(c []byte) []byte { return withoutVUI(t, c) }),
		"pyramid, no VUI":   withConfig(b, func(c []byte) []byte { return withoutVUI(t, c) }),
		"open GOP":          x264("bframes=2:open-gop=1", "-pix_fmt", "yuv420p"),
		"intra refresh":     x264("intra-refresh=1", "-pix_fmt", "yuv420p"),
		"lossless":          x264("qp=0", "-pix_fmt", "yuv420p"),
		"slices":            x264("slices=4", "-pix_fmt", "yuv420p"),
		"one picture":       x264("", "-pix_fmt", "yuv420p", "-frames:v", "1"),
		"two pictures":      x264("bframes=1:b-adapt=0", "-pix_fmt", "yuv420p", "-frames:v", "2"),
		"5 fps":             x264("", "-pix_fmt", "yuv420p", "-r", "5"),
		"60 fps":            x264("", "-pix_fmt", "yuv420p", "-r", "60"),
		"no frame rate":     x264("force-cfr=0:timebase=1/1000", "-pix_fmt", "yuv420p"),
		"sets with the key": inBand(plain),
		"broken sets":       withConfig(inBand(plain), func(c []byte) []byte { c = bytes.Clone(c); clear(c[9:16]); return c }),
		"two sets":          twoSets(t, x264("sps-id=3:colorprim=bt709:transfer=bt709:colormatrix=bt709", "-pix_fmt", "yuv420p"), x264("", "-pix_fmt", "yuv420p", "-vf", "scale=640:360,setsar=4/3")),
		"pyramid goes on":   later(b, b, 2000),
		"smaller metadata":  metadata(t, x264("", "-pix_fmt", "yuv420p", "-vf", "scale=320:228"), 234),
		"larger metadata":   metadata(t, x264("", "-pix_fmt", "yuv420p", "-vf", "scale=320:228"), 1000),
	} {
		vectors["picture/"+name] = flv
	}
}

// eachTag makes a file of the bodies that visit returns for those of the tags.
func eachTag(flv []byte, visit func(kind byte, body []byte) []byte) []byte {
	out := bytes.Clone(flv[:13])
	for b := flv[13:]; len(b) > 0; {
		n := int(b[1])<<16 + int(b[2])<<8 + int(b[3])
		if body := visit(b[0], b[11:11+n]); body != nil {
			out = append(out, b[0], byte(len(body)>>16), byte(len(body)>>8), byte(len(body)))
			out = append(append(out, b[4:11]...), body...)
			out = binary.BigEndian.AppendUint32(out, uint32(len(body)+11))
		}
		b = b[15+n:]
	}
	return out
}

// withoutHeaders takes the sequence headers of H.264 and AAC out.
func withoutHeaders(flv []byte) []byte {
	return eachTag(flv, func(kind byte, body []byte) []byte {
		if (kind == 9 || kind == 8 && body[0]>>4 == 10) && body[1] == 0 {
			return nil
		}
		return body
	})
}

// withConfig changes an H.264 recording's AVCDecoderConfigurationRecord.
func withConfig(flv []byte, change func([]byte) []byte) []byte {
	return eachTag(flv, func(kind byte, body []byte) []byte {
		if kind == 9 && body[1] == 0 {
			return append(bytes.Clone(body[:5]), change(body[5:])...)
		}
		return body
	})
}

// sets gives the one sequence and the one picture parameter set that x264 writes.
func sets(config []byte) (sps, pps []byte) {
	n := int(config[6])<<8 | int(config[7])
	sps, config = config[8:8+n], config[8+n:]
	return sps, config[3 : 3+int(config[1])<<8|int(config[2])]
}

func configOf(flv []byte) (config []byte) {
	withConfig(flv, func(c []byte) []byte { config = c; return c })
	return config
}

// inBand repeats the parameter sets in every key frame's packet.
func inBand(flv []byte) []byte {
	sps, pps := sets(configOf(flv))
	return eachTag(flv, func(kind byte, body []byte) []byte {
		if kind != 9 || body[0] != 0x17 || body[1] != 1 {
			return body
		}
		b := bytes.Clone(body[:5])
		for _, nal := range [][]byte{sps, pps} {
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(nal))), nal...)
		}
		return append(b, body[5:]...)
	})
}

// twoSets adds the parameter sets of another recording before those of the first.
func twoSets(t *testing.T, flv, other []byte) []byte {
	sps, pps := sets(configOf(other))
	return withConfig(flv, func(c []byte) []byte {
		s, p := sets(c)
		out := append(bytes.Clone(c[:5]), 0xe2)
		for _, nal := range [][]byte{sps, s} {
			out = append(binary.BigEndian.AppendUint16(out, uint16(len(nal))), nal...)
		}
		out = append(out, 2)
		for _, nal := range [][]byte{pps, p} {
			out = append(binary.BigEndian.AppendUint16(out, uint16(len(nal))), nal...)
		}
		return out
	})
}

// withoutVUI cuts the VUI off the sequence parameter set of baseline or main profile.
func withoutVUI(t *testing.T, config []byte) []byte {
	sps, pps := sets(config)
	sps = bytes.Clone(sps)
	if sps[1] >= 100 || bytes.Contains(sps, []byte{0, 0, 3}) {
		sps = bytes.Replace(sps, []byte{0, 0, 3}, []byte{0, 0}, -1)
	}
	pos := 32
	bit := func() int {
		b := int(sps[pos/8]) >> (7 - pos%8) & 1
		pos++
		return b
	}
	ue := func() int {
		zeros, v := 0, 1
		for bit() == 0 {
			zeros++
		}
		for range zeros {
			v = v<<1 | bit()
		}
		return v - 1
	}
	ue() // seq_parameter_set_id
	if sps[1] >= 100 {
		t.Fatalf("profile %d", sps[1])
	}
	ue() // log2_max_frame_num
	if ue() == 0 {
		ue()
	}
	ue() // max_num_ref_frames
	bit()
	ue()
	ue()
	if bit() == 0 {
		bit()
	}
	bit()
	if bit() == 1 {
		t.Fatal("cropped")
	}
	if bit() == 0 {
		t.Fatal("no VUI to cut off")
	}
	pos--
	sps = sps[:pos/8+1]
	sps[pos/8] &^= 0xff >> (pos % 8)
	pos++ // behind the flag comes the stop bit
	if pos%8 == 0 {
		sps = append(sps, 0)
	}
	sps[pos/8] |= 0x80 >> (pos % 8)
	out := append(bytes.Clone(config[:6]), byte(len(sps)>>8), byte(len(sps)))
	out = append(append(out, sps...), 1, byte(len(pps)>>8), byte(len(pps)))
	return append(out, pps...)
}

// metadata puts FLV's metadata behind the sequence header, where it counts, with
// another height.
func metadata(t *testing.T, flv []byte, height float64) []byte {
	var script []byte
	out := eachTag(flv, func(kind byte, body []byte) []byte {
		if kind == 18 {
			script = bytes.Clone(body)
			return nil
		}
		return body
	})
	at := bytes.Index(script, []byte("height\x00"))
	if at < 0 {
		t.Fatal("no height in the metadata")
	}
	binary.BigEndian.PutUint64(script[at+7:], math.Float64bits(height))
	header := 13 + 15 + int(out[14])<<16 + int(out[15])<<8 + int(out[16])
	b := append(bytes.Clone(out[:header]), 18, byte(len(script)>>16), byte(len(script)>>8), byte(len(script)), 0, 0, 0, 0, 0, 0, 0)
	b = append(b, script...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(script)+11))
	return append(b, out[header:]...)
}

// Of parameter sets that are damaged FFmpeg makes the same file or none.
func TestRunBrokenSets(t *testing.T) {
	ffmpeg7 := reference(t)
	flv := makeFLV(t, picture, avc, []string{"-frames:v", "10", "-vf", "setsar=4/3", "-color_primaries", "bt709", "-color_trc", "bt709", "-colorspace", "bt709"})
	random := rand.New(rand.NewPCG(1, 2))
	refused := 0
	for i := range 80 {
		broken := withConfig(flv, func(c []byte) []byte {
			c = bytes.Clone(c)
			if i%8 == 7 {
				return c[:1+random.IntN(len(c)-1)]
			}
			for range 1 + i%3 {
				c[8+random.IntN(len(c)-8)] ^= 1 << random.IntN(8)
			}
			return c
		})
		path, want := filepath.Join(t.TempDir(), "broken.flv"), filepath.Join(t.TempDir(), "want.mp4")
		if err := os.WriteFile(path, broken, 0o644); err != nil {
			t.Fatal(err)
		}
		say, failed := exec.Command(ffmpeg7, "-v", "error", "-i", path, "-c", "copy", want).CombinedOutput()
		outs, err := remuxAll(t, broken, false)
		switch {
		case (failed == nil) != (err == nil):
			t.Errorf("%d: we say %v, ffmpeg says %v %s", i, err, failed, say)
		case err != nil:
			refused++
		default:
			a, errA := os.ReadFile(outs[0])
			b, errB := os.ReadFile(want)
			if errA != nil || errB != nil || !bytes.Equal(a, b) {
				t.Errorf("%d: %v %v %d bytes, ffmpeg's %d; the first that differs is %d", i, errA, errB, len(a), len(b), firstDifference(a, b))
			}
		}
	}
	t.Logf("%d of 80 refused", refused)
	if refused < 10 || refused > 70 {
		t.Errorf("%d of 80 refused: too few of one kind to tell", refused)
	}
}

// boxes calls visit with the boxes of an MP4 file, or of a box's content, in order,
// with their headers.
func boxes(t *testing.T, b []byte, visit func(kind string, box []byte)) {
	t.Helper()
	for len(b) > 0 {
		n := len(b)
		if len(b) >= 8 {
			n = int(binary.BigEndian.Uint32(b))
		}
		if n < 8 || n > len(b) {
			t.Fatalf("a box of %d bytes in %d", n, len(b))
		}
		visit(string(b[4:8]), b[:n])
		b = b[n:]
	}
}

// box returns the first box of a kind.
func box(t *testing.T, b []byte, kind string) (found []byte) {
	t.Helper()
	boxes(t, b, func(k string, box []byte) {
		if k == kind && found == nil {
			found = box
		}
	})
	return found
}

// unpad takes out the padding between index and media, and what follows from it in
// the index: where the chunks are. It returns the length of the padding.
func unpad(t *testing.T, mp4 []byte) (out []byte, padding int) {
	t.Helper()
	var kinds []string
	boxes(t, mp4, func(kind string, box []byte) {
		kinds = append(kinds, kind)
		if kind == "free" && padding == 0 {
			padding = len(box)
			if len(bytes.Trim(box[8:], "\x00")) > 0 {
				t.Error("the padding is not zeros")
			}
			return
		}
		out = append(out, box...)
	})
	if got := strings.Join(kinds, " "); got != "ftyp moov free free mdat" {
		t.Fatalf("the file has %s: no room was left for the index, or too little", got)
	}
	var chunks func(kind string, box []byte)
	chunks = func(kind string, box []byte) {
		switch kind {
		case "moov", "trak", "mdia", "minf", "stbl":
			boxes(t, box[8:], chunks)
		case "stco":
			for b := box[16:]; len(b) > 0; b = b[4:] {
				binary.BigEndian.PutUint32(b, binary.BigEndian.Uint32(b)-uint32(padding))
			}
		}
	}
	boxes(t, out, chunks)
	return out, padding
}

// An index that is larger than was thought costs a second pass, and no media. MP3
// frames that share a tag are packets that the walk does not see.
func TestRunNoRoom(t *testing.T) {
	mp3 := makeFLV(t, []string{"-f", "lavfi", "-i", "sine=d=120"}, []string{"-c:a", "libmp3lame", "-ar", "44100"})
	flv := bytes.Clone(flv.Header)
	var body []byte
	for b := mp3[13:]; len(b) >= 15; {
		n := int(b[1])<<16 + int(b[2])<<8 + int(b[3])
		if b[0] == 8 {
			if body == nil {
				body = bytes.Clone(b[11:12])
			}
			body = append(body, b[12:11+n]...)
		}
		b = b[15+n:]
	}
	flv = append(flv, 8, byte(len(body)>>16), byte(len(body)>>8), byte(len(body)), 0, 0, 0, 0, 0, 0, 0)
	flv = append(flv, body...)
	flv = binary.BigEndian.AppendUint32(flv, uint32(len(body)+11))
	outs, err := remuxAll(t, flv, true)
	if err != nil || len(outs) != 1 {
		t.Fatal(outs, err)
	}
	b, err := os.ReadFile(outs[0])
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	boxes(t, b, func(kind string, _ []byte) { kinds = append(kinds, kind) })
	if got := strings.Join(kinds, " "); got != "ftyp moov free mdat" {
		t.Errorf("the file has %s", got)
	}
	source := filepath.Join(filepath.Dir(outs[0]), "a:b%d.flv")
	if got, want := decode(t, outs[0], "a"), decode(t, "file:"+source, "a"); got != want {
		t.Error("other samples than in the FLV")
	}
}

func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// HEVC over enhanced RTMP, of x265, plays and is tagged as Apple's players ask. No
// ffmpeg here writes it into FLV, so its tags are made of an MP4's samples.
func TestRunHEVC(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made.mp4")
	ffmpeg(t, append(args(picture), "-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "bframes=0:keyint=12:log-level=none", "-pix_fmt", "yuv420p", path)...)
	mp4, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content := func(kind string) []byte { // of a box that is but once in the file
		at := bytes.Index(mp4, []byte(kind))
		if at < 4 {
			t.Fatalf("the MP4 has no %s", kind)
		}
		return mp4[at+4 : at-4+int(binary.BigEndian.Uint32(mp4[at-4:]))]
	}
	keys := map[uint32]bool{}
	for b := content("stss")[8:]; len(b) > 0; b = b[4:] {
		keys[binary.BigEndian.Uint32(b)] = true
	}
	flv := bytes.Clone(flv.Header)
	tag := func(ms uint32, lists ...[]byte) {
		body := bytes.Join(lists, nil)
		n := len(body)
		flv = append(flv, 9, byte(n>>16), byte(n>>8), byte(n), byte(ms>>16), byte(ms>>8), byte(ms), 0, 0, 0, 0)
		flv = binary.BigEndian.AppendUint32(append(flv, body...), uint32(n+11))
	}
	tag(0, []byte("\x90hvc1"), content("hvcC"))
	media := content("mdat")
	number := uint32(0)
	for sizes := content("stsz")[12:]; len(sizes) > 0; sizes = sizes[4:] {
		n := binary.BigEndian.Uint32(sizes)
		head := "\xa1hvc1\x00\x00\x00"
		if number++; keys[number] {
			head = "\x91hvc1\x00\x00\x00"
		}
		tag((number-1)*40, []byte(head), media[:n])
		media = media[n:]
	}
	outs, err := remuxAll(t, flv, true)
	if err != nil || len(outs) != 1 {
		t.Fatal(outs, err)
	}
	if got, want := decode(t, outs[0], "v"), decode(t, path, "v"); got != want {
		t.Error("other frames than were encoded")
	}
	out, err := os.ReadFile(outs[0])
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(out, []byte("hvc1")) || bytes.Contains(out, []byte("hev1")) {
		t.Error("not tagged hvc1")
	}
}

// Where the picture's size or the sound's rate changes there is a second file,
// and each plays to its end.
func TestRunParts(t *testing.T) {
	small := makeFLV(t, picture, sound, avc, aac)
	tests := []struct {
		name  string
		flv   []byte
		parts int
	}{
		{"resolution", later(small, makeFLV(t, wide, sound, avc, aac), 2000), 2},
		{"sample rate", later(small, makeFLV(t, picture, sound, avc, aac, []string{"-ar", "44100"}), 2000), 2},
		{"audio codec", later(small, makeFLV(t, picture, sound, avc, []string{"-c:a", "libmp3lame", "-ar", "44100"}), 2000), 2},
		{"nothing", later(small, small, 2000), 1},
		{"there and back", later(later(small, makeFLV(t, wide, sound, avc, aac), 2000), small, 4000), 3},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			outs, err := remuxAll(t, test.flv, true)
			if err != nil || len(outs) != test.parts {
				t.Fatalf("%d parts, %v", len(outs), err)
			}
			for _, out := range outs {
				decode(t, out, "v")
				decode(t, out, "a")
			}
		})
	}
}

// Every whole packet of a cut or damaged recording plays.
func TestRunDamaged(t *testing.T) {
	flv := makeFLV(t, picture, sound, avc, aac)
	hole := bytes.Clone(flv)
	clear(hole[len(hole)/2 : len(hole)/2+5000])
	garbage := bytes.Clone(flv[:len(flv)/2])
	garbage = append(append(garbage, bytes.Repeat([]byte("garbage\t\x08\x12"), 500)...), flv[len(flv)/2:]...)
	vectors := map[string][]byte{"hole": hole, "garbage": garbage, "zero tail": append(bytes.Clone(flv), make([]byte, 9999)...)}
	for i := range 12 {
		n := len(flv) - 1 - i*i*97%(len(flv)*2/3)
		vectors[fmt.Sprintf("cut at %d", n)] = flv[:n]
	}
	for name, b := range vectors {
		t.Run(name, func(t *testing.T) {
			outs, err := remuxAll(t, b, true)
			if err != nil || len(outs) != 1 {
				t.Fatal(outs, err)
			}
			if name != "hole" && name != "garbage" { // there a frame's reference may be missing
				decode(t, outs[0], "v")
				decode(t, outs[0], "a")
			}
		})
	}
}

func TestRunFails(t *testing.T) {
	flv := makeFLV(t, picture, sound, avc, aac)
	dir := t.TempDir()
	path := filepath.Join(dir, "a.flv")
	if err := os.WriteFile(path, flv, 0o644); err != nil {
		t.Fatal(err)
	}
	survey, err := recording.Walk(bytes.NewReader(flv), int64(len(flv)))
	if err != nil {
		t.Fatal(err)
	}
	in := Input{Path: path, File: bytes.NewReader(flv), Part: survey.Parts[0], Plain: true}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(cancelled, in, filepath.Join(dir, "out"), true); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := Run(t.Context(), in, filepath.Join(dir, "none", "out"), true); !errors.Is(err, astiav.Error(-int(syscall.ENOENT))) {
		t.Errorf("no directory: %v", err)
	}
	// /dev/full takes what is buffered and then has no space.
	if _, err := Run(t.Context(), in, "/dev/full", false); !errors.Is(err, astiav.Error(-int(syscall.ENOSPC))) {
		t.Errorf("no space: %v", err)
	}
	if err := os.WriteFile(path, flv[:len(flv)/2], 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), in, filepath.Join(dir, "out"), true); err == nil {
		t.Error("a recording that became shorter went unnoticed")
	}
	wrote := Result{Video: Count{Written: 7}}
	if err := Verify(path, wrote); err == nil {
		t.Error("an FLV passes as MP4")
	}
}

// Times are rescaled as libav does it.
func TestRescale(t *testing.T) {
	roundings := map[rounding]astiav.Rounding{nearest: astiav.RoundingNearInf, down: astiav.RoundingDown, up: astiav.RoundingUp}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(-1<<40, 1<<40).Draw(t, "n")
		from := timeBase{1, rapid.Int64Range(1, 200000).Draw(t, "from")}
		to := timeBase{1, rapid.Int64Range(1, 200000).Draw(t, "to")}
		for ours, theirs := range roundings {
			want := astiav.RescaleQRnd(n, astiav.NewRational(1, int(from.den)), astiav.NewRational(1, int(to.den)), theirs)
			if got := rescale(n, from, to, ours); got != want {
				t.Fatalf("%d from 1/%d to 1/%d, rounding %d: %d, libav %d", n, from.den, to.den, ours, got, want)
			}
		}
	})
	if got := rescale(math.MaxInt64, timeBase{1, 1}, timeBase{1, 1000}, nearest); got != noTime {
		t.Errorf("an overflow became %d", got)
	}
}

// TestSandbox runs itself again, because a sandbox is for good.
func TestSandbox(t *testing.T) {
	if dir := os.Getenv("TEST_SANDBOX"); dir != "" {
		inSandbox(t, dir)
		return
	}
	dir := t.TempDir()
	command := exec.Command(os.Args[0], "-test.run=^TestSandbox$", "-test.v")
	command.Env = append(os.Environ(), "TEST_SANDBOX="+dir)
	out, err := command.CombinedOutput()
	if strings.Contains(string(out), ErrNoLandlock.Error()) {
		promised.Lacking(t, ErrNoLandlock)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func inSandbox(t *testing.T, dir string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if err := Restrict(dir); err != nil {
		t.Fatal(err)
	}
	inside := filepath.Join(dir, "a")
	if err := os.WriteFile(inside, []byte("x"), 0o755); err != nil {
		t.Errorf("a file in the directory: %v", err)
	}
	if err := os.Rename(inside, inside+"2"); err != nil {
		t.Errorf("a rename in the directory: %v", err)
	}
	if err := os.Remove(inside + "2"); err != nil {
		t.Errorf("a removal in the directory: %v", err)
	}
	if _, err := os.ReadFile("/etc/passwd"); !errors.Is(err, os.ErrPermission) {
		t.Errorf("another file: %v", err)
	}
	if err := os.WriteFile(filepath.Join(os.TempDir(), "tunnelcast-outside"), nil, 0o644); !errors.Is(err, os.ErrPermission) {
		t.Errorf("a new file elsewhere: %v", err)
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); !errors.Is(err, os.ErrPermission) {
		t.Errorf("a symbolic link: %v", err)
	}
	if _, err := net.Dial("tcp", listener.Addr().String()); !errors.Is(err, os.ErrPermission) {
		t.Errorf("a connection: %v", err)
	}
	if err := exec.Command("/bin/true").Run(); err == nil {
		t.Error("a program was executed")
	}
}

// A process that has done many recordings, good and bad, is as small and has as
// many files open as before: libav's memory is nobody's but ours to free.
func TestRunLeaksNothing(t *testing.T) {
	// malloc keeps memory by thread, and a busy machine has Go's calls into C move.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	flv := makeFLV(t, picture, sound, avc, aac, []string{"-t", "0.5"})
	random := rand.New(rand.NewPCG(1, 2))
	dir := t.TempDir()
	path, out := filepath.Join(dir, "a.flv"), filepath.Join(dir, "out")
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	outcomes := map[bool]int{}
	do := func(n int) {
		for i := range n {
			b := bytes.Clone(flv)
			target, ctx := out, t.Context()
			switch i % 8 {
			case 0: // good
			case 1:
				b = b[:random.IntN(len(b))]
			case 2, 3: // damaged in and between tags
				for range 1 + random.IntN(20) {
					b[random.IntN(len(b))] ^= byte(1 + random.IntN(255))
				}
			case 4: // the sequence headers among the first
				for range 1 + random.IntN(4) {
					b[13+random.IntN(min(900, len(b)-13))] ^= byte(1 + random.IntN(255))
				}
			case 5:
				target = "/dev/full"
			case 6:
				target = filepath.Join(dir, "none", "out")
			case 7:
				ctx = cancelled
			}
			if err := os.WriteFile(path, b, 0o644); err != nil {
				t.Fatal(err)
			}
			survey, err := recording.Walk(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				continue
			}
			for _, part := range survey.Parts { // those too that cannot become MP4
				in := Input{Path: path, File: bytes.NewReader(b), Part: part, Plain: survey.Plain}
				wrote, err := Run(ctx, in, target, i%16 < 8)
				if err == nil {
					err = Verify(target, wrote)
				}
				outcomes[err == nil]++
			}
		}
	}
	do(160)
	memory, files := resident(t), openFiles(t)
	// What the heap has at a moment goes up and down by some MiB. A leak only goes up.
	const most = 2 << 10
	grown := most + 1
	for round := 0; round < 6 && grown > most; round++ {
		do(320)
		grown = resident(t) - memory
	}
	t.Logf("%d runs succeeded and %d failed; %d KiB resident, then %d more", outcomes[true], outcomes[false], memory, grown)
	if grown > most {
		t.Errorf("%d KiB more resident after 6 times 320 more recordings", grown)
	}
	if now := openFiles(t); now != files {
		t.Errorf("%d files open, before %d", now, files)
	}
	if outcomes[true] < 100 || outcomes[false] < 100 {
		t.Error("too few of one kind to tell")
	}
}

// resident is the process's memory in KiB, without what Go keeps for later.
func resident(t *testing.T) int {
	t.Helper()
	debug.FreeOSMemory()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	var kib int
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatal(err)
	}
	return kib
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// FuzzRun looks for what libav, or we, cannot take. What goes in is of several kinds,
// and damaged between its tags and in them.
func FuzzRun(f *testing.F) {
	made := makeFLV(f, picture, sound, avc, aac, []string{"-t", "0.2"})
	kinds := [][]byte{
		made,
		later(made, made, math.MaxUint32-5000),
		later(made, later(flv.Header, withoutHeaders(made), 80_000_000), 200),
		later(flv.Header, withoutHeaders(made), 0),
		eachTag(made, func(kind byte, body []byte) []byte { // no IDR pictures
			if kind == 9 && body[1] == 1 {
				body = bytes.Clone(body)
				body[0] = 0x17
				body[9] = body[9]&^0x1f | 1
			}
			return body
		}),
		eachTag(made, func(kind byte, body []byte) []byte { // HEVC, it says
			if kind == 9 {
				body = bytes.Clone(body)
				body[0] = body[0]&^0xf | 12
			}
			return body
		}),
	}
	for i := range kinds {
		f.Add(uint8(i), uint32(100), uint32(0), byte(0))
		f.Add(uint8(i), uint32(13), uint32(4), byte(1))
		f.Add(uint8(i), uint32(900), uint32(60), byte(7))
	}
	f.Fuzz(func(t *testing.T, kind uint8, at, length uint32, with byte) {
		b := bytes.Clone(kinds[int(kind)%len(kinds)])
		at %= uint32(len(b))
		for i := at; i < min(at+length%64, uint32(len(b))); i++ {
			b[i] ^= with
		}
		b = binary.BigEndian.AppendUint32(b, length)
		outs, err := remuxAll(t, b, with&1 == 0)
		if err == nil && len(outs) == 0 {
			t.Error("neither a file nor an error")
		}
	})
}
