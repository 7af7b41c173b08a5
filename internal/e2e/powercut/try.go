package powercut

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A Trial is a run of programs on a disk whose writes were logged, and what must be there after a power cut.
type Trial struct {
	Image []byte // the disk when the log began
	Log   []Write
	From  int    // the first entry at which the power is cut
	Seed  uint64 // of States
	Whole int    // of States; 0: 512
	// Done are reports of the programs, such as an exit status of 0: for each the number of entries that
	// the log had when the report was seen.
	Done []int
	// Recover recovers the image as a boot does, and copies its files to dir, as Ext4 does.
	Recover func(ctx context.Context, image, dir string) error
	// Look returns what is wrong with the files in dir after the first done of the reports. It is called
	// once for each outcome.
	Look func(dir string, done int) (wrong []string, err error)
	// Keep, if it is not nil, is called for each outcome with the file of the disk before the recovery.
	Keep func(outcome *Outcome, image string) error
}

// An Outcome is what states have in common that recover to the same files after the same reports.
type Outcome struct {
	State  State // the first of them
	Done   int   // how many reports were seen
	States int
	Files  string // a line for each file: mode, size, name
	Wrong  []string
}

// A Result is what was found in the states of a trial.
type Result struct {
	Writes, States int
	Outcomes       []*Outcome
}

// Wrong returns the number of states in which something is wrong.
func (r Result) Wrong() int {
	n := 0
	for _, o := range r.Outcomes {
		if len(o.Wrong) > 0 {
			n += o.States
		}
	}
	return n
}

// String returns the counts in a line, and then what is wrong in the first few outcomes.
func (r Result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d writes and flushes, %d states, %d outcomes, %d states with a fault",
		r.Writes, r.States, len(r.Outcomes), r.Wrong())
	shown := 0
	for _, o := range r.Outcomes {
		if len(o.Wrong) > 0 && shown < 5 {
			shown++
			fmt.Fprintf(&b, "\n%s (%d states, after %d reports): %s\n%s",
				o.State, o.States, o.Done, strings.Join(o.Wrong, "; "), o.Files)
		}
	}
	return b.String()
}

// Try recovers the disk in every state of the trial. A disk that cannot be recovered is an outcome with a fault.
func Try(ctx context.Context, t Trial) (Result, error) {
	result := Result{Writes: len(t.Log) - t.From}
	work, err := os.MkdirTemp(memory(), "powercut-")
	if err != nil {
		return result, err
	}
	defer os.RemoveAll(work)
	disk, err := NewDisk(filepath.Join(work, "disk"), t.Image, t.Log)
	if err != nil {
		return result, err
	}
	defer disk.Close()
	slices.Sort(t.Done)
	outcomes := map[[sha256.Size]byte]*Outcome{}
	var seen map[[sha256.Size]byte]bool // of this Begin
	begin := -1
	for state := range States(t.Log, t.From, cmp.Or(t.Whole, sector), t.Seed) {
		if err := ctx.Err(); err != nil {
			return result, err
		}
		if state.Begin != begin {
			begin, seen = state.Begin, map[[sha256.Size]byte]bool{}
		}
		print, err := disk.fingerprint(state)
		if err != nil {
			return result, err
		}
		if seen[print] {
			continue
		}
		seen[print] = true
		result.States++
		// The report may come before a cut that still loses all that no flush covers.
		done, _ := slices.BinarySearch(t.Done, state.End+1)
		if err := t.try(ctx, disk, state, done, outcomes); err != nil {
			return result, fmt.Errorf("state %s: %w", state, err)
		}
	}
	for _, o := range outcomes {
		result.Outcomes = append(result.Outcomes, o)
	}
	slices.SortFunc(result.Outcomes, func(a, b *Outcome) int {
		return cmp.Or(cmp.Compare(a.State.Begin, b.State.Begin), strings.Compare(a.State.String(), b.State.String()))
	})
	return result, nil
}

// try sets one state and adds it to its outcome.
func (t *Trial) try(
	ctx context.Context, disk *Disk, state State, done int, outcomes map[[sha256.Size]byte]*Outcome,
) error {
	if err := disk.Set(state); err != nil {
		return err
	}
	dir := filepath.Join(filepath.Dir(disk.File), "files")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	broken := t.Recover(ctx, disk.File, dir)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	files, key, err := describe(dir, fmt.Sprint(done, broken))
	if err != nil {
		return err
	}
	if o := outcomes[key]; o != nil {
		o.States++
		return nil
	}
	o := &Outcome{State: state, Done: done, States: 1, Files: files}
	outcomes[key] = o
	if broken != nil {
		o.Wrong = []string{broken.Error()}
	} else if o.Wrong, err = t.Look(dir, done); err != nil {
		return err
	}
	if t.Keep == nil {
		return nil
	}
	if err := disk.Set(state); err != nil { // again, without the recovery
		return err
	}
	return t.Keep(o, disk.File)
}

// describe lists the files in dir, and returns a key that is the same for the same names, modes and
// contents, and the same more.
func describe(dir, more string) (files string, key [sha256.Size]byte, err error) {
	var b strings.Builder
	hash := sha256.New()
	io.WriteString(hash, more)
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			fmt.Fprintf(hash, "\n%v %q", info.Mode(), name)
			return nil
		}
		fmt.Fprintf(hash, "\n%v %d %q\n", info.Mode(), info.Size(), name)
		fmt.Fprintf(&b, "  %v %8d %s\n", info.Mode(), info.Size(), name)
		if !d.Type().IsRegular() {
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(hash, f)
		return err
	})
	return b.String(), [sha256.Size]byte(hash.Sum(nil)), err
}

// memory returns a directory in memory, or "" for the default of temporary files.
func memory() string {
	if _, err := os.Stat("/dev/shm"); err == nil {
		return "/dev/shm"
	}
	return ""
}
