package retention

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the plans into testdata/plans.txt")

var now = time.Date(2026, 11, 21, 6, 0, 0, 0, time.UTC)

// TestPlans reads plans as a person writes them: a policy, a disk, and a line
// for each recording with its age, size and stream, then what becomes of it.
func TestPlans(t *testing.T) {
	const file = "testdata/plans.txt"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for block := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n\n") {
		lines := strings.Split(block, "\n")
		policy, disk := parsePolicy(t, lines[1]), parseDisk(t, lines[2])
		recordings := parseRecordings(t, lines[3:])
		before := total(recordings)
		plan := policy.Plan(recordings, disk, now)
		checkPlan(t, lines[0], policy, disk, before, plan)
		got = append(got, strings.Join(append(lines[:3:3], planLines(plan)...), "\n"))
	}
	result := strings.Join(got, "\n\n") + "\n"
	if *update {
		if err := os.WriteFile(file, []byte(result), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if result != string(text) {
		t.Errorf("the plans are now:\n%s", result)
	}
}

var streams = []string{"live", "cam", "new"}

func parsePolicy(t *testing.T, line string) (p Policy) {
	t.Helper()
	for key, value := range fields(line) {
		var err error
		switch key {
		case "max-age":
			err = p.MaxAge.UnmarshalText(value)
		case "max-size":
			err = p.MaxSize.UnmarshalText(value)
		case "min-free":
			err = p.MinFree.UnmarshalText(value)
		case "keep-last":
			p.KeepLast, err = strconv.Atoi(string(value))
		default:
			t.Fatalf("%q: what is %s?", line, key)
		}
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
	}
	return p
}

func parseDisk(t *testing.T, line string) Disk {
	t.Helper()
	var free, size Bytes
	f := fields(line)
	if err := free.UnmarshalText(f["free"]); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	if err := size.UnmarshalText(f["size"]); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return Disk{Free: int64(free), Size: int64(size)}
}

func fields(line string) map[string][]byte {
	m := make(map[string][]byte)
	for _, field := range strings.Fields(line)[1:] {
		key, value, _ := strings.Cut(field, "=")
		m[key] = []byte(value)
	}
	return m
}

func parseRecordings(t *testing.T, lines []string) []Recording {
	t.Helper()
	recordings := make([]Recording, 0, len(lines))
	for _, line := range lines {
		line, _, _ = strings.Cut(line, " ->")
		f := strings.Fields(line)
		age, err := time.ParseDuration(f[0])
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		var size Bytes
		if err := size.UnmarshalText([]byte(f[1])); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		r := Recording{ModTime: now.Add(-age).UnixNano(), Bytes: int64(size), ID: uint64(len(recordings)), Held: len(f) == 4}
		for i, stream := range streams {
			if f[2] == stream {
				r.Stream = uint32(i)
			}
		}
		recordings = append(recordings, r)
	}
	return recordings
}

func planLines(plan Plan) []string {
	lines := make([]string, len(plan.Recordings))
	for i, r := range plan.Recordings {
		held, verdict := "", "keep"
		if r.Held {
			held = " held"
		}
		if plan.Reasons[i].Removes() {
			verdict = "remove"
		}
		size := strings.NewReplacer(".0 GB", "G", "0 B", "0").Replace(Bytes(r.Bytes).String())
		lines[i] = fmt.Sprintf("%s  %s  %s%s -> %s: %s", shortDuration(now.Sub(r.Time())), size, streams[r.Stream], held, verdict, plan.Reasons[i])
	}
	return lines
}

func total(recordings []Recording) (n int64) {
	for _, r := range recordings {
		n += r.Bytes
	}
	return n
}

// checkPlan holds for every plan, whatever the policy.
func checkPlan(t testing.TB, name string, p Policy, disk Disk, before int64, plan Plan) {
	t.Helper()
	if len(plan.Recordings) != len(plan.Reasons) || total(plan.Recordings) != before {
		t.Fatalf("%s: kept and removed are not all", name)
	}
	held, free := before, disk.Free
	for i, r := range plan.Recordings {
		if i > 0 && r.ModTime < plan.Recordings[i-1].ModTime {
			t.Fatalf("%s: %d is older than the one before", name, i)
		}
		if j, ok := plan.Find(r); !ok || j != i {
			t.Fatalf("%s: Find finds %d at %d", name, i, j)
		}
		reason := plan.Reasons[i]
		if !reason.Removes() {
			continue
		}
		if p.Empty() || r.Held || r.Time().After(now) {
			t.Fatalf("%s: %d goes: %s", name, i, reason)
		}
		if (reason == TooOld) != (p.Expired(r.Time(), now) && !(p.KeepLast > 0 && amongTheLast(p, plan, i))) {
			t.Fatalf("%s: %d goes for %s", name, i, reason)
		}
		held -= r.Bytes
		free += r.Bytes
	}
	// Of those that the disk took, the newest was needed, and none older of use was left.
	newest := -1
	for i, reason := range plan.Reasons {
		if reason > TooOld {
			newest = i
		}
	}
	if newest >= 0 {
		r := plan.Recordings[newest]
		if !(p.MaxSize > 0 && held+r.Bytes > int64(p.MaxSize)) && free-r.Bytes >= p.MinFree.Of(disk.Size) {
			t.Fatalf("%s: %d was removed although the limits were met", name, newest)
		}
	}
	for i, r := range plan.Recordings {
		spare := !plan.Reasons[i].Removes() && !r.Held && r.Bytes > 0 && !r.Time().After(now)
		if spare && i < newest {
			t.Fatalf("%s: %d stayed, which is older than %d", name, i, newest)
		}
		if spare && (p.MaxSize > 0 && held > int64(p.MaxSize) || free < p.MinFree.Of(disk.Size)) {
			t.Fatalf("%s: %d stayed although a limit is not met", name, i)
		}
	}
}

func amongTheLast(p Policy, plan Plan, i int) bool {
	newer := 0
	for _, r := range plan.Recordings[i+1:] {
		if r.Stream == plan.Recordings[i].Stream {
			newer++
		}
	}
	return newer < p.KeepLast
}

func TestAnyPlan(t *testing.T) {
	recording := rapid.Custom(func(t *rapid.T) Recording {
		return Recording{
			ModTime: now.Add(-time.Duration(rapid.IntRange(-2, 20).Draw(t, "hours")) * time.Hour).UnixNano(),
			Bytes:   rapid.Int64Range(0, 5).Draw(t, "bytes"),
			Stream:  rapid.Uint32Range(0, 2).Draw(t, "stream"),
			Held:    rapid.IntRange(0, 9).Draw(t, "held") == 0,
		}
	})
	rapid.Check(t, func(rt *rapid.T) {
		recordings := rapid.SliceOfN(recording, 0, 20).Draw(rt, "recordings")
		for i := range recordings {
			recordings[i].ID = uint64(i)
		}
		p := Policy{
			MaxAge:   Age(time.Duration(rapid.IntRange(0, 15).Draw(rt, "max-age")) * time.Hour),
			MaxSize:  Bytes(rapid.Int64Range(0, 30).Draw(rt, "max-size")),
			MinFree:  Free{bytes: Bytes(rapid.Int64Range(0, 30).Draw(rt, "min-free"))},
			KeepLast: rapid.IntRange(0, 3).Draw(rt, "keep-last"),
		}
		disk := Disk{Free: rapid.Int64Range(0, 30).Draw(rt, "free"), Size: 100}
		before := total(recordings)
		checkPlan(t, fmt.Sprintf("%+v", p), p, disk, before, p.Plan(recordings, disk, now))
	})
}

func TestFindKnowsWhatHasChanged(t *testing.T) {
	plan := Policy{}.Plan([]Recording{{ModTime: 1, ID: 7}, {ModTime: 2, ID: 8}}, Disk{}, now)
	for _, r := range []Recording{{ModTime: 2, ID: 7}, {ModTime: 1, ID: 8}, {ModTime: 3, ID: 9}} {
		if i, ok := plan.Find(r); ok {
			t.Errorf("%+v found at %d", r, i)
		}
	}
}

func TestStream(t *testing.T) {
	for path, want := range map[string]string{
		"live.flv":                             "live",
		"a/live-1795254935.flv":                "a/live",
		"a/live-1795254935.mp4":                "a/live",
		"live-2026-11-21_09-35-58.flv":         "live",
		"live-2026-11-21_09-35-58-2.mp4":       "live",
		"live-2026-11-21.mp4":                  "live",
		"live-20261121T093558.mp4":             "live",
		"cam-1-1795254935.flv":                 "cam-1",
		"cam-1.flv":                            "cam-1",
		"..-1795254935.flv":                    "..",
		"a.b/c":                                "a.b/c",
		"a/1795254935.flv":                     "a/",
		"%E3%83%86-2026-11-21_09-35-58.flv":    "%E3%83%86",
		"live-2026-11-21_09-35-58-unfinished.": "live-2026-11-21_09-35-58-unfinished",
	} {
		if got := Stream(path); got != want {
			t.Errorf("Stream(%q) = %q, want %q", path, got, want)
		}
	}
}
