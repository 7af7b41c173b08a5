package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// earlierRun writes a report and reads it as a baseline.
func earlierRun(t *testing.T, r *report) *baseline {
	t.Helper()
	dir := t.TempDir()
	if err := r.write(dir); err != nil {
		t.Fatal(err)
	}
	b, err := readBaseline(filepath.Join(dir, resultName))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func runOf(rows ...row) *report {
	r := &report{Machine: machine{CPU: "Some CPU", Cores: 2}}
	for _, row := range rows {
		row.Group, row.Unit = "group", inSeconds
		r.Rows = append(r.Rows, row)
	}
	return r
}

func TestCompareFindsWhatBecameSlower(t *testing.T) {
	for _, test := range []struct {
		name      string
		then, now row
		want      string // "slower", "faster" or ""
	}{
		{"the same", row{Ours: sample{1, 1.1, 0.9}}, row{Ours: sample{1, 1.1, 0.9}}, ""},
		{"more than the spread", row{Ours: sample{1, 1.01, 0.99}}, row{Ours: sample{1.2, 1.21, 1.19}}, "slower"},
		{"within the earlier spread", row{Ours: sample{1, 1.4, 0.8}}, row{Ours: sample{1.2, 1.21, 1.19}}, ""},
		{"within the new spread", row{Ours: sample{1, 1.01, 0.99}}, row{Ours: sample{1.2, 1.6, 1.1}}, ""},
		{"one outlier of many is no spread",
			row{Ours: sample{1, 1, 1, 1, 1, 1, 9}}, row{Ours: sample{1.2, 1.2, 1.2, 1.2, 1.2, 1.2, 9}}, "slower"},
		{"less than a twentieth", row{Ours: sample{1}}, row{Ours: sample{1.04}}, ""},
		{"one number", row{Ours: sample{1}}, row{Ours: sample{1.1}}, "slower"},
		{"faster", row{Ours: sample{1}}, row{Ours: sample{0.8}}, "faster"},
		{"the machine is slower",
			row{Ours: sample{1}, Theirs: sample{2}}, row{Ours: sample{1.2}, Theirs: sample{2.4}}, ""},
		{"slower than the machine",
			row{Ours: sample{1}, Theirs: sample{2}}, row{Ours: sample{1.4}, Theirs: sample{2.4}}, "slower"},
		{"what it replaces is faster now",
			row{Ours: sample{1}, Theirs: sample{2}}, row{Ours: sample{1}, Theirs: sample{1}}, ""},
		{"nothing became something", row{Ours: sample{0}}, row{Ours: sample{1}}, "slower"},
		{"nothing stays nothing", row{Ours: sample{0}}, row{Ours: sample{0}}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			text, err := earlierRun(t, runOf(test.then)).compare(runOf(test.now))
			if errors.Is(err, errRegression) != (test.want == "slower") || err != nil && test.want != "slower" {
				t.Errorf("error %v", err)
			}
			if strings.Contains(text, "SLOWER: group: ") != (test.want == "slower") ||
				strings.Contains(text, "faster: group: ") != (test.want == "faster") {
				t.Errorf("want %q:\n%s", test.want, text)
			}
		})
	}
}

// One login more that is lost is a regression, whatever swanctl loses.
func TestCompareCounts(t *testing.T) {
	then := runOf(row{Ours: sample{0}, Theirs: sample{10}})
	now := runOf(row{Ours: sample{1}, Theirs: sample{80}})
	then.Rows[0].Unit, now.Rows[0].Unit = counted, counted
	if text, err := earlierRun(t, then).compare(now); !errors.Is(err, errRegression) {
		t.Errorf("%v\n%s", err, text)
	}
}

func TestCompareProcessorTime(t *testing.T) {
	then := runOf(row{Work: "work", Ours: sample{2}, OursCPU: sample{1}})
	now := runOf(row{Work: "work", Ours: sample{2}, OursCPU: sample{1.5}})
	text, err := earlierRun(t, then).compare(now)
	const want = "SLOWER: group: work, CPU: 1.000 s -> 1.500 s, +50 % (spread: 0 %)"
	if !errors.Is(err, errRegression) || !strings.Contains(text, want) {
		t.Errorf("%v, want %q:\n%s", err, want, text)
	}
}

func TestCompareListsMissingRows(t *testing.T) {
	then := runOf(row{Work: "gone", Ours: sample{1}}, row{Work: "both", Ours: sample{1}})
	then.Rows = append(then.Rows, row{Group: "another", Work: "one", Ours: sample{1}})
	now := runOf(row{Work: "both", Ours: sample{1}}, row{Work: "both", Ours: sample{9}, Cores: 1})
	text, err := earlierRun(t, then).compare(now)
	if err != nil {
		t.Error(err)
	}
	for _, want := range []string{
		"not in this run: group: gone\n", "not in this run: rows of other parts: 1\n",
		"not in the earlier run: group: both, on one processor\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("want %q:\n%s", want, text)
		}
	}
}

func TestCompareRefusesOtherMachines(t *testing.T) {
	for what, now := range map[string]*report{
		"another machine": {Machine: machine{CPU: "Another CPU", Cores: 2}},
		"2 cores":         {Machine: machine{CPU: "Some CPU", Cores: 4}},
		"a quick run":     {Machine: machine{CPU: "Some CPU", Cores: 2}, Quick: true},
	} {
		_, err := earlierRun(t, runOf(row{Ours: sample{1}})).compare(now)
		if err == nil || !strings.Contains(err.Error(), "cannot be compared") || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: error %v", what, err)
		}
	}
}

// What an earlier run has left is not taken for the result of one that has measured nothing.
func TestResultOfAnEarlierRun(t *testing.T) {
	r := runOf(row{Ours: sample{1}})
	r.Began = time.Now().UTC().Truncate(time.Second)
	o := options{out: t.TempDir()}
	if err := r.write(o.out); err != nil {
		t.Fatal(err)
	}
	if _, err := o.result(r.Began.Add(10 * time.Millisecond)); err != nil {
		t.Error(err)
	}
	if _, err := o.result(r.Began.Add(time.Second)); err == nil || !strings.Contains(err.Error(), "earlier run") {
		t.Errorf("error %v", err)
	}
}

// A file that is not a report is an error before anything is measured, and stays as it is.
func TestBadBaseline(t *testing.T) {
	file := filepath.Join(t.TempDir(), resultName)
	for _, content := range []string{"", "{}", "no JSON"} {
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		err := benchmark(t.Context(), options{compare: file, out: filepath.Dir(file)})
		if err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%q: error %v", content, err)
		}
		if left, _ := os.ReadFile(file); string(left) != content {
			t.Errorf("%q was replaced by %q", content, left)
		}
	}
	if err := benchmark(t.Context(), options{compare: file + ".missing"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: error %v", err)
	}
}
