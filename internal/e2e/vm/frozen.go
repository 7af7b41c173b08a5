package vm

import (
	"context"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tunnelcast/internal/e2e/box"
)

// The files of which an image is made, and those of which a frozen machine is made besides. Their hashes are part of
// the names in the cache.
var (
	//go:embed files agent wire image.go
	imageSources embed.FS
	//go:embed frozen.go accelerator.go qemu.go
	machineSources embed.FS
)

// A frozen machine is what a clone goes on from: directories of the cache, locked against removal.
type frozen struct {
	image       string
	layers      []string // the directories on it, from the bottom; the last holds the memory
	accelerator accelerator
	locks       []*os.File
}

func (f *frozen) close() error {
	var errs []error
	for _, l := range f.locks {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// open returns the frozen machine, and builds what the cache lacks.
func open(ctx context.Context, options Options) (_ *frozen, err error) {
	suite := options.Suite
	if box.Releases[suite] == "" {
		return nil, fmt.Errorf("make a virtual machine of %q: no such release", suite)
	}
	cache, err := box.CacheDir()
	if err != nil {
		return nil, err
	}
	base := filepath.Join(cache, "vm")
	if err := os.MkdirAll(base, 0o755); err != nil {
		return nil, fmt.Errorf("make the cache: %w", err)
	}
	version, err := box.Output(ctx, "qemu-system-x86_64", "--version")
	if err != nil {
		return nil, err
	}
	f := &frozen{}
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	// cached makes a directory of the cache whose name is that of the kind and of what it is made of.
	cached := func(kind string, madeOf []byte, build func(dir, work string, lock *os.File) error) (string, error) {
		dir := filepath.Join(base, fmt.Sprintf("%s-%s-%x", suite, kind, madeOf))
		lock, err := box.Cached(ctx, dir, func(work string, lock *os.File) error { return build(dir, work, lock) })
		if err != nil {
			return "", err
		}
		f.locks = append(f.locks, lock)
		now := time.Now()
		return dir, os.Chtimes(dir, now, now)
	}
	image := sum(box.TreeName(suite), box.GuideSum(suite), sourceSum(imageSources))
	f.image, err = cached("image", image, func(dir, work string, lock *os.File) error {
		return buildImage(ctx, dir, work, lock, suite, options.Step)
	})
	if err != nil {
		return nil, err
	}
	var choice string
	if f.accelerator, choice, err = findAccelerator(ctx, base, f.image, version); err != nil {
		return nil, err
	}
	hardware := version
	if f.accelerator == kvm {
		hardware += processor() + kernel()
	}
	template := sum(string(image), sourceSum(machineSources), string(f.accelerator), hardware)
	dir, err := cached("template", template, func(_, work string, _ *os.File) error {
		options.Step("boot of the machine with " + choice)
		return f.build(ctx, work, func(m *Machine) error {
			if err := m.WaitRunning(ctx); err != nil {
				return err
			}
			options.Step("first certificate")
			return m.Certify(ctx)
		})
	})
	if err != nil {
		return nil, err
	}
	f.layers = append(f.layers, dir)
	if options.Deb != "" {
		deb, err := os.ReadFile(options.Deb)
		if err != nil {
			return nil, fmt.Errorf("install the package: %w", err)
		}
		content := sha256.Sum256(deb)
		installed := sum(string(template), string(content[:]))
		dir, err := cached("installed", installed, func(_, work string, _ *os.File) error {
			options.Step("installation of the package")
			return f.build(ctx, work, func(m *Machine) error { return m.Install(ctx, options.Deb) })
		})
		if err != nil {
			return nil, err
		}
		f.layers = append(f.layers, dir)
	}
	removeOld(base)
	options.Step("clone of the frozen machine with " + choice)
	return f, nil
}

// sourceSum returns the hash of sources.
func sourceSum(sources embed.FS) string {
	h := sha256.New()
	err := fs.WalkDir(sources, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := sources.ReadFile(name)
		fmt.Fprintf(h, "%s %d %s", name, len(data), data)
		return err
	})
	if err != nil {
		panic(err) // they are part of this program
	}
	return string(h.Sum(nil))
}

// build makes the directory work with another frozen machine: this one after what change does, or one that has just
// booted if this has none.
func (f *frozen) build(ctx context.Context, work string, change func(*Machine) error) (err error) {
	if err := os.Mkdir(work, 0o700); err != nil {
		return fmt.Errorf("freeze a machine: %w", err)
	}
	q, err := f.clone(ctx, work)
	if err != nil {
		return err
	}
	defer q.Kill()
	if err := change(newMachine(q)); err != nil {
		return q.Explain(err)
	}
	return q.freeze(ctx)
}

// clone switches on a machine that goes on from here. With work, its disk and its memory are files in that directory,
// and no lock is released with it; otherwise they are nowhere, and the machine owns the locks.
func (f *frozen) clone(ctx context.Context, work string) (_ *qemu, err error) {
	q := &qemu{accelerator: f.accelerator, image: f.image, release: func() error { return nil }}
	for _, dir := range f.layers {
		q.layers = append(q.layers, filepath.Join(dir, "disk"))
	}
	var m *memory
	if len(f.layers) > 0 {
		m = &memory{dir: f.layers[len(f.layers)-1], thaws: true}
	}
	disk := filepath.Join(work, "disk")
	if work == "" {
		temporary, err := os.MkdirTemp("", "tunnelcast-vm-")
		if err != nil {
			return nil, fmt.Errorf("make a disk: %w", err)
		}
		defer os.RemoveAll(temporary)
		disk = filepath.Join(temporary, "disk")
	} else {
		if m != nil {
			for _, name := range []string{"ram", "state"} {
				if _, err := box.Output(ctx, "cp", "--sparse=always", "--reflink=auto",
					filepath.Join(m.dir, name), filepath.Join(work, name)); err != nil {
					return nil, err
				}
			}
		}
		m = &memory{dir: work, keep: true, thaws: m != nil}
	}
	if q.disk, err = makeDisk(ctx, disk, f.image); err != nil {
		return nil, err
	}
	if work == "" {
		q.release = func() error { return errors.Join(q.disk.Close(), f.close()) }
	}
	if err := q.start(ctx, m); err != nil {
		q.disk.Close()
		return nil, err
	}
	return q, nil
}

// removeOld removes all but the newest directories of each kind, unless somebody uses them.
func removeOld(base string) {
	kinds := map[string]int{} // how many to keep
	for suite := range box.Releases {
		kinds[suite+"-image"], kinds[suite+"-template"], kinds[suite+"-installed"] = 2, 2, 3
	}
	newest := map[string]time.Time{}
	var names []string
	locks, _ := filepath.Glob(filepath.Join(base, "*.lock"))
	for _, lock := range locks {
		name := strings.TrimSuffix(filepath.Base(lock), ".lock")
		info, err := os.Stat(filepath.Join(base, name))
		if err == nil {
			newest[name] = info.ModTime()
		}
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return newest[b].Compare(newest[a]) })
	keep := map[string]bool{}
	for _, name := range names {
		kind := name[:max(0, strings.LastIndexByte(name, '-'))]
		if kinds[kind] > 0 {
			kinds[kind]--
			keep[name] = true
		}
	}
	box.RemoveUnused(base, func(name string) bool { return keep[name] })
}
