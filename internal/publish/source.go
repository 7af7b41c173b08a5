// Package publish puts a finished file beside the recording that it was made from, and then removes
// the recording. At every moment the directory has a complete copy of the recording:
//
//	NewWork      makes a file with a hidden name in the directory where it will be published
//	Publish      sets the recording's owner, mode and time, syncs the file, renames it without
//	             replacing anything, and syncs the directory and the file again
//	Remove       checks the recording once more under a hidden name, which nginx does not open, and
//	             removes it
//
// A run that is killed leaves the recording, or the published file, or both, and at most one hidden
// file, which a later run or a sweep removes or renames. Not every file system supports all of this. A
// run does without what is lacking, and names it (Lack).
package publish

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

	"tunnelcast/internal/file"
	"tunnelcast/internal/inuse"
)

// Settled is the time without a write after which an Orphaned recording counts as closed where leases do
// not work.
const Settled = 10 * time.Minute

// Source is a recording that is open for reading, and the directory it is in.
type Source struct {
	Name string // in its directory
	Dir  string
	// Orphaned says that no program has reported that the recording is closed, as nginx does
	// when it calls the hook.
	Orphaned bool

	dir     *os.File
	file    *os.File
	id      file.Identity
	uid     int
	gid     int
	mode    fs.FileMode
	writers inuse.Writers
	lacks   []Lack
}

// Open opens the recording at path. A symbolic link, and anything else that is not a regular
// file, is an error.
func Open(path string) (*Source, error) {
	s := &Source{Name: filepath.Base(path), Dir: filepath.Dir(path)}
	dir, err := os.Open(s.Dir)
	if err != nil {
		return nil, fmt.Errorf("open recording: %w", err)
	}
	s.dir = dir
	// With O_NONBLOCK the open of a FIFO does not wait for a writer.
	fd, err := file.OpenAt(int(dir.Fd()), s.Name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		dir.Close()
		return nil, &os.PathError{Op: "open recording", Path: path, Err: err}
	}
	s.file = os.NewFile(uintptr(fd), path)
	var stat unix.Statx_t
	if err = file.StatAt(fd, "", &stat); err == nil && stat.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errors.New("not a regular file")
	}
	if err != nil {
		s.Close()
		return nil, &os.PathError{Op: "open recording", Path: path, Err: err}
	}
	return s, nil
}

// Close closes the recording and gives its lock back.
func (s *Source) Close() {
	s.file.Close()
	s.dir.Close()
}

// Path returns where the recording was found.
func (s *Source) Path() string { return filepath.Join(s.Dir, s.Name) }

// Size returns the recording's length in bytes, as Identify saw it.
func (s *Source) Size() int64 { return s.id.Size }

// Device returns the number of the recording's file system, as Identify saw it.
func (s *Source) Device() uint64 { return s.id.Dev }

// ReadAt implements io.ReaderAt.
func (s *Source) ReadAt(b []byte, off int64) (int, error) { return s.file.ReadAt(b, off) }

// Identify notes what the recording is now; Same and Remove compare with it. It returns what Same
// returns.
func (s *Source) Identify() error {
	var stat unix.Statx_t
	if err := file.StatAt(int(s.file.Fd()), "", &stat); err != nil {
		return fmt.Errorf("look at %s: %w", s.Path(), err)
	}
	s.id = file.Of(&stat)
	s.uid, s.gid, s.mode = int(stat.Uid), int(stat.Gid), fs.FileMode(stat.Mode).Perm()
	return s.Same()
}

const (
	// watched is how long a recording must not change for IdentifyClosed.
	watched = time.Second
	// tries is how often IdentifyClosed waits for that.
	tries = 5
)

// IdentifyClosed is Identify for a recording that has just been closed. Where leases do not work,
// nginx may already record to the same path again: then the file grows, and the error is
// file.ErrChanged. On network file systems and FUSE the server may set the recording's time some
// time after it was closed, and CIFS closes it a second later than nginx does (closetimeo in
// mount.cifs(8)): IdentifyClosed waits for that.
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
		if err := s.Same(); !errors.Is(err, file.ErrChanged) {
			return err
		}
		before := s.id
		if err := s.Identify(); err != nil {
			return err
		}
		before.ModTime = s.id.ModTime
		if s.id != before {
			return file.ErrChanged
		}
	}
	return file.ErrChanged
}

