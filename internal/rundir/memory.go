package rundir

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

// Memory is the path of the directory that records which names are this gateway's:
// the addresses that it added and that still exist in the zone.
//
//	names            one line for each address under a name
//	names.new/       one empty file for each that a hook has added since
//
// sync writes the file names, and waits until it is on disk, before it changes a
// zone and before it clears the requests of hooks. Without this memory sync removes
// only names that a live client holds: a lost memory keeps dead names in the zone
// and removes none that it should not.
//
// A hook has no time to wait for a disk. It makes its file while named processes
// the update, and named waits until its own journal is on disk; if both are on one
// journaling file system, the hook's file is then on disk too. It is needed only if
// /run is lost before the next sync, for example in a power cut.
type Memory string

// File returns the path of the file names.
func (m Memory) File() string { return filepath.Join(string(m), "names") }

// NewDir returns the path of the directory names.new.
func (m Memory) NewDir() string { return filepath.Join(string(m), "names.new") }

// Create makes the directories.
func (m Memory) Create() error { return os.MkdirAll(m.NewDir(), 0o755) }

// ErrDamaged is wrapped by the error of Load if some lines could not be read.
var ErrDamaged = errors.New("the file is damaged")

// Load returns the addresses in the file names. Beside an error it returns those
// that it could read.
func (m Memory) Load() (map[lease.RR]bool, error) {
	text, err := os.ReadFile(m.File())
	if errors.Is(err, fs.ErrNotExist) {
		return map[lease.RR]bool{}, nil
	}
	if err != nil {
		return map[lease.RR]bool{}, fmt.Errorf("read which names are this gateway's: %w", err)
	}
	known := make(map[lease.RR]bool, strings.Count(string(text), "\n"))
	for line := range strings.Lines(string(text)) {
		rr, ok := parseLine(line)
		if !ok {
			err = fmt.Errorf("read %s: %w: %.80q is not a name and its address; "+
				"names that are missing from it stay in the zone", m.File(), ErrDamaged, line)
			continue
		}
		known[rr] = true
	}
	return known, err
}

func parseLine(line string) (lease.RR, bool) {
	owner, text, _ := strings.Cut(line, " ")
	addr, err := netip.ParseAddr(strings.TrimSuffix(text, "\n"))
	if err != nil || !strings.HasSuffix(owner, ".") || !strings.HasSuffix(line, "\n") {
		return lease.RR{}, false
	}
	return lease.Address(owner, addr), true
}

// Save replaces the file names. When it returns nil, the new file is on disk.
func (m Memory) Save(known map[lease.RR]bool) error {
	lines := make([]string, 0, len(known))
	for rr := range maps.Keys(known) {
		lines = append(lines, rr.Owner+" "+rr.Addr.String()+"\n")
	}
	slices.Sort(lines)
	if err := m.replace(strings.Join(lines, "")); err != nil {
		return fmt.Errorf("save which names are this gateway's: %w", err)
	}
	return nil
}

func (m Memory) replace(text string) error {
	// A file that cannot be read now may be readable later.
	if _, err := os.ReadFile(m.File()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return file.Replace(m.File(), []byte(text), 0o600, file.OnDisk)
}

// Add makes the files by which a hook records addresses.
func (m Memory) Add(rrs []lease.RR) error {
	for _, rr := range rrs {
		if err := os.WriteFile(filepath.Join(m.NewDir(), fileName(rr)), nil, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Has reports whether a hook has added the address since the last sync.
func (m Memory) Has(rr lease.RR) bool {
	_, err := os.Stat(filepath.Join(m.NewDir(), fileName(rr)))
	return err == nil
}

// Added returns the names of the files that hooks have made; see Addresses.
func (m Memory) Added() ([]string, error) {
	entries, err := os.ReadDir(m.NewDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return fileNames(entries), err
}

// Forget removes files that hooks have made, once their addresses are saved.
func (m Memory) Forget(added []string) error {
	for _, name := range added {
		if err := os.Remove(filepath.Join(m.NewDir(), name)); err != nil {
			return err
		}
	}
	return nil
}
