// Command bench compares the four programs with what they replace, on this computer, and prints one table. It writes
// the same numbers to bench.json, and charts to bench.svg and scale.svg.
//
// Ours and theirs take turns in one run, each as a whole process from its fork to its end. Nothing but these files is
// left of a run: see testbed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"
)

func main() {
	var o options
	flag.StringVar(&o.deb, "deb", "", "the package whose programs are measured, as make deb leaves it in bin/")
	flag.StringVar(&o.out, "out", "bin", "the directory for bench.json and the charts")
	flag.StringVar(&o.run, "run", "", "only the groups of rows whose names match this regular expression")
	flag.StringVar(&o.compare, "compare", "",
		"the bench.json of an earlier run on this computer: print what is slower now, and fail if anything is")
	flag.BoolVar(&o.quick, "quick", false,
		"small sizes and few rounds: a minute instead of half an hour, and numbers that mean little")
	flag.StringVar(&o.document, "document", "",
		"measure nothing: write the numbers and charts of this bench.json to the pages in docs")
	flag.StringVar(&o.inside, "inside", "",
		"for internal use: the directory of the run, whose namespaces this process is in")
	flag.BoolVar(&o.one, "one", false, "for internal use: this process and all that it starts have one processor")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	work := benchmark
	switch {
	case o.inside != "":
		work = measureAll
	case o.document != "":
		work = func(context.Context, options) error { return document(o.document, "docs") }
	}
	err := work(ctx, o)
	switch {
	case err == nil:
	case o.inside != "" || errors.As(err, new(*insideError)):
		if o.inside != "" && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
		os.Exit(1)
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "bench: interrupted; nothing is left of it")
		os.Exit(130)
	default:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	deb, out, run, compare, document, inside string
	quick, one                               bool
}

// resultName is the name of the file in -out that has all numbers.
const resultName = "bench.json"

// benchmark measures everything, first with all processors and then with one, prints the tables, and compares the
// numbers with those of an earlier run.
func benchmark(ctx context.Context, o options) error {
	var earlier *baseline
	if o.compare != "" {
		var err error
		if earlier, err = readBaseline(o.compare); err != nil { // before this run replaces it
			return fmt.Errorf("-compare: %w", err)
		}
		if err := earlier.comparable(&report{Machine: thisMachine(), Quick: o.quick}); err != nil {
			return err
		}
	}
	began := time.Now()
	failed := enter(ctx, o)
	var inside *insideError
	if failed != nil && !errors.As(failed, &inside) || ctx.Err() != nil {
		return failed
	}
	r, err := o.result(began)
	if err != nil {
		return errors.Join(failed, err)
	}
	fmt.Print(r.table())
	if earlier == nil {
		return failed
	}
	text, err := earlier.compare(r)
	fmt.Print("\n", text)
	return errors.Join(failed, err)
}

// result returns what was measured since a time. The file may be that of an earlier run.
func (o options) result(since time.Time) (*report, error) {
	var r report
	file := filepath.Join(o.out, resultName)
	if err := readReport(file, &r); err != nil {
		return nil, err
	}
	if r.Began.Before(since.Truncate(time.Second)) {
		return nil, fmt.Errorf("nothing was measured; %s is of an earlier run", file)
	}
	return &r, nil
}

// groups are the groups of rows in the order of the table, each with the function that measures it.
var groups = []struct {
	name string
	work func(*bench, context.Context) error
	one  bool // also with one processor
}{
	{"connect", (*bench).connect, true},
	{"crowd", (*bench).crowd, true},
	{"logins", (*bench).logins, true},
	{"hung", (*bench).hung, true},
	{"sync", (*bench).sync, true},
	{"remux", (*bench).remux, true},
	{"live", (*bench).live, true},
	{"prune", (*bench).prune, true},
	{"switch", (*bench).switches, true},
	{"install", (*bench).install, true},
	{"scale", (*bench).scale, false},
	{"gateways", (*bench).gateways, false},
}

// A bench is one run, in its testbed.
type bench struct {
	*testbed
	quick, one bool
	report
}

// pick returns the size or the number of rounds for this kind of run.
func (b *bench) pick(full, quick int) int {
	if b.quick {
		return quick
	}
	return full
}

// rounds does the same for a number of rounds, of which a run with one processor makes a third.
func (b *bench) rounds(full, quick int) int {
	if b.one {
		full = (full + 2) / 3
	}
	return b.pick(full, quick)
}

// progress prints what is being done now, in a group that takes minutes.
func (b *bench) progress(format string, args ...any) {
	if !b.quick {
		fmt.Fprintf(os.Stderr, "bench: %s: %s ...\n", b.group, fmt.Sprintf(format, args...))
	}
}

// measureAll measures all selected groups. If one fails, the others are measured all the same.
func measureAll(ctx context.Context, o options) error {
	selected, err := regexp.Compile(o.run)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	t, err := newTestbed(ctx, o.inside)
	if err != nil {
		return err
	}
	b := &bench{testbed: t, quick: o.quick, one: o.one}
	b.report = report{Machine: thisMachine(), Began: time.Now().UTC().Truncate(time.Second), Quick: o.quick}
	what := ""
	if o.one {
		// This run continues the one with all processors.
		if err := readReport(filepath.Join(o.out, resultName), &b.report); err != nil {
			return err
		}
		b.cores, what = 1, ", on one processor"
	}
	var failed []error
	for _, g := range groups {
		if !selected.MatchString(g.name) || o.one && !g.one {
			continue
		}
		b.group = g.name
		start := time.Now()
		fmt.Fprintf(os.Stderr, "bench: %s%s ...\n", g.name, what)
		if err := g.work(b, ctx); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", g.name, err))
		}
		b.Took = seconds(time.Since(b.Began))
		failed = append(failed, b.write(o.out)) // after each group, because a later one may not end
		t.clean()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		fmt.Fprintf(os.Stderr, "bench: %s%s took %.0f s\n", g.name, what, time.Since(start).Seconds())
	}
	return errors.Join(failed...)
}

// write writes the report's files to a directory.
func (r *report) write(dir string) error {
	data, err := r.json()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	files := map[string]string{resultName: data, "bench.svg": r.barChart()}
	if len(r.Lines) > 0 {
		files["scale.svg"] = r.scaleChart()
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
