//go:build cgo

package remux

import (
	"errors"
	"fmt"

	"github.com/asticode/go-astiav"
)

// Verify reads the index of the MP4 file at path as a player does and compares it with what was written.
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
		return fmt.Errorf("read back: the index has %d video and %d audio packets, %d and %d were written",
			video, audio, wrote.Video.Written, wrote.Audio.Written)
	}
	return nil
}
