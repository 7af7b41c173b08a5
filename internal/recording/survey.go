package recording

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"tunnelcast/internal/flv"
	"tunnelcast/internal/h264"
)

var (
	// ErrNotFLV reports that a file does not begin as an FLV file does.
	ErrNotFLV = errors.New("not an FLV file")
	// ErrNoMedia reports that an FLV file holds nothing to see or hear.
	ErrNoMedia = errors.New("no audio and no video in it")
)

// CodecError reports that an FLV file cannot become MP4 because of its codecs.
type CodecError struct {
	Codecs []flv.Codec
	// Unsupported reports that MP4 could hold the codecs, but this program does not read them.
	Unsupported bool
}

func (e *CodecError) Error() string {
	var names []string
	for _, c := range e.Codecs {
		names = append(names, "its "+string(c))
	}
	codecs := strings.Join(names, " and ")
	if e.Unsupported {
		return codecs + " is not supported"
	}
	return "MP4 cannot hold " + codecs
}

// Survey is what an FLV file holds.
type Survey struct {
	// Parts are in the order of the file. Each has at least one packet.
	Parts []Part
	// Plain reports that every byte of the file belongs to the only part, so that a demuxer may
	// read the file itself.
	Plain bool
	// Damage is what could not be read between tags that could.
	Damage []Extent
	// Cut is the length in bytes of an incomplete last tag, or of the zeros that a power cut
	// leaves after the last tag.
	Cut int64
	// Unsupported counts, by codec, the tags of streams that MP4 could hold and this program
	// does not read.
	Unsupported map[flv.Codec]int64

	tooMany bool // more changes of parameters than maxParts allows
}

// Part is a piece of a recording with the same parameters from its beginning to its end. An MP4
// file holds one part.
type Part struct {
	Video, Audio Stream
	// Picture is how H.264 video is displayed. It is zero if the parameter sets do not say.
	Picture h264.Picture
	// Duration is in milliseconds.
	Duration int64
	// Lead is the number of pictures before the first at which a decoder can start: no decoder
	// can show them.
	Lead int64
	// Starts are the numbers, from 0, of pictures at which a player can start although the stream
	// does not mark them: those of intra slices only, or the first if a video has no such picture.
	Starts []int64
	// Early is, by stream, the number of packets (0 or 1) that are repeated in front of all
	// others: a demuxer that looks for streams at the beginning then finds one that begins late.
	Early [2]int64
	// Moved is the number of packets whose time was wrong by more than the duration of a packet,
	// and Furthest by how much the worst was wrong, in milliseconds.
	Moved, Furthest int64
	// Stretches are the tags of the part: its sequence headers, then its packets, in the order of
	// the file. See Reader.
	Stretches []Stretch
}

// Stream is the video or the audio of a part.
type Stream struct {
	Codec   flv.Codec // empty if the part has no such stream
	Packets int64
	Keys    int64 // packets at which a player can start
	Bytes   int64 // of the packets, without the fields that FLV puts in front of them
	// Paces is the number of runs of packets at equal distances, Delays that of runs with equal
	// distances from DTS to PTS: the index of an MP4 file has an entry for each run.
	Paces, Delays int64
}

// Extent is a range of bytes of a file.
type Extent struct{ Off, Len int64 }

// end returns the offset after the extent.
func (e Extent) end() int64 { return e.Off + e.Len }

// Err reports why a file with this content cannot become MP4. It returns nil if it can.
func (s Survey) Err() error {
	if len(s.Parts) == 0 && len(s.Unsupported) > 0 {
		return &CodecError{Codecs: s.unsupported(), Unsupported: true}
	}
	if len(s.Parts) == 0 && len(s.Damage) > 0 {
		return errors.New("nothing in it can be read")
	}
	if len(s.Parts) == 0 {
		return ErrNoMedia
	}
	if s.tooMany {
		return fmt.Errorf("it changes its parameters more than %d times", maxParts-1)
	}
	for _, p := range s.Parts {
		for _, stream := range []Stream{p.Video, p.Audio} {
			if stream.Codec != "" && !stream.Codec.InMP4() {
				return &CodecError{Codecs: []flv.Codec{stream.Codec}}
			}
		}
	}
	return nil
}

// unsupported returns the codecs that the program does not read, in alphabetical order.
func (s Survey) unsupported() []flv.Codec { return slices.Sorted(maps.Keys(s.Unsupported)) }

// Losses lists, in one phrase each, what the MP4 files of the parts lack of the recording, or
// have at another time than the FLV file. If there is anything, the FLV file must be kept.
func (s Survey) Losses() (losses []string) {
	add := func(format string, args ...any) { losses = append(losses, fmt.Sprintf(format, args...)) }
	switch n := len(s.Damage); {
	case n == 1:
		add("damaged at byte %d", s.Damage[0].Off)
	case n > 1:
		add("damaged at byte %d and in %d places in all", s.Damage[0].Off, n)
	}
	var lead, furthest int64
	for _, p := range s.Parts {
		lead += p.Lead
		furthest = max(furthest, p.Furthest)
	}
	if lead > 0 {
		add("%s left out before the first that can be decoded", count(lead, "picture"))
	}
	if moved := s.Moved(); moved > 0 {
		add("%s with wrong times moved, by up to %.3f s", count(moved, "packet"), float64(furthest)/1000)
	}
	for _, c := range s.unsupported() {
		add("%s of %s left out, which is not supported", count(s.Unsupported[c], "packet"), c)
	}
	return losses
}

func count(n int64, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// Dropped returns the number of packets that are in no MP4 file.
func (s Survey) Dropped() (n int64) {
	for _, p := range s.Parts {
		n += p.Lead
	}
	for _, packets := range s.Unsupported {
		n += packets
	}
	return n
}

// Moved returns the number of packets whose wrong time was corrected.
func (s Survey) Moved() (n int64) {
	for _, p := range s.Parts {
		n += p.Moved
	}
	return n
}
