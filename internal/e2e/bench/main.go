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
	flag.BoolVar(&o.quick, "quick", false,
		"small sizes and few rounds: a minute instead of half an hour, and numbers that mean little")
	flag.StringVar(&o.inside, "inside", "",
		"for internal use: the directory of the run, whose namespaces this process is in")
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

// groups are the groups of rows in the order of the table, each with the function that measures it.
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

// A bench is one run, in its testbed.
type bench struct {
	*testbed
	quick bool
	report
}

// pick returns the size or the number of rounds for this kind of run.
func (b *bench) pick(full, quick int) int {
	if b.quick {
		return quick
	}
	return full
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
	b := &bench{testbed: t, quick: o.quick}
	b.report = report{Machine: thisMachine(), Began: time.Now().UTC().Truncate(time.Second), Quick: o.quick}
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
		failed = append(failed, b.write(o.out)) // after each group, because a later one may not end
		t.clean()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		fmt.Fprintf(os.Stderr, "bench: %s took %.0f s\n", g.name, time.Since(start).Seconds())
	}
	fmt.Print(b.table())
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
