package main

import (
	"path/filepath"
	"slices"
	"strings"

	"tunnelcast/internal/hook"
	"tunnelcast/internal/nginx"
)

// defaultArchive is the guide's, where there is nothing else to go by.
const defaultArchive = "/var/www/html/archive"

// tables are the archives of the configuration file, each with settings of its own:
//
//	[[archive]]
//	path = "/srv/meetings"
//	max-age = "30d"
type tables []map[string]any

// UnmarshalTOML implements hook.Table.
func (t *tables) UnmarshalTOML(value any) error {
	*t, _ = value.([]map[string]any)
	for _, table := range *t {
		if path, ok := table["path"].(string); !ok || path == "" {
			return hook.Usagef("[[archive]]: path must name a directory")
		}
		for key := range table {
			if !slices.Contains(ownKeys, key) {
				return hook.Usagef("[[archive]]: unknown key %q: the keys are path, %s", key, strings.Join(ownKeys[1:], ", "))
			}
		}
	}
	return nil
}

// ownKeys are what an archive may have for itself; the others are the run's.
var ownKeys = []string{"path", "exclude", "include", "keep-last", "max-age", "max-delete", "max-size", "min-age", "min-free", "remove-empty-dirs"}

// split returns the settings for every directory of this run: those of its table, if it has one. A setting that the table
// lacks is the file's, and a flag wins over both.
func (c *cli) split(env hook.Env) ([]cli, error) {
	configured, err := c.configured(env)
	if err != nil {
		return nil, err
	}
	c.named = c.Prune.Dirs != nil
	dirs := c.Prune.Dirs
	switch {
	case c.named:
	case c.Archive != nil: // beside tables a flag
		dirs = []string{*c.Archive}
	case c.Tables != nil:
		for _, a := range configured {
			dirs = append(dirs, *a.Archive)
		}
	default:
		dirs = []string{defaultArchive}
	}
	var all []cli
	for _, dir := range dirs {
		if dir, err = archivePath(dir); err != nil {
			return nil, err
		}
		a := *c
		if i := slices.IndexFunc(configured, func(a cli) bool { return *a.Archive == dir }); i >= 0 {
			a = configured[i]
		}
		a.Archive = &dir
		all = append(all, a)
	}
	return all, nil
}

// configured returns the settings of each table.
func (c *cli) configured(env hook.Env) ([]cli, error) {
	var all []cli
	for _, table := range c.Tables {
		path, err := archivePath(table["path"].(string))
		if err != nil {
			return nil, err
		}
		for _, other := range all {
			// The limits of the outer one would be held to the recordings of the inner one too.
			if path == *other.Archive || nginx.Within(path, []string{*other.Archive}) || nginx.Within(*other.Archive, []string{path}) {
				return nil, hook.Usagef("[[archive]]: %s and %s are the same, or one is inside the other", *other.Archive, path)
			}
		}
		own := make(map[string]any)
		for key, value := range table {
			if key != "path" {
				own[key] = value
			}
		}
		var a cli
		if _, err := hook.ParseSection(env, &a, description, own); err != nil {
			return nil, err
		}
		a.Archive = &path
		all = append(all, a)
	}
	return all, nil
}

// dirs returns the directories of this run.
func (c cli) dirs() []string {
	var dirs []string
	for _, a := range c.archives {
		dirs = append(dirs, *a.Archive)
	}
	return dirs
}

// archivePath refuses what is more likely a slip than an archive. What a
// relative path means depends on who starts the program.
func archivePath(dir string) (string, error) {
	clean := filepath.Clean(dir)
	switch {
	case dir == "":
		return "", hook.Usagef("archive is empty: name a directory")
	case !filepath.IsAbs(dir):
		return "", hook.Usagef("archive %q: must be an absolute path", dir)
	case clean == "/":
		return "", hook.Usagef("archive %q: the whole system is no archive", dir)
	}
	return clean, nil
}
