package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// install measures what the programs cost before they do anything: time to start, and space on the disk.
func (b *bench) install(ctx context.Context) error {
	version := func(words ...string) *side {
		return &side{work: func(int) (usage, error) { return run(ctx, process{args: words}) }}
	}
	for _, program := range []struct {
		name   string
		theirs []string
	}{
		{"updown", []string{"nsupdate", "-V"}},
		{"recorddone", []string{"ffmpeg", "-version"}},
		{"archiveprune", []string{"find", "--version"}},
		{"certhook", nil},
	} {
		sides := []*side{version(b.program(program.name), "--version")}
		r := row{Work: "start of " + program.name, Goal: most(0.005)}
		if program.theirs != nil {
			sides = append(sides, version(program.theirs...))
		}
		if err := measure(ctx, b.rounds(100, 5), sides...); err != nil {
			return err
		}
		if len(sides) == 1 {
			b.add(r.of(sides[0], nil))
			continue
		}
		r.Against = strings.Join(program.theirs, " ")
		b.add(r.of(sides[0], sides[1]))
	}
	if b.one {
		return nil // sizes are the same
	}
	for _, name := range []string{"updown", "recorddone", "archiveprune", "certhook"} {
		info, err := os.Stat(b.program(name))
		if err != nil {
			return err
		}
		b.add(row{Work: "size of " + name, Unit: inBytes, Ours: sample{float64(info.Size())}})
	}
	ours, err := b.installed()
	if err != nil {
		return err
	}
	theirs, err := b.added(ctx, "ffmpeg", "bind9-dnsutils")
	if err != nil {
		return err
	}
	b.add(row{Work: "what gets installed", Unit: inBytes, Ours: sample{ours},
		Against: "apt-get install ffmpeg bind9-dnsutils", Theirs: sample{theirs}, Goal: times(0.06),
		Note: "theirs as apt computes it for the guide's server, which already has bind9 and the rest. Ours are four " +
			"programs, each with a Go runtime: a single one would be smaller, and bring libav into charon's root hook"})
	return nil
}

// installed returns the total size of the package's files.
func (b *bench) installed() (bytes float64, err error) {
	err = filepath.WalkDir(filepath.Join(b.dir, "deb"), func(_ string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			bytes += float64(info.Size())
		}
		return err
	})
	return bytes, err
}

var additional = regexp.MustCompile(`After this operation, ([0-9.,]+) ([kMG]?B) of additional disk space will be used`)

// added asks apt how many bytes these packages would add to the tree if it did not have them.
func (b *bench) added(ctx context.Context, packages ...string) (bytes float64, err error) {
	status, err := os.ReadFile(filepath.Join(b.tree, "var/lib/dpkg/status"))
	if err != nil {
		return 0, err
	}
	var without []string
	for entry := range strings.SplitSeq(string(status), "\n\n") {
		keep := true
		for _, name := range packages {
			keep = keep && !strings.HasPrefix(entry, "Package: "+name+"\n")
		}
		if keep {
			without = append(without, entry)
		}
	}
	dir, err := b.makeDir("apt")
	if err != nil {
		return 0, err
	}
	file := filepath.Join(dir, "status")
	if err := os.WriteFile(file, []byte(strings.Join(without, "\n\n")), 0o644); err != nil {
		return 0, err
	}
	options := []string{"-o", "Dir::State::status=" + file, "--assume-no", "install"}
	cmd := exec.CommandContext(ctx, "apt-get", append(options, packages...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, _ := cmd.CombinedOutput() // it fails, because --assume-no declines the installation
	m := additional.FindStringSubmatch(string(out))
	if m == nil {
		return 0, fmt.Errorf("apt-get does not report the size of %s; run `apt-get update` first\n%s",
			strings.Join(packages, " "), out)
	}
	bytes, err = strconv.ParseFloat(strings.ReplaceAll(m[1], ",", ""), 64)
	return bytes * map[string]float64{"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}[m[2]], err
}
