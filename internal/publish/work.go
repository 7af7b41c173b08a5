package publish

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"tunnelcast/internal/file"
	"tunnelcast/internal/inuse"
)

// Work is a file in the making: under a hidden name, in the directory where it
// will be published, so that a rename is enough.
type Work struct {
	source *Source
	file   *os.File
	name   string
	out    sync.Mutex // held while the disk is given work
}

// NewWork makes the empty file called hidden in the recording's directory, in
// the place of one that a killed run left. If a run is at work on that, the error
// is inuse.ErrInUse.
func (s *Source) NewWork(hidden string) (*Work, error) {
	w := &Work{source: s, name: hidden}
	if _, err := s.removeLeftover(hidden); err != nil {
		return nil, err
	}
	fd, err := file.OpenAt(int(s.dir.Fd()), hidden, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, 0o600)
	if errors.Is(err, unix.EEXIST) {
		err = inuse.ErrInUse
	}
	if err != nil {
		return nil, &os.PathError{Op: "make", Path: w.Path(), Err: err}
	}
	w.file = os.NewFile(uintptr(fd), w.Path())
	// The lock tells a sweep that this is no leftover.
	ok, err := s.tryLock(w.file)
	if err == nil && !ok {
		err = inuse.ErrInUse
	}
	if err != nil {
		w.Discard()
		return nil, err
	}
	return w, nil
}

// Path is the hidden file's.
func (w *Work) Path() string { return filepath.Join(w.source.Dir, w.name) }

// WriteOut has the disk begin with what is there of the file, and does not wait.
// Else all of it is left to the sync at the end, and the host's other writers
// wait behind that. An error is not looked at: the sync has it again.
func (w *Work) WriteOut() {
	if !w.out.TryLock() {
		return // it still has enough to do
	}
	go func() { // the call takes its time when the disk's queue is full
		defer w.out.Unlock()
		unix.SyncFileRange(int(w.file.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
	}()
}

// Discard removes the hidden file. After Publish it does nothing.
func (w *Work) Discard() {
	if w.name != "" {
		file.UnlinkAt(int(w.source.dir.Fd()), w.name)
		w.name = ""
	}
	w.out.Lock()
	defer w.out.Unlock()
	w.file.Close()
}

// Publish gives the file the recording's owner, mode and time, and then the first of
// the names that is free; an existing file is never replaced. If one of those in
// the way has the same content, left by a run that was killed before it could
// remove its recording, that is the published file. The name that it returns is
// on the disk, with the content, when Publish returns. On an error there is no new
// name, unless it was the directory that could not be synced.
func (w *Work) Publish(names iter.Seq[string]) (string, error) {
	if err := w.dress(); err != nil {
		return "", err
	}
	// Delayed allocation: that the disk is full may come out only here.
	if err := w.source.sync(w.file); err != nil {
		return "", fmt.Errorf("sync %s: %w", w.Path(), err)
	}
	name, err := w.rename(names)
	if err != nil {
		return "", err
	}
	if err := w.source.sync(w.source.dir); err != nil {
		return "", fmt.Errorf("sync directory %s: %w", w.source.Dir, err)
	}
	return name, nil
}

func (w *Work) rename(names iter.Seq[string]) (string, error) {
	dir := int(w.source.dir.Fd())
	// A rename goes by the name; what has it must be what was synced. A sweep
	// that came between the making of the file and its lock has removed it.
	var mine, named unix.Statx_t
	if err := file.StatAt(int(w.file.Fd()), "", &mine); err != nil {
		return "", err
	}
	if err := file.StatAt(dir, w.name, &named); err != nil {
		return "", &os.PathError{Op: "look at", Path: w.Path(), Err: err}
	}
	if mine.Ino != named.Ino || file.Device(&mine) != file.Device(&named) {
		return "", &os.PathError{Op: "publish", Path: w.Path(), Err: file.ErrChanged}
	}
	for name := range names {
		err := w.source.reveal(w.name, name)
		switch {
		case err == nil:
			w.name = ""
			return name, nil
		case !errors.Is(err, unix.EEXIST):
			return "", &os.LinkError{Op: "rename", Old: w.Path(), New: filepath.Join(w.source.Dir, name), Err: err}
		}
		if same, err := w.equals(name); err != nil {
			return "", err
		} else if same {
			w.Discard()
			return name, nil
		}
	}
	return "", errors.New("no name is free")
}

// published is what a published file may have of its recording's mode: who may not
// read the one may not read the other.
const published fs.FileMode = 0o644

// dress gives the hidden file what a published one has. Where the mount decides about
// owner, mode and time, nothing is lost by leaving them.
func (w *Work) dress() error {
	s := w.source
	info, err := w.file.Stat()
	if err != nil {
		return err
	}
	if have := info.Mode().Perm(); have != s.mode&published && have != s.mode {
		err := w.file.Chmod(s.mode & published)
		if unsupported(err) {
			s.lack(Modes)
		} else if err != nil {
			return err
		}
	}
	// Only root needs this, and only root may: others make files of their own.
	if err := w.file.Chown(s.uid, s.gid); err != nil && !unsupported(err) {
		return err
	}
	err = setTime(int(s.dir.Fd()), w.name, s.id.ModTime)
	if unsupported(err) {
		s.lack(Times)
	} else if err != nil {
		return &os.PathError{Op: "set time of", Path: w.Path(), Err: err}
	}
	return nil
}

// equals compares with the file called name, which need not be a regular one.
func (w *Work) equals(name string) (bool, error) {
	fd, err := file.OpenAt(int(w.source.dir.Fd()), name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false, nil // a link, or not ours to read: not what we would have written
	}
	other := os.NewFile(uintptr(fd), filepath.Join(w.source.Dir, name))
	defer other.Close()
	mine, err := w.file.Stat()
	if err != nil {
		return false, err
	}
	theirs, err := other.Stat()
	if err != nil {
		return false, err
	}
	if !theirs.Mode().IsRegular() || mine.Size() != theirs.Size() {
		return false, nil
	}
	a, b := make([]byte, 64<<10), make([]byte, 64<<10)
	for off := int64(0); off < mine.Size(); {
		n, err := w.file.ReadAt(a, off)
		if n == 0 {
			return false, err
		}
		if m, err := other.ReadAt(b[:n], off); m < n && err != io.EOF {
			return false, err
		} else if m < n { // it has become shorter
			return false, nil
		}
		if !bytes.Equal(a[:n], b[:n]) {
			return false, nil
		}
		off += int64(n)
	}
	return true, nil
}

// RemoveLeftover removes the hidden file at path unless a run is at work on it.
func RemoveLeftover(path string) (removed bool, err error) {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return false, err
	}
	defer dir.Close()
	s := &Source{Dir: dir.Name(), dir: dir}
	return s.removeLeftover(filepath.Base(path))
}

func (s *Source) removeLeftover(name string) (removed bool, err error) {
	path := filepath.Join(s.Dir, name)
	fd, err := file.OpenAt(int(s.dir.Fd()), name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, &os.PathError{Op: "open leftover", Path: path, Err: err}
	}
	leftover := os.NewFile(uintptr(fd), path)
	defer leftover.Close()
	if ok, err := s.tryLock(leftover); !ok || err != nil {
		return false, err
	}
	if err := file.UnlinkAt(int(s.dir.Fd()), name); err != nil {
		return false, &os.PathError{Op: "remove", Path: path, Err: err}
	}
	return true, nil
}
