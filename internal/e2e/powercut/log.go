// Package powercut finds the states in which a power cut may leave a disk.
//
// qemu's blklogwrites driver logs every write and every flush of a machine's disk, in the format of
// the kernel's dm-log-writes. A disk keeps what was written before a flush that it has confirmed. Of
// everything later it may keep any part, in any order, and of a single write any of its sectors (512
// bytes; a file system may rely on more). ReadLog reads such a log, States lists the states that
// follow from it, a Disk takes them one after the other, and Try recovers the file system in each and
// compares the files with what a program promised.
//
// A log shows the writes of one run of a machine. A write that the program would issue at another
// moment is not in it. A write that was issued but not confirmed before a flush counts as flushed;
// the kernel waits for the writes that its flush is meant for.
package powercut

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// sector is the unit that a disk writes whole or not at all, in bytes.
const sector = 512

// A Write is one entry of a log.
type Write struct {
	Offset int64 // bytes from the beginning of the disk
	Data   []byte
	Flush  bool // no data: the disk has confirmed that it keeps all earlier entries
}

// The layout of a log: Documentation/admin-guide/device-mapper/log-writes.rst and
// drivers/md/dm-log-writes.c in Linux, block/blklogwrites.c in qemu. All numbers are little-endian.
const (
	magic      = 0x6a736677736872
	version    = 1
	headerSize = 8 + 8 + 8 + 4 // magic, version, number of entries, bytes per sector
	entrySize  = 8 + 8 + 8 + 8 // first sector, number of sectors, flags, bytes of a mark

	flagFlush   = 1 << 0
	flagFUA     = 1 << 1
	flagDiscard = 1 << 2
	flagMark    = 1 << 3
)

// ReadLog reads the whole log.
func ReadLog(file string) ([]Write, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	writes, err := read(f)
	if err != nil {
		return nil, fmt.Errorf("read the log of writes %s: %w", file, err)
	}
	return writes, nil
}

// Logged returns the number of entries that the log has now.
func Logged(file string) (int, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	entries, _, err := header(f)
	if err != nil {
		return 0, fmt.Errorf("read the log of writes %s: %w", file, err)
	}
	return entries, nil
}

func header(r io.ReaderAt) (entries int, size int64, err error) {
	var b [headerSize]byte
	if _, err := r.ReadAt(b[:], 0); err != nil {
		return 0, 0, err
	}
	number := binary.LittleEndian.Uint64
	size = int64(binary.LittleEndian.Uint32(b[24:]))
	switch {
	case number(b[0:]) != magic:
		return 0, 0, errors.New("not a log of dm-log-writes")
	case number(b[8:]) != version:
		return 0, 0, fmt.Errorf("version %d, not %d", number(b[8:]), version)
	case size < sector || size%sector != 0:
		return 0, 0, fmt.Errorf("%d bytes per sector", size)
	}
	return int(number(b[16:])), size, nil
}

func read(r io.ReaderAt) ([]Write, error) {
	entries, size, err := header(r)
	if err != nil {
		return nil, err
	}
	writes := make([]Write, 0, entries)
	at := size // the header fills one sector, as does that of each entry
	for n := range entries {
		var b [entrySize]byte
		if _, err := r.ReadAt(b[:], at); err != nil {
			return nil, fmt.Errorf("entry %d of %d: %w", n, entries, err)
		}
		at += size
		number := binary.LittleEndian.Uint64
		flags, sectors := number(b[16:]), number(b[8:])
		if flags&(flagFUA|flagMark) != 0 || flags&flagFlush != 0 && sectors > 0 {
			return nil, fmt.Errorf("entry %d of %d has the flags %#x and %d sectors, "+
				"which qemu does not log for a virtio disk", n, entries, flags, sectors)
		}
		write := Write{
			Offset: int64(number(b[0:])) * size, Flush: flags&flagFlush != 0,
			Data: make([]byte, int64(sectors)*size),
		}
		// What is read from a discarded sector is undefined; virtio disks of files return zeros.
		if flags&flagDiscard == 0 {
			if _, err := r.ReadAt(write.Data, at); err != nil && len(write.Data) > 0 {
				return nil, fmt.Errorf("entry %d of %d: %w", n, entries, err)
			}
			at += int64(len(write.Data))
		}
		writes = append(writes, write)
	}
	return writes, nil
}
