package archive

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"iter"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"tunnelcast/internal/file"
)

// entries are some entries of a directory.
type entries struct {
	dir *dir
	all []entry
	*buffer
}

// entry is one entry of a directory; buffer.name has its name.
type entry struct {
	ino  uint64
	at   uint32 // where its struct linux_dirent64 begins in the buffer
	kind uint8  // DT_REG, ...
}

// buffer holds what one call of getdents64(2) has read. It is used again once all of its entries are
// done.
type buffer struct {
	bytes []byte
	order []entry
	users atomic.Int32 // lists of its entries that are not done
	free  chan<- *buffer
}

const (
	// bufferSize is in bytes, for about 8000 entries. The more entries are looked at in the order of
	// their inodes, the fewer of ext4's blocks change twice.
	bufferSize = 256 << 10
	// bufferCount lets the reader be ahead of the workers.
	bufferCount = 4
)

// newBuffers returns the buffers of a walk. The channel holds those that are not in use.
func newBuffers() chan *buffer {
	buffers := make(chan *buffer, bufferCount)
	for range bufferCount {
		buffers <- &buffer{bytes: make([]byte, bufferSize), free: buffers}
	}
	return buffers
}

// read reads the next entries of d. There are no more at the end of the directory, and after an
// error.
func (b *buffer) read(d *dir) (list entries, more bool, err error) {
	var n int
	err = file.Again(func() (err error) {
		n, err = unix.Getdents(d.fd, b.bytes)
		return err
	})
	b.users.Store(1)
	b.order = b.order[:0]
	// The layout is struct linux_dirent64, getdents64(2): inode and offset of 8 bytes each, the
	// entry's length in 2, its type in 1, and the name up to a zero byte.
	for at := 0; at < n; at += int(binary.NativeEndian.Uint16(b.bytes[at+16:])) {
		e := entry{ino: binary.NativeEndian.Uint64(b.bytes[at:]), at: uint32(at), kind: b.bytes[at+18]}
		if name := b.raw(e); string(name) != "." && string(name) != ".." {
			b.order = append(b.order, e)
		}
	}
	// ext4 lists by a hash of the name and stores by inode.
	slices.SortFunc(b.order, func(x, y entry) int { return cmp.Compare(x.ino, y.ino) })
	return entries{d, b.order, b}, n > 0, err
}

func (b *buffer) raw(e entry) []byte {
	name := b.bytes[e.at+19:]
	return name[:bytes.IndexByte(name, 0)]
}

// name returns the name of an entry.
func (b *buffer) name(e entry) string { return string(b.raw(e)) }

// shares returns the entries in lists of at most n.
func (e entries) shares(n int) iter.Seq[entries] {
	return func(yield func(entries) bool) {
		for some := range slices.Chunk(e.all, n) {
			e.users.Add(1)
			if !yield(entries{e.dir, some, e.buffer}) {
				return
			}
		}
	}
}

// done releases the entries, and their buffer if none of its entries is in use.
func (e entries) done() {
	if e.users.Add(-1) == 0 {
		e.free <- e.buffer
	}
}
