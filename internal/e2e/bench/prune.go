package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// A tree of files is an archive in which every second one is four days old.
type files struct {
	count, dirs int
	blocks      bool // each has a block: of a file without, nothing comes free
}

// block is the size of a file that has one, in bytes.
const block = 4096

// make makes the tree, directory by directory, by two workers.
func (t files) make(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	old := time.Now().Add(-96 * time.Hour)
	errs := make([]error, 2)
	var group sync.WaitGroup
	for worker := range errs {
		group.Go(func() {
			for d := worker; d < t.dirs && errs[worker] == nil; d += len(errs) {
				errs[worker] = t.fill(filepath.Join(dir, strconv.Itoa(d)), old)
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// fill makes one directory of it.
func (t files) fill(dir string, old time.Time) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for n := range t.count / t.dirs {
		if err := t.file(filepath.Join(dir, strconv.Itoa(n)+".flv"), n%2 == 1, old); err != nil {
			return err
		}
	}
	return nil
}

func (t files) file(name string, aged bool, old time.Time) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if t.blocks {
		if err := syscall.Fallocate(int(f.Fd()), 0, 0, block); err != nil {
			return err
		}
	}
	if aged {
		return os.Chtimes(name, old, old)
	}
	return nil
}

// left counts the files of a tree.
func (t files) left(dir string) (n int, err error) {
	subs, err := os.ReadDir(dir)
	for _, sub := range subs {
		d, err := os.Open(filepath.Join(dir, sub.Name()))
		if err != nil {
			return n, err
		}
		names, err := d.Readdirnames(-1)
		d.Close()
		if err != nil {
			return n, err
		}
		n += len(names)
	}
	return n, err
}

// A pruning is archiveprune against find on archives of one kind.
type pruning struct {
	files
	limit        string // archiveprune's
	rounds       int
	ours, theirs *side
}

// prunings does each so often, every turn on an archive of its own. All archives are made before the first is pruned: ext4
// is slow to make a file where others have just gone (recently_deleted in fs/ext4/ialloc.c).
func (b *bench) prunings(ctx context.Context, all []*pruning) error {
	for i, p := range all {
		dir := func(who string, round int) string { return filepath.Join(b.scratch(), fmt.Sprint(who, i, "-", round)) }
		for round := range p.rounds {
			if err := errors.Join(p.make(dir("ours", round)), p.make(dir("theirs", round)), ctx.Err()); err != nil {
				return err
			}
		}
		half := func(who string) func(int) error {
			return func(round int) error {
				left, err := p.left(dir(who, round))
				if err == nil && left != p.count/2 {
					err = fmt.Errorf("%d of %d files are left", left, p.count)
				}
				return err
			}
		}
		p.ours = &side{after: half("ours"), work: func(round int) (usage, error) {
			return run(ctx, process{args: b.ours("archiveprune", "--max-age=off", p.limit, dir("ours", round)), memory: true})
		}}
		p.theirs = &side{after: half("theirs"), work: func(round int) (usage, error) {
			return run(ctx, process{args: []string{"find", dir("theirs", round), "-type", "f", "-mtime", "+2", "-delete"}, memory: true})
		}}
	}
	syscall.Sync() // or the first to prune would write what making them has left
	for _, p := range all {
		if err := measure(ctx, p.rounds, p.ours, p.theirs); err != nil {
			return err
		}
	}
	return nil
}

const byAge = "--max-age=72h"

// room gives how many files the largest of so many archives can have, a million if the file system can take them.
func (b *bench) room(archives int) (int, error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(b.dir, &fs); err != nil {
		return 0, err
	}
	count := 1_000_000
	for fs.Files > 0 && count > 1000 && int(fs.Ffree) < count*(archives+1) {
		count /= 10
	}
	return count, nil
}

// prune is an archive of a million files, half of them to go, and smaller ones for the chart.
func (b *bench) prune(ctx context.Context) error {
	count, err := b.room(6)
	if err != nil {
		return err
	}
	if b.quick {
		count = 10_000
	}
	many := count / 1000
	modes := []struct {
		pruning
		name   string
		memory float64 // goal, in bytes
		note   string
	}{
		{pruning{files: files{count: count, dirs: many}, limit: byAge, rounds: 1}, grouped(many) + " directories, by age", 16 << 20,
			"the guide's line of cron: find /archive -type f -mtime +2 -delete"},
		{pruning{files: files{count: count, dirs: 1}, limit: byAge, rounds: 1}, "1 directory, by age", 16 << 20, ""},
		{pruning{files: files{count: count, dirs: many, blocks: true}, limit: fmt.Sprint("--max-size=", count/2*block), rounds: 1},
			grouped(many) + " directories, by size", 64 << 20, "archiveprune finds out which are the oldest; find, which has no such thing, is told their age"},
	}
	var all []*pruning
	for size := 1000; size < count; size *= 10 {
		all = append(all, &pruning{files: files{count: size, dirs: size / 1000}, limit: byAge, rounds: b.pick(3, 1)})
	}
	for i := range modes {
		all = append(all, &modes[i].pruning)
	}
	if err := b.prunings(ctx, all); err != nil {
		return err
	}
	for _, p := range all {
		if p.dirs == p.count/1000 && p.limit == byAge {
			b.draw("files", "archiveprune", inSeconds, false, p.count, p.ours.wall())
			b.draw("files", "find -delete", inSeconds, true, p.count, p.theirs.wall())
		}
	}
	const find = "find -delete"
	for _, m := range modes {
		work := fmt.Sprintf("prune half of %s files in %s", grouped(count), m.name)
		b.add(row{Work: work, Unit: inSeconds, Ours: m.ours.wall(), Against: find, Theirs: m.theirs.wall(), Goal: times(0.8), Note: m.note})
		b.add(row{Work: work + ", CPU", Unit: inSeconds, Ours: m.ours.cpu(), Against: find, Theirs: m.theirs.cpu()})
		b.add(row{Work: work + ", peak memory", Unit: inBytes, Ours: m.ours.peak(), Against: find, Theirs: m.theirs.peak(), Goal: most(m.memory)})
	}
	return nil
}
