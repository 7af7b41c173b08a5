//go:build cgo

// Package remux turns an FLV recording into an MP4 file without re-encoding it, through libav. It is
// the only package that uses libav, which is C and reads what anybody on the network may have
// published. Call it in the sandbox of internal/sandbox.
//
// For a plain recording, whose times only grow and whose headers come once, the result is byte for byte
// that of `ffmpeg -i X.flv -c copy Y.mp4` of the same FFmpeg version, because this package does what
// FFmpeg's program does around its libraries (fftools/ffmpeg_demux.c, ffmpeg_mux.c). With
// `-movflags +faststart` it is the same except for padding after the index, see Run, and HEVC is tagged
// hvc1, which Apple's players require.
//
// FFmpeg's program decodes the first pictures of H.264 to find out how they are displayed; here
// recording.Part knows. That can be more than FFmpeg finds out where the parameter sets are damaged, or
// change from one packet to the next.
//
// This package and cmd/recorddone need cgo. Their build tags say so, and with CGO_ENABLED=0 go build,
// vet and test ./... do the rest without libav's headers.
package remux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"syscall"

	"github.com/asticode/go-astiav"

	"tunnelcast/internal/flv"
	"tunnelcast/internal/recording"
)

// Input is one part of a recording.
type Input struct {
	Path  string      // of the FLV file
	File  io.ReaderAt // the same file
	Part  recording.Part
	Plain bool // the part is the whole file, which can be read as it is
	// Reached, if not nil, is called now and then with how many bytes of packets were read.
	Reached func(bytes int64)
}

// Count counts the packets of one stream.
type Count struct {
	Read, Bytes int64
	// Dropped are those before the first at which a decoder can start: no decoder can show them.
	Dropped int64
	Written int64
}

// Result is what Run has read and written.
type Result struct{ Video, Audio Count }

// Run writes the part to the file out, which it creates or truncates. With faststart the index is
// before the media, with some padding after it: room for the index is reserved before its size is known,
// where FFmpeg's program moves the media in a second pass. An error is libav's or the context's, or
// reports that libav did not read what the part holds; out is then of no use.
func Run(ctx context.Context, in Input, out string, faststart bool) (Result, error) {
	// libav explains errors in log lines only, and go-astiav's callback for them formats what a publisher
	// sent into 1024 bytes of stack without a limit. Hence there are no lines.
	astiav.SetLogLevel(astiav.LogLevelQuiet)

	if !faststart {
		return in.run(ctx, out, nil)
	}
	if room := indexRoom(in.Part); room <= math.MaxInt32 { // the option is a C int
		r, err := in.run(ctx, out, &option{"moov_size", strconv.FormatInt(room, 10)})
		if !errors.Is(err, errNoRoom) {
			return r, err
		}
	}
	return in.run(ctx, out, &option{"movflags", "+faststart"})
}

// ErrDiskFull is libav's error for a full disk.
var ErrDiskFull error = astiav.Error(-int(syscall.ENOSPC))

// option is an option of the muxer (libavformat/movenc.c).
type option struct{ name, value string }

// errNoRoom reports that the index was larger than the room for it, and has overwritten media.
var errNoRoom = errors.New("no room for the index")

// indexRoom estimates the size of the index of a part in bytes, rather too large than too small: the
// tables that mov_write_stbl_tag of libavformat/movenc.c writes.
func indexRoom(p recording.Part) int64 {
	offset := int64(4)
	if p.Video.Bytes+p.Audio.Bytes > math.MaxUint32-1<<28 {
		offset = 8 // co64
	}
	room := int64(4 << 10) // everything but the tables
	for _, s := range []struct {
		recording.Stream
		paces  int64 // those of audio come from its samples, not from FLV's milliseconds
		others int64 // packets of the other stream: each can end a chunk
	}{{p.Video, p.Video.Paces, p.Audio.Packets}, {p.Audio, p.Audio.Packets, p.Video.Packets}} {
		// A chunk also ends before 1 MiB.
		chunks := min(s.Packets, s.others+1+s.Bytes>>19)
		room += 8*s.paces + // stts
			8*s.Delays + // ctts
			4*s.Keys + // stss
			s.Packets + // sdtp
			4*s.Packets + // stsz
			(12+offset)*chunks // stsc, stco
	}
	return room + room/32 // for corrected times
}

func (in Input) run(ctx context.Context, out string, index *option) (Result, error) {
	j := &job{in: in, out: out}
	defer j.free()
	if err := j.openInput(); err != nil {
		return Result{}, err
	}
	if err := j.openOutput(index); err != nil {
		return Result{}, err
	}
	if err := j.copy(ctx); err != nil {
		return Result{}, err
	}
	err := j.closeOutput()
	if index != nil && index.name == "moov_size" && errors.Is(err, astiav.Error(-int(syscall.EINVAL))) {
		return Result{}, errNoRoom
	}
	if err != nil {
		return Result{}, err
	}
	r := Result{j.video.count, j.audio.count}
	return r, in.check(r)
}

// check compares what libav read and wrote with the survey of the tags. FFmpeg splits MP3 into frames, so
// only its bytes can be compared.
func (in Input) check(r Result) error {
	for _, c := range []struct {
		name string
		want recording.Stream
		got  Count
	}{{"video", in.Part.Video, r.Video}, {"audio", in.Part.Audio, r.Audio}} {
		switch {
		case c.got.Bytes != c.want.Bytes, c.got.Read != c.want.Packets && c.want.Codec != flv.MP3:
			return fmt.Errorf("%s: libav read %d packets of %d bytes, the recording holds %d of %d",
				c.name, c.got.Read, c.got.Bytes, c.want.Packets, c.want.Bytes)
		case c.got.Written+c.got.Dropped != c.got.Read:
			return fmt.Errorf("%s: %d packets read, %d dropped, %d written",
				c.name, c.got.Read, c.got.Dropped, c.got.Written)
		case c.want.Packets > 0 && c.got.Written == 0:
			return fmt.Errorf("%s: nothing written of %d packets", c.name, c.got.Read)
		}
	}
	return nil
}

// job is one call of run.
type job struct {
	in           Input
	out          string
	source       *astiav.IOContext // from which libav reads through Part.Reader
	demux, mux   *astiav.FormatContext
	target       *astiav.IOContext
	video, audio track
	byIndex      []*track // by the index of the stream in demux
}

// track is one stream. What does not change from packet to packet is looked up once, because each look is
// a call into C.
type track struct {
	in, out *astiav.Stream
	index   int // of the stream in mux
	clock   clock
	count   Count
	early   int64   // packets that are repeated later
	lead    int64   // packets that no decoder can show
	starts  []int64 // numbers of packets at which a player can start, besides those that libav knows
}

func (j *job) free() {
	if j.target != nil {
		j.target.Close() // something else has failed before
	}
	if j.mux != nil {
		j.mux.Free()
	}
	if j.demux != nil {
		j.demux.CloseInput()
	}
	if j.source != nil {
		j.source.Free()
	}
}
