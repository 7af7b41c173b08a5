package publish

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tunnelcast/internal/file"
	"tunnelcast/internal/inuse"
)

// Try does in the directory dir what a run does there, with files of its own that have hidden names, one of
// them of so many bytes. It returns what the file system lacks. An error means that no recording can be
// published there, and says why.
func Try(ctx context.Context, dir string, bytes int) ([]Lack, error) {
	written, err := os.CreateTemp(dir, ".recorddone-check-*.part")
	if err != nil {
		return nil, err
	}
	defer os.Remove(written.Name())
	defer written.Close()
	s, err := Open(written.Name())
	if err != nil {
		return nil, err
	}
	defer s.Close()
	err = s.try(ctx, written, bytes)
	if errors.Is(err, file.ErrChanged) {
		err = fmt.Errorf("a file that nobody else uses %w after it was closed; "+
			"each sweep tries such a recording again", err)
	}
	return s.lacks, err
}

// try publishes the file, which is open for writing as written, and removes it.
func (s *Source) try(ctx context.Context, written *os.File, bytes int) error {
	if ok, err := s.TryLock(); err != nil {
		return err
	} else if !ok {
		return errors.New("another run works in this directory; try again when it is done")
	}
	err := s.Identify()
	if err == nil && !slices.Contains(s.lacks, Leases) {
		return errors.New("this file system grants a lease on a file that is being written")
	} else if err != nil && !errors.Is(err, inuse.ErrInUse) {
		return err
	}
	_, err = written.Write(make([]byte, bytes))
	if err := errors.Join(err, written.Close()); err != nil {
		return err
	}
	if err := s.IdentifyClosed(ctx); err != nil {
		return err
	}

	other := func(kind string) string { return strings.TrimSuffix(s.Name, ".part") + "-" + kind + ".part" }
	taken := filepath.Join(s.Dir, other("taken"))
	if err := os.WriteFile(taken, []byte(s.Name), 0o600); err != nil {
		return err
	}
	defer os.Remove(taken)
	work, err := s.NewWork(other("work"))
	if err != nil {
		return err
	}
	defer work.Discard()
	if _, err := work.file.WriteString("published"); err != nil {
		return err
	}
	name, err := work.Publish(slices.Values([]string{other("taken"), other("public")}))
	if err != nil {
		return err
	}
	defer os.Remove(filepath.Join(s.Dir, other("public")))
	if content, err := os.ReadFile(taken); err != nil || string(content) != s.Name || name != other("public") {
		return fmt.Errorf("this file system replaces a file that must not be replaced: %s", taken)
	}
	return s.Remove(other("aside"))
}
