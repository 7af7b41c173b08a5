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

// A Metric is a number for Prometheus. Its name follows the conventions
// (https://prometheus.io/docs/practices/naming/): base units, and _total at the end
// of a counter.
type Metric struct{ Name, Help string }

func (m Metric) counter() bool { return strings.HasSuffix(m.Name, "_total") }

// The metrics that every program has.
var (
	lastSuccess = Metric{"tunnelcast_last_success_timestamp_seconds",
		"When the program last did all of its work, in Unix time."}
	failedRuns = Metric{"tunnelcast_failures_total", "Runs of the program in which something failed."}
)

// Metrics collects the metrics of one run. At its end they are merged with those of
// earlier runs in DIR/tunnelcast_NAME.prom, a file for node_exporter's textfile
// collector.
type Metrics struct {
	program string
	dir     string
	known   []Metric
	series  map[string]float64 // of this run
	fresh   map[string]bool    // metrics whose earlier series are dropped
}

// Begin enables metrics for this run and sets their directory. If dir is empty, the
// default of the setting, metrics stay disabled. known are all metrics of the program.
func (m *Metrics) Begin(dir string, known ...Metric) {
	if m == nil || dir == "" {
		return
	}
	m.dir = dir
	m.known = append(slices.Clone(known), lastSuccess, failedRuns)
	m.series, m.fresh = map[string]float64{}, map[string]bool{}
}

// Reset drops the series of a gauge that earlier runs wrote, because their labels may
// no longer exist.
func (m *Metrics) Reset(metric Metric) {
	if m != nil && m.dir != "" {
		m.fresh[metric.Name] = true
	}
}

// Set sets a gauge. labels are names and values in turns.
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

// series returns the name of a time series in the text format
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

// write merges the metrics of this run into the file, which it replaces atomically.
// It does not wait for the disk: after a power cut the counters may be older or start at zero,
// which Prometheus handles.
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

// merge returns the new content of the file.
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
			continue // a comment, or a metric of an earlier version
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

// lockDir waits for other runs that write metrics, but for a second only: charon may
// be waiting for this run.
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

// read reads a file in a directory that others may write to: www-data may, and root
// reads. It follows no link, does not block on a FIFO and limits the size.
func read(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 1<<20))
}

// CheckMetrics checks whether this user's runs can write metrics to the directory.
func (c *Checks) CheckMetrics(dir string) {
	if dir == "" {
		return
	}
	f, err := os.CreateTemp(dir, ".tunnelcast-check-*")
	if err == nil {
		f.Close()
		err = os.Remove(f.Name())
	}
	c.Say("metrics in "+dir, err, "`chgrp www-data "+dir+" && chmod g+w "+dir+"`")
}
