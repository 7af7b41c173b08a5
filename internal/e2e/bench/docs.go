package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The pages hold numbers of one run, docs/bench.json. What is to be replaced is marked by comments that readers do not
// see; so the words around a number can be in any language:
//
//	| one connect<!--one connect / the guide's script--> | 9.11 ms | ... |
//
// is a line of a table, whose other cells are filled: ours, (against), theirs, ratio, goal, met. In
//
//	<!--scale clients: all connect, updown; sync, nothing to do-->
//	| clients | hook | sync |
//
// the first cell of each line is a point of these lines of the scale chart, and in
//
//	A connect takes <!--ours one connect / the guide's script-->9.11 ms<!--/-->.
//
// one number is filled in. <!--table one processor--> and <!--/--> enclose a table that is made as a whole, and so do
// <!--table others--> and <!--/-->: it has the rows with a goal that have no line of their own in the page.
var (
	keyed  = regexp.MustCompile(`^\| [^|]*<!--([^>]+)-->`)
	scaled = regexp.MustCompile(`^<!--scale ([^:>]+): ([^>]+)-->$`)
	inline = regexp.MustCompile(`<!--(ours|theirs|ratio|cpu ours|cpu theirs|cpu ratio) ([^>]+)-->[^<]*<!--/-->`)
	began  = regexp.MustCompile(`<!--(date|machine)-->[^<]*<!--/-->`)
	tables = regexp.MustCompile(`(?s)<!--table (one processor|others)-->\n(?:.*?\n)??<!--/-->`)
)

// pageNames are the pages with numbers, in docs.
var pageNames = []string{"performance.md", "performance.ja.md", "scale.md", "scale.ja.md"}

// words are those that the tables need in the language of a page.
type words struct{ yes, no string }

func wordsOf(page string) words {
	if strings.HasSuffix(page, ".ja.md") {
		return words{"はい", "いいえ"}
	}
	return words{"yes", "no"}
}

// document writes the numbers and the charts of a run to the directory docs, and the run itself, summed up.
func document(file, docs string) error {
	var r report
	if err := readReport(file, &r); err != nil {
		return err
	}
	switch {
	case r.Quick:
		return fmt.Errorf("%s is of a quick run, whose numbers mean little: run make bench without -quick", file)
	case len(r.Lines) == 0:
		return fmt.Errorf("%s is of a part of the table: run make bench without -run", file)
	}
	r.sumUp()
	files := map[string]string{}
	var failed []error
	for _, name := range pageNames {
		text, err := os.ReadFile(filepath.Join(docs, name))
		if err == nil {
			files[name], err = r.fill(name, string(text))
		}
		failed = append(failed, err)
	}
	if err := errors.Join(failed...); err != nil {
		return err // and no page is changed
	}
	if err := r.write(docs); err != nil {
		return err
	}
	for name, text := range files {
		failed = append(failed, os.WriteFile(filepath.Join(docs, name), []byte(text), 0o644))
	}
	return errors.Join(failed...)
}

// sumUp reduces each sample to five numbers, of which the median, the quartiles and the bounds are those of all, with
// five digits each: a later run can be compared with them.
func (r *report) sumUp() {
	for i := range r.Rows {
		row := &r.Rows[i]
		for _, s := range []*sample{&row.Ours, &row.Theirs, &row.OursCPU, &row.TheirsCPU} {
			*s = s.five()
		}
	}
}

func (s sample) five() sample {
	if n := len(s); n > 5 {
		sorted := slices.Sorted(slices.Values(s))
		s = sample{sorted[0], sorted[n/4], s.median(), sorted[n-1-n/4], sorted[n-1]}
	}
	s = slices.Clone(s)
	for i, v := range s {
		if v != 0 {
			unit := math.Pow(10, math.Floor(math.Log10(math.Abs(v)))-4)
			s[i], _ = strconv.ParseFloat(strconv.FormatFloat(math.Round(v/unit)*unit, 'g', 5, 64), 64)
		}
	}
	return s
}

// fill returns a page with the numbers of this run.
func (r *report) fill(page, text string) (string, error) {
	f := filler{report: r, page: page, words: wordsOf(page)}
	text = tables.ReplaceAllStringFunc(text, func(whole string) string {
		name := tables.FindStringSubmatch(whole)[1]
		made := f.oneProcessor
		if name == "others" {
			made = func() string { return f.others(text) }
		}
		return "<!--table " + name + "-->\n" + made() + "<!--/-->"
	})
	lines := strings.Split(text, "\n")
	var scale []string // the lines of the chart in the columns of the present table
	var panel string
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		if strings.HasPrefix(line, "<!--scale ") { // it may take several lines
			comment := line
			for !strings.HasSuffix(comment, "-->") && i+1 < len(lines) {
				i++
				comment += " " + lines[i]
			}
			if m := scaled.FindStringSubmatch(comment); m != nil {
				panel, scale = m[1], strings.Split(m[2], "; ")
			} else {
				f.fail("this names no lines of the scale chart: %s", comment)
			}
			continue
		}
		if m := keyed.FindStringSubmatch(line); m != nil {
			line = f.row(line, m[1])
		} else if scale != nil && strings.HasPrefix(line, "|") {
			line = f.points(line, panel, scale)
		} else if !strings.HasPrefix(line, "|") {
			scale = nil
		}
		line = inline.ReplaceAllStringFunc(line, func(whole string) string {
			m := inline.FindStringSubmatch(whole)
			return fmt.Sprintf("<!--%s %s-->%s<!--/-->", m[1], m[2], f.number(m[1], m[2]))
		})
		lines[i] = began.ReplaceAllStringFunc(line, func(whole string) string {
			what := began.FindStringSubmatch(whole)[1]
			value := r.Began.Format("2006-01-02")
			if what == "machine" {
				value = fmt.Sprintf("%s, %d cores, %s", r.Machine.CPU, r.Machine.Cores, r.Machine.System)
			}
			return fmt.Sprintf("<!--%s-->%s<!--/-->", what, value)
		})
	}
	return strings.Join(lines, "\n"), errors.Join(f.failed...)
}

