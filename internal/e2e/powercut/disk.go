package powercut

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"syscall"
)

// A Disk is a file that takes one state after the other. Setting a state costs a comparison of the
// file with what is certain, which takes milliseconds, and the writing of what differs: whatever the
// recovery of the last state has changed is changed back.
type Disk struct {
	File    string
	log     []Write
	applied int    // entries of the log that are in certain
	certain []byte // what every later state has
	mapped  []byte // the file
}

// NewDisk makes a disk of the image, as it was when the log began, in the file.
func NewDisk(file string, image []byte, log []Write) (*Disk, error) {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.Truncate(int64(len(image))); err != nil {
		return nil, err
	}
	mapped, err := syscall.Mmap(int(f.Fd()), 0, len(image), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", file, err)
	}
	return &Disk{File: file, log: log, certain: slices.Clone(image), mapped: mapped}, nil
}

// Close removes the file.
func (d *Disk) Close() error { return errors.Join(syscall.Munmap(d.mapped), os.Remove(d.File)) }

// Set makes the file what the state says. States come in the order of the log.
func (d *Disk) Set(s State) error {
	if err := d.advance(s.Begin); err != nil {
		return err
	}
	d.restore()
	for _, k := range s.Kept {
		write := d.log[k.Entry]
		if err := d.fits(k.Entry); err != nil {
			return err
		}
		for i := 0; i*sector < len(write.Data); i++ {
			if k.Sectors == nil || k.Sectors[i] {
				copy(d.mapped[write.Offset+int64(i)*sector:], write.Data[i*sector:(i+1)*sector])
			}
		}
	}
	return nil
}

// fingerprint is the same for states that leave the same disk.
func (d *Disk) fingerprint(s State) ([sha256.Size]byte, error) {
	if err := d.advance(s.Begin); err != nil {
		return [sha256.Size]byte{}, err
	}
	differs := map[int64][]byte{} // sectors, by their offset
	for _, k := range s.Kept {
		write := d.log[k.Entry]
		if err := d.fits(k.Entry); err != nil {
			return [sha256.Size]byte{}, err
		}
		for i := 0; i*sector < len(write.Data); i++ {
			if k.Sectors != nil && !k.Sectors[i] {
				continue
			}
			at, data := write.Offset+int64(i)*sector, write.Data[i*sector:(i+1)*sector]
			if bytes.Equal(data, d.certain[at:at+sector]) {
				delete(differs, at)
			} else {
				differs[at] = data
			}
		}
	}
	hash := sha256.New()
	for _, at := range slices.Sorted(maps.Keys(differs)) {
		binary.Write(hash, binary.LittleEndian, at)
		hash.Write(differs[at])
	}
	return [sha256.Size]byte(hash.Sum(nil)), nil
}

// advance makes all entries before begin certain.
func (d *Disk) advance(begin int) error {
	if begin < d.applied {
		return fmt.Errorf("state of entry %d after one of entry %d", begin, d.applied)
	}
	for ; d.applied < min(begin, len(d.log)); d.applied++ {
		if err := d.fits(d.applied); err != nil {
			return err
		}
		copy(d.certain[d.log[d.applied].Offset:], d.log[d.applied].Data)
	}
	return nil
}

func (d *Disk) fits(entry int) error {
	write := d.log[entry]
	if write.Offset < 0 || write.Offset+int64(len(write.Data)) > int64(len(d.certain)) {
		return fmt.Errorf("entry %d of the log is behind the end of the disk, %d bytes", entry, len(d.certain))
	}
	return nil
}

// restore makes the file what is certain.
func (d *Disk) restore() {
	const block = 64 << 10
	for at := 0; at < len(d.certain); at += block {
		end := min(at+block, len(d.certain))
		if want := d.certain[at:end]; !bytes.Equal(want, d.mapped[at:end]) {
			copy(d.mapped[at:end], want)
		}
	}
}
