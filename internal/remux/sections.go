//go:build cgo

package remux

import (
	"bytes"
	"io"
	"sort"

	"tunnelcast/internal/recording"
)

// sections is an FLV file made of stretches of another: what libav reads of a
// recording that is damaged or has several parts. It is read once, from its
// beginning to its end.
type sections struct {
	readers []io.ReaderAt
	starts  []int64 // where each begins, and at last where the file ends
	pos     int64
}

func newSections(file io.ReaderAt, extents []recording.Extent) *sections {
	s := &sections{
		readers: []io.ReaderAt{bytes.NewReader(recording.FLVHeader)},
		starts:  []int64{0, int64(len(recording.FLVHeader))},
	}
	for _, e := range extents {
		s.readers = append(s.readers, io.NewSectionReader(file, e.Off, e.Len))
		s.starts = append(s.starts, s.starts[len(s.starts)-1]+e.Len)
	}
	return s
}

func (s *sections) Read(b []byte) (int, error) {
	// The last section that begins at pos or before it.
	i := sort.Search(len(s.starts), func(i int) bool { return s.starts[i] > s.pos }) - 1
	if i == len(s.readers) || len(b) == 0 {
		return 0, io.EOF
	}
	rest := s.starts[i+1] - s.pos
	n, err := s.readers[i].ReadAt(b[:min(int64(len(b)), rest)], s.pos-s.starts[i])
	s.pos += int64(n)
	if n > 0 {
		return n, nil
	}
	if err == io.EOF { // the file has become shorter
		err = io.ErrUnexpectedEOF
	}
	return 0, err
}
