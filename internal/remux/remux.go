//go:build cgo

// Package remux turns an FLV recording into an MP4 file without re-encoding it,
// through libav, and is the only package that does: it is C, reads what anybody
// on the network may have published, and belongs into the sandbox of internal/sandbox.
//
// Of a plain recording, whose times only grow and whose headers come once, the result
// is byte for byte that of FFmpeg's `ffmpeg -i X.flv -c copy Y.mp4` of the same
// version, for which this package does what FFmpeg's program does around
// its libraries (fftools/ffmpeg_demux.c, ffmpeg_mux.c). With `-movflags +faststart`
// it is the same but for padding behind the index, see Run; and HEVC is tagged
// hvc1, which Apple's players ask for.
//
// FFmpeg's program decodes the first pictures of H.264 to know what they look
// like; here recording.Part knows. That can be more than FFmpeg finds out where
// the parameter sets are damaged, or change from one packet to the next.
//
// It needs cgo, and so does cmd/recorddone. Their build tags say so, so that
// CGO_ENABLED=0 go build, vet and test ./... do the rest without libav's headers.
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
	"tunnelcast/internal/h264"
	"tunnelcast/internal/recording"
)

// Input is one part of a recording.
type Input struct {
	Path  string      // of the FLV file
	File  io.ReaderAt // the same file
	Part  recording.Part
	Plain bool // the part is the whole file, which can be read as it is
	// Reached, if not nil, is told every now and then how many bytes of packets
	// were read.
	Reached func(bytes int64)
}

// Count is what became of one stream's packets.
type Count struct {
	Read, Bytes int64
	// Dropped were before the first that a decoder can start at: nothing can show them.
	Dropped int64
	Written int64
}

// Result is what Run has read and written.
type Result struct{ Video, Audio Count }

