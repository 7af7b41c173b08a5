package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"
)

// A report is the result of a run.
type report struct {
	Began   time.Time `json:"began"`
	Took    float64   `json:"took_s"`
	Quick   bool      `json:"quick,omitempty"`
	Machine machine   `json:"machine"`
	Rows    []row     `json:"rows"`
	Lines   []line    `json:"scale,omitempty"`

	group string // of the rows that are being measured
	cores int    // row.Cores of these
}

type machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Memory int64  `json:"memory_B"`
	Kernel string `json:"kernel"`
	System string `json:"system"`
}

// A line of the scale chart shows how the cost of one kind of work grows.
type line struct {
	Panel  string  `json:"panel"` // what the horizontal axis counts
	Name   string  `json:"name"`
	Unit   unit    `json:"unit"`
	Theirs bool    `json:"theirs,omitempty"`
	Points []point `json:"points"`
}

type point struct {
	X float64 `json:"x"`
	Y float64 `json:"y"`
}

// add adds a row. With one processor no work may take longer than with what it replaces, but for rows whose goal is an
// amount.
func (r *report) add(row row) {
	row.Group, row.Cores = r.group, r.cores
	if r.cores == 1 && len(row.Theirs) > 0 {
		if row.Unit == inSeconds && (row.Goal == nil || row.Goal.Times && row.Goal.AtMost < 1) {
			row.Goal = times(1)
		}
	}
	r.Rows = append(r.Rows, row)
}

// with returns the rows that were measured with this number of processors; 0: all.
func (r *report) with(cores int) []row {
	return slices.DeleteFunc(slices.Clone(r.Rows), func(row row) bool { return row.Cores != cores })
}

func (r *report) json() (string, error) {
	data, err := json.MarshalIndent(r, "", "  ")
	return string(data) + "\n", err
}

// table formats all rows as Markdown tables that are also readable as plain text, followed by their notes.
func (r *report) table() string {
	var b strings.Builder
	var notes []string
	writeRows(&b, r.with(0), &notes)
	if one := r.with(1); len(one) > 0 {
		b.WriteString("\nThe same with one processor, for both sides and for the daemons:\n\n")
		writeRows(&b, one, &notes)
	}
	b.WriteString("\n")
	for i, note := range notes {
		fmt.Fprintf(&b, "[%d] %s.\n", i+1, note)
	}
	m := r.Machine
	fmt.Fprintf(&b, "\n%s, %d cores, %s of memory, Linux %s, %s; %s, %.0f minutes.\n",
		m.CPU, m.Cores, inBytes.print(float64(m.Memory)), m.Kernel, m.System,
		r.Began.Format("2006-01-02 15:04 MST"), r.Took/60)
	if r.Quick {
		b.WriteString("This was a quick run: small sizes, few rounds, numbers that mean little.\n")
	}
	return b.String()
}

// writeRows writes rows as a table, and adds their notes to those that there are.
func writeRows(b *strings.Builder, rows []row, notes *[]string) {
	cells := [][]string{{"work", "ours (least - most)", "theirs (least - most)", "against", "ratio",
		"CPU: ours", "theirs", "ratio", "goal", "met"}}
	for _, row := range rows {
		work := row.Work
		if row.Note != "" {
			n := slices.Index(*notes, row.Note)
			if n < 0 {
				n = len(*notes)
				*notes = append(*notes, row.Note)
			}
			work += fmt.Sprintf(" [%d]", n+1)
		}
		cells = append(cells, []string{work, row.Unit.spread(row.Ours), row.Unit.spread(row.Theirs), row.Against,
			printRatio(row.ratio()), inSeconds.middle(row.OursCPU), inSeconds.middle(row.TheirsCPU),
			printRatio(row.ratioCPU()), row.goals(), row.met()})
	}
	writeTable(b, cells)
}

// writeTable writes cells, the first line of which are the headings, as a Markdown table with aligned columns.
func writeTable(b *strings.Builder, cells [][]string) {
	widths := make([]int, len(cells[0]))
	for _, line := range cells {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for n, line := range cells {
		for i, cell := range line {
			fmt.Fprintf(b, "| %s%s ", cell, strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)))
		}
		b.WriteString("|\n")
		if n == 0 {
			for _, w := range widths {
				b.WriteString("| " + strings.Repeat("-", w) + " ")
			}
			b.WriteString("|\n")
		}
	}
}

// middle formats the median of a sample, or returns "" if it is empty.
func (u unit) middle(s sample) string {
	if len(s) == 0 {
		return ""
	}
	return u.print(s.median())
}

// spread formats the median of a sample, with the least and the most if it has several numbers.
func (u unit) spread(s sample) string {
	switch len(s) {
	case 0:
		return ""
	case 1:
		return u.print(s[0])
	}
	least, most := s.bounds()
	return fmt.Sprintf("%s (%s - %s)", u.print(s.median()), u.print(least), u.print(most))
}

// thisMachine describes this computer.
func thisMachine() machine {
	m := machine{CPU: "unknown CPU"}
	cpus, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(cpus)) {
		name, value, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(name) {
		case "model name":
			m.CPU = strings.TrimSpace(value)
		case "processor":
			m.Cores++
		}
	}
	var info syscall.Sysinfo_t
	if syscall.Sysinfo(&info) == nil {
		m.Memory = int64(info.Totalram) * int64(info.Unit)
	}
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	m.Kernel = strings.TrimSpace(string(release))
	system, _ := os.ReadFile("/etc/os-release")
	for line := range strings.Lines(string(system)) {
		if value, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			m.System = strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	return m
}
