//go:build cgo

package remux

import (
	"errors"
	"fmt"

	"github.com/asticode/go-astiav"

	"tunnelcast/internal/h264"
)

func (j *job) openOutput(index *option) (err error) {
	// For +faststart the muxer opens the file a second time by this name.
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
			if err := t.display(j.in.Part.Picture); err != nil {
				return fmt.Errorf("open output: %w", err)
			}
		}
	}
	write := astiav.NewIOContextFlags(astiav.IOContextFlagWrite)
	if j.target, err = astiav.OpenIOContext(url, write, nil, nil); err != nil {
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

// copyParameters does what streamcopy_init of fftools/ffmpeg_mux_init.c does.
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

// display sets what libav's H.264 decoder would find out. That decoder is not linked: it would decode twenty
// pictures for this, and is the largest part of libav that a stranger could reach. See h264_init_ps and
// init_dimensions in libavcodec/h264_slice.c.
func (t *track) display(p h264.Picture) error {
	to := t.out.CodecParameters()
	w, h := to.Width(), to.Height()
	if w <= 0 || h <= 0 {
		return nil // libav's parser rejects the parameter sets, and the muxer will too
	}
	// The metadata of the FLV may crop the last macroblocks.
	align := func(n int) int { return (n + 15) &^ 15 }
	if !p.FromCorner || w > p.Width || h > p.Height || align(w) != align(p.Width) || align(h) != align(p.Height) {
		to.SetWidth(p.Width)
		to.SetHeight(p.Height)
	}
	ratio := astiav.NewRational(p.SARWidth, p.SARHeight)
	t.out.SetSampleAspectRatio(ratio)
	to.SetSampleAspectRatio(ratio)
	// go-astiav sets colours only in a codec context.
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

// closeOutput writes what is still in memory. Each step can find the disk full.
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
