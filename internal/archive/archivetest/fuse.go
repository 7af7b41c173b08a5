package archivetest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tunnelcast/internal/promised"
)

// Quirks are the differences of a file system from ext4. The errors are those of the system calls of the
// same name, 0 if they work.
type Quirks struct {
	Rename2  unix.Errno // renaming with flags
	Link     unix.Errno
	Fsync    unix.Errno // of files
	FsyncDir unix.Errno // of directories
	Chmod    unix.Errno
	Utimes   unix.Errno
	// Lock is the error of an exclusive lock on a file that is open for reading only.
	Lock unix.Errno
	// Create is the error of making a file that is open for reading only.
	Create unix.Errno
	// Renumbers means that a renamed file gets another inode number, CutsTimes that its time is then
	// cut to whole seconds.
	Renumbers, CutsTimes bool
	// Forgets means that files have other inode numbers each time the directory is read, as on FAT
	// once they are no longer in memory.
	Forgets bool
	// Untyped means that a directory does not say which of its entries are files.
	Untyped bool
	// Interrupts means that a signal interrupts every fifth call.
	Interrupts bool
}

// FUSE runs the calling test again, in a process of its own that has such a file system, of one directory,
// at dir; inside is true there and false here. The test must have called Mounts before. This process
// serves the file system, because a process that uses its own file system can wait for itself: Go's
// runtime polls the files that it opens.
func FUSE(t *testing.T, quirks Quirks) (dir string, inside bool) {
	t.Helper()
	const at, mark = "TUNNELCAST_TEST_FUSE_AT", "TUNNELCAST_TEST_FUSE"
	if os.Getenv(mark) == t.Name() {
		return os.Getenv(at), true
	}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		promised.Lacking(t, "open /dev/fuse: ", err)
	}
	dir = t.TempDir()
	Mount(t, dir, "fuse", "test", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd))
	s := &fuse{
		Quirks: quirks,
		fd:     fd,
		names:  map[string]uint64{},
		files:  map[uint64]*fuseFile{},
		opened: map[uint64]uint32{},
		last:   rootNumber,
	}
	go s.serve() // until it is unmounted
	t.Setenv(at, dir)
	return "", again(t, mark, nil)
}

// fuse serves the protocol of linux/fuse.h, one request after the other.
type fuse struct {
	Quirks
	fd     int
	names  map[string]uint64
	files  map[uint64]*fuseFile // by number
	opened map[uint64]uint32    // flags of open(2) by handle
	last   uint64               // number or handle
	walks  uint64               // how often the directory was read
	calls  int
}

type fuseFile struct {
	data          []byte
	mode          uint32
	uid, gid      uint32
	links         uint32
	atime, mtime  time.Time
	locked        bool
	owner, handle uint64 // of the lock
}

var order = binary.LittleEndian

func pack(fields ...any) []byte {
	var b bytes.Buffer
	for _, f := range fields {
		if err := binary.Write(&b, order, f); err != nil {
			panic(err)
		}
	}
	return b.Bytes()
}

const rootNumber = 1

func (s *fuse) serve() {
	defer unix.Close(s.fd)
	buf := make([]byte, 1<<20)
	for {
		n, err := unix.Read(s.fd, buf)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EAGAIN):
			continue
		case err != nil || n < 40:
			return
		}
		op, unique, node := order.Uint32(buf[4:]), order.Uint64(buf[8:]), order.Uint64(buf[16:])
		if op == 2 || op == 42 || op == 36 { // FORGET, BATCH_FORGET, INTERRUPT have no answer
			continue
		}
		uid, gid := order.Uint32(buf[24:]), order.Uint32(buf[28:])
		out, errno := s.answer(op, node, uid, gid, buf[40:n])
		if errno != 0 {
			out = nil
		}
		unix.Write(s.fd, append(pack(uint32(16+len(out)), -int32(errno), unique), out...))
	}
}

