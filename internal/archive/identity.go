package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"time"

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

// Settled is how long nobody has written to a recording that counts as closed, for a
// Source that is Orphaned, where leases do not tell.
const Settled = 10 * time.Minute

// Source is a recording that is open for reading, and the directory it is in.
type Source struct {
	Name string // in its directory
	Dir  string
	// Orphaned says that nobody was told that the recording is closed, as nginx tells
	// the hook.
	Orphaned bool

	dir   *os.File
	file  *os.File
	id    Identity
	uid   int
	gid   int
	mode  fs.FileMode
	lacks []Lack
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
	fd, err := openAt(int(dir.Fd()), s.Name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		dir.Close()
		return nil, &os.PathError{Op: "open recording", Path: path, Err: err}
	}
	s.file = os.NewFile(uintptr(fd), path)
	var st unix.Stat_t
	if err = statOpen(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
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

// Device is the number of the file system that the recording is on, as Identify saw it.
func (s *Source) Device() uint64 { return s.id.Dev }

// ReadAt implements io.ReaderAt.
func (s *Source) ReadAt(b []byte, off int64) (int, error) { return s.file.ReadAt(b, off) }

// Identify notes what the recording is now; Same and Remove compare with it. It
// returns what Same returns.
func (s *Source) Identify() error {
	var st unix.Stat_t
	if err := statOpen(int(s.file.Fd()), &st); err != nil {
		return fmt.Errorf("look at %s: %w", s.Path(), err)
	}
	s.id = identity(&st)
	s.uid, s.gid, s.mode = int(st.Uid), int(st.Gid), fs.FileMode(st.Mode).Perm()
	return s.Same()
}

const (
	// watched is how long nothing may happen to a recording that IdentifyClosed watches.
	watched = time.Second
	// tries is how often it begins again.
	tries = 5
)

// IdentifyClosed is Identify for a recording that has just been closed. Where leases do not
// tell, it may be live again, for nginx may have begun to record to the same path: then it
// grows, and the error is ErrChanged. On network file systems and FUSE the server may set
// the recording's time some time after it was closed, and CIFS closes it a second later
// than nginx does (closetimeo in mount.cifs(8)): this waits for that.
func (s *Source) IdentifyClosed(ctx context.Context) error {
	err := s.Identify()
	remote := s.isOn(unix.NFS_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.SMB_SUPER_MAGIC,
		unix.FUSE_SUPER_MAGIC, unix.V9FS_MAGIC, unix.CEPH_SUPER_MAGIC, unix.AFS_SUPER_MAGIC)
	if err != nil || !remote && !slices.Contains(s.lacks, Leases) {
		return err
	}
	for range tries {
		if err := pause(ctx, watched); err != nil {
			return err
		}
		if err := s.Same(); !errors.Is(err, ErrChanged) {
			return err
		}
		before := s.id
		if err := s.Identify(); err != nil {
			return err
		}
		if s.id.Dev != before.Dev || s.id.Ino != before.Ino || s.id.Size != before.Size {
			return ErrChanged
		}
	}
	return ErrChanged
}

// Same returns ErrChanged unless the recording is at its path and is the file
// that Identify saw, and ErrInUse if somebody has it open for writing. Where leases do
// not tell that, it is ErrInUse if somebody has a lock on it or, if the recording is
// Orphaned, wrote to it in the last ten minutes (Settled).
func (s *Source) Same() error {
	return s.sameAs(s.Name, func(id Identity) bool { return id == s.id })
}

func (s *Source) sameAs(name string, same func(Identity) bool) error {
	var open, there unix.Stat_t
	switch err := statOpen(int(s.file.Fd()), &open); {
	case errors.Is(err, unix.ESTALE): // another host has removed it
		return ErrChanged
	case err != nil:
		return fmt.Errorf("look at %s: %w", s.Path(), err)
	}
	switch err := statAt(int(s.dir.Fd()), name, &there); {
	case errors.Is(err, unix.ENOENT):
		return ErrChanged
	case err != nil:
		return fmt.Errorf("look at %s: %w", s.Path(), err)
	}
	if !same(identity(&open)) || !same(identity(&there)) {
		return ErrChanged
	}
	return s.closed()
}

// sameHidden is Same for a recording that has just got the name hidden.
func (s *Source) sameHidden(hidden string) error {
	err := s.sameAs(hidden, func(id Identity) bool { return id == s.id })
	if !errors.Is(err, ErrChanged) {
		return err
	}
	ino, mtime, failed := renameKeeps(int(s.dir.Fd()))
	if failed != nil || ino && mtime {
		return err
	}
	return s.sameAs(hidden, func(id Identity) bool {
		if !ino {
			id.Ino = s.id.Ino
		}
		if !mtime {
			id.MtimeSec, id.MtimeNs = s.id.MtimeSec, s.id.MtimeNs
		}
		return id == s.id
	})
}

// closed returns ErrInUse if somebody has the recording open for writing: a
// read lease is then refused with EAGAIN (fcntl(2)). The lease is given back at
// once, for it would hold up nginx's next open.
func (s *Source) closed() error {
	fd := s.file.Fd()
	_, refused := unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_RDLCK)
	if refused == nil {
		if _, err := unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_UNLCK); err != nil {
			return fmt.Errorf("give back the lease on %s: %w", s.Path(), err)
		}
		return nil
	}
	work, now, err := leasesWork(int(s.dir.Fd()))
	switch {
	case err != nil:
		return fmt.Errorf("see whether %s is being written: %w", s.Path(), err)
	case !work:
		s.lack(Leases)
		if errors.Is(unlocked(int(fd)), ErrInUse) {
			return ErrInUse
		}
		if s.Orphaned && now.Sub(time.Unix(s.id.MtimeSec, s.id.MtimeNs)) < Settled {
			return ErrInUse
		}
		return nil
	case errors.Is(refused, unix.EAGAIN):
		return ErrInUse
	case errors.Is(refused, unix.EACCES):
		return fmt.Errorf("see whether %s is being written: only its owner may (run as the user that nginx records as)", s.Path())
	}
	return fmt.Errorf("see whether %s is being written: %w", s.Path(), refused)
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
	if err := s.hide(s.Name, hidden); err != nil {
		return fmt.Errorf("set aside %s as %s: %w", s.Path(), hidden, err)
	}
	if err := s.sameHidden(hidden); err != nil {
		if back := s.reveal(hidden, s.Name); back != nil {
			return fmt.Errorf("put back %s, which is now %s: %w", s.Path(), hidden, back)
		}
		return err
	}
	if err := unlinkAt(int(s.dir.Fd()), hidden); err != nil {
		return fmt.Errorf("remove %s: %w", s.Path(), err)
	}
	return nil
}

// Rename gives the recording the first of the names that is free, and returns it. Nothing
// is replaced.
func (s *Source) Rename(names iter.Seq[string]) (string, error) {
	for name := range names {
		err := s.reveal(s.Name, name)
		switch {
		case err == nil:
			s.Name = name
			return name, nil
		case !errors.Is(err, unix.EEXIST):
			return "", &os.LinkError{Op: "rename", Old: s.Path(), New: filepath.Join(s.Dir, name), Err: err}
		}
	}
	return "", errors.New("no name is free")
}
