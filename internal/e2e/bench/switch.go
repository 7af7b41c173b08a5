package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// switches measures certificates that are replaced while clients log in. It needs the two charons of certhook's tests,
// so BenchmarkSwitch there does the work.
func (b *bench) switches(ctx context.Context) error {
	rotations := b.pick(300, 3)
	if b.one {
		rotations = b.pick(30, 3)
	}
	b.progress("%d rotations on each side", rotations)
	test := exec.CommandContext(ctx, filepath.Join(b.dir, "certhook.test"), "-test.run=^$", "-test.bench=Switch",
		fmt.Sprintf("-test.benchtime=%dx", rotations), "-certhook", b.program("certhook"))
	test.Env = append(os.Environ(), "TUNNELCAST_E2E=1") // selects the tree's charon
	out, err := test.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	is, err := metrics(string(out), "BenchmarkSwitch")
	if err != nil {
		return err
	}
	took := func(who string) (s sample) {
		for _, of := range []string{"least", "median", "most"} {
			s = append(s, is[who+"-"+of+"-ms"]/1000)
		}
		return s
	}
	const loadAll = "swanctl --load-all"
	b.add(row{
		Work: fmt.Sprintf("logins lost in %d certificate rotations", rotations), Unit: counted,
		Ours:    sample{is["certhook-lost"]},
		Against: loadAll, Theirs: sample{is["load-all-lost"]}, Goal: most(0),
		Note: fmt.Sprintf("of %.0f with certhook and %.0f with swanctl, by three clients that log in continuously",
			is["certhook-tried"], is["load-all-tried"])})
	b.add(row{Work: "one switch of the certificate, under these logins", Unit: inSeconds,
		Ours: took("certhook"), Against: loadAll, Theirs: took("load-all"),
		Goal: most(0.200), Note: "certhook also verifies that charon holds the new certificate and its key"})
	return nil
}

// metrics parses the output line of a Go benchmark: its name, the number of its runs, and pairs of a number and a unit.
func metrics(out, benchmark string) (map[string]float64, error) {
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 2 || !strings.HasPrefix(f[0], benchmark) {
			continue
		}
		is := map[string]float64{}
		for f = f[2:]; len(f) >= 2; f = f[2:] {
			v, err := strconv.ParseFloat(f[0], 64)
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", benchmark, err)
			}
			is[f[1]] = v
		}
		return is, nil
	}
	return nil, fmt.Errorf("no %s in:\n%s", benchmark, out)
}
