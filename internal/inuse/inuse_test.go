package inuse

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tunnelcast/internal/archive/archivetest"
)

func TestTryLease(t *testing.T) {
	tests := []struct {
		name    string
		refused []archivetest.Refusal
		want    bool
	}{
		{"granted", nil, true},
		{"EINVAL", archivetest.With(unix.EINVAL, archivetest.SetLease), false},
		{"EAGAIN", archivetest.With(unix.EAGAIN, archivetest.SetLease), false},
		{"EACCES", archivetest.With(unix.EACCES, archivetest.SetLease), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if !archivetest.Refuse(t, test.refused...) {
				return
			}
			path := t.TempDir()
			dir, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer dir.Close()
			before := time.Now().Add(-time.Minute)
			work, now, err := tryLease(int(dir.Fd()))
			if work != test.want || err != nil {
				t.Errorf("got %v, error %v, want %v", work, err, test.want)
			}
			if now < before.UnixNano() || now > time.Now().Add(time.Minute).UnixNano() {
				t.Errorf("the new file's time is %v", time.Unix(0, now))
			}
			if got := archivetest.Files(t, path); got != "" {
				t.Errorf("left %s", got)
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if work, _, err := tryLease(int(dir.Fd())); work || err == nil {
				t.Errorf("in a removed directory: %v, error %v", work, err)
			}
		})
	}
}

// TestLocksAreSeen checks that nginx's lock with record_lock is seen, which is the only trace of it
// on a file that is not ours.
func TestLocksAreSeen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.flv")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	var files [2]*os.File
	for i := range files {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[i] = f
	}
	if err := unlocked(int(files[0].Fd())); err != nil {
		t.Errorf("open and not locked: %v", err)
	}
	// Of the open file, because a lock of the process would be our own.
	if err := unix.FcntlFlock(files[1].Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		t.Fatal(err)
	}
	if err := unlocked(int(files[0].Fd())); err != ErrInUse {
		t.Errorf("locked: %v", err)
	}
}
