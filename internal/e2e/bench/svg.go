package main

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// An svg is a picture that is being drawn. Its background and its text both follow the reader's colour scheme, so it is
// readable on any page.
type svg struct {
	strings.Builder
	width, height float64
}

const style = `<style>
text { font: 12px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328 }
.page { fill: #ffffff; stroke: #d1d9e0 } .quiet { fill: #59636e } .title { font-weight: 600; font-size: 14px }
.grid { stroke: #d1d9e0 } .one { stroke: #59636e; stroke-dasharray: 3 3 } .goal { stroke: #1f2328; stroke-width: 2 }
.met { fill: #1a7f64 } .missed { fill: #c2410c }
.a { stroke: #1f6feb; fill: #1f6feb } .b { stroke: #1a7f64; fill: #1a7f64 }
.c { stroke: #8250df; fill: #8250df } .d { stroke: #bf3989; fill: #bf3989 }
.theirs { stroke: #c2410c; fill: #c2410c }
polyline { fill: none !important; stroke-width: 2 } polyline.theirs { stroke-dasharray: 6 3 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .page { fill: #0d1117; stroke: #3d444d } .quiet { fill: #9198a1 }
.grid { stroke: #3d444d } .one { stroke: #9198a1 } .goal { stroke: #e6edf3 }
.met { fill: #2ea88a } .missed { fill: #f0883e }
.a { stroke: #58a6ff; fill: #58a6ff } .b { stroke: #2ea88a; fill: #2ea88a }
.c { stroke: #bc8cff; fill: #bc8cff } .d { stroke: #f778ba; fill: #f778ba }
.theirs { stroke: #f0883e; fill: #f0883e }
}
</style>
`

// newSVG begins a picture; width and height are in pixels. title is for readers who cannot see it.
func newSVG(width, height float64, title string) *svg {
	s := &svg{width: width, height: height}
	fmt.Fprintf(s, `<svg xmlns="http://www.w3.org/2000/svg" width="%g" height="%g" viewBox="0 0 %[1]g %[2]g"`+
		` role="img" aria-label="%s">`+"\n", width, height, html.EscapeString(title))
	s.WriteString(style)
	fmt.Fprintf(s, `<rect class="page" x="0.5" y="0.5" width="%g" height="%g" rx="6"/>`+"\n", width-1, height-1)
	return s
}

// text writes text; anchor (start, middle or end) is the part of it that is at x.
func (s *svg) text(x, y float64, anchor, class, text string) {
	fmt.Fprintf(s, `<text x="%.1f" y="%.1f" text-anchor="%s" class="%s">%s</text>`+"\n",
		x, y, anchor, class, html.EscapeString(text))
}

