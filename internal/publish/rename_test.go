package publish

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"tunnelcast/internal/archive/archivetest"
	"tunnelcast/internal/file"
	"tunnelcast/internal/inuse"
)

// TestLacking checks that what a file system lacks is named, and that everything is done anyway.
func TestLacking(t *testing.T) {
	with := archivetest.With
	noReplace := with(unix.EINVAL, archivetest.RenameNoReplace)
	tests := []struct {
		name    string
		refused []archivetest.Refusal
		want    []Lack
		again   bool // what other tests expect holds too
	}{
		{"nothing", nil, nil, false},
		{"ZFS 2.1", noReplace, nil, true},
		{"FUSE without rename2", with(unix.ENOSYS, archivetest.RenameNoReplace), nil, true},
		{"FUSE for cloud storage",
			slices.Concat(noReplace, with(unix.EPERM, archivetest.Link)), []Lack{NoReplace}, true},
		{"no links in the protocol", slices.Concat(
			with(unix.EOPNOTSUPP, archivetest.RenameNoReplace), with(unix.ENOSYS, archivetest.Link),
		), []Lack{NoReplace}, true},
		{"rclone", slices.Concat(noReplace, with(unix.EIO, archivetest.Link)), []Lack{NoReplace}, true},
		{"too many links", slices.Concat(noReplace, with(unix.EMLINK, archivetest.Link)), []Lack{NoReplace}, true},
		{"CIFS before Linux 4.17", with(unix.EINVAL, archivetest.Fsync), nil, true},
		{"no sync", with(unix.EINVAL, archivetest.Fsync, archivetest.Syncfs), []Lack{Sync}, true},
		{"NFS 3", slices.Concat(noReplace, with(unix.EINVAL, archivetest.SetLease)), []Lack{Leases}, false},
		{"NFS 4", slices.Concat(noReplace, with(unix.EAGAIN, archivetest.SetLease)), []Lack{Leases}, false},
		{"owner of the mount",
			with(unix.EPERM, archivetest.Fchmod, archivetest.Fchown, archivetest.Utimens), []Lack{Times}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if !archivetest.Refuse(t, test.refused...) {
				return
			}
			dir := t.TempDir()
			lacks, err := Try(t.Context(), dir, 100)
			if !slices.Equal(lacks, test.want) || err != nil {
				t.Errorf("lacks %q, want %q; error %v", lacks, test.want, err)
			}
			for _, lack := range lacks {
				if lack.Effect() == "" {
					t.Errorf("the lack of %s has no effect", lack)
				}
			}
			if got := archivetest.Files(t, dir); got != "" {
				t.Errorf("left %s", got)
			}
			if test.again {
				t.Run("publish", TestPublish)
				t.Run("remove", TestRemove)
				t.Run("remove, name taken", TestRemoveNameTaken)
				t.Run("rename", TestRename)
			}
		})
	}
}

// TestFailing checks that other errors are errors.
func TestFailing(t *testing.T) {
	tests := []struct {
		name    string
		refused []archivetest.Refusal
		want    unix.Errno
	}{
		{"rename", archivetest.With(unix.EACCES, archivetest.RenameNoReplace), unix.EACCES},
		{"sync", archivetest.With(unix.EIO, archivetest.Fsync), unix.EIO},
		{"sync of the file system", slices.Concat(
			archivetest.With(unix.EINVAL, archivetest.Fsync), archivetest.With(unix.EIO, archivetest.Syncfs),
		), unix.EIO},
		{"mode", archivetest.With(unix.EIO, archivetest.Fchmod), unix.EIO},
		{"time", archivetest.With(unix.EIO, archivetest.Utimens), unix.EIO},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if !archivetest.Refuse(t, test.refused...) {
				return
			}
			dir := t.TempDir()
			write(t, filepath.Join(dir, "cam.flv"), "recording")
			s, err := Open(filepath.Join(dir, "cam.flv"))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if err := s.Identify(); err != nil {
				t.Fatal(err)
			}
			w, err := s.NewWork(".hidden")
			if err != nil {
				t.Fatal(err)
			}
			write(t, w.Path(), "new")
			if name, err := w.Publish(names); !errors.Is(err, test.want) {
				t.Errorf("published as %q, error %v, want %v", name, err, test.want)
			}
			w.Discard()
			if got := archivetest.Files(t, dir); got != "cam.flv=recording" {
				t.Errorf("left %s", got)
			}
		})
	}
}

