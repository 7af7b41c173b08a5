package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"tunnelcast/internal/rundir"
)

// isSetUp reports whether this program is in use: a hook was called since the last
// boot, a connection in swanctl.conf names one, or updown.toml has a setting that is
// not about links. Until then the unit's runs do nothing and succeed, because the
// package may be installed on a server that has no DNS server, key or charon.
func (c settings) isSetUp() bool {
	if rundir.Dir(c.RunDir).InUse() {
		return true
	}
	return hasSetting(string(c.Config)) || namesUpdown(c.SwanctlDir)
}

// linkShared are the keys that links use, too, beside their own.
var linkShared = []string{"event-timeout", "key", "metrics", "on-event", "server", "ttl", "zone"}

// hasSetting reports whether a configuration file has a setting outside the sections
// [link.NAME]. In a file with such a section, the keys that links share do not count.
func hasSetting(file string) bool {
	text, err := os.ReadFile(file)
	if err != nil {
		return !os.IsNotExist(err)
	}
	setting := regexp.MustCompile(`^\s*[^#\s]`)
	ofLink, anyLink, shared := false, false, false
	for line := range strings.Lines(string(text)) {
		if name, opens := strings.CutPrefix(strings.ReplaceAll(line, " ", ""), "["); opens {
			ofLink = strings.HasPrefix(name, "link.") || strings.HasPrefix(name, "link]")
			anyLink = anyLink || ofLink
		}
		if ofLink || !setting.MatchString(line) {
			continue
		}
		key, _, _ := strings.Cut(line, "=")
		if !slices.Contains(linkShared, strings.TrimSpace(key)) {
			return true
		}
		shared = true
	}
	return shared && !anyLink
}

// namesUpdown reports whether any file of swanctl's configuration has an updown line.
func namesUpdown(swanctl string) bool {
	found, updownLine := false, regexp.MustCompile(`^[^#]*\bupdown\b`)
	filepath.WalkDir(swanctl, func(file string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && strings.HasSuffix(file, ".conf") && hasLine(file, updownLine) {
			found = true
			return fs.SkipAll
		}
		return nil
	})
	return found
}

// hasLine reports whether a line of a file matches. A file that exists and cannot be
// read counts as if one did.
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
