//go:build cgo

package remux

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/asticode/go-astiav"

	"tunnelcast/internal/flv"
	"tunnelcast/internal/recording"
	"tunnelcast/internal/recording/recordingtest"
)

// Arguments of ffmpeg for recordings of two seconds.
var (
	picture = []string{"-f", "lavfi", "-i", "testsrc2=s=320x240:r=25:d=2"}
	wide    = []string{"-f", "lavfi", "-i", "testsrc2=s=480x208:r=25:d=2"}
	sound   = []string{"-f", "lavfi", "-i", "sine=r=48000:d=2"}
	avc     = []string{"-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "12"}
	aac     = []string{"-c:a", "aac"}
	mp3     = []string{"-c:a", "libmp3lame", "-ar", "44100"}
)

func makeFLV(t testing.TB, args ...[]string) []byte {
	t.Helper()
	return recordingtest.Encode(t, slices.Concat(args...)...)
}

// sourceName is the name of the FLV file beside the results of remuxAll. It is one that libav could
// take for a URL or a pattern.
const sourceName = "a:b%d.flv"

func sourceOf(out string) string { return filepath.Join(filepath.Dir(out), sourceName) }

// remuxAll does what recorddone does with a file of this content and returns the paths of the MP4
// files.
func remuxAll(t testing.TB, content []byte, faststart bool) ([]string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), sourceName)
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	survey, err := recording.Walk(bytes.NewReader(content), int64(len(content)))
	if err == nil {
		err = survey.Err()
	}
	if err != nil {
		return nil, err
	}
	var outs []string
	for i, part := range survey.Parts {
		out := filepath.Join(filepath.Dir(path), fmt.Sprintf("out%d", i))
		in := Input{Path: path, File: bytes.NewReader(content), Part: part, Plain: survey.Plain}
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

// remuxOne is remuxAll for a recording that becomes one MP4 file.
func remuxOne(t testing.TB, content []byte, faststart bool) (out string) {
	t.Helper()
	outs, err := remuxAll(t, content, faststart)
	if err != nil || len(outs) != 1 {
		t.Fatal(outs, err)
	}
	return outs[0]
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// decode returns a checksum of all decoded frames of a kind, "v" or "a". It fails if the decoder
// prints anything.
func decode(t *testing.T, path, kind string) string {
	t.Helper()
	out := recordingtest.FFmpeg(t, "-i", "file:"+path, "-map", "0:"+kind, "-fps_mode", "passthrough", "-f", "md5", "-")
	if !strings.HasPrefix(out, "MD5=") || strings.Count(out, "\n") != 1 {
		t.Errorf("%s: the decoder prints %s", path, out)
	}
	return out
}

func TestRun(t *testing.T) {
	tests := []struct {
		name  string
		args  [][]string
		kinds string
	}{
		{"H.264 and AAC 48 kHz", [][]string{picture, sound, avc, aac}, "va"},
		{"B-frames", [][]string{picture, sound, avc, {"-bf", "2"}, aac}, "va"},
		{"AAC 44.1 kHz", [][]string{picture, sound, avc, aac, {"-ar", "44100"}}, "va"},
		{"AAC 22.05 kHz mono", [][]string{picture, sound, avc, aac, {"-ar", "22050", "-ac", "1"}}, "va"},
		{"MP3", [][]string{picture, sound, avc, mp3}, "va"},
		{"video only", [][]string{picture, avc}, "v"},
		{"audio only", [][]string{sound, aac}, "a"},
		{"not square", [][]string{picture, avc, {"-vf", "setsar=4/3"}}, "v"},
		{"starts late", [][]string{picture, sound, avc, aac, {"-output_ts_offset", "100"}}, "va"},
	}
	for _, test := range tests {
		for _, faststart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/faststart=%v", test.name, faststart), func(t *testing.T) {
				out := remuxOne(t, makeFLV(t, test.args...), faststart)
				for _, kind := range strings.Split(test.kinds, "") {
					if got, want := decode(t, out, kind), decode(t, sourceOf(out), kind); got != want {
						t.Errorf("%s: other frames than in the FLV", kind)
					}
				}
				b := read(t, out)
				if front := bytes.Index(b, []byte("moov")) < bytes.Index(b, []byte("mdat")); front != faststart {
					t.Errorf("index in front: %v", front)
				}
			})
		}
	}
}

