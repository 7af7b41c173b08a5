package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A unit is the unit of a row's numbers, and determines how they are printed.
type unit string

const (
	inSeconds unit = "s"
	inBytes   unit = "B"
	counted   unit = "1"
)

// A sample is one number per round.
type sample []float64

func (s sample) median() float64 {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

func (s sample) bounds() (least, most float64) { return slices.Min(s), slices.Max(s) }

// spread returns the distance between the quartiles, or between the least and the most of three numbers.
func (s sample) spread() float64 {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	n := len(sorted)
	return sorted[n-1-n/4] - sorted[n/4]
}

// A row is one line of the table: the cost of a piece of work with our program and with what it replaces.
type row struct {
	Group   string `json:"group"`
	Work    string `json:"work"`
	Cores   int    `json:"cores,omitempty"` // how many processors both sides had; 0: all
	Unit    unit   `json:"unit"`
	Ours    sample `json:"ours"`
	Against string `json:"against,omitempty"` // what ours is compared with, or ""
	Theirs  sample `json:"theirs,omitempty"`
	// In a row of time: the processor time, user and system, of the processes that it is about, in seconds. Daemons
	// that both sides need, such as bind9, are not in it.
	OursCPU   sample `json:"ours_cpu_s,omitempty"`
	TheirsCPU sample `json:"theirs_cpu_s,omitempty"`
	Goal      *goal  `json:"goal,omitempty"`
	CPUGoal   *goal  `json:"cpu_goal,omitempty"` // a multiple of theirs
	Note      string `json:"note,omitempty"`     // what a reader must know to understand the numbers
}

// of completes a row with the wall time and the processor time of two sides. theirs may be nil.
func (r row) of(ours, theirs *side) row {
	r.Unit, r.Ours, r.OursCPU = inSeconds, ours.wall(), ours.cpu()
	if theirs != nil {
		r.Theirs, r.TheirsCPU = theirs.wall(), theirs.cpu()
	}
	return r
}

// key identifies the row in a report.
func (r row) key() string {
	key := r.Group + ": " + r.Work
	if r.Against != "" {
		key += " / " + r.Against
	}
	if r.Cores > 0 {
		key += ", on one processor"
	}
	return key
}

// A goal is the most that our median may be: a multiple of theirs, or an amount in the row's unit.
type goal struct {
	AtMost float64 `json:"at_most"`
	Times  bool    `json:"times,omitempty"`
}

func times(x float64) *goal { return &goal{AtMost: x, Times: true} }
func most(x float64) *goal  { return &goal{AtMost: x} }

// ratio returns our median divided by theirs, or 0 if there is nothing to compare with.
func (r row) ratio() float64 { return r.Ours.over(r.Theirs) }

// ratioCPU does the same for the processor time.
func (r row) ratioCPU() float64 { return r.OursCPU.over(r.TheirsCPU) }

// over returns the median of s divided by that of t, or 0 if that is 0.
func (s sample) over(t sample) float64 {
	if median := t.median(); median > 0 {
		return s.median() / median
	}
	return 0
}

// met reports whether the goals are met, as "yes" or "no"; it is "" without a goal.
func (r row) met() string {
	switch {
	case r.Goal == nil && r.CPUGoal == nil:
		return ""
	case r.Goal.missed(r.Ours.median(), r.ratio()), r.CPUGoal.missed(0, r.ratioCPU()):
		return "no"
	}
	return "yes"
}

// missed reports whether there is a goal and an amount, or a ratio, misses it.
func (g *goal) missed(amount, ratio float64) bool {
	switch {
	case g == nil:
		return false
	case g.Times:
		return ratio > g.AtMost || ratio == 0
	}
	return amount > g.AtMost
}

// goals formats the goals of the row.
func (r row) goals() string {
	var all []string
	if r.Goal != nil {
		all = append(all, r.Goal.print(r.Unit))
	}
	if r.CPUGoal != nil {
		all = append(all, "CPU "+r.CPUGoal.print(r.Unit))
	}
	return strings.Join(all, "; ")
}

// print formats a number with three or four digits and a suitable prefix of the unit.
func (u unit) print(v float64) string {
	switch {
	case u == counted:
		return grouped(int(v))
	case u == inBytes && v >= 1<<20:
		return digits(v/(1<<20)) + " MiB"
	case u == inBytes:
		return digits(v/(1<<10)) + " KiB"
	case v >= 1 && v < 9.9995: // milliseconds, because a goal is one second
		return fmt.Sprintf("%.3f s", v)
	case v >= 1:
		return digits(v) + " s"
	default:
		return digits(v*1000) + " ms"
	}
}

// digits formats a number with three significant digits and without an exponent.
func digits(v float64) string {
	switch {
	case v >= 99.95:
		return grouped(int(v + 0.5))
	case v >= 9.995:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

// grouped formats a number with commas between thousands.
func grouped(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// printRatio formats a ratio, such as "0.12x". There is none if it is 0.
func printRatio(v float64) string {
	switch {
	case v <= 0:
		return ""
	case v < 0.01:
		return fmt.Sprintf("%.4fx", v)
	}
	return digits(v) + "x"
}

func (g goal) print(u unit) string {
	if g.Times {
		return "at most " + printRatio(g.AtMost)
	}
	if g.AtMost == 0 {
		return "none"
	}
	return "at most " + u.print(g.AtMost)
}

func seconds(d time.Duration) float64 { return d.Seconds() }
