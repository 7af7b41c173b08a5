//go:build cgo

package main

import (
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"

	"tunnelcast/internal/flv"
	"tunnelcast/internal/promised"
	"tunnelcast/internal/recording/recordingtest"
)

// In recordings of every kind that is known from the field, each packet is in an MP4 at its time or is
// counted, and the FLV is removed only if none is counted.
func TestCorpus(t *testing.T) {
	promised.Program(t, "ffprobe")
	for _, f := range newCorpus(t) {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "cam.flv")
			if err := os.WriteFile(path, recordingtest.File(f.tags...), 0o644); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command("recorddone", "--no-sandbox", path).CombinedOutput()
			want := 0
			logged, none := strings.CutPrefix(f.logged, "!")
			switch {
			case none:
				want = 1
			case logged != "":
				want = 3
			}
			code := 0
			if failed := (*exec.ExitError)(nil); errors.As(err, &failed) {
				code = failed.ExitCode()
			}
			if code != want || !strings.Contains(string(out), logged) {
				t.Errorf("exit status %d, want %d with %q:\n%s", code, want, logged, out)
			}
			if _, err := os.Stat(path); (err == nil) != (code != 0) {
				t.Errorf("exit status %d, and the FLV: %v", code, err)
			}
			mp4s, _ := filepath.Glob(filepath.Join(dir, "cam*.mp4"))
			if none {
				if len(mp4s) > 0 {
					t.Errorf("made %s", mp4s)
				}
				return
			}
			if len(mp4s) != max(1, f.files) {
				t.Fatalf("made %s, want %d:\n%s", mp4s, max(1, f.files), out)
			}
			sort.Slice(mp4s, func(i, j int) bool { return len(mp4s[i]) < len(mp4s[j]) })
			as := f.as
			if as == nil {
				for _, tag := range f.tags {
					if tag.IsVideo() || tag.IsAudio() {
						as = append(as, tag)
					}
				}
			}
			sum := checkPackets(t, as, mp4s)
			if !f.undecodable {
				checkPictures(t, as, f.tags, mp4s, sum)
			}
			checkSeconds(t, string(out), mp4s)

			// A sweep does not convert a recording again.
			if out, err := exec.Command("recorddone", "sweep", "--no-sandbox", dir).CombinedOutput(); err != nil {
				t.Errorf("sweep: %v %s", err, out)
			}
			if again, _ := filepath.Glob(filepath.Join(dir, "cam*.mp4")); len(again) != len(mp4s) {
				t.Errorf("a sweep made %d of %d MP4s", len(again), len(mp4s))
			}
		})
	}
}

// checkPackets compares the packets by their content, and their times. It returns a checksum of everything
// that a decoder would get.
func checkPackets(t *testing.T, as []tag, mp4s []string) [md5.Size]byte {
	t.Helper()
	got := map[string][]float64{} // by checksum, PTS in milliseconds
	total, all := 0, md5.New()
	for _, path := range mp4s {
		out, err := exec.Command("ffprobe", "-v", "error", "-show_packets", "-show_data_hash", "md5",
			"-show_entries", "packet=pts_time,data_hash:stream=extradata_hash", "-of", "csv=p=0", path).CombinedOutput()
		if err != nil {
			t.Fatalf("%v %s", err, out)
		}
		for line := range strings.Lines(string(out)) {
			pts, hash, ok := strings.Cut(strings.TrimSpace(line), ",")
			if !ok { // of a stream
				fmt.Fprintln(all, pts)
				continue
			}
			fmt.Fprintln(all, hash)
			seconds, err := strconv.ParseFloat(pts, 64)
			if err != nil {
				t.Fatal(line)
			}
			hash = strings.TrimSuffix(strings.TrimPrefix(hash, "MD5:"), ",")
			got[hash] = append(got[hash], seconds*1000)
			total++
		}
	}
	if total != len(as) {
		t.Errorf("%d packets in MP4, want %d", total, len(as))
	}
	var offs []float64
	missing := 0
	for _, tag := range as {
		sum := md5.Sum(tag.Packet())
		hash := hex.EncodeToString(sum[:])
		if len(got[hash]) == 0 {
			missing++
			continue
		}
		offs = append(offs, got[hash][0]-float64(tag.MS+tag.Delay()))
		got[hash] = got[hash][1:]
	}
	if missing > 0 {
		t.Errorf("%d packets are missing", missing)
	}
	if len(mp4s) > 1 || len(offs) == 0 {
		return [md5.Size]byte(all.Sum(nil)) // each begins at 0
	}
	sorted := slices.Sorted(slices.Values(offs))
	middle := sorted[len(sorted)/2]
	for i, off := range offs {
		if off < middle-41 || off > middle+41 {
			t.Errorf("packet %d (type %d) is %.0f ms off its time of %d ms; it is the first, offsets are %.0f to %.0f",
				i, as[i].Type, off-middle, as[i].MS, sorted[0]-middle, sorted[len(sorted)-1]-middle)
			break
		}
	}
	return [md5.Size]byte(all.Sum(nil))
}