// An index that is larger than estimated costs a second pass and no media. MP3 frames that share a
// tag are packets that the walk does not see.
func TestRunNoRoom(t *testing.T) {
	var body []byte
	for _, tag := range recordingtest.Tags(makeFLV(t, []string{"-f", "lavfi", "-i", "sine=d=120"}, mp3)) {
		if tag.IsAudio() && body == nil {
			body = bytes.Clone(tag.Body)
		} else if tag.IsAudio() {
			body = append(body, tag.Packet()...)
		}
	}
	out := remuxOne(t, flv.AppendTag(bytes.Clone(flv.Header), flv.TagAudio, 0, body), true)
	var kinds []string
	boxes(t, read(t, out), func(kind string, _ []byte) { kinds = append(kinds, kind) })
	if got := strings.Join(kinds, " "); got != "ftyp moov free mdat" {
		t.Errorf("the file has %s", got)
	}
	if got, want := decode(t, out, "a"), decode(t, sourceOf(out), "a"); got != want {
		t.Error("other samples than in the FLV")
	}
}

// HEVC over enhanced RTMP plays and is tagged as Apple's players require.
func TestRunHEVC(t *testing.T) {
	tags, _, mp4 := recordingtest.HEVC(t)
	out := remuxOne(t, recordingtest.File(tags...), true)
	path := filepath.Join(t.TempDir(), "made.mp4")
	if err := os.WriteFile(path, mp4, 0o644); err != nil {
		t.Fatal(err)
	}
	if got, want := decode(t, out, "v"), decode(t, path, "v"); got != want {
		t.Error("other frames than were encoded")
	}
	if b := read(t, out); !bytes.Contains(b, []byte("hvc1")) || bytes.Contains(b, []byte("hev1")) {
		t.Error("not tagged hvc1")
	}
}

// Where the size of the picture or the rate of the sound changes there is a second file, and each
// plays to its end.
func TestRunParts(t *testing.T) {
	small, large := makeFLV(t, picture, sound, avc, aac), makeFLV(t, wide, sound, avc, aac)
	then := recordingtest.Append
	tests := []struct {
		name    string
		content []byte
		parts   int
	}{
		{"resolution", then(small, large, 2000), 2},
		{"sample rate", then(small, makeFLV(t, picture, sound, avc, aac, []string{"-ar", "44100"}), 2000), 2},
		{"audio codec", then(small, makeFLV(t, picture, sound, avc, mp3), 2000), 2},
		{"nothing", then(small, small, 2000), 1},
		{"there and back", then(then(small, large, 2000), small, 4000), 3},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			outs, err := remuxAll(t, test.content, true)
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
	whole := makeFLV(t, picture, sound, avc, aac)
	half := len(whole) / 2
	hole := bytes.Clone(whole)
	clear(hole[half : half+5000])
	vectors := map[string][]byte{
		"hole":          hole,
		"garbage":       slices.Concat(whole[:half], bytes.Repeat([]byte("garbage\t\x08\x12"), 500), whole[half:]),
		"zeros at end":  append(bytes.Clone(whole), make([]byte, 9999)...),
		"size of a tag": whole[:len(whole)-2],
	}
	for i := range 12 {
		n := len(whole) - 1 - i*i*97%(len(whole)*2/3)
		vectors[fmt.Sprintf("cut at %d", n)] = whole[:n]
	}
	for name, b := range vectors {
		t.Run(name, func(t *testing.T) {
			out := remuxOne(t, b, true)
			if name != "hole" && name != "garbage" { // there, a frame may lack its reference
				decode(t, out, "v")
				decode(t, out, "a")
			}
		})
	}
}

func TestRunFails(t *testing.T) {
	content := makeFLV(t, picture, sound, avc, aac)
	dir := t.TempDir()
	path := filepath.Join(dir, "a.flv")
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	survey, err := recording.Walk(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	in := Input{Path: path, File: bytes.NewReader(content), Part: survey.Parts[0], Plain: true}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(cancelled, in, filepath.Join(dir, "out"), true); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	missing := filepath.Join(dir, "none", "out")
	if _, err := Run(t.Context(), in, missing, true); !errors.Is(err, astiav.Error(-int(syscall.ENOENT))) {
		t.Errorf("no directory: %v", err)
	}
	// /dev/full accepts what is buffered and then has no space.
	if _, err := Run(t.Context(), in, "/dev/full", false); !errors.Is(err, ErrDiskFull) {
		t.Errorf("no space: %v", err)
	}
	if err := os.WriteFile(path, content[:len(content)/2], 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), in, filepath.Join(dir, "out"), true); err == nil {
		t.Error("no error for a recording that became shorter")
	}
	if err := Verify(path, Result{Video: Count{Written: 7}}); err == nil {
		t.Error("no error for an FLV instead of an MP4")
	}
}