// A filler fills one page.
type filler struct {
	*report
	page string
	words
	failed []error
}

func (f *filler) fail(format string, args ...any) {
	f.failed = append(f.failed, fmt.Errorf("docs/%s: %s", f.page, fmt.Sprintf(format, args...)))
}

// mark returns the key as pages have it: without the name of the group, and with one - for two, which a comment may not
// contain.
func (r row) mark() string {
	return strings.ReplaceAll(strings.TrimPrefix(r.key(), r.Group+": "), "--", "-")
}

// find returns the row that is marked so.
func (f *filler) find(key string) row {
	for _, r := range f.Rows {
		if r.mark() == key {
			return r
		}
	}
	f.fail("the run has no row %q", key)
	return row{}
}

// row fills the cells of a line of the table: ours, against, theirs, ratio, goal, met.
func (f *filler) row(line, key string) string {
	cells := strings.Split(line, "|")
	if len(cells) != 9 {
		f.fail("the table has a line with %d cells: %s", len(cells)-2, line)
		return line
	}
	r := f.find(key)
	is := f.cells(r)
	for i, value := range map[int]string{2: is[0], 4: is[2], 5: is[3], 6: is[4], 7: is[5]} {
		cells[i] = " " + value + " "
	}
	return strings.Join(cells, "|")
}

// cells returns ours, against, theirs, ratio, goal and met of a row.
func (f *filler) cells(r row) []string {
	met := map[string]string{"yes": f.yes, "no": f.no}[r.met()]
	return []string{r.Unit.middle(r.Ours), r.Against, r.Unit.middle(r.Theirs), printRatio(r.ratio()),
		strings.ReplaceAll(r.goals(), "at most ", ""), met}
}

// points fills the cells of a line of a table whose first cell is a point of the scale chart.
func (f *filler) points(line, panel string, columns []string) string {
	cells := strings.Split(line, "|")
	x, err := strconv.ParseFloat(strings.ReplaceAll(strings.TrimSpace(cells[1]), ",", ""), 64)
	if err != nil {
		return line // a heading
	}
	if len(cells) != len(columns)+3 {
		f.fail("the table of %s has %d columns, and a line with %d cells: %s",
			panel, len(columns)+1, len(cells)-2, line)
		return line
	}
	for i, name := range columns {
		cells[i+2] = " " + f.point(panel, name, x) + " "
	}
	return strings.Join(cells, "|")
}

// point returns the value of a line of the scale chart, or "-" if it has none there. The name of a panel may precede
// that of the line, with a slash.
func (f *filler) point(panel, name string, x float64) string {
	if other, rest, ok := strings.Cut(name, "/"); ok {
		panel, name = strings.TrimSpace(other), strings.TrimSpace(rest)
	}
	for _, l := range f.Lines {
		if l.Name != name || strings.ReplaceAll(l.Panel, ": ", " ") != panel {
			continue
		}
		for _, p := range l.Points {
			if p.X == x {
				return l.Unit.print(p.Y)
			}
		}
		return "-"
	}
	f.fail("the scale chart has no line %q of %s", name, panel)
	return "-"
}

// number returns one number of a row.
func (f *filler) number(what, key string) string {
	r := f.find(key)
	switch what {
	case "ours":
		return r.Unit.middle(r.Ours)
	case "theirs":
		return r.Unit.middle(r.Theirs)
	case "ratio":
		return printRatio(r.ratio())
	case "cpu ours":
		return inSeconds.middle(r.OursCPU)
	case "cpu theirs":
		return inSeconds.middle(r.TheirsCPU)
	}
	return printRatio(r.ratioCPU())
}

// oneProcessor returns the table of what was measured with one processor, beside the same with all. It is empty if
// nothing was.
func (f *filler) oneProcessor() string {
	cells := [][]string{{"work", "tunnelcast", "CPU", "compared with", "its cost", "CPU", "ratio", "CPU ratio"}}
	for _, r := range f.with(1) {
		if r.Unit == inSeconds && len(r.Theirs) > 0 && len(r.OursCPU) > 0 {
			cells = append(cells, []string{r.Work, inSeconds.middle(r.Ours), inSeconds.middle(r.OursCPU), r.Against,
				inSeconds.middle(r.Theirs), inSeconds.middle(r.TheirsCPU),
				printRatio(r.ratio()), printRatio(r.ratioCPU())})
		}
	}
	return markdown(cells)
}

// others returns the table of the rows with a goal that have no line in the page.
func (f *filler) others(page string) string {
	cells := [][]string{{"work", "tunnelcast", "compared with", "its cost", "ratio", "goal", "met"}}
	for _, r := range f.with(0) {
		if r.met() != "" && !strings.Contains(page, "<!--"+r.mark()+"-->") {
			cells = append(cells, append([]string{r.Work}, f.cells(r)...))
		}
	}
	return markdown(cells)
}

// markdown returns a table with an empty line before and after it, or nothing if it has only headings.
func markdown(cells [][]string) string {
	if len(cells) == 1 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\n")
	for n, line := range cells {
		b.WriteString("| " + strings.Join(line, " | ") + " |\n")
		if n == 0 {
			b.WriteString(strings.Repeat("| --- ", len(line)) + "|\n")
		}
	}
	b.WriteString("\n")
	return b.String()
}
