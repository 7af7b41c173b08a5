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

// TestPlans reads plans: a policy, a disk, and a line for each recording with its age, size and stream, and
// what the plan does with it.
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
		case "min-age":
			err = p.MinAge.UnmarshalText(value)
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
	disk := Disk{Free: int64(free), Size: int64(size)}
	if inodes, ok := f["inodes"]; ok { // free/all
		if _, err := fmt.Sscanf(string(inodes), "%d/%d", &disk.FreeInodes, &disk.Inodes); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
	}
	return disk
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
		r := Recording{ModTime: now.Add(-age).UnixNano(), Bytes: int64(size), ID: uint64(len(recordings)),
			Held: len(f) == 4 && f[3] == "held", Linked: len(f) == 4 && f[3] == "linked"}
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
		} else if r.Linked {
			held = " linked"
		}
		if plan.Reasons[i].Removes() {
			verdict = "remove"
		}
		size := strings.NewReplacer(".0 GB", "G", "0 B", "0").Replace(Bytes(r.Bytes).String())
		lines[i] = fmt.Sprintf("%s  %s  %s%s -> %s: %s",
			shortDuration(ageOf(r)), size, streams[r.Stream], held, verdict, plan.Reasons[i])
	}
	return lines
}

func ageOf(r Recording) time.Duration { return now.Sub(time.Unix(0, r.ModTime)) }

func total(recordings []Recording) (n int64) {
	for _, r := range recordings {
		n += r.Bytes
	}
	return n
}

// checkPlan checks what holds for every plan, whatever the policy.
func checkPlan(t testing.TB, name string, p Policy, disk Disk, before int64, plan Plan) {
	t.Helper()
	if len(plan.Recordings) != len(plan.Reasons) || total(plan.Recordings) != before {
		t.Fatalf("%s: kept and removed are not all", name)
	}
	held, after := before, disk
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
		if p.Empty() || r.Held || Future(r.ModTime, now) || ageOf(r) < time.Duration(p.MinAge) ||
			reason == TooLittleFree && plan.Hopeless {
			t.Fatalf("%s: %d is removed: %s", name, i, reason)
		}
		if (reason == TooOld) != (p.Expired(r.ModTime, now) && !(p.KeepLast > 0 && amongTheLast(p, plan, i))) {
			t.Fatalf("%s: %d is removed for %s", name, i, reason)
		}
		held -= r.Bytes
		after = after.with(r)
	}
	// The newest one that was removed for space was needed, and none that is older could have been removed.
	newest := -1
	for i, reason := range plan.Reasons {
		if reason > TooOld {
			newest = i
		}
	}
	if newest >= 0 {
		r := plan.Recordings[newest]
		without := after
		without.Free -= r.Bytes
		if !r.Linked {
			without.FreeInodes--
		}
		if !(p.MaxSize > 0 && held+r.Bytes > int64(p.MaxSize)) && !p.Short(without) {
			t.Fatalf("%s: %d was removed although the limits were met", name, newest)
		}
	}
	nobody := disk
	for i, r := range plan.Recordings {
		if !r.Held && !Future(r.ModTime, now) {
			nobody = nobody.with(r)
		}
		spare := !plan.Reasons[i].Removes() && !r.Held && !Future(r.ModTime, now) && ageOf(r) >= time.Duration(p.MinAge)
		if spare && r.Bytes > 0 && i < newest {
			t.Fatalf("%s: %d stayed, which is older than %d", name, i, newest)
		}
		tooMuch := p.MaxSize > 0 && held > int64(p.MaxSize)
		if spare && r.Bytes > 0 && (tooMuch || !plan.Hopeless && p.shortOfBytes(after)) ||
			spare && !r.Linked && !plan.Hopeless && p.shortOfInodes(after) {
			t.Fatalf("%s: %d stayed although a limit is not met", name, i)
		}
	}
	if plan.Hopeless != p.Short(nobody) {
		t.Fatalf("%s: hopeless is %v", name, plan.Hopeless)
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
		r := Recording{
			ModTime: now.Add(-time.Duration(rapid.IntRange(-2, 20).Draw(t, "hours")) * time.Hour).UnixNano(),
			Bytes:   rapid.Int64Range(0, 5).Draw(t, "bytes"),
			Stream:  rapid.Uint32Range(0, 2).Draw(t, "stream"),
			Held:    rapid.IntRange(0, 9).Draw(t, "held") == 0,
		}
		r.Linked = r.Bytes == 0 && r.Stream == 1
		return r
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
			MinAge:   Age(time.Duration(rapid.IntRange(0, 5).Draw(rt, "min-age")) * time.Hour),
		}
		disk := Disk{Free: rapid.Int64Range(0, 30).Draw(rt, "free"), Size: 100,
			FreeInodes: rapid.Int64Range(0, 20).Draw(rt, "free inodes"),
			Inodes:     rapid.Int64Range(0, 2).Draw(rt, "inodes") * 50}
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

