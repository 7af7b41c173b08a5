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

// Work is an unfinished file. It has a hidden name in the directory where it will be published, so that
// publishing is a rename.
type Work struct {
	source *Source
	file   *os.File
	name   string
	out    sync.Mutex // held while writeback is started
}

// NewWork makes an empty file called hidden in the recording's directory. It replaces one of a run that was
// killed. If another run works on it, the error is inuse.ErrInUse.
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
	// The lock tells a sweep that this is not a leftover.
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

// Path returns the path of the hidden file.
func (w *Work) Path() string { return filepath.Join(w.source.Dir, w.name) }

// WriteOut starts writeback without waiting for it. Otherwise the final sync writes everything and stalls
// other writers. Errors are ignored; the sync reports them.
func (w *Work) WriteOut() {
	if !w.out.TryLock() {
		return // the last call still waits for the disk
	}
	go func() { // because the call blocks while the disk's queue is full
		defer w.out.Unlock()
		unix.SyncFileRange(int(w.file.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE)
	}()
}

// Discard removes the hidden file. After Publish it only closes the file.
func (w *Work) Discard() {
	if w.name != "" {
		file.UnlinkAt(int(w.source.dir.Fd()), w.name)
		w.name = ""
	}
	w.out.Lock()
	defer w.out.Unlock()
	w.file.Close()
}

// Publish gives the file the recording's owner, mode and time, and then the first of the names that is
// free. It never replaces an existing file. If one in the way has the same content, which a run leaves
// that was killed before it removed its recording, that is the published file. When Publish returns, the
// name is on the disk with the content. After an error there is no new name, unless the directory could
// not be synced.
func (w *Work) Publish(names iter.Seq[string]) (string, error) {
	if err := w.dress(); err != nil {
		return "", err
	}
	// With delayed allocation, only this may find that the disk is full.
	if err := w.source.sync(w.file); err != nil {
		return "", fmt.Errorf("sync %s: %w", w.Path(), err)
	}
	name, err := w.rename(names)
	if err != nil {
		return "", err
	}
	// The disk must have the name; see file.Touch.
	file.Touch(w.file)
	if err := w.source.sync(w.source.dir); err != nil {
		return "", fmt.Errorf("sync directory %s: %w", w.source.Dir, err)
	}
	if err := w.source.sync(w.file); err != nil {
		return "", fmt.Errorf("sync %s: %w", filepath.Join(w.source.Dir, name), err)
	}
	return name, nil
}

// rename gives the file the first of the names that is free. If a published file with the same content has a name, it
// takes the place of w.file.
func (w *Work) rename(names iter.Seq[string]) (string, error) {
	dir := int(w.source.dir.Fd())
	// The rename uses the name, which must still be that of the file that was synced: a sweep removes a
	// file between its creation and its lock.
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
		if same, err := w.same(name); err != nil {
			return "", err
		} else if same != nil {
			w.Discard()
			w.file = same
			return name, nil
		}
	}
	return "", errors.New("no name is free")
}

// published limits the mode of a published file. Nobody may read it who may not read its recording.
const published fs.FileMode = 0o644

// dress sets the owner, mode and time of the hidden file. Where the mount decides about these, they are
// left as they are.
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
	// Only root may, and only root needs to: the files of other users are their own already.
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

// same returns the file called name if that has the same content as this one, and otherwise nil.
func (w *Work) same(name string) (*os.File, error) {
	fd, err := file.OpenAt(int(w.source.dir.Fd()), name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil // a link, or not readable: not written by a run like this
	}
	other := os.NewFile(uintptr(fd), filepath.Join(w.source.Dir, name))
	if same, err := w.equals(other); !same {
		other.Close()
		return nil, err
	}
	return other, nil
}

// equals reports whether the file, of whatever kind, has the same content.
func (w *Work) equals(other *os.File) (bool, error) {
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

// RemoveLeftover removes the hidden file at path unless a run works on it.
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
