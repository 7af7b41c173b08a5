package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tunnelcast/internal/file"
	"tunnelcast/internal/lease"
)

// stateDir is /var/lib/tunnelcast, which outlives a boot. What it has of updown is
// which names are this gateway's: those that it added and that still stand.
//
//	names            a line for each address under a name
//	names.new/       one empty file for each that a hook has added since then
//
// sync writes names, and waits for the disk, before it changes a zone and before
// it removes the pokes of hooks. Without this memory nothing is removed that no
// live client holds: a lost one keeps names and takes none.
//
// A hook has no time to wait for a disk. It makes its file while named is at
// work, which waits for the disk under its own journal; where both are on one
// file system that has a journal, the file is on disk with it. The file counts
// only if /run is lost before a sync has run, as in a power cut.
type stateDir string

func (d stateDir) names() string { return filepath.Join(string(d), "names") }
func (d stateDir) fresh() string { return filepath.Join(string(d), "names.new") }

// load returns what is remembered. Beside an error it returns what could be read.
func (d stateDir) load() (map[lease.RR]bool, error) {
	text, err := os.ReadFile(d.names())
	if errors.Is(err, fs.ErrNotExist) {
		return map[lease.RR]bool{}, nil
	}
	if err != nil {
		return map[lease.RR]bool{}, fmt.Errorf("read the names that are this gateway's: %w", err)
	}
	known := make(map[lease.RR]bool, strings.Count(string(text), "\n"))
	for line := range strings.Lines(string(text)) {
		rr, ok := parseName(line)
		if !ok {
			err = fmt.Errorf("read %s: %w: %.80q is not a name and its address; names that are missing from it stay in the zone",
				d.names(), errDamaged, line)
			continue
		}
		known[rr] = true
	}
	return known, err
}

// errDamaged is the error of a file of which some lines could not be read.
var errDamaged = errors.New("the file is damaged")

func parseName(line string) (lease.RR, bool) {
	owner, text, _ := strings.Cut(line, " ")
	addr, err := netip.ParseAddr(strings.TrimSuffix(text, "\n"))
	if err != nil || !strings.HasSuffix(owner, ".") || !strings.HasSuffix(line, "\n") {
		return lease.RR{}, false
	}
	return lease.Address(owner, addr), true
}

// save replaces what is remembered. It returns when that is on disk.
func (d stateDir) save(known map[lease.RR]bool) error {
	lines := make([]string, 0, len(known))
	for rr := range maps.Keys(known) {
		lines = append(lines, rr.Owner+" "+rr.Addr.String()+"\n")
	}
	slices.Sort(lines)
	if err := d.replace(strings.Join(lines, "")); err != nil {
		return fmt.Errorf("remember which they are: %w", err)
	}
	return nil
}

func (d stateDir) replace(text string) error {
	// What cannot be read now may be read another time.
	if _, err := os.ReadFile(d.names()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return file.Replace(d.names(), []byte(text), 0o600, file.OnDisk)
}

// add is the hook's way to remember.
func (d stateDir) add(rrs []lease.RR) error {
	for _, rr := range rrs {
		if err := os.WriteFile(filepath.Join(d.fresh(), claimName(rr)), nil, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// has reports whether a hook has added the address since the last sync.
func (d stateDir) has(rr lease.RR) bool {
	_, err := os.Stat(filepath.Join(d.fresh(), claimName(rr)))
	return err == nil
}

func (d stateDir) make() error { return os.MkdirAll(d.fresh(), 0o755) }

// added returns the names of the files that hooks have made.
func (d stateDir) added() ([]string, error) {
	entries, err := os.ReadDir(d.fresh())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return fileNames(entries), err
}

// forget removes files that hooks have made and that names now has.
func (d stateDir) forget(added []string) error {
	for _, name := range added {
		if err := os.Remove(filepath.Join(d.fresh(), name)); err != nil {
			return err
		}
	}
	return nil
}
