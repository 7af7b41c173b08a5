package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// A baseline is the report of an earlier run, which a run is compared with.
type baseline struct {
	file string
	report
}

// readBaseline reads bench.json of an earlier run. It is read before the new run begins, which may write the same file.
func readBaseline(file string) (*baseline, error) {
	b := &baseline{file: file}
	err := readReport(file, &b.report)
	return b, err
}

// readReport reads a file that report.write has written.
func readReport(file string, r *report) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, r); err != nil {
		return fmt.Errorf("%s is not the result of a run: %w", file, err)
	}
	if len(r.Rows) == 0 {
		return fmt.Errorf("%s is not the result of a run: it has no rows", file)
	}
	return nil
}

// errRegression is the error of a run in which something was slower than in the baseline.
var errRegression = errors.New("regression")

// comparable returns an error if the two runs say nothing about each other.
func (b *baseline) comparable(now *report) error {
	then, is := b.Machine, now.Machine
	switch {
	case then.CPU != is.CPU || then.Cores != is.Cores:
		return fmt.Errorf("%s cannot be compared with this run: it is from another machine (%s, %d cores; this one: "+
			"%s, %d cores). Compare runs of one machine", b.file, then.CPU, then.Cores, is.CPU, is.Cores)
	case b.Quick != now.Quick:
		return fmt.Errorf("%s cannot be compared with this run: only one of them is a quick run, with smaller sizes",
			b.file)
	}
	return nil
}

// A change is how one number of ours differs from the baseline.
type change struct {
	what      string
	unit      unit
	then, now float64 // medians
	growth    float64 // 0.1: a tenth more than before
	theirs    float64 // the same of what ours is compared with, in a row of time; 0 if there is nothing
	noise     float64 // growth that the spread of both runs explains
}

// least is the growth below which nothing is reported, for rows with too few rounds to have a spread.
const least = 0.05

// excess returns the growth that is not explained: neither by the spread of the two runs nor by a machine that was
// slower as a whole, for which the growth of theirs is the sign.
func (c change) excess() float64 { return (1+c.growth)/(1+max(0, c.theirs)) - 1 }

func (c change) slower() bool { return c.excess() > max(c.noise, least) }
func (c change) faster() bool { return -c.growth > max(c.noise, least) }

func (c change) String() string {
	s := fmt.Sprintf("%s: %s -> %s, %+.0f %% (spread: %.0f %%",
		c.what, c.unit.print(c.then), c.unit.print(c.now), 100*c.growth, 100*c.noise)
	if c.theirs != 0 {
		s += fmt.Sprintf("; what it replaces: %+.0f %%", 100*c.theirs)
	}
	return s + ")"
}

// changeOf compares two samples of ours, and of theirs.
func changeOf(what string, u unit, then, now, theirsThen, theirsNow sample) change {
	c := change{what: what, unit: u, then: then.median(), now: now.median()}
	switch {
	case c.then > 0:
		c.growth = c.now/c.then - 1
		c.noise = (then.spread() + now.spread()) / 2 / c.then
	case c.now > 0: // such as logins lost
		c.growth = 1
	}
	// Bytes, faults and lost logins do not grow because the machine is slower.
	if before := theirsThen.median(); u == inSeconds && before > 0 && len(theirsNow) > 0 {
		c.theirs = theirsNow.median()/before - 1
	}
	return c
}

// changes compares the rows that both runs have, and returns those that only one has.
func (b *baseline) changes(now *report) (all []change, gone, fresh []string) {
	earlier := map[string]row{}
	for _, r := range b.Rows {
		earlier[r.key()] = r
	}
	for _, r := range now.Rows {
		then, ok := earlier[r.key()]
		delete(earlier, r.key())
		if !ok || then.Unit != r.Unit {
			fresh = append(fresh, r.key())
			continue
		}
		all = append(all, changeOf(r.key(), r.Unit, then.Ours, r.Ours, then.Theirs, r.Theirs))
		if len(then.OursCPU) > 0 && len(r.OursCPU) > 0 {
			all = append(all, changeOf(r.key()+", CPU", r.Unit, then.OursCPU, r.OursCPU, then.TheirsCPU, r.TheirsCPU))
		}
	}
	measured := map[string]bool{} // groups
	for _, r := range now.Rows {
		measured[r.Group] = true
	}
	others := 0
	for _, r := range b.Rows { // in their order
		switch _, left := earlier[r.key()]; {
		case left && measured[r.Group]:
			gone = append(gone, r.key())
		case left:
			others++
		}
	}
	if others > 0 { // -run
		gone = append(gone, fmt.Sprintf("rows of other parts: %d", others))
	}
	return all, gone, fresh
}

// compare prints what became slower and faster than in the baseline. It returns errRegression if anything became
// slower, and another error if the runs cannot be compared.
func (b *baseline) compare(now *report) (string, error) {
	if err := b.comparable(now); err != nil {
		return "", err
	}
	all, gone, fresh := b.changes(now)
	var out strings.Builder
	fmt.Fprintf(&out, "Compared with %s, %s:\n", b.file, b.Began.Format("2006-01-02 15:04 MST"))
	if b.Machine.Kernel != now.Machine.Kernel {
		fmt.Fprintf(&out, "  the kernel was Linux %s and is Linux %s\n", b.Machine.Kernel, now.Machine.Kernel)
	}
	list := func(title string, lines []string) {
		for _, line := range lines {
			fmt.Fprintf(&out, "  %s: %s\n", title, line)
		}
	}
	pick := func(which func(change) bool) (lines []string) {
		for _, c := range all {
			// A row is compared once for each program that it stands beside: ours is the same each time.
			if which(c) && !slices.Contains(lines, c.String()) {
				lines = append(lines, c.String())
			}
		}
		return lines
	}
	slower := pick(change.slower)
	list("SLOWER", slower)
	list("faster", pick(change.faster))
	list("not in this run", gone)
	list("not in the earlier run", fresh)
	if len(slower) == 0 {
		fmt.Fprintf(&out, "  none of %d numbers became worse by more than the spread of the runs\n", len(all))
		return out.String(), nil
	}
	return out.String(), fmt.Errorf("%w: %d of %d numbers became worse than in %s", errRegression,
		len(slower), len(all), b.file)
}
