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

// defaultArchive is the guide's, where there is nothing else to go by.
const defaultArchive = "/var/www/html/archive"

// archives returns the directories to sweep and to check: the setting archive, or else that of archiveprune, whose file lies
// beside this program's, so that an archive is named once. chosen is false of the default.
func (c *cli) archives() (dirs []string, chosen bool, err error) {
	if c.Archive != nil {
		return []string{*c.Archive}, true, nil
	}
	dirs, err = prunedArchives(c.pruneConfig())
	if err != nil || dirs != nil {
		return dirs, true, err
	}
	return []string{defaultArchive}, false, nil
}

func (c *cli) pruneConfig() string {
	return filepath.Join(filepath.Dir(string(c.Config)), "archiveprune.toml")
}

// prunedArchives returns the archives that archiveprune's configuration names: by the key archive, or by a path in each table
// [[archive]].
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

// recordsNothing tells whether this server has no recordings: nobody has named an archive, here or to nginx, and the guide's
// is not there. Any other archive that is missing is a failure.
func recordsNothing(chosen bool) bool {
	if chosen {
		return false
	}
	_, err := os.Lstat(defaultArchive)
	return errors.Is(err, fs.ErrNotExist) && len(nginx.RecordPaths(os.DirFS("/"))) == 0
}

// sameArchives says what archiveprune prunes, if that is not what this program sweeps.
func (c *cli) sameArchives() error {
	if c.Archive == nil {
		return nil // it is archiveprune's
	}
	pruned, err := prunedArchives(c.pruneConfig())
	if err != nil {
		return err
	}
	if pruned == nil {
		pruned = []string{defaultArchive}
	}
	for _, dir := range pruned {
		if filepath.Clean(dir) == filepath.Clean(*c.Archive) {
			return nil
		}
	}
	return fmt.Errorf("archiveprune prunes %q", pruned)
}
