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

// files describes an archive in which every second file is four days old.
type files struct {
	count, dirs int
	blocks      bool // each file has a block; otherwise all are empty, and removing them frees nothing
}

func (t files) String() string {
	return fmt.Sprintf("%s files in %d directories", grouped(t.count), t.dirs)
}

// block is the size of a block, and of the files that have one, in bytes.
const block = 4096

// make creates the archive, with two workers.
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

// fill creates one directory of the archive.
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

// left counts the files in the archive.
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

// image creates the archive in a file system of its own, in a file on the disk. Every turn works on a copy of that
// file: the same inodes in the same places, unaffected by earlier turns.
func (t files) image(ctx context.Context, path, mountPoint string) error {
	inodes := t.count + t.dirs + 1000
	size := 256<<20 + inodes*(256+64) // inodes, and names
	if t.blocks {
		size += t.count * (block + block/8)
	}
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, int64(size))); err != nil {
		return err
	}
	// The journal has the size of that of a 30 GB disk. By default mkfs leaves work to the kernel, which would do it
	// while a side is measured.
	_, err := run(ctx, process{args: []string{"mkfs.ext4", "-q", "-b", strconv.Itoa(block), "-I", "256",
		"-N", strconv.Itoa(inodes), "-J", "size=128", "-E", "lazy_itable_init=0,lazy_journal_init=0", path}})
	if err == nil {
		err = mount(ctx, path, mountPoint)
	}
	if err != nil {
		return err
	}
	return errors.Join(t.make(filepath.Join(mountPoint, "archive")), unmount(mountPoint))
}

func mount(ctx context.Context, image, mountPoint string) error {
	_, err := run(ctx, process{args: []string{"mount", "-o", "loop", image, mountPoint}})
	return err
}

func unmount(mountPoint string) error {
	if err := syscall.Unmount(mountPoint, 0); err != nil {
		return fmt.Errorf("unmount %s: %w", mountPoint, err)
	}
	return nil
}

// A pruning compares archiveprune with find on one kind of archive.
type pruning struct {
	files
	limit        string // the flag of archiveprune
	cold         bool   // the page cache has nothing of the archive
	rounds       int
	ours, theirs *side
}

// measure has archiveprune and find take turns on the image.
func (p *pruning) measure(ctx context.Context, b *bench, image, mountPoint string) error {
	defer syscall.Unmount(mountPoint, syscall.MNT_DETACH) // if a turn failed
	archive, turn := filepath.Join(mountPoint, "archive"), image+".turn"
	before := func(int) error {
		// The image is mostly holes.
		if _, err := run(ctx, process{args: []string{"cp", "--sparse=always", image, turn}}); err != nil {
			return err
		}
		if err := mount(ctx, turn, mountPoint); err != nil {
			return err
		}
		if !p.cold {
			everyFile := []string{"find", archive, "-size", "+1G"}
			if _, err := run(ctx, process{args: everyFile}); err != nil {
				return err
			}
		}
		syscall.Sync()
		return nil
	}
	after := func(int) error {
		left, err := p.left(archive)
		if err == nil && left != p.count/2 {
			err = fmt.Errorf("%d of %d files are left", left, p.count)
		}
		return errors.Join(err, unmount(mountPoint), os.Remove(turn))
	}
	side := func(args ...string) *side {
		work := func(int) (usage, error) { return run(ctx, process{args: args, memory: true}) }
		return &side{before: before, work: work, after: after}
	}
	p.ours = side(b.ours("archiveprune", "--max-age=off", p.limit, archive)...)
	p.theirs = side("find", archive, "-type", "f", "-mtime", "+2", "-delete")
	return measure(ctx, p.rounds, p.ours, p.theirs)
}

const byAge = "--max-age=72h"

// prune measures the removal of half of a million files, and of smaller archives for the chart.
func (b *bench) prune(ctx context.Context) error {
	const find = "find -delete"
	count := b.pick(1_000_000, 10_000)
	if b.one {
		count = b.pick(100_000, 10_000)
	}
	grow := func(size int) files { return files{count: size, dirs: size / 1000} }
	draw := func(p *pruning) {
		b.draw("files", "archiveprune", inSeconds, false, p.count, p.ours.wall())
		b.draw("files", find, inSeconds, true, p.count, p.theirs.wall())
	}
	for size := 1000; size < count; size *= 10 {
		p := &pruning{files: grow(size), limit: byAge, rounds: b.rounds(3, 1)}
		if err := b.prunings(ctx, p); err != nil {
			return err
		}
		draw(p)
	}

	// A round takes most of a minute. With one processor the archive is smaller, so that there are as many.
	rounds, fewer := b.pick(3, 1), b.pick(2, 1)
	many := grouped(count/1000) + " directories"
	warm := &pruning{files: grow(count), limit: byAge, rounds: rounds}
	cold := &pruning{files: grow(count), limit: byAge, rounds: fewer, cold: true}
	one := &pruning{files: files{count: count, dirs: 1}, limit: byAge, rounds: fewer}
	bySize := &pruning{
		files: files{count: count, dirs: count / 1000, blocks: true},
		limit: fmt.Sprintf("--max-size=%dB", count/2*block), rounds: fewer,
	}
	for _, sameImage := range [][]*pruning{{warm, cold}, {one}, {bySize}} {
		if err := b.prunings(ctx, sameImage...); err != nil {
			return err
		}
	}
	draw(warm)
	const cron = "the guide's cron line: find /archive -type f -mtime +2 -delete. " +
		"Both work on an ext4 of its own in a file on the disk"
	for _, m := range []struct {
		*pruning
		name   string
		memory float64 // goal, in bytes
		note   string
	}{
		{warm, many + ", by age", 16 << 20, cron},
		{cold, many + ", by age, cold", 16 << 20, "the page cache has nothing of the archive"},
		{one, "1 directory, by age", 16 << 20, ""},
		{bySize, many + ", by size", 64 << 20, "archiveprune finds the oldest; find cannot, and is given their age"},
	} {
		work := fmt.Sprintf("prune half of %s files in %s", grouped(count), m.name)
		b.add(row{Work: work, Against: find, Goal: times(0.8), CPUGoal: times(1.1), Note: m.note}.of(m.ours, m.theirs))
		b.add(row{Work: work + ", peak memory", Unit: inBytes, Ours: m.ours.peak(),
			Against: find, Theirs: m.theirs.peak(), Goal: most(m.memory)})
	}
	return nil
}

// prunings measures prunings of the same archive.
func (b *bench) prunings(ctx context.Context, all ...*pruning) error {
	dir, err := b.makeDir("prune")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	image, mountPoint := filepath.Join(dir, "image"), filepath.Join(dir, "mnt")
	if err := os.Mkdir(mountPoint, 0o755); err != nil {
		return err
	}
	b.progress("making %s", all[0])
	if err := all[0].image(ctx, image, mountPoint); err != nil {
		return err
	}
	for _, p := range all {
		b.progress("pruning %s with %s, %d times on each side", p, p.limit, p.rounds)
		if err := p.measure(ctx, b, image, mountPoint); err != nil {
			return err
		}
	}
	return nil
}