// TestStream checks the streams of names that nginx-rtmp writes and people choose.
func TestStream(t *testing.T) {
	for path, want := range map[string]string{
		"live.flv":                          "live",
		"a/live-1795254935.flv":             "a/live",
		"a/live-1795254935.mp4":             "a/live",
		"live-2026-11-21_09-35-58.flv":      "live",
		"live-2026-11-21_09-35-58-2.mp4":    "live",
		"live-2026-11-21.mp4":               "live",
		"live-20261121T093558.mp4":          "live",
		"live20261121.mp4":                  "live",
		"cam-1-1795254935.flv":              "cam-1",
		"cam-1.flv":                         "cam-1",
		"..-1795254935.flv":                 "..",
		"a.b/c":                             "a.b/c",
		"a/1795254935.flv":                  "a/",
		"%E3%83%86-2026-11-21_09-35-58.flv": "%E3%83%86",

		// record_suffix -%d-%b-%y-%T.flv, alone and after record_unique's seconds.
		"live-21-Nov-26-09:35:58.flv":            "live",
		"live-1-21-Nov-26-09:35:58.flv":          "live-1",
		"live-1795254935-21-Nov-26-09:35:58.flv": "live",
		"live-21-Nov-26-09:35:58-1795254935.flv": "live",
		"live-21-Nov-26-09:35:58-3.mp4":          "live",

		// Other formats: %s, %F_%T, %d.%m.%Y, %m-%d-%Y-%H%M, %y%m%d would be anything,
		// %b-%d-%Y, %a-%d-%B-%Y, %T-%d-%b-%y, %FT%T%z, %Y-%m-%d-%I-%M-%p, %H-%M-%S.
		"live_1795254935.flv":                  "live",
		"live-2026-11-21_09:35:58.flv":         "live",
		"live-21.11.2026.flv":                  "live",
		"live-11-21-2026-0935.flv":             "live",
		"live-261121.flv":                      "live-261121",
		"live-Nov-21-2026.flv":                 "live",
		"live-Sat-21-November-2026.flv":        "live",
		"live-09:35:58-21-Nov-26.flv":          "live",
		"live-2026-11-21T09:35:58+0100.flv":    "live",
		"live-2026-11-21T09:35:58.123Z.flv":    "live",
		"live-2026-11-21-09-35-PM.flv":         "live",
		"live-09-35-58.flv":                    "live",
		"live-09:35.flv":                       "live",
		"live-2026-325.flv":                    "live",
		"live-20261121093558.flv":              "live",
		"live-2026-11-21-09h35m58s.flv":        "live",
		"LIVE-2026-NOV-21.FLV":                 "LIVE",
		"2026-11-21_09-35-58-live.flv":         "live",
		"20261121-093558_cam-1.mp4":            "cam-1",
		"1795254935-live.flv":                  "live",
		"live-2026-11-21_09-35-58-hd.flv":      "live-hd",
		"live-1795254935-hd.flv":               "live-hd",
		"live-2026-11-21_09-35-58-unfinished.": "live-unfinished",

		// Directories of days.
		"2026-11-21/live.flv":          "live",
		"2026-11-21/live-09-35-58.flv": "live",
		"2026-11-21/live-093558.flv":   "live",
		"20261121/live-1795254935.flv": "live",
		"cam1/2026/11/21/09/35.58.mp4": "cam1/",
		"2026-11/21/09/cam1/35.58.mp4": "2026-11/21/09/cam1/35.58",
		"2026-11-21/09/cam1/35.58.mp4": "cam1/",
		"cam1/2026/Nov/21/x-09-35.mp4": "cam1/x",
		"cam1-2026-11-21/09-35-58.mp4": "cam1/",
		"21-Nov-26/live.flv":           "live",
		"cam1/01/a.flv":                "cam1/01/a",
		"2026/live.flv":                "2026/live",

		// Numbers that are names.
		"0912345678.flv":            "0912345678",
		"0912345678-1795254935.flv": "0912345678",
		"1795254935-1795254936.flv": "1795254935",
		"20261121-1795254935.flv":   "20261121",
		"123456-1795254935.flv":     "123456",
		"cam-12-2026-11-21.flv":     "cam-12",
		"12-2026-11-21.flv":         "12",
		"cam12-1795254935.flv":      "cam12",
		"channel-2.flv":             "channel-2",
		"may-2.flv":                 "may-2",
		"mars-2026.flv":             "mars-2026",
	} {
		if got := new(Streams).name(path); got != want {
			t.Errorf("the stream of %q is %q, want %q", path, got, want)
		}
	}
}

// TestStreamsAreFew checks that paths of one shape are looked at once.
func TestStreamsAreFew(t *testing.T) {
	var streams Streams
	for i := range 1000 {
		for _, name := range []string{"live", "cam-1", "cam-2"} {
			streams.Number(fmt.Sprintf("%s-%d.flv", name, 1795254935+i))
		}
	}
	if streams.Len() != 3 || len(streams.shapes) > 30 {
		t.Errorf("%d streams, %d shapes", streams.Len(), len(streams.shapes))
	}
}
