package hook

import (
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

var (
	testClients = Metric{"tunnelcast_clients", "Clients."}
	testDays    = Metric{"tunnelcast_left_seconds", "Left."}
	testHealed  = Metric{"tunnelcast_healed_total", "Healed."}
)

// runOnce is one run of a program that writes its metrics to dir.
func runOnce(t *testing.T, dir string, success bool, work func(*Metrics)) {
	t.Helper()
	m := &Metrics{program: "x"}
	m.Begin(dir, testClients, testDays, testHealed)
	work(m)
	if err := m.write(time.Unix(1800000000, 0), success); err != nil {
		t.Error(err)
	}
}

func content(t *testing.T, dir string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "tunnelcast_x.prom"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestMetricsOfSeveralRuns(t *testing.T) {
	dir := t.TempDir()
	runOnce(t, dir, true, func(m *Metrics) {
		m.Set(testClients, 3)
		m.Set(testDays, 1.5, "lineage", `a"b\c`)
		m.Set(testDays, 7, "lineage", "gone")
		m.Add(testHealed, 2)
		m.Add(testHealed, 1)
	})
	// A run that failed knows less, and the file keeps what was known.
	runOnce(t, dir, false, func(m *Metrics) { m.Add(testHealed, 1) })
	want := `# HELP tunnelcast_clients Clients.
# TYPE tunnelcast_clients gauge
tunnelcast_clients 3
# HELP tunnelcast_left_seconds Left.
# TYPE tunnelcast_left_seconds gauge
tunnelcast_left_seconds{lineage="a\"b\\c"} 1.5
tunnelcast_left_seconds{lineage="gone"} 7
# HELP tunnelcast_healed_total Healed.
# TYPE tunnelcast_healed_total counter
tunnelcast_healed_total 4
# HELP tunnelcast_last_success_timestamp_seconds When the program last did all of its work, in Unix time.
# TYPE tunnelcast_last_success_timestamp_seconds gauge
tunnelcast_last_success_timestamp_seconds{program="x"} 1800000000
# HELP tunnelcast_failures_total Runs of the program in which something failed.
# TYPE tunnelcast_failures_total counter
tunnelcast_failures_total{program="x"} 1
`
	if got := content(t, dir); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	runOnce(t, dir, true, func(m *Metrics) {
		m.Reset(testDays)
		m.Set(testDays, 2, "lineage", "new")
		m.Set(testClients, 0)
	})
	want = `# HELP tunnelcast_clients Clients.
# TYPE tunnelcast_clients gauge
tunnelcast_clients 0
# HELP tunnelcast_left_seconds Left.
# TYPE tunnelcast_left_seconds gauge
tunnelcast_left_seconds{lineage="new"} 2
`
	if got := content(t, dir); got[:min(len(got), len(want))] != want {
		t.Errorf("got\n%s\nwant at its beginning\n%s", got, want)
	}
}

func TestMetricsOfRunsAtOnce(t *testing.T) {
	dir := t.TempDir()
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() { runOnce(t, dir, true, func(m *Metrics) { m.Add(testHealed, 1) }) })
	}
	group.Wait()
	want := `# HELP tunnelcast_healed_total Healed.
# TYPE tunnelcast_healed_total counter
tunnelcast_healed_total 20
# HELP tunnelcast_last_success_timestamp_seconds When the program last did all of its work, in Unix time.
# TYPE tunnelcast_last_success_timestamp_seconds gauge
tunnelcast_last_success_timestamp_seconds{program="x"} 1800000000
# HELP tunnelcast_failures_total Runs of the program in which something failed.
# TYPE tunnelcast_failures_total counter
tunnelcast_failures_total{program="x"} 0
`
	if got := content(t, dir); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("%v, error %v: want the one file", entries, err)
	}
}

func TestMetricsThatNobodyAskedFor(t *testing.T) {
	var none *Metrics
	none.Begin("/nonexistent", testClients)
	for _, m := range []*Metrics{none, {program: "x"}} {
		m.Set(testClients, 1)
		m.Add(testHealed, 1)
		m.Reset(testDays)
		if err := m.write(time.Now(), true); err != nil {
			t.Error(err)
		}
	}
}

// A user who may write to the directory must not be able to block a program that runs as root.
func TestMetricsBesideATrap(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "tunnelcast_x.prom"), 0o666); err != nil {
		t.Fatal(err)
	}
	runOnce(t, dir, true, func(m *Metrics) { m.Set(testClients, 1) })
	if got := content(t, dir); len(got) == 0 {
		t.Error("nothing is written")
	}
}
