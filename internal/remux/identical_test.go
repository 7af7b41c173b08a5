//go:build cgo

package remux

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"tunnelcast/internal/flv"
	"tunnelcast/internal/promised"
	"tunnelcast/internal/recording/recordingtest"
)

// reference returns the path of an ffmpeg that was built from the same source, with its H.264
// decoder.
func reference(t *testing.T) string {
	t.Helper()
	path := os.Getenv("TUNNELCAST_LIBAV_FFMPEG")
	if path == "" {
		promised.Lacking(t, "TUNNELCAST_LIBAV_FFMPEG names no ffmpeg of the same libav")
	}
	return path
}

// The result is compared byte by byte with what FFmpeg writes; with faststart, without the padding.
func TestRunIdentical(t *testing.T) {
	reference := reference(t)
	vectors := map[string][]byte{}
	addStreams(t, vectors)
	addPictures(t, vectors)
	for name, content := range vectors {
		for _, faststart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/faststart=%v", name, faststart), func(t *testing.T) {
				out := remuxOne(t, content, faststart)
				want := filepath.Join(t.TempDir(), "want.mp4")
				args := []string{"-v", "error", "-i", "file:" + sourceOf(out), "-c", "copy"}
				if faststart {
					args = append(args, "-movflags", "+faststart")
				}
				if out, err := exec.Command(reference, append(args, want)...).CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				a, b := read(t, out), read(t, want)
				if faststart {
					var padding int
					a, padding = unpad(t, a)
					index := len(box(t, b, "moov"))
					t.Logf("%d bytes of padding after an index of %d in %d", padding, index, len(b))
					if padding > 4<<10+index*3/2 {
						t.Errorf("%d bytes of padding after an index of %d", padding, index)
					}
				}
				if !bytes.Equal(a, b) {
					t.Error(difference(a, b))
				}
			})
		}
	}
}

// addStreams adds recordings that differ in their streams and times.
func addStreams(t *testing.T, vectors map[string][]byte) {
	bFrames, kHz44 := []string{"-bf", "2"}, []string{"-ar", "44100"}
	av := makeFLV(t, picture, sound, avc, aac)
	then := recordingtest.Append
	dropped := false
	noFirstKey := recordingtest.Change(av, func(tag recordingtest.Tag) recordingtest.Tag {
		if tag.IsVideo() && !dropped {
			dropped, tag.Body = true, nil
		}
		return tag
	})
	// The index is longer than the fixed part of its estimate, and the times are as after a network.
	uneven := func(content []byte) []byte {
		random := rand.New(rand.NewPCG(1, 2))
		long := content
		for i := range int64(29) {
			long = then(long, recordingtest.WithoutHeaders(content), (i+1)*2000)
		}
		return recordingtest.Change(long, func(tag recordingtest.Tag) recordingtest.Tag {
			return tag.At(tag.MS + int64(random.Uint32N(8)))
		})
	}
	for name, content := range map[string][]byte{
		"plain":           av,
		"uneven":          uneven(av),
		"uneven B-frames": uneven(makeFLV(t, picture, sound, avc, bFrames, aac)),
		"uneven video":    uneven(makeFLV(t, picture, avc)),
		"uneven audio":    uneven(makeFLV(t, sound, aac, kHz44)),
		"B-frames":        makeFLV(t, picture, sound, avc, bFrames, aac),
		"44.1 kHz":        makeFLV(t, picture, sound, avc, aac, kHz44),
		"MP3":             makeFLV(t, picture, sound, avc, mp3),
		"video only":      makeFLV(t, picture, avc),
		"audio only":      makeFLV(t, sound, aac),
		"not square":      makeFLV(t, picture, avc, []string{"-vf", "setsar=4/3"}),
		"23.976 fps":      makeFLV(t, picture, sound, avc, aac, []string{"-r", "24000/1001"}),
		"starts late":     then(flv.Header, av, 100_000),
		"over 2^31 ms":    then(flv.Header, av, 1<<31-1000),
		"over 2^32 ms":    then(flv.Header, av, math.MaxUint32-1000),
		"no first key":    noFirstKey,
		"appended":        then(av, av, 2000),
		"appended, gap":   then(av, av, 60_000),
		"no metadata":     then(flv.Header, av, 0),
		"header again":    then(then(flv.Header, av, 0), av, 2000),
		"audio then none": then(av, makeFLV(t, picture, avc), 2000),
	} {
		vectors[name] = content
	}
}

