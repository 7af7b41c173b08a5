package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tunnelcast/internal/archive/archivetest"
	"tunnelcast/internal/hook"
)

// TestSurvey checks that check names what a run would leave alone, and where it could not remove.
func TestSurvey(t *testing.T) {
	if !archivetest.Mounts(t) {
		return
	}
	dir := t.TempDir()
	archivetest.Mount(t, dir, "tmpfs", "tmpfs", 0, "")
	record := func(uid int, elem ...string) {
		t.Helper()
		path := filepath.Join(append([]string{dir}, elem...)...)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, 4096), 0o644); err != nil {
			t.Fatal(err)
		}
		if os.Getuid() == 0 {
			for _, path := range []string{dir, filepath.Dir(path), path} {
				if err := os.Chown(path, uid, uid); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	const www = archivetest.WWWData
	record(0, "lost+found", "a.mp4")
	record(www, "A.MP4")
	record(www, "cam", "x-1795254935.mp4")
	record(www, "cam", "x-1795254936.flv")
	record(www, "best-1.mp4")
	for _, name := range []string{"d.mkv", "c.ts", "b.txt", "a.jpg"} {
		record(www, name)
	}
	if err := os.Chmod(filepath.Join(dir, "lost+found"), 0o700); err != nil {
		t.Fatal(err)
	}
	archivetest.As(t, www, dir)
	survey := func() (string, error) {
		c := cli{Include: []string{"*.mp4", "*.flv"}, Exclude: []string{"best-*"}, KeepLast: 1}
		return c.survey(t.Context(), hook.Env{Now: time.Now}, dir)
	}
	const found = ": 3 recordings, 12 KB, 2 streams; 4 not recordings (a.jpg, b.txt, c.ts, ...); " +
		"1 excluded (best-1.mp4); 1 system directory (lost+found)"
	if what, err := survey(); what != found || err != nil {
		t.Errorf("found %q, error %v", what, err)
	}
	// A directory that cannot be read is a failure.
	if err := os.Chmod(filepath.Join(dir, "cam"), 0); err != nil {
		t.Fatal(err)
	}
	closed := filepath.Join(dir, "cam") + ": permission denied"
	if _, err := survey(); err == nil || !strings.Contains(err.Error(), closed) {
		t.Errorf("error %v, want %s", err, closed)
	}
	// A run does the rest.
	out, err := archiveprune("--max-size=1B", dir)
	const summary = "removed 2, freed 8.2 KB, kept 0 (0 B), failed 1; 4 not recordings, 1 system directory\n"
	if out != summary || hook.Status(err) != 3 {
		t.Errorf("a run: %s%v, want %s", out, err, summary)
	}
	// And so is one in which www-data may not remove, as after an administrator's mkdir.
	if err := os.Chmod(filepath.Join(dir, "cam"), 0o555); err != nil {
		t.Fatal(err)
	}
	want := "remove from " + filepath.Join(dir, "cam") + ": permission denied"
	if _, err := survey(); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %s", err, want)
	}
}