func (s *svg) line(x1, y1, x2, y2 float64, class string) {
	fmt.Fprintf(s, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" class="%s"/>`+"\n", x1, y1, x2, y2, class)
}

func (s *svg) end() string {
	s.WriteString("</svg>\n")
	return s.String()
}

// An axis maps values to pixels, logarithmically.
type axis struct{ least, most, from, to float64 }

func (a axis) at(v float64) float64 {
	v = min(max(v, a.least), a.most)
	return a.from + (a.to-a.from)*math.Log(v/a.least)/math.Log(a.most/a.least)
}

// decades returns the powers of ten on the axis.
func (a axis) decades() (all []float64) {
	for e := math.Ceil(math.Log10(a.least) - 1e-9); e <= math.Log10(a.most)+1e-9; e++ {
		all = append(all, math.Pow(10, e))
	}
	return all
}

// barChart draws a bar for the ratio of each row that has a goal, and marks the goal.
func (r *report) barChart() string {
	var rows []row
	for _, row := range r.with(0) {
		if row.ratio() > 0 && row.Goal != nil {
			rows = append(rows, row)
		}
	}
	const width, top, height, names, right = 960, 62, 22, 560, 740
	const title = "Cost of each piece of work divided by that of what it replaces"
	s := newSVG(width, top+height*float64(len(rows))+36, title)
	s.text(16, 24, "start", "title", "Ours divided by theirs: shorter is better")
	s.text(16, 44, "start", "quiet", "medians of one run, in which both sides take turns; "+
		"left of the dashed line ours costs less; the mark is the goal; orange misses it")
	x := axis{0.001, 10, names, right}
	bottom := top + height*float64(len(rows))
	for _, v := range x.decades() {
		class := "grid"
		if v == 1 {
			class = "one"
		}
		s.line(x.at(v), top, x.at(v), bottom, class)
		s.text(x.at(v), bottom+16, "middle", "quiet", fmt.Sprintf("%gx", v))
	}
	for i, row := range rows {
		y := top + height*float64(i)
		fmt.Fprintf(s, `<text x="%d" y="%.1f" text-anchor="end">%s<tspan class="quiet">, %s</tspan></text>`+"\n",
			names-10, y+15, html.EscapeString(row.Work), html.EscapeString(row.Against))
		class := map[string]string{"yes": "met", "no": "missed"}[row.met()]
		fmt.Fprintf(s, `<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%d"/>`+"\n",
			class, x.from, y+4, max(1, x.at(row.ratio())-x.from), height-8)
		if row.Goal.Times {
			s.line(x.at(row.Goal.AtMost), y+1, x.at(row.Goal.AtMost), y+height-1, "goal")
		}
		s.text(right+12, y+15, "start", "", row.Unit.print(row.Ours.median())+" / "+row.Unit.print(row.Theirs.median()))
		s.text(width-14, y+15, "end", "quiet", printRatio(row.ratio()))
	}
	return s.end()
}

// scaleChart draws each panel with its lines, two panels per row.
func (r *report) scaleChart() string {
	var panels []string
	for _, l := range r.Lines {
		if !slices.Contains(panels, l.Panel) {
			panels = append(panels, l.Panel)
		}
	}
	slices.Sort(panels)
	const width, height, columns = 450, 330, 2
	rows := (len(panels) + columns - 1) / columns
	s := newSVG(width*columns, height*float64(rows)+8, "Cost as the work grows, both axes logarithmic")
	for i, name := range panels {
		lines := slices.DeleteFunc(slices.Clone(r.Lines), func(l line) bool { return l.Panel != name })
		s.panel(float64(i%columns*width), float64(i/columns*height), width, height, name, lines)
	}
	return s.end()
}

func (s *svg) panel(left, top, width, height float64, title string, lines []line) {
	legend := top + 44
	x := axis{math.Inf(1), 0, left + 66, left + width - 24}
	y := axis{math.Inf(1), 0, top + height - 34, legend + 16*float64(len(lines)) - 4}
	for _, l := range lines {
		for _, p := range l.Points {
			x.least, x.most = min(x.least, p.X), max(x.most, p.X)
			y.least, y.most = min(y.least, p.Y), max(y.most, p.Y)
		}
	}
	// Whole decades, at least one of them.
	for _, a := range []*axis{&x, &y} {
		a.least = math.Pow(10, math.Floor(math.Log10(a.least)+1e-9))
		a.most = max(a.least*10, math.Pow(10, math.Ceil(math.Log10(a.most)-1e-9)))
	}
	s.text(left+66, top+26, "start", "title", title)
	for _, v := range x.decades() {
		s.line(x.at(v), y.from, x.at(v), y.to, "grid")
		s.text(x.at(v), y.from+18, "middle", "quiet", power(v))
	}
	for _, v := range y.decades() {
		s.line(x.from, y.at(v), x.to, y.at(v), "grid")
		s.text(x.from-8, y.at(v)+4, "end", "quiet", lines[0].Unit.round(v))
	}
	classes := []string{"a", "b", "c", "d"}
	for i, l := range lines {
		class := "theirs"
		if !l.Theirs {
			class, classes = classes[0], append(classes[1:], classes[0])
		}
		var points []string
		for _, p := range l.Points {
			points = append(points, fmt.Sprintf("%.1f,%.1f", x.at(p.X), y.at(p.Y)))
			fmt.Fprintf(s, `<circle cx="%.1f" cy="%.1f" r="3" class="%s"><title>%s: %s</title></circle>`+"\n",
				x.at(p.X), y.at(p.Y), class, html.EscapeString(l.Name), l.Unit.print(p.Y))
		}
		fmt.Fprintf(s, `<polyline points="%s" class="%s"/>`+"\n", strings.Join(points, " "), class)
		at := legend + 16*float64(i)
		fmt.Fprintf(s, `<polyline points="%.1f,%.1f %.1f,%.1f" class="%s"/>`+"\n", left+66, at-4, left+88, at-4, class)
		last := l.Points[len(l.Points)-1]
		s.text(left+94, at, "start", "", fmt.Sprintf("%s: %s at %s", l.Name, l.Unit.print(last.Y), power(last.X)))
	}
}

// power formats a power of ten.
func power(v float64) string {
	if v >= 1e6 {
		return fmt.Sprintf("%g M", v/1e6)
	}
	return grouped(int(v))
}

// round formats a power of ten with the unit.
func (u unit) round(v float64) string {
	switch {
	case u == inBytes && v >= 1e9:
		return fmt.Sprintf("%g GB", v/1e9)
	case u == inBytes:
		return fmt.Sprintf("%g MB", v/1e6)
	case v < 1:
		return fmt.Sprintf("%g ms", math.Round(v*1e6)/1e3)
	}
	return fmt.Sprintf("%g s", v)
}