// TestSettled checks that without leases an Orphaned recording counts as closed when it was not written to
// for a while.
func TestSettled(t *testing.T) {
	if !archivetest.Refuse(t, archivetest.With(unix.EAGAIN, archivetest.SetLease)...) {
		return
	}
	tests := []struct {
		name     string
		age      time.Duration
		orphaned bool
		locked   bool
		want     error
	}{
		{"just written, by nginx", 0, false, false, nil},
		{"just written", 0, true, false, inuse.ErrInUse},
		{"nine minutes ago", 9 * time.Minute, true, false, inuse.ErrInUse},
		{"eleven minutes ago", 11 * time.Minute, true, false, nil},
		{"in the future", -time.Hour, true, false, inuse.ErrInUse},
		{"locked by nginx", 11 * time.Minute, false, true, inuse.ErrInUse},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "cam.flv")
			write(t, path, "recording")
			at := time.Now().Add(-test.age)
			if err := os.Chtimes(path, at, at); err != nil {
				t.Fatal(err)
			}
			if test.locked {
				file, err := os.OpenFile(path, os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer file.Close()
				// Of the open file, for those of the process would be our own.
				lock := unix.Flock_t{Type: unix.F_WRLCK}
				if err := unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLK, &lock); err != nil {
					t.Fatal(err)
				}
			}
			s, err := Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			s.Orphaned = test.orphaned
			if err := s.Identify(); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if got := s.Lacks(); !slices.Equal(got, []Lack{Leases}) {
				t.Errorf("lacks %q", got)
			}
		})
	}
}

// TestPublishMode checks that nobody may read the MP4 who may not read the recording.
func TestPublishMode(t *testing.T) {
	for _, test := range []struct{ flv, want os.FileMode }{
		{0o644, 0o644}, {0o600, 0o600}, {0o640, 0o640}, {0o400, 0o400}, {0o666, 0o644}, {0o755, 0o644},
	} {
		t.Run(fmt.Sprintf("%o", test.flv), func(t *testing.T) {
			s, path := openRecording(t)
			if err := os.Chmod(path, test.flv); err != nil {
				t.Fatal(err)
			}
			if err := s.Identify(); err != nil {
				t.Fatal(err)
			}
			w, err := s.NewWork(".hidden")
			if err != nil {
				t.Fatal(err)
			}
			name, err := w.Publish(names)
			w.Discard()
			if err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(filepath.Join(filepath.Dir(path), name))
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode() != test.want {
				t.Errorf("mode %v, want %v", info.Mode(), test.want)
			}
		})
	}
}

func TestRename(t *testing.T) {
	s, path := openRecording(t)
	dir := filepath.Dir(path)
	write(t, filepath.Join(dir, "a.flv"), "another")
	name, err := s.Rename(slices.Values([]string{"a.flv", "b.flv"}))
	if name != "b.flv" || err != nil {
		t.Errorf("renamed to %q, error %v", name, err)
	}
	got := archivetest.Files(t, dir)
	if got != "a.flv=another b.flv=recording" || s.Path() != filepath.Join(dir, "b.flv") {
		t.Errorf("got %s, path %s", got, s.Path())
	}
	if err := s.Same(); err != nil {
		t.Error(err)
	}
	if name, err := s.Rename(slices.Values([]string{"a.flv"})); err == nil {
		t.Errorf("renamed to %q", name)
	}
}

