package archive

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tunnelcast/internal/archive/archivetest"
)

func TestLeasesWork(t *testing.T) {
	tests := []struct {
		name    string
		refused []archivetest.Refusal
		want    bool
	}{
		{"granted", nil, true},
		{"EINVAL", refuse(unix.EINVAL, lease), false},
		{"EAGAIN", refuse(unix.EAGAIN, lease), false},
		{"EACCES", refuse(unix.EACCES, lease), false},
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
			work, now, err := leasesWork(int(dir.Fd()))
			if work != test.want || err != nil {
				t.Errorf("got %v, error %v, want %v", work, err, test.want)
			}
			if now.Before(before) || now.After(time.Now().Add(time.Minute)) {
				t.Errorf("the new file's time is %v", now)
			}
			if got := files(t, path); got != "" {
				t.Errorf("left %s", got)
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if work, _, err := leasesWork(int(dir.Fd())); work || err == nil {
				t.Errorf("in a removed directory: %v, error %v", work, err)
			}
		})
	}
}
