package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"tunnelcast/internal/flv"
	"tunnelcast/internal/recording/recordingtest"
)

// A clip is ten seconds of a live stream. A recording of any length repeats it.
type clip struct {
	headers []recordingtest.Tag // of the codecs: once per recording
	media   []recordingtest.Tag
}

const clipMillis = 10_000

// ffmpeg's options for a clip as most people stream, and for one with as many packets per byte as H.264 and AAC can
// have.
var (
	usualBitrate = []string{
		"-f", "lavfi", "-i", "testsrc2=s=1280x720:r=30,noise=alls=30:allf=t", "-f", "lavfi", "-i", "sine=r=48000",
		"-b:v", "8M", "-minrate", "8M", "-maxrate", "8M", "-bufsize", "8M", "-b:a", "128k",
	}
	lowBitrate = []string{
		"-f", "lavfi", "-i", "testsrc2=s=160x90:r=30", "-f", "lavfi", "-i", "sine=r=48000",
		"-b:v", "60k", "-b:a", "48k",
	}
)

// makeClip encodes a clip.
func (t *testbed) makeClip(ctx context.Context, name string, look []string) (clip, error) {
	file := filepath.Join(t.scratch(), name+"-clip.flv")
	if err := os.MkdirAll(t.scratch(), 0o755); err != nil {
		return clip{}, err
	}
	args := append([]string{"ffmpeg", "-v", "error", "-nostdin", "-y"}, look...)
	args = append(args, "-t", fmt.Sprint(clipMillis/1000), "-c:v", "libx264", "-preset", "ultrafast",
		"-pix_fmt", "yuv420p", "-g", "60", "-c:a", "aac", "-f", "flv", file)
	if _, err := run(ctx, process{args: args}); err != nil {
		return clip{}, err
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return clip{}, err
	}
	return parseClip(data)
}

// parseClip reads an FLV file with one H.264 and one AAC stream.
func parseClip(data []byte) (c clip, err error) {
	tags := recordingtest.Tags(data)
	if len(recordingtest.File(tags...)) != len(data) {
		return c, errors.New("parse clip: cut short")
	}
	for _, t := range tags {
		// nginx writes no metadata, and the end of a sequence is no packet.
		switch {
		case t.Type == flv.TagScript:
		case t.IsHeader():
			c.headers = append(c.headers, t)
		case t.IsVideo() || t.IsAudio():
			c.media = append(c.media, t)
		}
	}
	if len(c.headers) != 2 || len(c.media) == 0 {
		return c, fmt.Errorf("parse clip: %d headers, %d packets", len(c.headers), len(c.media))
	}
	return c, nil
}

// bytes returns the size of the clip in a recording.
func (c clip) bytes() (n int64) {
	for _, t := range c.media {
		n += int64(len(t.Append(nil)))
	}
	return n
}

// record writes a recording with this number of packets, as nginx-rtmp does, and syncs it to the disk.
func (c clip) record(file string, packets int) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	w.Write(recordingtest.File(c.headers...))
	var b []byte
	for n := range packets {
		t := c.media[n%len(c.media)]
		b = t.At(t.MS + int64(n/len(c.media))*clipMillis).Append(b[:0])
		w.Write(b)
	}
	return errors.Join(w.Flush(), f.Sync(), f.Close())
}

// describe returns the size of a recording for the name of a row.
func describe(bytes int64) string {
	return fmt.Sprintf("%.3g GB", float64(bytes)/1e9)
}
