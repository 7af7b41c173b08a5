//go:build cgo

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"tunnelcast/internal/hook"
	"tunnelcast/internal/nginx"
)

// host is what one run knows of this host.
type host struct {
	settings
	env   hook.Env
	calls *calls // nil if none are to be made
}

// defaultArchive is that of the guide. It is used if no archive is configured.
const defaultArchive = "/var/www/html/archive"

// archives returns the directories to sweep and to check: the setting archive, otherwise the archives
// of archiveprune, whose configuration is beside that of this program, so that an archive is named
// once. chosen is false for the default.
func (h *host) archives() (dirs []string, chosen bool, err error) {
	if h.Archive != nil {
		return []string{*h.Archive}, true, nil
	}
	dirs, err = prunedArchives(h.pruneConfig())
	if err != nil || dirs != nil {
		return dirs, true, err
	}
	return []string{defaultArchive}, false, nil
}

func (h *host) pruneConfig() string {
	return filepath.Join(filepath.Dir(string(h.Config)), "archiveprune.toml")
}

// prunedArchives returns the archives that archiveprune's configuration names: with the key archive, or
// with a path in each table [[archive]].
func prunedArchives(file string) ([]string, error) {
	value, err := hook.OtherSetting(file, "archive")
	switch value := value.(type) {
	case string:
		return []string{value}, nil
	case []map[string]any:
		var dirs []string
		for _, table := range value {
			dir, ok := table["path"].(string)
			if !ok {
				return nil, hook.Usagef("%s: [[archive]]: path is missing", file)
			}
			dirs = append(dirs, dir)
		}
		return dirs, nil
	case nil:
		return nil, err
	}
	return nil, hook.Usagef("%s: archive must be the path of a directory", file)
}

// recordsNothing reports whether this server has no recordings: no archive is configured here or in
// nginx, and the default one does not exist. Any other archive that is missing is a failure.
func recordsNothing(chosen bool) bool {
	if chosen {
		return false
	}
	_, err := os.Lstat(defaultArchive)
	return errors.Is(err, fs.ErrNotExist) && len(nginx.RecordPaths(os.DirFS("/"))) == 0
}

// sameArchives returns an error with the archives of archiveprune if the setting archive is none of them.
func (h *host) sameArchives() error {
	if h.Archive == nil {
		return nil // it is archiveprune's
	}
	pruned, err := prunedArchives(h.pruneConfig())
	if err != nil {
		return err
	}
	if pruned == nil {
		pruned = []string{defaultArchive}
	}
	for _, dir := range pruned {
		if filepath.Clean(dir) == filepath.Clean(*h.Archive) {
			return nil
		}
	}
	return fmt.Errorf("archiveprune prunes %q", pruned)
}