// Same returns file.ErrChanged unless the recording is at its path and is the file that Identify
// saw, and inuse.ErrInUse if somebody writes to it. Where leases do not work, it is in use if
// somebody has locked it or, if it is Orphaned, if it was written to in the last ten minutes
// (Settled).
func (s *Source) Same() error {
	return s.sameAs(s.Name, func(id file.Identity) bool { return id == s.id })
}

func (s *Source) sameAs(name string, same func(file.Identity) bool) error {
	var open, named unix.Statx_t
	switch err := file.StatAt(int(s.file.Fd()), "", &open); {
	case errors.Is(err, unix.ESTALE): // another host has removed it
		return file.ErrChanged
	case err != nil:
		return fmt.Errorf("look at %s: %w", s.Path(), err)
	}
	switch err := file.StatAt(int(s.dir.Fd()), name, &named); {
	case errors.Is(err, unix.ENOENT):
		return file.ErrChanged
	case err != nil:
		return fmt.Errorf("look at %s: %w", s.Path(), err)
	}
	if !same(file.Of(&open)) || !same(file.Of(&named)) {
		return file.ErrChanged
	}
	return s.closed()
}

// sameHidden is Same for a recording that has just got the name hidden.
func (s *Source) sameHidden(hidden string) error {
	err := s.sameAs(hidden, func(id file.Identity) bool { return id == s.id })
	if !errors.Is(err, file.ErrChanged) {
		return err
	}
	ino, modTime, failed := renameKeeps(int(s.dir.Fd()))
	if failed != nil || ino && modTime {
		return err
	}
	return s.sameAs(hidden, func(id file.Identity) bool {
		if !ino {
			id.Ino = s.id.Ino
		}
		if !modTime {
			id.ModTime = s.id.ModTime
		}
		return id == s.id
	})
}

// closed returns inuse.ErrInUse if somebody writes to the recording.
func (s *Source) closed() error {
	var quiet time.Duration
	if s.Orphaned {
		quiet = Settled
	}
	err := s.writers.Check(int(s.dir.Fd()), int(s.file.Fd()), s.id.ModTime, quiet)
	if s.writers.Blind() {
		s.lack(Leases)
	}
	if err != nil && err != inuse.ErrInUse {
		return fmt.Errorf("see whether %s is being written: %w", s.Path(), err)
	}
	return err
}

// Remove removes the recording if it is still the same, closed file; otherwise it returns
// file.ErrChanged or inuse.ErrInUse, and the recording stays. nginx may open the path between the
// last look and the removal, and would then record into a file without a name. Therefore the
// recording first gets the name hidden, under which nobody opens it, and the last look is at that.
// If the run is killed there, the recording stays under that name.
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
	if err := file.UnlinkAt(int(s.dir.Fd()), hidden); err != nil {
		return fmt.Errorf("remove %s: %w", s.Path(), err)
	}
	return nil
}

// Rename gives the recording the first of the names that is free, and returns it. Nothing is
// replaced.
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

// Is reports whether name, in the recording's directory, is another name of its file.
func (s *Source) Is(name string) bool {
	var stat unix.Statx_t
	err := file.StatAt(int(s.dir.Fd()), name, &stat)
	return err == nil && file.Of(&stat) == s.id
}

// Published returns the first of the names whose file has the recording's own time, to the
// nanosecond, as Publish gives it.
func (s *Source) Published(names iter.Seq[string]) (string, bool) {
	for name := range names {
		var stat unix.Statx_t
		if err := file.StatAt(int(s.dir.Fd()), name, &stat); err != nil {
			return "", false
		}
		if id := file.Of(&stat); id.ModTime == s.id.ModTime && id.Size > 0 {
			return name, true
		}
	}
	return "", false
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