func (s *fuse) answer(op uint32, node uint64, uid, gid uint32, in []byte) ([]byte, unix.Errno) {
	// Not INIT, RELEASE, RELEASEDIR and locks, which the kernel repeats itself after a signal.
	if s.calls++; s.Interrupts && s.calls%5 == 0 && !slices.Contains([]uint32{26, 18, 29, 31, 32, 33}, op) {
		return nil, unix.EINTR
	}
	file := s.files[node]
	names := func(from int) []string {
		var all []string
		for _, name := range bytes.Split(bytes.TrimRight(in[from:], "\x00"), []byte{0}) {
			all = append(all, string(name))
		}
		return all
	}
	switch op {
	case 26: // INIT: with FUSE_FLOCK_LOCKS
		return pack(uint32(7), uint32(31), uint32(0), uint32(1<<10), [2]uint16{},
			uint32(128<<10), uint32(1), [9]uint32{}), 0
	case 1: // LOOKUP
		number, ok := s.names[names(0)[0]]
		if !ok {
			return nil, unix.ENOENT
		}
		return s.entry(number), 0
	case 3: // GETATTR
		return pack([2]uint64{}, s.attr(node)), 0
	case 4: // SETATTR
		return s.setattr(node, in)
	case 10: // UNLINK
		return nil, s.unlink(names(0)[0])
	case 12: // RENAME
		all := names(8)
		return nil, s.rename(all[0], all[1])
	case 45: // RENAME2
		all := names(16)
		if s.Rename2 != 0 {
			return nil, s.Rename2
		}
		if _, taken := s.names[all[1]]; taken && order.Uint32(in[8:])&unix.RENAME_NOREPLACE != 0 {
			return nil, unix.EEXIST
		}
		return nil, s.rename(all[0], all[1])
	case 13: // LINK
		name := names(8)[0]
		if _, taken := s.names[name]; taken {
			return nil, unix.EEXIST
		} else if s.Link != 0 {
			return nil, s.Link
		}
		number := order.Uint64(in)
		s.names[name] = number
		s.files[number].links++
		return s.entry(number), 0
	case 35: // CREATE
		flags := order.Uint32(in)
		if s.Create != 0 && flags&unix.O_ACCMODE == unix.O_RDONLY {
			return nil, s.Create
		}
		s.last++
		now := time.Now()
		s.files[s.last] = &fuseFile{mode: order.Uint32(in[4:]), uid: uid, gid: gid, links: 1, atime: now, mtime: now}
		s.names[names(16)[0]] = s.last
		return append(s.entry(s.last), s.open(flags)...), 0
	case 14, 27: // OPEN, OPENDIR
		return s.open(order.Uint32(in)), 0
	case 18, 29: // RELEASE, RELEASEDIR
		if file != nil && file.locked && file.handle == order.Uint64(in) {
			file.locked = false
		}
		delete(s.opened, order.Uint64(in))
		return nil, 0
	case 15: // READ
		off, size := order.Uint64(in[8:]), uint64(order.Uint32(in[16:]))
		end := uint64(len(file.data))
		return slices.Clone(file.data[min(off, end):min(off+size, end)]), 0
	case 16: // WRITE
		off, data := order.Uint64(in[8:]), in[40:]
		if grow := int(off) + len(data) - len(file.data); grow > 0 {
			file.data = append(file.data, make([]byte, grow)...)
		}
		copy(file.data[off:], data)
		file.mtime = time.Now()
		return pack(uint32(len(data)), uint32(0)), 0
	case 28: // READDIR
		if s.Forgets && order.Uint64(in[8:]) == 0 {
			s.walks++
		}
		return s.readdir(order.Uint64(in[8:]), int(order.Uint32(in[16:]))), 0
	case 17: // STATFS
		const blocks = 1 << 20
		return pack([5]uint64{blocks, blocks, blocks, blocks, blocks}, [4]uint32{4096, 255, 4096, 0}, [6]uint32{}), 0
	case 20: // FSYNC
		return nil, s.Fsync
	case 30: // FSYNCDIR
		return nil, s.FsyncDir
	case 25: // FLUSH
		return nil, 0
	case 31: // GETLK
		return pack([2]uint64{}, uint32(unix.F_UNLCK), uint32(0)), 0
	case 32, 33: // SETLK, SETLKW
		return nil, s.lock(file, in)
	}
	return nil, unix.ENOSYS
}

