package archive

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// TestNamesOfOneFileAtOnce checks the two names of each of many files, in two directories, many times, and
// removes them. The two workers of the walk check the names of a file at the same moment, and neither may
// take the other for a user of the file.
func TestNamesOfOneFileAtOnce(t *testing.T) {
	const files, looks = 200, 50
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "b"), 0o755))
	for i := range files {
		name := fmt.Sprint(i, ".flv")
		must(t, os.Link(place(t, dir, "a", name), filepath.Join(dir, "b", name)))
	}
	var mu sync.Mutex
	met := make(map[uint64]chan struct{}) // by inode: closed by the second worker
	var errs []error
	everything(t, openTree(t, dir), func(f *File) error {
		mu.Lock()
		second, waiting := met[f.Ino]
		if waiting {
			close(second)
		} else {
			second = make(chan struct{})
			met[f.Ino] = second
		}
		mu.Unlock()
		select {
		case <-second:
		case <-time.After(time.Minute):
			return errors.New("the other worker did not reach the other name")
		}
		var err error
		for range looks {
			err = errors.Join(err, f.check(f.alone))
		}
		if err = errors.Join(err, f.Remove()); err != nil {
			mu.Lock()
			errs = append(errs, err)
			mu.Unlock()
		}
		return nil
	})
	if errs != nil {
		t.Errorf("%d of %d names, the first: %v", len(errs), 2*files, errs[0])
	}
}