// TestDirectoryLock checks that the lock of the directory is used where files cannot be locked. The kernel
// refuses to lock a descriptor of O_PATH, as NFS refuses one that is not open for writing.
func TestDirectoryLock(t *testing.T) {
	a, path := openRecording(t)
	unlockable := func(s *Source) {
		t.Helper()
		s.file.Close()
		fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		s.file = os.NewFile(uintptr(fd), path)
	}
	unlockable(a)
	b, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	unlockable(b)
	if ok, err := a.TryLock(); !ok || err != nil || !slices.Equal(a.Lacks(), []Lack{FileLocks}) {
		t.Fatalf("locked %v, error %v, lacks %q", ok, err, a.Lacks())
	}
	// The holder never waits for the lock, and never gives it up.
	unlock, err := a.lockDir()
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	w, err := a.NewWork(".hidden")
	if err != nil {
		t.Fatal(err)
	}
	defer w.Discard()
	if ok, err := b.TryLock(); ok || err != nil {
		t.Fatalf("locked twice: %v, %v", ok, err)
	}
	a.Close()
	if ok, err := b.TryLock(); !ok || err != nil {
		t.Fatalf("not locked: %v, %v", ok, err)
	}
}

// TestQuirks publishes on file systems with the quirks of real ones.
func TestQuirks(t *testing.T) {
	if !archivetest.Mounts(t) {
		return
	}
	tests := []struct {
		name   string
		quirks archivetest.Quirks
		want   []Lack
	}{
		{"none", archivetest.Quirks{}, nil},
		{"NFS 4", archivetest.Quirks{Rename2: unix.ENOSYS, Lock: unix.EBADF}, []Lack{FileLocks}},
		{"NFS 3 without its lock daemon",
			archivetest.Quirks{Rename2: unix.ENOSYS, Lock: unix.ENOLCK}, []Lack{FileLocks}},
		{"interrupted", archivetest.Quirks{Interrupts: true}, nil},
		{"encfs", archivetest.Quirks{CutsTimes: true}, nil},
		{"rclone", archivetest.Quirks{
			Rename2: unix.ENOSYS, Link: unix.EIO, Create: unix.EIO, Renumbers: true,
		}, []Lack{NoReplace}},
		{"VirtualBox's shared folders", archivetest.Quirks{
			Rename2: unix.EINVAL, Link: unix.EPERM, FsyncDir: unix.EINVAL, Chmod: unix.EPERM, Utimes: unix.EPERM,
		}, []Lack{Times, NoReplace}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir, inside := archivetest.FUSE(t, test.quirks)
			if !inside {
				return
			}
			lacks, err := Try(t.Context(), dir, 1<<20)
			if !slices.Equal(lacks, test.want) || err != nil {
				t.Errorf("lacks %q, want %q; error %v", lacks, test.want, err)
			}
			if got := archivetest.Files(t, dir); got != "" {
				t.Errorf("left %s", got)
			}
		})
	}
}

// TestIdentifyClosed checks that a recording that has just been closed is watched where leases do not work.
func TestIdentifyClosed(t *testing.T) {
	if !archivetest.Refuse(t, archivetest.With(unix.EAGAIN, archivetest.SetLease)...) {
		return
	}
	tests := []struct {
		name   string
		change func(path string, n int) // again and again
		want   error
	}{
		{"nothing", func(string, int) {}, nil},
		{"the server sets the time", func(path string, _ int) { os.Chtimes(path, time.Time{}, time.Unix(1, 0)) }, nil},
		{"it grows", func(path string, n int) { os.Truncate(path, int64(n)) }, file.ErrChanged},
		{"it is gone", func(path string, _ int) { os.Remove(path) }, file.ErrChanged},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "cam.flv")
			write(t, path, "recording")
			s, err := Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			// The bubble's clock runs only while everything in it waits, so that changes
			// come as often as they should on a busy machine too.
			synctest.Test(t, func(t *testing.T) {
				done := make(chan bool)
				go func() {
					for n := 100; ; n++ {
						select {
						case <-done:
							return
						case <-time.After(watched / 4):
							test.change(path, n)
						}
					}
				}()
				err = s.IdentifyClosed(t.Context())
				close(done)
			})
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if err := s.Same(); test.want == nil && err != nil {
				t.Error(err)
			}
		})
	}
}
