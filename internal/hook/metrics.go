package hook

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"tunnelcast/internal/file"
)

// A Metric is a number that Prometheus watches. Names and units follow its
// conventions (https://prometheus.io/docs/practices/naming/): base units, and
// _total at the end of what only grows.
type Metric struct{ Name, Help string }

func (m Metric) counter() bool { return strings.HasSuffix(m.Name, "_total") }

// The metrics of every program.
var (
	lastSuccess = Metric{"tunnelcast_last_success_timestamp_seconds", "When the program last did all of its work, in Unix time."}
	failedRuns  = Metric{"tunnelcast_failures_total", "Runs of the program in which something failed."}
)

// Metrics are one run's numbers on their way to a file in node_exporter's textfile
// format, which keeps those of earlier runs: DIR/tunnelcast_NAME.prom.
type Metrics struct {
	program string
	dir     string
	known   []Metric
	series  map[string]float64 // what this run has found and done
	fresh   map[string]bool    // families of which no earlier series stays
}

// Begin says that this run counts, and where: nothing is written if dir is empty,
// the setting's default. known are all metrics of the program.
func (m *Metrics) Begin(dir string, known ...Metric) {
	if m == nil || dir == "" {
		return
	}
	m.dir = dir
	m.known = append(slices.Clone(known), lastSuccess, failedRuns)
	m.series, m.fresh = map[string]float64{}, map[string]bool{}
}

// Reset forgets a gauge's series of earlier runs, whose labels may be no more.
func (m *Metrics) Reset(metric Metric) {
	if m != nil && m.dir != "" {
		m.fresh[metric.Name] = true
	}
}

// Set gives a gauge its value. labels are names and values.
func (m *Metrics) Set(metric Metric, value float64, labels ...string) {
	if m != nil && m.dir != "" {
		m.series[series(metric, labels)] = value
	}
}

// Add adds to a counter.
func (m *Metrics) Add(metric Metric, value float64, labels ...string) {
	if m != nil && m.dir != "" {
		m.series[series(metric, labels)] += value
	}
}

// series names one time series as the text format does
// (https://prometheus.io/docs/instrumenting/exposition_formats/).
func series(metric Metric, labels []string) string {
	if len(labels) == 0 {
		return metric.Name
	}
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
	var pairs []string
	for i := 0; i+1 < len(labels); i += 2 {
		pairs = append(pairs, labels[i]+`="`+escape.Replace(labels[i+1])+`"`)
	}
	return metric.Name + "{" + strings.Join(pairs, ",") + "}"
}

func family(series string) string {
	name, _, _ := strings.Cut(series, "{")
	return name
}

// write merges the run's numbers into the file. A reader sees the old file or the
// new one. It is not synced: after a power cut the counters begin anew, which
// Prometheus knows how to read.
func (m *Metrics) write(now time.Time, success bool) error {
	if m == nil || m.dir == "" {
		return nil
	}
	if success {
		m.Set(lastSuccess, float64(now.Unix()), "program", m.program)
		m.Add(failedRuns, 0, "program", m.program)
	} else {
		m.Add(failedRuns, 1, "program", m.program)
	}
	unlock, err := lockDir(m.dir)
	if err != nil {
		return err
	}
	defer unlock()
	path := filepath.Join(m.dir, "tunnelcast_"+m.program+".prom")
	old, err := read(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return file.Replace(path, m.merge(old), 0o644, file.InMemory)
}

// merge returns the file's next content.
func (m *Metrics) merge(old []byte) []byte {
	all := maps.Clone(m.series)
	lines := bufio.NewScanner(bytes.NewReader(old))
	for lines.Scan() {
		end := strings.LastIndexByte(lines.Text(), ' ')
		if end < 0 {
			continue
		}
		name := lines.Text()[:end]
		value, err := strconv.ParseFloat(lines.Text()[end+1:], 64)
		i := slices.IndexFunc(m.known, func(k Metric) bool { return k.Name == family(name) })
		if err != nil || i < 0 {
			continue // a comment, or what an earlier version wrote
		}
		_, now := m.series[name]
		switch {
		case m.known[i].counter():
			all[name] += value
		case !now && !m.fresh[family(name)]:
			all[name] = value
		}
	}

	var out bytes.Buffer
	names := slices.Sorted(maps.Keys(all))
	for _, metric := range m.known {
		kind := "gauge"
		if metric.counter() {
			kind = "counter"
		}
		first := true
		for _, name := range names {
			if family(name) != metric.Name {
				continue
			}
			if first {
				fmt.Fprintf(&out, "# HELP %s %s\n# TYPE %s %s\n", metric.Name, metric.Help, metric.Name, kind)
				first = false
			}
			fmt.Fprintf(&out, "%s %s\n", name, strconv.FormatFloat(all[name], 'f', -1, 64))
		}
	}
	return out.Bytes()
}

// lockDir waits for the other runs that write there, but not long: several hooks may end at the
// same time, and a metric is not worth more.
func lockDir(dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := file.Lock(ctx, d, file.Exclusive); err != nil {
		d.Close()
		return nil, err
	}
	return func() { d.Close() }, nil
}

// read trusts nobody who may write to the directory: www-data may, and root reads.
func read(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 1<<20))
}

// CheckMetrics says whether this user's runs can write their metrics.
func (c *Checks) CheckMetrics(dir string) {
	if dir == "" {
		return
	}
	f, err := os.CreateTemp(dir, ".tunnelcast-check-*")
	if err == nil {
		f.Close()
		err = os.Remove(f.Name())
	}
	c.Say("metrics in "+dir, err, "chgrp www-data "+dir+" && chmod g+w "+dir)
}
