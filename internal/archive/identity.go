package archive

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrChanged says that a file is not the one any more that was looked at: it was
// written to, or another has taken its name.
var ErrChanged = errors.New("has changed")

// Identity tells whether a file is the same and unchanged. nginx-rtmp opens the
// same path again and truncates it when record_unique is off, so device and inode
// are not enough.
type Identity struct {
	Dev, Ino uint64
	Size     int64 // bytes
	MtimeSec int64
	MtimeNs  int64
}

func identity(st *unix.Stat_t) Identity {
	return Identity{
		Dev: uint64(st.Dev), Ino: st.Ino, Size: st.Size,
		MtimeSec: int64(st.Mtim.Sec), MtimeNs: int64(st.Mtim.Nsec),
	}
}

func statxIdentity(st *unix.Statx_t) Identity {
	return Identity{Dev: device(st), Ino: st.Ino, Size: int64(st.Size), MtimeSec: st.Mtime.Sec, MtimeNs: int64(st.Mtime.Nsec)}
}

// Source is a recording that is open for reading, and the directory it is in.
type Source struct {
	Name string // in its directory
	Dir  string
	dir  *os.File
	file *os.File
	id   Identity
	uid  int
	gid  int
}

// Open opens the recording at path. A symbolic link or anything else that is no
// regular file is an error.
func Open(path string) (*Source, error) {
	s := &Source{Name: filepath.Base(path), Dir: filepath.Dir(path)}
	dir, err := os.Open(s.Dir)
	if err != nil {
		return nil, fmt.Errorf("open recording: %w", err)
	}
	s.dir = dir
	// O_NONBLOCK: a FIFO must not hold us up.
	fd, err := unix.Openat(int(dir.Fd()), s.Name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		dir.Close()
		return nil, &os.PathError{Op: "open recording", Path: path, Err: err}
	}
	s.file = os.NewFile(uintptr(fd), path)
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errors.New("not a regular file")
	}
	if err != nil {
		s.Close()
		return nil, &os.PathError{Op: "open recording", Path: path, Err: err}
	}
	return s, nil
}

// Close lets go of the recording and of its lock.
func (s *Source) Close() {
	s.file.Close()
	s.dir.Close()
}

// Path is where the recording was found.
func (s *Source) Path() string { return filepath.Join(s.Dir, s.Name) }

// Size is the recording's length in bytes, as Identify saw it.
func (s *Source) Size() int64 { return s.id.Size }

// ReadAt implements io.ReaderAt.
func (s *Source) ReadAt(b []byte, off int64) (int, error) { return s.file.ReadAt(b, off) }

// Identify notes what the recording is now; Same and Remove compare with it. It
// returns what Same returns.
func (s *Source) Identify() error {
	var st unix.Stat_t
	if err := unix.Fstat(int(s.file.Fd()), &st); err != nil {
		return fmt.Errorf("look at %s: %w", s.Path(), err)
	}
	s.id = identity(&st)
	s.uid, s.gid = int(st.Uid), int(st.Gid)
	return s.Same()
}

// Same returns ErrChanged unless the recording is at its path and is the file
// that Identify saw, and ErrInUse if somebody has it open for writing.
func (s *Source) Same() error { return s.sameAs(s.Name) }

func (s *Source) sameAs(name string) error {
	var open, there unix.Stat_t
	if err := unix.Fstat(int(s.file.Fd()), &open); err != nil {
		return fmt.Errorf("look at %s: %w", s.Path(), err)
	}
	switch err := unix.Fstatat(int(s.dir.Fd()), name, &there, unix.AT_SYMLINK_NOFOLLOW); {
	case errors.Is(err, unix.ENOENT):
		return ErrChanged
	case err != nil:
		return fmt.Errorf("look at %s: %w", s.Path(), err)
	}
	if identity(&open) != s.id || identity(&there) != s.id {
		return ErrChanged
	}
	return s.closed()
}

// closed returns ErrInUse if somebody has the recording open for writing: a
// read lease is then refused with EAGAIN (fcntl(2)). The lease is given back at
// once, for it would hold up nginx's next open.
func (s *Source) closed() error {
	fd := s.file.Fd()
	_, err := unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_RDLCK)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return ErrInUse
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("see whether %s is being written: only its owner may (run as the user that nginx records as)", s.Path())
	case err != nil:
		return fmt.Errorf("see whether %s is being written: %w", s.Path(), err)
	}
	if _, err := unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_UNLCK); err != nil {
		return fmt.Errorf("give back the lease on %s: %w", s.Path(), err)
	}
	return nil
}

// Remove removes the recording if it is still the same, closed file, and else
// returns ErrChanged or ErrInUse and leaves it. nginx may open the path between the last
// look and the removal, and would then record into a file without a name; so the
// last look is at a file that has got the name hidden, which nobody opens. If the
// run is killed there, the recording stays under that name.
func (s *Source) Remove(hidden string) error {
	if err := s.Same(); err != nil {
		return err
	}
	dir := int(s.dir.Fd())
	if err := unix.Renameat2(dir, s.Name, dir, hidden, unix.RENAME_NOREPLACE); err != nil {
		return fmt.Errorf("set aside %s: %w", s.Path(), err)
	}
	if err := s.sameAs(hidden); err != nil {
		if back := unix.Renameat2(dir, hidden, dir, s.Name, unix.RENAME_NOREPLACE); back != nil {
			return fmt.Errorf("put back %s, which is now %s: %w", s.Path(), hidden, back)
		}
		return err
	}
	if err := unix.Unlinkat(dir, hidden, 0); err != nil {
		return fmt.Errorf("remove %s: %w", s.Path(), err)
	}
	return nil
}
