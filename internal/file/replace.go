package file

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Durability says what Replace waits for.
type Durability bool

const (
	// OnDisk returns once the content and its name are on the disk: a power cut then leaves it.
	OnDisk Durability = true
	// InMemory does not wait, except for the content of a new file. After a power cut the file may have its old
	// content, or a new file may be missing. Where a rename over a file can reach the disk before the content, other
	// than on ext4, it may be empty.
	InMemory Durability = false
)

// leftover is the age from which a temporary file belongs to a run that was killed: a
// replacement takes less than a second.
const leftover = time.Hour

// Replace gives the file at path this content and this mode, whatever the umask. A process that opens
// path meanwhile finds the old content or the new. Replace writes to a hidden file in the same
// directory and renames that. After an error the file is as it was and the hidden file is gone, unless
// the directory could not be synced: then the file has the new content. A run that is killed can leave
// the hidden file; the next Replace of path removes it if it is older than an hour.
func Replace(path string, content []byte, mode fs.FileMode, durability Durability) error {
	dir, prefix := filepath.Dir(path), hidden(path)
	removeLeftovers(dir, prefix)
	temporary, err := os.CreateTemp(dir, prefix+"*")
	if err != nil {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	err = write(temporary, content, mode)
	switch _, missing := os.Lstat(path); {
	case err != nil:
	case durability == OnDisk:
		// Without it the rename may reach the disk before the content: the file would be empty.
		err = temporary.Sync()
	case errors.Is(missing, fs.ErrNotExist):
		// When one file replaces another, ext4 writes the content before the name (auto_da_alloc in ext4(5)), but it
		// does not for a new name: after a power cut the file was there and empty. InMemory promises no more, so an
		// error does not count.
		_ = temporary.Sync()
	}
	if closed := temporary.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		os.Remove(temporary.Name()) // the first error says more
		return fmt.Errorf("replace %s: %w", path, err)
	}
	if durability == OnDisk {
		if err := syncName(path); err != nil {
			return fmt.Errorf("replace %s: %w", path, err)
		}
	}
	return nil
}

// Touch changes the time of f's last change of status (ctime) and nothing else. Whoever has given f a name and waits
// until the disk has that calls Touch, syncs the directory, and then syncs f. Before Linux 6.5, ext4 without a journal
// writes a directory that is synced, but does not have the disk flush its cache (ext4_fsync_nojournal in
// fs/ext4/fsync.c): a power cut lost the name, and what was removed after it. It does so for a file whose inode was
// changed by a system call. Where that is not needed, it costs one more flush.
func Touch(f *os.File) {
	// A file system that does not allow it is another one.
	if info, err := f.Stat(); err == nil {
		_ = f.Chmod(info.Mode())
	}
}

// hidden returns how the names of temporary files begin. A program that reads all files of a
// directory that end in .prom, such as node_exporter, does not read them.
func hidden(path string) string { return "." + filepath.Base(path) + ".new-" }

func write(file *os.File, content []byte, mode fs.FileMode) error {
	if _, err := file.Write(content); err != nil {
		return err
	}
	return file.Chmod(mode)
}

// syncName waits until the disk has the name of the file at path.
func syncName(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	Touch(f)
	if err := dir.Sync(); err != nil {
		return err
	}
	return f.Sync()
}

// removeLeftovers removes what killed runs have left. If it cannot, the run still does its work.
func removeLeftovers(dir, prefix string) {
	entries, _ := os.ReadDir(dir)
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), prefix) {
			continue
		}
		if info, err := entry.Info(); err == nil && time.Since(info.ModTime()) > leftover {
			os.Remove(filepath.Join(dir, entry.Name()))
		}
	}
}
