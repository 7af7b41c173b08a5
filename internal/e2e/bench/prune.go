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

// make makes the tree, by two workers.
func (t files) make(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	old := time.Now().Add(-96 * time.Hour)
	errs := make([]error, 2)
	var group sync.WaitGroup
	for worker := range errs {
		group.Go(func() {
			for n := worker; n < t.count && errs[worker] == nil; n += len(errs) {
				sub := filepath.Join(dir, strconv.Itoa(n/len(errs)%t.dirs))
				if n < t.dirs*len(errs) {
					os.Mkdir(sub, 0o755)
				}
				errs[worker] = t.file(filepath.Join(sub, strconv.Itoa(n)+".flv"), n/len(errs)/t.dirs%2 == 1, old)
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
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

// prunes has archiveprune remove the older half of a tree, and find that of one like it.
func (b *bench) prunes(ctx context.Context, rounds int, t files, limit string) (ours, theirs *side, err error) {
	parts := [2]string{filepath.Join(b.scratch(), "ours"), filepath.Join(b.scratch(), "theirs")}
	remove := func() error { return errors.Join(os.RemoveAll(parts[0]), os.RemoveAll(parts[1])) }
	half := func(dir string) func(int) error {
		return func(int) error {
			left, err := t.left(dir)
			if err == nil && left != t.count/2 {
				err = fmt.Errorf("%d of %d files are left", left, t.count)
			}
			return err
		}
	}
	made := -1
	before := func(round int) error { // both, before the first of the two has its turn
		if made == round {
			return nil
		}
		made = round
		if err := errors.Join(remove(), t.make(parts[0]), t.make(parts[1])); err != nil {
			return err
		}
		syscall.Sync() // or the first would write what making them has left
		return nil
	}
	ours = &side{before: before, after: half(parts[0]), work: func(int) (usage, error) {
		return run(ctx, process{args: b.ours("archiveprune", "--max-age=off", limit, parts[0]), memory: true})
	}}
	theirs = &side{before: before, after: half(parts[1]), work: func(int) (usage, error) {
		return run(ctx, process{args: []string{"find", parts[1], "-type", "f", "-mtime", "+2", "-delete"}, memory: true})
	}}
	return ours, theirs, errors.Join(measure(ctx, rounds, ours, theirs), remove())
}

const byAge = "--max-age=72h"

// room gives how many files the file system can take, if not a million.
func (b *bench) room(want int) (int, error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(b.dir, &fs); err != nil {
		return 0, err
	}
	if free := int(fs.Ffree); fs.Files > 0 && free < 5*want/2 {
		want = free / 5 * 2 / 2000 * 2000
	}
	return want, nil
}

// prune is an archive of a million files, half of them to go.
func (b *bench) prune(ctx context.Context) error {
	count, err := b.room(b.pick(1_000_000, 10_000))
	if err != nil {
		return err
	}
	many := b.pick(1000, 10)
	const find = "find -delete"
	for _, mode := range []struct {
		name   string
		files  files
		limit  string
		rounds int
		memory float64 // goal, in bytes
		note   string
	}{
		{grouped(many) + " directories, by age", files{count: count, dirs: many}, byAge, 2, 16 << 20, "find /archive -type f -mtime +2 -delete, the guide's line of cron"},
		{"1 directory, by age", files{count: count, dirs: 1}, byAge, 1, 16 << 20, ""},
		{grouped(many) + " directories, by size", files{count: count, dirs: many, blocks: true}, fmt.Sprint("--max-size=", count/2*block), 1, 64 << 20,
			"archiveprune finds out which are the oldest; find, which has no such thing, is told their age"},
	} {
		ours, theirs, err := b.prunes(ctx, b.pick(mode.rounds, 1), mode.files, mode.limit)
		if err != nil {
			return err
		}
		if mode.files.dirs == many && mode.limit == byAge {
			b.drawFiles(count, ours, theirs)
		}
		work := fmt.Sprintf("prune half of %s files in %s", grouped(count), mode.name)
		b.add(row{Work: work, Unit: inSeconds, Ours: ours.wall(), Against: find, Theirs: theirs.wall(), Goal: times(0.8), Note: mode.note})
		b.add(row{Work: work + ", CPU", Unit: inSeconds, Ours: ours.cpu(), Against: find, Theirs: theirs.cpu()})
		b.add(row{Work: work + ", peak memory", Unit: inBytes, Ours: ours.peak(), Against: find, Theirs: theirs.peak(), Goal: most(mode.memory)})
	}
	return nil
}
