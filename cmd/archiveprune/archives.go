package main

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"tunnelcast/internal/hook"
	"tunnelcast/internal/nginx"
)

// defaultArchive is the guide's, for a server where nothing names another.
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
				return hook.Usagef("[[archive]]: unknown key %q: the keys are %s", key, strings.Join(ownKeys, ", "))
			}
		}
	}
	return nil
}

// ownKeys are what an archive may have for itself. All other settings are the run's.
var ownKeys = []string{
	"path", "exclude", "include", "keep-last", "max-age", "max-delete", "max-size", "min-age", "min-free",
	"remove-empty-dirs",
}

// split finds the directories of this run and the settings of each: those of its table, if it has one.
// A setting that the table lacks is the file's, and a flag overrides both.
func (h *host) split() error {
	configured, err := h.configured()
	if err != nil {
		return err
	}
	h.named = h.Prune.Dirs != nil
	dirs := h.Prune.Dirs
	switch {
	case h.named:
	case h.Archive != nil: // a flag overrides the tables
		dirs = []string{*h.Archive}
	case h.Tables != nil:
		for _, a := range configured {
			dirs = append(dirs, *a.Archive)
		}
	default:
		dirs = []string{defaultArchive}
	}
	for _, dir := range dirs {
		if dir, err = archivePath(dir); err != nil {
			return err
		}
		a := h.cli
		if i := slices.IndexFunc(configured, func(a cli) bool { return *a.Archive == dir }); i >= 0 {
			a = configured[i]
		}
		a.Archive = &dir
		if err := a.validate(); err != nil {
			return err
		}
		h.archives = append(h.archives, a)
	}
	return nil
}

// configured returns the settings of each table.
func (h *host) configured() ([]cli, error) {
	var all []cli
	for _, table := range h.Tables {
		path, err := archivePath(table["path"].(string))
		if err != nil {
			return nil, err
		}
		for _, other := range all {
			// The limits of the outer one would be held to the recordings of the inner one too.
			if nginx.Within(path, []string{*other.Archive}) || nginx.Within(*other.Archive, []string{path}) {
				return nil, hook.Usagef("[[archive]]: %s and %s are the same, or one is inside the other",
					*other.Archive, path)
			}
		}
		own := maps.Clone(table)
		delete(own, "path")
		var a cli
		if _, err := hook.ParseSection(h.env, &a, description, own); err != nil {
			return nil, err
		}
		a.Archive = &path
		all = append(all, a)
	}
	return all, nil
}

// archivePath returns the path in its shortest form. A path that is more likely a mistake than an
// archive is an error: what a relative one means depends on who starts the program.
func archivePath(dir string) (string, error) {
	clean := filepath.Clean(dir)
	switch {
	case dir == "":
		return "", hook.Usagef("archive is empty: name a directory")
	case !filepath.IsAbs(dir):
		return "", hook.Usagef("archive %q: must be an absolute path", dir)
	case clean == "/":
		return "", hook.Usagef("archive %q: the whole system is not an archive", dir)
	}
	return clean, nil
}
