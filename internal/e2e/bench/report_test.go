package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write testdata")

// sampleReport has a row of every kind.
func sampleReport() *report {
	r := &report{
		Began: time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC), Took: 1500,
		Machine: machine{
			CPU: "Some CPU", Cores: 2, Memory: 4 << 30, Kernel: "6.1.0", System: "Debian GNU/Linux 12 (bookworm)",
		},
		group: "connect",
	}
	const again = "a note of two rows"
	r.add(row{Work: "one connect", Unit: inSeconds, Ours: sample{0.004, 0.002, 0.003},
		Against: "the guide's script", Theirs: sample{0.030, 0.020}, Goal: times(0.15), Note: again,
		OursCPU: sample{0.0012, 0.0011}, TheirsCPU: sample{0.010}, CPUGoal: times(0.1)})
	r.add(row{Work: "named hung", Unit: inSeconds, Ours: sample{1.004},
		Against: "the guide's script", Theirs: sample{12.05}, Goal: most(1), Note: "another"})
	r.group = "prune"
	r.add(row{Work: "peak memory", Unit: inBytes, Ours: sample{5 << 20},
		Against: "find <&>", Theirs: sample{700 << 10}, Goal: most(16 << 20), Note: again})
	r.add(row{Work: "what gets installed", Unit: inBytes, Ours: sample{1 << 20},
		Against: "apt-get", Theirs: sample{1000 << 20}, Goal: times(0.03)})
	r.add(row{Work: "logins lost", Unit: counted, Ours: sample{0},
		Against: "swanctl", Theirs: sample{36}, Goal: most(0)})
	r.add(row{Work: "time alone", Unit: inSeconds, Ours: sample{1234.5}})
	r.group, r.cores = "connect", 1
	r.add(row{Work: "one connect", Unit: inSeconds, Ours: sample{0.004},
		Against: "the guide's script", Theirs: sample{0.030}, Goal: times(0.15), Note: again})
	r.add(row{Work: "one switch", Unit: inSeconds, Ours: sample{0.4}, Against: "swanctl", Theirs: sample{0.3}})
	r.add(row{Work: "named hung", Unit: inSeconds, Ours: sample{0.9},
		Against: "the guide's script", Theirs: sample{0.8}, Goal: most(1)})
	r.cores = 0
	for i, x := range []int{1000, 10_000, 1_000_000} {
		r.draw("files", "ours", inSeconds, false, x, sample{0.01 * float64(i+1)})
		r.draw("files", "find <-delete>", inSeconds, true, x, sample{0.02 * float64(i+1)})
		r.draw("memory", "ours", inBytes, false, x, sample{5e6 * float64(i+1)})
	}
	return r
}

func TestReport(t *testing.T) {
	r := sampleReport()
	dir := t.TempDir()
	if err := r.write(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "table.md"), []byte(r.table()), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"table.md", "bench.json", "bench.svg", "scale.svg"} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
			continue
		}
		golden := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(golden, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil || string(got) != string(want) {
			t.Errorf("%s differs (-update writes it): %v\n%s", golden, err, got)
		}
		if strings.HasSuffix(name, ".svg") {
			wellFormed(t, name, string(got))
		}
	}
}

func wellFormed(t *testing.T, name, text string) {
	t.Helper()
	for d := xml.NewDecoder(strings.NewReader(text)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
	}
}

// Another program can read the numbers.
func TestJSON(t *testing.T) {
	r := sampleReport()
	text, err := r.json()
	if err != nil {
		t.Fatal(err)
	}
	var back report
	if err := json.Unmarshal([]byte(text), &back); err != nil {
		t.Fatal(err)
	}
	if len(back.Rows) != len(r.Rows) || back.Rows[0].ratio() != r.Rows[0].ratio() || back.Rows[1].met() != "no" ||
		back.Lines[0].Points[2].X != 1e6 {
		t.Errorf("read back: %+v", back)
	}
}

func TestRow(t *testing.T) {
	for _, test := range []struct {
		row   row
		ratio float64
		met   string
	}{
		{row{Ours: sample{3, 1, 2}, Theirs: sample{4, 4, 9}, Goal: times(0.5)}, 0.5, "yes"},
		{row{Ours: sample{3, 1}, Theirs: sample{1}, Goal: times(1.9)}, 2, "no"},
		{row{Ours: sample{0}, Theirs: sample{36}, Goal: most(0)}, 0, "yes"},
		{row{Ours: sample{1}, Goal: most(0)}, 0, "no"},
		{row{Ours: sample{1}, Theirs: sample{0}}, 0, ""},
		{row{Ours: sample{1}, Goal: times(1)}, 0, "no"}, // nothing to compare with
		{row{Ours: sample{1}, Theirs: sample{2}, Goal: times(1),
			OursCPU: sample{3}, TheirsCPU: sample{2}, CPUGoal: times(1.1)}, 0.5, "no"},
		{row{Ours: sample{1}, Theirs: sample{2}, Goal: times(1),
			OursCPU: sample{2}, TheirsCPU: sample{2}, CPUGoal: times(1.1)}, 0.5, "yes"},
	} {
		if ratio, met := test.row.ratio(), test.row.met(); ratio != test.ratio || met != test.met {
			t.Errorf("%+v: ratio %v, met %q; want %v, %q", test.row, ratio, met, test.ratio, test.met)
		}
	}
}

func TestPrint(t *testing.T) {
	for _, test := range []struct {
		unit unit
		v    float64
		want string
	}{
		{inSeconds, 0, "0.00 ms"}, {inSeconds, 0.0012345, "1.23 ms"}, {inSeconds, 0.012345, "12.3 ms"},
		{inSeconds, 0.12345, "123 ms"}, {inSeconds, 1.0004, "1.000 s"},
		{inSeconds, 9.9999, "10.0 s"}, {inSeconds, 1234.5, "1,235 s"},
		{inBytes, 2048, "2.00 KiB"}, {inBytes, 5 << 20, "5.00 MiB"}, {inBytes, 1 << 30, "1,024 MiB"},
		{counted, 0, "0"}, {counted, 1234567, "1,234,567"},
	} {
		if got := test.unit.print(test.v); got != test.want {
			t.Errorf("%v %s: got %s, want %s", test.v, test.unit, got, test.want)
		}
	}
}