// addPictures adds recordings for which FFmpeg asks a decoder how a picture is displayed.
func addPictures(t *testing.T, vectors map[string][]byte) {
	x264 := func(params string, more ...string) []byte {
		codec := []string{"-c:v", "libx264", "-preset", "ultrafast", "-g", "12", "-x264-params", params}
		return makeFLV(t, picture, codec, more)
	}
	// x264 with 4:2:0, which most use.
	yuv420 := func(params string, more ...string) []byte {
		return x264(params, append([]string{"-pix_fmt", "yuv420p"}, more...)...)
	}
	plain := yuv420("")
	pyramid := yuv420("bframes=3:b-pyramid=normal:b-adapt=0", "-profile:v", "main")
	interlaced := yuv420("", "-vf", "scale=320:228")
	bt709 := "colorprim=bt709:transfer=bt709:colormatrix=bt709"
	bt2020 := "colorprim=bt2020:colormatrix=bt2020nc:"
	rate := "vbv-maxrate=900:vbv-bufsize=900:bitrate=900"
	noVUI := func(record []byte) []byte { return withoutVUI(t, record) }
	for name, content := range map[string][]byte{
		"colours":           yuv420(bt709+":fullrange=off:chromaloc=1", "-vf", "setsar=12/11"),
		"full range":        yuv420(bt2020 + "transfer=smpte2084:fullrange=on"),
		"some colours":      yuv420("colorprim=smpte170m:transfer=bt709"),
		"RGB":               x264("colormatrix=GBR:colorprim=bt470bg:transfer=iec61966-2-1", "-pix_fmt", "yuv444p"),
		"odd shape":         yuv420("", "-vf", "setsar=1217/719"),
		"thin":              yuv420("sar=1/1000"),
		"cropped":           yuv420("", "-vf", "scale=318:230"),
		"cropped 4:2:2":     x264("", "-pix_fmt", "yuv422p", "-vf", "scale=314:227"),
		"cropped 4:4:4":     x264("", "-pix_fmt", "yuv444p", "-vf", "scale=313:227"),
		"cropped corner":    yuv420("crop-rect=4,6,10,12"),
		"interlaced":        yuv420("tff=1:pic-struct=1", "-vf", "scale=320:228"),
		"bottom first":      yuv420("bff=1"),
		"fake interlaced":   yuv420("fake-interlaced=1"),
		"grey":              x264("", "-pix_fmt", "gray"),
		"10 bit":            x264("", "-pix_fmt", "yuv420p10le"),
		"4:2:2 10 bit":      x264(bt2020+"transfer=arib-std-b67", "-pix_fmt", "yuv422p10le"),
		"scaling matrices":  yuv420("cqm=jvt:8x8dct=1", "-vf", "setsar=4/3"),
		"own matrices":      x264("cqm4=9:8x8dct=1:cqm8=33", "-pix_fmt", "yuv444p", "-vf", "setsar=4/3"),
		"HRD":               yuv420("nal-hrd=cbr:"+rate+":aud=1", "-vf", "setsar=4/3"),
		"pyramid":           pyramid,
		"no VUI":            withRecord(plain, noVUI),
		"pyramid, no VUI":   withRecord(pyramid, noVUI),
		"open GOP":          yuv420("bframes=2:open-gop=1"),
		"intra refresh":     yuv420("intra-refresh=1"),
		"lossless":          yuv420("qp=0"),
		"slices":            yuv420("slices=4"),
		"one picture":       yuv420("", "-frames:v", "1"),
		"two pictures":      yuv420("bframes=1:b-adapt=0", "-frames:v", "2"),
		"5 fps":             yuv420("", "-r", "5"),
		"60 fps":            yuv420("", "-r", "60"),
		"no frame rate":     yuv420("force-cfr=0:timebase=1/1000"),
		"sets with the key": inBand(plain),
		"broken sets":       withRecord(inBand(plain), func(r []byte) []byte { clear(r[9:16]); return r }),
		"two sets":          twoSets(yuv420("sps-id=3:"+bt709), yuv420("", "-vf", "scale=640:360,setsar=4/3")),
		"pyramid continues": recordingtest.Append(pyramid, pyramid, 2000),
		"smaller metadata":  withHeight(t, interlaced, 234),
		"larger metadata":   withHeight(t, interlaced, 1000),
	} {
		vectors["picture/"+name] = content
	}
}

// Of damaged parameter sets FFmpeg makes the same file, or none.
func TestRunBrokenSets(t *testing.T) {
	reference := reference(t)
	content := makeFLV(t, picture, avc, []string{"-frames:v", "10", "-vf", "setsar=4/3",
		"-color_primaries", "bt709", "-color_trc", "bt709", "-colorspace", "bt709"})
	random := rand.New(rand.NewPCG(1, 2))
	refused := 0
	for i := range 80 {
		broken := withRecord(content, func(r []byte) []byte {
			if i%8 == 7 {
				return r[:1+random.IntN(len(r)-1)]
			}
			for range 1 + i%3 {
				r[8+random.IntN(len(r)-8)] ^= 1 << random.IntN(8)
			}
			return r
		})
		path, want := filepath.Join(t.TempDir(), "broken.flv"), filepath.Join(t.TempDir(), "want.mp4")
		if err := os.WriteFile(path, broken, 0o644); err != nil {
			t.Fatal(err)
		}
		printed, failed := exec.Command(reference, "-v", "error", "-i", path, "-c", "copy", want).CombinedOutput()
		outs, err := remuxAll(t, broken, false)
		switch {
		case (failed == nil) != (err == nil):
			t.Errorf("%d: our error is %v, ffmpeg's %v %s", i, err, failed, printed)
		case err != nil:
			refused++
		default:
			if a, b := read(t, outs[0]), read(t, want); !bytes.Equal(a, b) {
				t.Errorf("%d: %s", i, difference(a, b))
			}
		}
	}
	t.Logf("%d of 80 refused", refused)
	if refused < 10 || refused > 70 {
		t.Errorf("%d of 80 refused: there are too few of one kind", refused)
	}
}
