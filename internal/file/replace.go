package file

import (
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
	// InMemory does not wait. After a power cut the file may have its old content, or none.
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
	if err = write(temporary, content, mode, durability); err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		os.Remove(temporary.Name()) // the first error says more
		return fmt.Errorf("replace %s: %w", path, err)
	}
	if durability == OnDisk {
		if err := syncDir(dir); err != nil {
			return fmt.Errorf("replace %s: %w", path, err)
		}
	}
	return nil
}

// hidden returns how the names of temporary files begin. A program that reads all files of a
// directory that end in .prom, such as node_exporter, does not read them.
func hidden(path string) string { return "." + filepath.Base(path) + ".new-" }

// write writes the content and closes the file.
func write(file *os.File, content []byte, mode fs.FileMode, durability Durability) error {
	_, err := file.Write(content)
	if err == nil {
		err = file.Chmod(mode)
	}
	if err == nil && durability == OnDisk {
		// Without it the rename may reach the disk before the content: the file would be empty.
		err = file.Sync()
	}
	if closed := file.Close(); err == nil {
		err = closed
	}
	return err
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
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
