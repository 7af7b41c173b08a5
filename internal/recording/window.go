package recording

import (
	"crypto/sha256"
	"errors"
	"io"

	"tunnelcast/internal/flv"
)

// window reads a file a few kilobytes at a time where tags are small, and only what is asked for
// where the last tag was large.
type window struct {
	r    io.ReaderAt
	size int64
	off  int64
	buf  []byte
	mem  [4096]byte
}

// at returns the n bytes at off, or fewer at the end of the file. They are valid until the next
// call.
func (w *window) at(off int64, n int) ([]byte, error) {
	n = int(max(0, min(int64(n), w.size-off)))
	if off < w.off || off+int64(n) > w.off+int64(len(w.buf)) {
		most := int64(len(w.mem))
		if off-w.off > 4*most { // after a large tag: its end, and the beginning of the next one
			most = max(int64(n), flv.PreviousTagSize+flv.TagHeaderSize+flv.HeadSize)
		}
		read, err := w.r.ReadAt(w.mem[:min(most, max(0, w.size-off))], off)
		if read < n {
			return nil, unexpected(err)
		}
		w.off, w.buf = off, w.mem[:read]
	}
	from := off - w.off
	return w.buf[from : from+int64(n)], nil
}

// zero reports whether there are only zeros from off to the end.
func (w *window) zero(off int64) (bool, error) {
	for off < w.size {
		b, err := w.at(off, len(w.mem))
		if err != nil {
			return false, err
		}
		for _, c := range b {
			if c != 0 {
				return false, nil
			}
		}
		off += int64(len(b))
	}
	return true, nil
}

// sum returns the checksum of n bytes at off.
func (w *window) sum(off, n int64) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(w.r, off, n)); err != nil {
		return sum, err
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}

// unexpected replaces io.EOF: the file has become shorter since its size was taken.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