// Run writes the part to the file out, which it creates or truncates. With
// faststart the index stands before the media, and some padding behind it: room
// for the index is left before its size is known, where FFmpeg's program moves
// the media in a second pass. An error is libav's, or the context's, or says that
// what libav read is not what the part holds; out is then of no use.
func Run(ctx context.Context, in Input, out string, faststart bool) (Result, error) {
	// libav explains itself only in log lines, and go-astiav's callback for
	// those formats what a publisher sent into 1024 bytes of stack without a
	// limit. So: no lines.
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

// ErrDiskFull is libav's.
var ErrDiskFull error = astiav.Error(-int(syscall.ENOSPC))

// option is one of libavformat/movenc.c.
type option struct{ name, value string }

// errNoRoom says that the index was larger than the room left for it, and has
// destroyed media.
var errNoRoom = errors.New("no room for the index")

// indexRoom estimates the bytes that the index of the part needs, rather too many
// than too few: the tables that libavformat/movenc.c writes in mov_write_stbl_tag.
func indexRoom(p recording.Part) int64 {
	offset := int64(4)
	if p.Video.Bytes+p.Audio.Bytes > math.MaxUint32-1<<28 {
		offset = 8 // co64
	}
	room := int64(4 << 10) // all but the tables
	for _, s := range []struct {
		recording.Stream
		paces  int64 // audio's come from its samples, not from FLV's milliseconds
		others int64 // packets of the other stream: a chunk ends where these come between
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
	return room + room/32 // times that had to be corrected
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
	if err := j.closeOutput(); index != nil && index.name == "moov_size" && errors.Is(err, astiav.Error(-int(syscall.EINVAL))) {
		return Result{}, errNoRoom
	} else if err != nil {
		return Result{}, err
	}
	r := Result{j.video.count, j.audio.count}
	return r, in.check(r)
}

// check compares what libav read and wrote with what the walk over the tags
// found. FFmpeg gives MP3 out frame by frame, so only its bytes can be compared.
func (in Input) check(r Result) error {
	for _, c := range []struct {
		name string
		want recording.Stream
		got  Count
	}{{"video", in.Part.Video, r.Video}, {"audio", in.Part.Audio, r.Audio}} {
		switch {
		case c.got.Bytes != c.want.Bytes, c.got.Read != c.want.Packets && c.want.Codec != flv.MP3:
			return fmt.Errorf("%s: libav read %d packets of %d bytes, the recording holds %d of %d", c.name, c.got.Read, c.got.Bytes, c.want.Packets, c.want.Bytes)
		case c.got.Written+c.got.Dropped != c.got.Read:
			return fmt.Errorf("%s: %d packets read, %d dropped, %d written", c.name, c.got.Read, c.got.Dropped, c.got.Written)
		case c.want.Packets > 0 && c.got.Written == 0:
			return fmt.Errorf("%s: nothing written of %d packets", c.name, c.got.Read)
		}
	}
	return nil
}

type job struct {
	in           Input
	out          string
	source       *astiav.IOContext // where libav reads through us
	demux, mux   *astiav.FormatContext
	target       *astiav.IOContext
	video, audio track
	byIndex      []*track // by index of the input's stream
}

// track is one stream on its way. What does not change from packet to packet is
// looked up once, for every look is a call into C.
type track struct {
	in, out *astiav.Stream
	index   int // of out
	clock   clock
	count   Count
	early   int64   // packets that come again
	lead    int64   // packets that nothing can show
	starts  []int64 // the numbers of packets that a player can start at, beside those that libav knows
}

func (j *job) openInput() error {
	format := astiav.FindInputFormat("flv")
	if format == nil {
		return errors.New("libav was built without its flv demuxer")
	}
	j.demux = astiav.AllocFormatContext()
	if j.demux == nil {
		return errors.New("out of memory")
	}
	// Of what it can seek in, flvdec.c builds an index in memory that nobody asks for.
	options := astiav.NewDictionary()
	defer options.Free()
	url := "file:" + j.in.Path // a name may hold a ':' of its own
	if j.in.Plain {
		if err := options.Set("seekable", "0", 0); err != nil {
			return fmt.Errorf("open input: %w", err)
		}
	} else {
		flv := j.in.Part.Reader(j.in.File)
		source, err := astiav.AllocIOContext(64<<10, false, flv.Read, nil, nil)
		if err != nil {
			return err
		}
		j.source, url = source, ""
		j.demux.SetPb(source)
	}
	j.demux.SetFlags(j.demux.Flags().Add(astiav.FormatContextFlagDiscardCorrupt))
	if err := j.demux.OpenInput(url, format, options); err != nil {
		return fmt.Errorf("open input: %w", err)
	}
	// This decodes a little: the sample rate and the aspect ratio are in the
	// streams, not in FLV.
	if err := j.demux.FindStreamInfo(nil); err != nil {
		return fmt.Errorf("find streams: %w", err)
	}
	for i, stream := range j.demux.Streams() {
		var t *track
		switch stream.CodecParameters().MediaType() {
		case astiav.MediaTypeVideo:
			t = &j.video
		case astiav.MediaTypeAudio:
			t = &j.audio
		}
		j.byIndex = append(j.byIndex, t)
		if t == nil {
			continue
		}
		if t.in != nil {
			return fmt.Errorf("find streams: stream %d is a second of its kind", i)
		}
		t.in = stream
	}
	j.video.early, j.audio.early = j.in.Part.Early[0], j.in.Part.Early[1]
	j.video.lead, j.video.starts = j.in.Part.Lead, j.in.Part.Starts
	if (j.video.in != nil) != (j.in.Part.Video.Packets > 0) || (j.audio.in != nil) != (j.in.Part.Audio.Packets > 0) {
		return errors.New("find streams: libav does not find those that the recording holds")
	}
	return nil
}

func (j *job) openOutput(index *option) (err error) {
	// The muxer opens the file a second time by this name, for +faststart.
	url := "file:" + j.out
	if j.mux, err = astiav.AllocOutputFormatContext(nil, "mp4", url); err != nil {
		return fmt.Errorf("open output: %w", err)
	}
	for _, t := range []*track{&j.video, &j.audio} {
		if t.in == nil {
			continue
		}
		if t.out = j.mux.NewStream(nil); t.out == nil {
			return errors.New("open output: out of memory")
		}
		if err := t.copyParameters(); err != nil {
			return fmt.Errorf("open output: %w", err)
		}
		if t == &j.video && j.in.Part.Picture.Width > 0 {
			if err := t.show(j.in.Part.Picture); err != nil {
				return fmt.Errorf("open output: %w", err)
			}
		}
	}
	if j.target, err = astiav.OpenIOContext(url, astiav.NewIOContextFlags(astiav.IOContextFlagWrite), nil, nil); err != nil {
		return fmt.Errorf("open output: %w", err)
	}
	j.mux.SetPb(j.target)
	options := astiav.NewDictionary()
	defer options.Free()
	if index != nil {
		if err := options.Set(index.name, index.value, 0); err != nil {
			return fmt.Errorf("open output: %w", err)
		}
	}
	if err := j.mux.WriteHeader(options); err != nil {
		return fmt.Errorf("write header: %w", err)
	}
	for _, t := range []*track{&j.video, &j.audio} {
		if t.in != nil {
			t.index = t.out.Index()
			t.clock = newClock(t, j.demux.StartTime())
		}
	}
	return nil
}

// copyParameters is streamcopy_init of fftools/ffmpeg_mux_init.c.
func (t *track) copyParameters() error {
	from, to := t.in.CodecParameters(), t.out.CodecParameters()
	if err := from.Copy(to); err != nil {
		return err
	}
	to.SetCodecTag(0)
	if from.CodecID() == astiav.CodecIDHevc {
		to.SetCodecTag('h' | 'v'<<8 | 'c'<<16 | '1'<<24)
	}
	t.out.SetTimeBase(t.in.TimeBase())
	t.out.SetAvgFrameRate(t.in.AvgFrameRate())
	if from.MediaType() == astiav.MediaTypeVideo {
		ratio := t.in.SampleAspectRatio()
		if ratio.Num() == 0 {
			ratio = from.SampleAspectRatio()
		}
		t.out.SetSampleAspectRatio(ratio)
		to.SetSampleAspectRatio(ratio)
		t.out.SetRFrameRate(t.in.RFrameRate())
	}
	return nil
}

// show sets what libav's H.264 decoder would have found out, which is not there:
// it decodes twenty pictures for it, and is the largest part of libav that a
// stranger could reach. See h264_init_ps and init_dimensions in
// libavcodec/h264_slice.c.
func (t *track) show(p h264.Picture) error {
	to := t.out.CodecParameters()
	w, h := to.Width(), to.Height()
	if w <= 0 || h <= 0 {
		return nil // libav's parser refuses the parameter sets, and will the muxer
	}
	// FLV's metadata may cut off some of the last macroblocks.
	align := func(n int) int { return (n + 15) &^ 15 }
	if !p.FromCorner || w > p.Width || h > p.Height || align(w) != align(p.Width) || align(h) != align(p.Height) {
		to.SetWidth(p.Width)
		to.SetHeight(p.Height)
	}
	ratio := astiav.NewRational(p.SARWidth, p.SARHeight)
	t.out.SetSampleAspectRatio(ratio)
	to.SetSampleAspectRatio(ratio)
	// go-astiav sets colours in a context only.
	context := astiav.AllocCodecContext(nil)
	if context == nil {
		return errors.New("out of memory")
	}
	defer context.Free()
	if err := to.ToCodecContext(context); err != nil {
		return err
	}
	context.SetColorRange(astiav.ColorRange(p.Range))
	context.SetColorPrimaries(astiav.ColorPrimaries(p.ColourPrimaries))
	context.SetColorTransferCharacteristic(astiav.ColorTransferCharacteristic(p.TransferCharacteristics))
	context.SetColorSpace(astiav.ColorSpace(p.MatrixCoefficients))
	return to.FromCodecContext(context)
}

func (j *job) copy(ctx context.Context) error {
	packet := astiav.AllocPacket()
	if packet == nil {
		return errors.New("out of memory")
	}
	defer packet.Free()
	for n := 0; ; n++ {
		if n%256 == 0 {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if j.in.Reached != nil {
				j.in.Reached(j.video.count.Bytes + j.audio.count.Bytes)
			}
		}
		if err := j.demux.ReadFrame(packet); errors.Is(err, astiav.ErrEof) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read packet: %w", err)
		}
		if written, err := j.copyPacket(packet); err != nil {
			return err
		} else if !written { // the muxer keeps what it is given
			packet.Unref()
		}
	}
}

func (j *job) copyPacket(packet *astiav.Packet) (written bool, err error) {
	i := packet.StreamIndex()
	if i >= len(j.byIndex) {
		return false, errors.New("read packet: of a stream that was not there in the beginning")
	}
	t := j.byIndex[i]
	if t == nil {
		return false, nil // captions, data: an MP4 of ours has none
	}
	if t.early > 0 {
		t.early--
		return false, nil
	}
	n := t.count.Read
	t.count.Read++
	t.count.Bytes += int64(packet.Size())
	stamp := stamp{packet.Pts(), packet.Dts(), packet.Duration()}
	if n < t.lead {
		t.clock.skip(&stamp)
		t.count.Dropped++
		return false, nil
	}
	for len(t.starts) > 0 && t.starts[0] <= n {
		if t.starts[0] == n {
			packet.SetFlags(packet.Flags().Add(astiav.PacketFlagKey))
		}
		t.starts = t.starts[1:]
	}
	t.clock.set(&stamp)
	packet.SetPts(stamp.pts)
	packet.SetDts(stamp.dts)
	packet.SetDuration(stamp.duration)
	packet.SetPos(-1)
	packet.SetStreamIndex(t.index)
	if err := j.mux.WriteInterleavedFrame(packet); err != nil {
		return false, fmt.Errorf("write packet: %w", err)
	}
	t.count.Written++
	return true, nil
}

// closeOutput writes what is left in memory. That the disk is full may come out
// at each of these.
func (j *job) closeOutput() error {
	if err := j.mux.WriteTrailer(); err != nil {
		return fmt.Errorf("write index: %w", err)
	}
	target := j.target
	j.target = nil
	if err := target.Close(); err != nil {
		return fmt.Errorf("close output: %w", err)
	}
	return nil
}

func (j *job) free() {
	if j.target != nil {
		j.target.Close() // something else has failed already
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

// Verify reads the index of the MP4 file at path as a player does and compares
// it with what was written.
func Verify(path string, wrote Result) error {
	format := astiav.FindInputFormat("mov")
	if format == nil {
		return errors.New("libav was built without its mov demuxer")
	}
	file := astiav.AllocFormatContext()
	if file == nil {
		return errors.New("out of memory")
	}
	defer file.CloseInput()
	if err := file.OpenInput("file:"+path, format, nil); err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	var video, audio int64
	for _, stream := range file.Streams() {
		switch stream.CodecParameters().MediaType() {
		case astiav.MediaTypeVideo:
			video += stream.NbFrames()
		case astiav.MediaTypeAudio:
			audio += stream.NbFrames()
		}
	}
	if video != wrote.Video.Written || audio != wrote.Audio.Written {
		return errors.New("read back: the index has " + strconv.FormatInt(video, 10) + " video and " + strconv.FormatInt(audio, 10) + " audio packets, " +
			strconv.FormatInt(wrote.Video.Written, 10) + " and " + strconv.FormatInt(wrote.Audio.Written, 10) + " were written")
	}
	return nil
}