// attr is struct fuse_attr.
func (s *fuse) attr(number uint64) []byte {
	file := s.files[number]
	if number == rootNumber {
		file = &fuseFile{mode: unix.S_IFDIR | 0o777, links: 2}
	}
	return pack(number+s.walks<<32, uint64(len(file.data)), uint64(len(file.data)+511)/512,
		file.atime.Unix(), file.mtime.Unix(), file.mtime.Unix(),
		uint32(file.atime.Nanosecond()), uint32(file.mtime.Nanosecond()), uint32(file.mtime.Nanosecond()),
		file.mode, file.links, file.uid, file.gid, uint32(0), uint32(4096), uint32(0))
}

// entry is struct fuse_entry_out; nothing may be remembered.
func (s *fuse) entry(number uint64) []byte {
	return pack(number, [4]uint64{}, s.attr(number))
}

// open is struct fuse_open_out.
func (s *fuse) open(flags uint32) []byte {
	s.last++
	s.opened[s.last] = flags
	return pack(s.last, uint64(0))
}

func (s *fuse) setattr(number uint64, in []byte) ([]byte, unix.Errno) {
	valid, file := order.Uint32(in), s.files[number]
	if file == nil {
		return nil, unix.EPERM
	}
	if valid&1 != 0 {
		if s.Chmod != 0 {
			return nil, s.Chmod
		}
		file.mode = order.Uint32(in[68:])
	}
	if valid&2 != 0 {
		file.uid = order.Uint32(in[76:])
	}
	if valid&4 != 0 {
		file.gid = order.Uint32(in[80:])
	}
	if size := order.Uint64(in[16:]); valid&8 != 0 {
		kept, grown := min(int(size), len(file.data)), max(0, int(size)-len(file.data))
		file.data = append(file.data[:kept], make([]byte, grown)...)
		file.mtime = time.Now()
	}
	if valid&(16|32) != 0 && valid&(128|256) == 0 && s.Utimes != 0 {
		return nil, s.Utimes
	}
	if valid&16 != 0 {
		file.atime = time.Unix(int64(order.Uint64(in[32:])), int64(order.Uint32(in[56:])))
	}
	if valid&32 != 0 {
		file.mtime = time.Unix(int64(order.Uint64(in[40:])), int64(order.Uint32(in[60:])))
	}
	return pack([2]uint64{}, s.attr(number)), 0
}

func (s *fuse) unlink(name string) unix.Errno {
	number, ok := s.names[name]
	if !ok {
		return unix.ENOENT
	}
	s.files[number].links--
	delete(s.names, name)
	return 0
}

func (s *fuse) rename(from, to string) unix.Errno {
	number, ok := s.names[from]
	if !ok {
		return unix.ENOENT
	}
	file := s.files[number]
	if s.Renumbers {
		s.last++
		number = s.last
		s.files[number] = file
	}
	if s.CutsTimes {
		file.mtime = file.mtime.Truncate(time.Second)
	}
	delete(s.names, from)
	s.names[to] = number
	return 0
}

// readdir writes struct fuse_dirent, as many as there is room for.
func (s *fuse) readdir(off uint64, size int) []byte {
	var all []string
	for name := range s.names {
		all = append(all, name)
	}
	slices.Sort(all)
	var out []byte
	kind := uint32(unix.DT_REG)
	if s.Untyped {
		kind = unix.DT_UNKNOWN
	}
	for i, name := range all[min(int(off), len(all)):] {
		entry := pack(s.names[name], off+uint64(i)+1, uint32(len(name)), kind, []byte(name))
		entry = append(entry, make([]byte, -len(entry)&7)...)
		if len(out)+len(entry) > size {
			break
		}
		out = append(out, entry...)
	}
	return out
}

// lock is struct fuse_lk_in, for the whole file.
func (s *fuse) lock(file *fuseFile, in []byte) unix.Errno {
	handle, owner, kind := order.Uint64(in), order.Uint64(in[8:]), order.Uint32(in[32:])
	switch {
	case kind == unix.F_UNLCK:
		file.locked = file.locked && file.owner != owner
	case s.Lock != 0 && s.opened[handle]&unix.O_ACCMODE == unix.O_RDONLY:
		return s.Lock
	case file.locked && file.owner != owner:
		return unix.EAGAIN
	default:
		file.locked, file.owner, file.handle = true, owner, handle
	}
	return 0
}
