package main

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The numbers in the pages and in the charts are those of docs/bench.json. `bench -document FILE` writes all of them.
func TestPagesHaveTheNumbersOfTheRun(t *testing.T) {
	const docs = "../../../docs"
	var r report
	if err := readReport(filepath.Join(docs, resultName), &r); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"bench.svg": r.barChart(), "scale.svg": r.scaleChart()}
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(docs, name))
		if err != nil {
			t.Error(err)
		}
		return string(text)
	}
	for _, name := range pageNames {
		var err error
		if want[name], err = r.fill(name, read(name)); err != nil {
			t.Error(err)
		}
	}
	for name, want := range want {
		is := strings.Split(read(name), "\n")
		for i, line := range strings.Split(want, "\n") {
			if i >= len(is) || is[i] != line {
				t.Errorf("docs/%s differs from docs/%s in line %d (make bench-docs writes it). The run says\n%s",
					name, resultName, i+1, line)
				break
			}
		}
	}
}

// documented returns a run that fill can fill a page with.
func documented() *report {
	r := sampleReport()
	r.sumUp()
	return r
}

func TestFill(t *testing.T) {
	const page = `Measured on <!--date-->once<!--/-->,
<!--machine-->somewhere<!--/-->.

| work | ours | with | theirs | ratio | goal | met |
| --- | --- | --- | --- | --- | --- | --- |
| 接続<!--one connect / the guide's script--> | x | script | x | x | x | x |
| hung<!--named hung / the guide's script--> | | script | | | | |

<!--scale files: ours;
find <-delete-->
| files | ours | theirs | memory |
| --- | --- | --- |
| 1,000 | x | x |
| 7 | x | x |

A connect takes <!--ours one connect / the guide's script-->x<!--/--> (CPU
<!--cpu ratio one connect / the guide's script-->x<!--/-->), the script
<!--theirs one connect / the guide's script-->x<!--/-->,
<!--ratio one connect / the guide's script-->x<!--/-->.
`
	const want = `Measured on <!--date-->2026-11-21<!--/-->,
<!--machine-->Some CPU, 2 cores, Debian GNU/Linux 12 (bookworm)<!--/-->.

| work | ours | with | theirs | ratio | goal | met |
| --- | --- | --- | --- | --- | --- | --- |
| 接続<!--one connect / the guide's script--> | 3.00 ms | script | 25.0 ms | 0.12x | 0.15x; CPU 0.10x | いいえ |
| hung<!--named hung / the guide's script--> | 1.004 s | script | 12.1 s | 0.08x | 1.000 s | いいえ |

<!--scale files: ours;
files/ours-->
| files | ours | theirs | memory |
| --- | --- | --- |
| 1,000 | 10.0 ms | 10.0 ms |
| 7 | - | - |

A connect takes <!--ours one connect / the guide's script-->3.00 ms<!--/--> (CPU
<!--cpu ratio one connect / the guide's script-->0.11x<!--/-->), the script
<!--theirs one connect / the guide's script-->25.0 ms<!--/-->,
<!--ratio one connect / the guide's script-->0.12x<!--/-->.
`
	in := strings.Replace(page, "find <-delete", "files/ours", 1)
	for range 2 { // filled twice, it is the same
		got, err := documented().fill("page.ja.md", in)
		if err != nil || got != want {
			t.Fatalf("%v\n%s", err, got)
		}
		in = got
	}
}

func TestFillOneProcessor(t *testing.T) {
	r := documented()
	const empty = "a\n<!--table one processor-->\n<!--/-->\nb"
	if got, err := r.fill("page.md", empty); err != nil || got != empty { // no processor time was measured
		t.Errorf("%v\n%s", err, got)
	}
	r.group, r.cores = "prune", 1
	r.add(row{Work: "prune", Unit: inSeconds, Ours: sample{1}, OursCPU: sample{0.9}, Against: "find", Theirs: sample{2},
		TheirsCPU: sample{0.6}})
	const want = "a\n<!--table one processor-->\n\n" +
		"| work | tunnelcast | CPU | compared with | its cost | CPU | ratio | CPU ratio |\n" +
		"| --- | --- | --- | --- | --- | --- | --- | --- |\n" +
		"| prune | 1.000 s | 900 ms | find | 2.000 s | 600 ms | 0.50x | 1.50x |\n\n<!--/-->\nb"
	for _, page := range []string{empty, want} {
		if got, err := r.fill("page.md", page); err != nil || got != want {
			t.Errorf("%v\n%s", err, got)
		}
	}
}

func TestFillOthers(t *testing.T) {
	r := &report{}
	r.add(row{Work: "shown", Unit: inSeconds, Ours: sample{1}, Goal: most(2)})
	r.add(row{Work: "without a goal", Unit: inSeconds, Ours: sample{1}})
	r.add(row{Work: "lost", Unit: counted, Ours: sample{1},
		Against: "swanctl --load-all", Theirs: sample{4}, Goal: most(0)})
	const table = "| shown<!--shown--> | 1.000 s | x | | | 2.000 s | yes |\n\n<!--table others-->\n"
	const want = "\n| work | tunnelcast | compared with | its cost | ratio | goal | met |\n" +
		"| --- | --- | --- | --- | --- | --- | --- |\n" +
		"| lost | 1 | swanctl --load-all | 4 | 0.25x | none | no |\n\n<!--/-->"
	const after = "\n\nText that stays.\n<!--table one processor-->\n<!--/-->\n"
	for _, page := range []string{table + "<!--/-->" + after, table + want + after} {
		got, err := r.fill("page.md", page)
		if _, rest, _ := strings.Cut(got, "<!--table others-->\n"); err != nil || rest != want+after {
			t.Errorf("%v\n%s", err, got)
		}
	}
}

func TestFillRefusesWhatTheRunLacks(t *testing.T) {
	for page, want := range map[string]string{
		"| x<!--nothing--> | | | | | | |":                "no row",
		"| x<!--one connect / the guide's script--> | |": "cells",
		"<!--ours nothing-->x<!--/-->":                   "no row",
		"<!--scale files: nobody-->\n| 1,000 | |":        "no line",
		"<!--scale files-->":                             "names no lines",
		"<!--scale files: ours-->\n| 1,000 | | |":        "cells",
	} {
		_, err := documented().fill("page.md", page)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "docs/page.md") {
			t.Errorf("%s: error %v", page, err)
		}
	}
}

func TestFive(t *testing.T) {
	var s sample
	for i := range 101 {
		s = append(s, 1.23456789*float64(100-i))
	}
	five := s.five()
	if len(five) != 5 || math.Abs(five.spread()-s.spread()) > 0.01 || five.median() != 61.728 ||
		five[0] != 0 || five[4] != 123.46 {
		t.Errorf("%v, spread %v", five, five.spread())
	}
	if few := (sample{3, 1}).five(); len(few) != 2 || few[0] != 3 {
		t.Errorf("%v", few)
	}
}

// Neither a quick run nor a part of the table gets into the pages.
func TestDocumentRefusesParts(t *testing.T) {
	dir := t.TempDir()
	quick, part := sampleReport(), sampleReport()
	quick.Quick, part.Lines = true, nil
	for want, r := range map[string]*report{"quick run": quick, "a part": part} {
		if err := r.write(dir); err != nil {
			t.Fatal(err)
		}
		if err := document(filepath.Join(dir, resultName), dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}
