package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// A clip is ten seconds of a live stream, to make recordings of any length from.
type clip struct {
	headers []tag // of the codecs: once per recording
	media   []tag
}

// A tag is one packet of an FLV file with its time.
type tag struct {
	kind byte
	ms   uint32
	data []byte
}

const clipMillis = 10_000

// How a clip looks: as most people stream, and with as many packets per byte as H.264 and AAC can have.
var (
	usualBitrate = []string{"-f", "lavfi", "-i", "testsrc2=s=1280x720:r=30,noise=alls=30:allf=t", "-f", "lavfi", "-i", "sine=r=48000",
		"-b:v", "8M", "-minrate", "8M", "-maxrate", "8M", "-bufsize", "8M", "-b:a", "128k"}
	lowBitrate = []string{"-f", "lavfi", "-i", "testsrc2=s=160x90:r=30", "-f", "lavfi", "-i", "sine=r=48000",
		"-b:v", "60k", "-b:a", "48k"}
)

// makeClip encodes one.
func (t *testbed) makeClip(ctx context.Context, name string, look []string) (clip, error) {
	file := filepath.Join(t.scratch(), name+"-clip.flv")
	if err := os.MkdirAll(t.scratch(), 0o755); err != nil {
		return clip{}, err
	}
	args := append([]string{"ffmpeg", "-v", "error", "-nostdin", "-y"}, look...)
	args = append(args, "-t", fmt.Sprint(clipMillis/1000), "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "60",
		"-c:a", "aac", "-f", "flv", file)
	if _, err := run(ctx, process{args: args}); err != nil {
		return clip{}, err
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return clip{}, err
	}
	return parseClip(data)
}

// The parts of an FLV file (Adobe's specification, annex E).
const (
	flvHeader = "FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00" // of audio and video, and the size of no tag before
	tagHeader = 11                                            // bytes, and 4 more behind the tag for its size
	audio     = 8
	video     = 9
)

func parseClip(data []byte) (c clip, err error) {
	if len(data) < len(flvHeader) {
		return c, errors.New("parse clip: it is empty")
	}
	for data = data[len(flvHeader):]; len(data) > 0; {
		size := 0
		if len(data) > tagHeader {
			size = int(data[1])<<16 | int(data[2])<<8 | int(data[3])
		}
		if size < 2 || len(data) < tagHeader+size+4 {
			return c, errors.New("parse clip: cut short")
		}
		t := tag{kind: data[0], ms: uint32(data[7])<<24 | uint32(data[4])<<16 | uint32(data[5])<<8 | uint32(data[6]), data: data[tagHeader : tagHeader+size]}
		data = data[tagHeader+size+4:]
		// The second byte of H.264 and AAC is 0 for a codec's header, 1 for media, 2 for the end. nginx writes no
		// metadata.
		switch {
		case t.kind != audio && t.kind != video:
		case t.data[1] == 0:
			c.headers = append(c.headers, t)
		case t.data[1] == 1:
			c.media = append(c.media, t)
		}
	}
	if len(c.headers) != 2 || len(c.media) == 0 {
		return c, fmt.Errorf("parse clip: %d headers, %d packets", len(c.headers), len(c.media))
	}
	return c, nil
}

// bytes gives the clip's length in a recording.
func (c clip) bytes() (n int64) {
	for _, t := range c.media {
		n += int64(tagHeader + len(t.data) + 4)
	}
	return n
}

// record writes a recording of so many packets, as nginx-rtmp does, on the disk when it returns.
func (c clip) record(file string, packets int) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	w.WriteString(flvHeader)
	for _, t := range c.headers {
		t.write(w, 0)
	}
	for n := range packets {
		c.media[n%len(c.media)].write(w, uint32(n/len(c.media))*clipMillis)
	}
	return errors.Join(w.Flush(), f.Sync(), f.Close())
}

func (t tag) write(w *bufio.Writer, later uint32) {
	size, ms := len(t.data), t.ms+later
	w.Write([]byte{t.kind, byte(size >> 16), byte(size >> 8), byte(size), byte(ms >> 16), byte(ms >> 8), byte(ms), byte(ms >> 24), 0, 0, 0})
	w.Write(t.data)
	size += tagHeader
	w.Write([]byte{byte(size >> 24), byte(size >> 16), byte(size >> 8), byte(size)})
}

// describe gives a recording's size for a row's name.
func describe(bytes int64) string {
	return fmt.Sprintf("%.3g GB", float64(bytes)/1e9)
}
