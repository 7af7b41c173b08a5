package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// isSetUp tells whether somebody has given this program something to do: a hook was called since the boot, a connection names
// one, or there is a setting. Until then a run of the unit that finds no DNS server, key or charon is no failure, for the
// package may be on a server that has none; from then on it is.
func (c cli) isSetUp() bool {
	dir := runDir(c.RunDir)
	if _, err := os.Lstat(filepath.Join(c.RunDir, "hooks.lock")); err == nil {
		return true
	}
	if pokes, err := dir.pokes(); len(pokes) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return true
	}
	file := string(c.Config)
	if file == "" { // not filled in for a call without flags
		file = "/etc/tunnelcast/updown.toml"
	}
	return hasLine(file, setting) || namesUpdown(c.SwanctlDir)
}

var (
	setting    = regexp.MustCompile(`^\s*[^#\s]`)
	updownLine = regexp.MustCompile(`^[^#]*\bupdown\b`)
)

// namesUpdown looks for a hook in swanctl's configuration, whatever file includes which.
func namesUpdown(swanctl string) bool {
	found := false
	filepath.WalkDir(swanctl, func(file string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && strings.HasSuffix(file, ".conf") && hasLine(file, updownLine) {
			found = true
			return fs.SkipAll
		}
		return nil
	})
	return found
}

// hasLine tells whether a line of a file matches. Of a file that is there and cannot be read nobody knows: it counts.
func hasLine(file string, match *regexp.Regexp) bool {
	text, err := os.ReadFile(file)
	if err != nil {
		return !os.IsNotExist(err)
	}
	for line := range strings.Lines(string(text)) {
		if match.MatchString(line) {
			return true
		}
	}
	return false
}
