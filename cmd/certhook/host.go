package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tunnelcast/internal/file"
	"tunnelcast/internal/hook"
)

// host is the machine that a run looks after.
type host struct {
	env  hook.Env
	cli  cli
	root string // of the file system: /
}

// liveDir is where certbot keeps lineages by name.
const liveDir = "/etc/letsencrypt/live"

// lineageDir returns the directory of a lineage, of which a person may give certbot's
// name.
func lineageDir(name string) (dir string, err error) {
	if !strings.Contains(name, "/") {
		if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
			name = filepath.Join(liveDir, name)
		}
	}
	if dir, err = filepath.Abs(name); err != nil {
		return "", fmt.Errorf("read lineage: %w", err)
	}
	return dir, nil
}

// requires reports whether the setting lineages has a lineage.
func (h *host) requires(dir string) bool {
	return slices.ContainsFunc(h.cli.Lineages, func(l string) bool {
		return l == filepath.Base(dir) || filepath.Clean(l) == filepath.Clean(dir)
	})
}

// looksAfter reports whether a lineage is not excluded by the setting lineages.
func (h *host) looksAfter(dir string) bool { return len(h.cli.Lineages) == 0 || h.requires(dir) }

// lock makes runs go one after the other. It is held until unlock is called or the
// process ends. Without strongSwan there is nothing to lock.
func (h *host) lock(ctx context.Context) (unlock func(), err error) {
	dir, err := os.Open(h.cli.SwanctlDir)
	if errors.Is(err, fs.ErrNotExist) {
		return func() {}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := file.Lock(ctx, dir, file.Exclusive); err != nil {
		dir.Close()
		return nil, err
	}
	return func() { dir.Close() }, nil
}
