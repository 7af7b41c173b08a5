package recordingtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tunnelcast/internal/flv"
	"tunnelcast/internal/promised"
)

// FFmpeg runs the host's ffmpeg and returns its output.
func FFmpeg(t testing.TB, args ...string) string {
	t.Helper()
	promised.Program(t, "ffmpeg")
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	args = append([]string{"-v", "error", "-nostdin", "-y"}, args...)
	out, err := exec.CommandContext(ctx, "ffmpeg", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("ffmpeg %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Encode returns the FLV file that ffmpeg writes with these arguments.
func Encode(t testing.TB, args ...string) []byte {
	t.Helper()
	return encode(t, "flv", args...)
}

func encode(t testing.TB, format string, args ...string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "made."+format)
	FFmpeg(t, append(args, "-f", format, path)...)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Sample returns a recording with H.264 video and AAC audio of so many seconds and about so many
// bits per second, such as 200k, with a key frame every 12 pictures.
func Sample(t testing.TB, seconds int, rate string) []byte {
	t.Helper()
	return Encode(t, "-f", "lavfi", "-i", "testsrc2=s=320x240:r=25", "-f", "lavfi", "-i", "sine=r=48000",
		"-t", fmt.Sprint(seconds), "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "12",
		"-b:v", rate, "-minrate", rate, "-maxrate", rate, "-bufsize", rate, "-nal-hrd", "cbr", "-c:a", "aac")
}

// HEVC returns a recording of two seconds of HEVC twice, as enhanced RTMP has it and with CodecID 12,
// and the MP4 file that it is made of: ffmpeg before version 6.1 does not write HEVC into FLV.
func HEVC(t testing.TB) (enhanced, codecID12 []Tag, mp4 []byte) {
	t.Helper()
	mp4 = encode(t, "mp4", "-f", "lavfi", "-i", "testsrc2=s=320x240:r=25:d=2", "-c:v", "libx265",
		"-preset", "ultrafast", "-x265-params", "bframes=0:keyint=12:log-level=none", "-pix_fmt", "yuv420p")
	content := func(box string) []byte { // of a box that is in the file once
		at := bytes.Index(mp4, []byte(box))
		if at < 4 {
			t.Fatalf("the MP4 has no %s", box)
		}
		return mp4[at+4 : at-4+int(binary.BigEndian.Uint32(mp4[at-4:]))]
	}
	add := func(ms int64, frameType, packetType byte, packet []byte) {
		e := append([]byte{0x80 | frameType<<4 | packetType}, "hvc1"...)
		if packetType == 1 {
			e = append(e, 0, 0, 0)
		}
		enhanced = append(enhanced, Tag{Type: flv.TagVideo, MS: ms, Body: append(e, packet...)})
		old := append([]byte{frameType<<4 | 12, packetType, 0, 0, 0}, packet...)
		codecID12 = append(codecID12, Tag{Type: flv.TagVideo, MS: ms, Body: old})
	}
	keys := map[int64]bool{}
	for b := content("stss")[8:]; len(b) > 0; b = b[4:] {
		keys[int64(binary.BigEndian.Uint32(b))] = true
	}
	add(0, 1, 0, content("hvcC"))
	media, number := content("mdat"), int64(0)
	for sizes := content("stsz")[12:]; len(sizes) > 0; sizes = sizes[4:] {
		size := binary.BigEndian.Uint32(sizes)
		number++
		frameType := byte(2)
		if keys[number] {
			frameType = 1
		}
		add((number-1)*40, frameType, 1, media[:size])
		media = media[size:]
	}
	return enhanced, codecID12, mp4
}
