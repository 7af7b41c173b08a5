package main

import (
	"fmt"
	"slices"
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

// A row is one line of the table: the cost of a piece of work with our program and with what it replaces.
type row struct {
	Group   string `json:"group"`
	Work    string `json:"work"`
	Unit    unit   `json:"unit"`
	Ours    sample `json:"ours"`
	Against string `json:"against,omitempty"` // what ours is compared with, or ""
	Theirs  sample `json:"theirs,omitempty"`
	Goal    *goal  `json:"goal,omitempty"`
	Note    string `json:"note,omitempty"` // what a reader must know to understand the numbers
}

// A goal is the most that our median may be: a multiple of theirs, or an amount in the row's unit.
type goal struct {
	AtMost float64 `json:"at_most"`
	Times  bool    `json:"times,omitempty"`
}

func times(x float64) *goal { return &goal{AtMost: x, Times: true} }
func most(x float64) *goal  { return &goal{AtMost: x} }

// ratio returns our median divided by theirs, or 0 if there is nothing to compare with.
func (r row) ratio() float64 {
	if theirs := r.Theirs.median(); theirs > 0 {
		return r.Ours.median() / theirs
	}
	return 0
}

// met reports whether the goal is met, as "yes" or "no"; it is "" without a goal.
func (r row) met() string {
	if r.Goal == nil {
		return ""
	}
	is := r.Ours.median()
	if r.Goal.Times {
		is = r.ratio()
	}
	if is > r.Goal.AtMost || r.Goal.Times && is == 0 {
		return "no"
	}
	return "yes"
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

// printRatio formats a ratio, such as "0.12x".
func printRatio(v float64) string {
	if v > 0 && v < 0.01 {
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
