package publish

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"tunnelcast/internal/archive/archivetest"
	"tunnelcast/internal/file"
	"tunnelcast/internal/inuse"
)

// openRecording makes cam.flv in a new directory and returns it open and identified.
func openRecording(t *testing.T) (*Source, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "cam.flv")
	write(t, path, "recording")
	old := time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.UTC)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if err := s.Identify(); err != nil {
		t.Fatal(err)
	}
	return s, path
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

var names = slices.Values([]string{"cam.mp4", "cam-1.mp4", "cam-2.mp4"})

func TestPublish(t *testing.T) {
	tests := []struct {
		name   string
		before map[string]string
		want   string
		files  string
	}{
		{"nothing there", nil, "cam.mp4", "cam.flv=recording cam.mp4=new"},
		{"another there", map[string]string{"cam.mp4": "old"},
			"cam-1.mp4", "cam-1.mp4=new cam.flv=recording cam.mp4=old"},
		{"two there", map[string]string{"cam.mp4": "old", "cam-1.mp4": "older"},
			"cam-2.mp4", "cam-1.mp4=older cam-2.mp4=new cam.flv=recording cam.mp4=old"},
		{"the same there", map[string]string{"cam.mp4": "new"}, "cam.mp4", "cam.flv=recording cam.mp4=new"},
		{"the same after another", map[string]string{"cam.mp4": "old", "cam-1.mp4": "new"},
			"cam-1.mp4", "cam-1.mp4=new cam.flv=recording cam.mp4=old"},
		{"no name free", map[string]string{"cam.mp4": "a", "cam-1.mp4": "b", "cam-2.mp4": "c"},
			"", "cam-1.mp4=b cam-2.mp4=c cam.flv=recording cam.mp4=a"},
		{"a leftover in the way", map[string]string{".hidden": "half"}, "cam.mp4", "cam.flv=recording cam.mp4=new"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, path := openRecording(t)
			dir := filepath.Dir(path)
			for name, content := range test.before {
				write(t, filepath.Join(dir, name), content)
			}
			w, err := s.NewWork(".hidden")
			if err != nil {
				t.Fatal(err)
			}
			write(t, w.Path(), "new")
			got, err := w.Publish(names)
			w.Discard()
			if got != test.want || (err != nil) != (test.want == "") {
				t.Errorf("published as %q, error %v", got, err)
			}
			if got := archivetest.Files(t, dir); got != test.files {
				t.Errorf("got  %s\nwant %s", got, test.files)
			}
			if err != nil || len(test.before) > 0 {
				return
			}
			flv, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			mp4, err := os.Stat(filepath.Join(dir, got))
			if err != nil {
				t.Fatal(err)
			}
			if mp4.Mode() != 0o644 || !mp4.ModTime().Equal(flv.ModTime()) {
				t.Errorf("mode %v, time %v", mp4.Mode(), mp4.ModTime())
			}
			if name, ok := s.Published(names); !ok || name != got {
				t.Errorf("Published returns %q, %v", name, ok)
			}
		})
	}
}

// TestWorkInUse checks that a second work under one hidden name is refused.
func TestWorkInUse(t *testing.T) {
	s, path := openRecording(t)
	w, err := s.NewWork(".hidden")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.NewWork(".hidden"); !errors.Is(err, inuse.ErrInUse) {
		t.Errorf("a second work: %v", err)
	}
	hidden := filepath.Join(filepath.Dir(path), ".hidden")
	if removed, err := RemoveLeftover(hidden); removed || err != nil {
		t.Errorf("removed a work in progress: %v, %v", removed, err)
	}
	// Another file that has taken the hidden name is not published.
	if err := os.Remove(hidden); err != nil {
		t.Fatal(err)
	}
	write(t, hidden, "somebody else's")
	if _, err := w.Publish(names); !errors.Is(err, file.ErrChanged) {
		t.Errorf("published another's file: %v", err)
	}
	w.file.Close()
	if removed, err := RemoveLeftover(hidden); !removed || err != nil {
		t.Errorf("did not remove a leftover: %v, %v", removed, err)
	}
}

func TestRemove(t *testing.T) {
	tests := []struct {
		name   string
		change func(t *testing.T, path string)
		want   error
	}{
		{"the same file", func(*testing.T, string) {}, nil},
		{"recorded again, open", func(t *testing.T, path string) {
			f, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
		}, file.ErrChanged},
		{"open for writing, nothing written", func(t *testing.T, path string) {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
		}, inuse.ErrInUse},
		{"recorded again, closed", func(t *testing.T, path string) {
			write(t, path, "a new recording")
		}, file.ErrChanged},
		{"the same length again", func(t *testing.T, path string) { write(t, path, "RECORDING") }, file.ErrChanged},
		{"another file in its place", func(t *testing.T, path string) {
			write(t, path+".new", "recording")
			if err := os.Rename(path+".new", path); err != nil {
				t.Fatal(err)
			}
		}, file.ErrChanged},
		{"a link in its place", func(t *testing.T, path string) {
			if err := os.Rename(path, path+".old"); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(path+".old", path); err != nil {
				t.Fatal(err)
			}
		}, file.ErrChanged},
		{"gone", func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}, file.ErrChanged},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, path := openRecording(t)
			test.change(t, path)
			before := archivetest.Files(t, filepath.Dir(path))
			if err := s.Remove(".aside"); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			want := before
			if test.want == nil {
				want = ""
			}
			if got := archivetest.Files(t, filepath.Dir(path)); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// TestRemoveNameTaken checks that a recording does not replace one that a killed run has set aside.
func TestRemoveNameTaken(t *testing.T) {
	s, path := openRecording(t)
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), ".aside"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(".aside"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a taken hidden name: %v", err)
	}
	if got := archivetest.Files(t, filepath.Dir(path)); got != ".aside= cam.flv=recording" {
		t.Errorf("got %q", got)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "real.flv"), "x")
	if err := os.Symlink("real.flv", filepath.Join(dir, "link.flv")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "dir.flv"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"link.flv", "dir.flv", "none.flv", "none/cam.flv"} {
		if s, err := Open(filepath.Join(dir, name)); err == nil {
			s.Close()
			t.Errorf("opened %s", name)
		}
	}
}

func TestSlots(t *testing.T) {
	dir := t.TempDir()
	open := func() *Slots {
		s, err := OpenSlots(dir, "jobs", 2)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		return s
	}
	a, b, c := open(), open(), open()
	if _, err := a.Acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	release, err := b.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := c.Acquire(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a third job of two: %v", err)
	}
	release()
	if _, err := c.Acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestLock(t *testing.T) {
	a, path := openRecording(t)
	b, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := a.Lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ok, err := b.TryLock(); ok || err != nil {
		t.Fatalf("locked twice: %v, %v", ok, err)
	}
	a.Close()
	if err := b.Lock(t.Context()); err != nil {
		t.Fatal(err)
	}
}