// decoded has the pictures of recordings by their checksum: with right times, many recordings are equal.
var decoded sync.Map

// checkPictures compares what a decoder shows of an MP4 with what it shows of the recording with right
// times.
func checkPictures(t *testing.T, as, tags []tag, mp4s []string, sum [md5.Size]byte) {
	t.Helper()
	pictures := only(as, tag.IsVideo)
	if len(mp4s) > 1 || len(pictures) < 2 {
		return
	}
	header := slices.IndexFunc(tags, func(t tag) bool {
		return t.Type == flv.TagVideo && len(t.Body) > 5 && t.IsHeader()
	})
	clean := append([]tag{tags[header].At(0)}, pictures...)
	path := filepath.Join(t.TempDir(), "clean.flv")
	if err := os.WriteFile(path, recordingtest.File(clean...), 0o644); err != nil {
		t.Fatal(err)
	}
	shown := func(sum [md5.Size]byte, path string) []string {
		once, _ := decoded.LoadOrStore(sum, sync.OnceValue(func() []string { return decode(t, path) }))
		return slices.Clone(once.(func() []string)())
	}
	want, got := shown(md5.Sum(recordingtest.File(clean...)), path), shown(sum, mp4s[0])
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%d pictures in the MP4, %d in the recording, or others", len(got), len(want))
	}
}

// decode returns the checksum of each picture that a decoder shows of a file.
func decode(t *testing.T, path string) (sums []string) {
	out, err := exec.Command("ffmpeg", "-v", "quiet", "-nostdin", "-i", path,
		"-map", "0:v", "-fps_mode", "passthrough", "-f", "framemd5", "-").Output()
	if err != nil {
		t.Errorf("decode %s: %v %s", path, err, out)
	}
	for line := range strings.Lines(string(out)) {
		if fields := strings.Split(line, ","); line[0] != '#' {
			sums = append(sums, strings.TrimSpace(fields[len(fields)-1]))
		}
	}
	return sums
}

// checkSeconds compares the logged durations with those of the files.
func checkSeconds(t *testing.T, log string, mp4s []string) {
	t.Helper()
	lengths := regexp.MustCompile(`seconds=(\d+)`).FindAllStringSubmatch(log, -1)
	if len(lengths) == 0 {
		return // in the journal
	}
	for i, path := range mp4s {
		out, err := exec.Command("ffprobe", "-v", "error", "-show_entries", "format=duration",
			"-of", "csv=p=0", path).Output()
		if err != nil {
			t.Fatal(err)
		}
		duration, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
		if err != nil {
			t.Fatal(err)
		}
		if logged, _ := strconv.ParseFloat(lengths[i][1], 64); logged > duration+0.1 || logged < duration-1.1 {
			t.Errorf("%s: %.0f s are logged, %.3f s play", path, logged, duration)
		}
	}
}
