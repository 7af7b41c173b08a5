// Command bench measures the four programs beside what they replace, on this machine, and prints one table. The same
// goes to bench.json, and as charts to bench.svg and scale.svg.
//
// Ours and theirs take turns in one run, each as a whole process from its fork to its end. Nothing of a run is left on
// the machine but these files: see testbed.
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
	flag.BoolVar(&o.quick, "quick", false, "small sizes and few rounds: a minute instead of half an hour, and numbers that say little")
	flag.StringVar(&o.inside, "inside", "", "for the program itself: the directory of the run, whose namespaces it is in")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	work := enter
	if o.inside != "" {
		work = measureAll
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
	deb, out, run, inside string
	quick                 bool
}

// groups are the rows of the table, by the part of the work that makes them, in its order.
var groups = []struct {
	name string
	work func(*bench, context.Context) error
}{
	{"connect", (*bench).connect},
	{"crowd", (*bench).crowd},
	{"hung", (*bench).hung},
	{"sync", (*bench).sync},
	{"remux", (*bench).remux},
	{"live", (*bench).live},
	{"prune", (*bench).prune},
	{"switch", (*bench).switches},
	{"install", (*bench).install},
	{"scale", (*bench).scale},
	{"gateways", (*bench).gateways},
}

// A bench is one run, inside its testbed.
type bench struct {
	*testbed
	quick bool
	report
}

// pick gives the size or number of rounds that a run of this kind has.
func (b *bench) pick(full, quick int) int {
	if b.quick {
		return quick
	}
	return full
}

// measureAll does the work of all groups. One that fails takes nothing from the others.
func measureAll(ctx context.Context, o options) error {
	selected, err := regexp.Compile(o.run)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	t, err := newTestbed(ctx, o.inside)
	if err != nil {
		return err
	}
	b := &bench{testbed: t, quick: o.quick, report: report{Machine: thisMachine(), Began: time.Now().UTC().Truncate(time.Second), Quick: o.quick}}
	var failed []error
	for _, g := range groups {
		if !selected.MatchString(g.name) {
			continue
		}
		b.group = g.name
		start := time.Now()
		fmt.Fprintf(os.Stderr, "bench: %s ...\n", g.name)
		if err := g.work(b, ctx); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", g.name, err))
		}
		b.Took = seconds(time.Since(b.Began))
		failed = append(failed, b.write(o.out)) // what there is, should the rest not come
		t.clean()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		fmt.Fprintf(os.Stderr, "bench: %s took %.0f s\n", g.name, time.Since(start).Seconds())
	}
	fmt.Print(b.table())
	return errors.Join(failed...)
}

// write leaves the report's files in a directory.
func (r *report) write(dir string) error {
	data, err := r.json()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	files := map[string]string{"bench.json": data, "bench.svg": r.barChart()}
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
