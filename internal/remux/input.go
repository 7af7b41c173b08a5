//go:build cgo

package remux

import (
	"errors"
	"fmt"

	"github.com/asticode/go-astiav"
)

func (j *job) openInput() error {
	format := astiav.FindInputFormat("flv")
	if format == nil {
		return errors.New("libav was built without its flv demuxer")
	}
	j.demux = astiav.AllocFormatContext()
	if j.demux == nil {
		return errors.New("out of memory")
	}
	// For a seekable file flvdec.c would build an index in memory, which nobody needs.
	options := astiav.NewDictionary()
	defer options.Free()
	url := "file:" + j.in.Path // a name may have a ':'
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
	// This decodes some frames: the sample rate and the aspect ratio are in the streams, not in FLV.
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
		return errors.New("find streams: libav does not find the streams that the recording has")
	}
	return nil
}
