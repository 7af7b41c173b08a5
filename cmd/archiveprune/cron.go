package main

import (
	"bufio"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// crontabs are the files whose lines cron runs, and the scripts that it runs.
var crontabs = []string{
	"etc/crontab", "etc/cron.d/*", "var/spool/cron/crontabs/*",
	"etc/cron.hourly/*", "etc/cron.daily/*", "etc/cron.weekly/*", "etc/cron.monthly/*",
}

// spool has the users' crontabs. Only root may list it.
const spool = "var/spool/cron/crontabs"

// cronLines returns each line that cron runs and that removes files from one of the archives, with its
// place. The guide has such a line. blind is true if there are users' crontabs that this user may not
// see.
func cronLines(host fs.FS, archives ...string) (lines []string, blind bool) {
	if _, err := fs.ReadDir(host, spool); err != nil {
		_, statErr := fs.Stat(host, spool)
		blind = statErr == nil
	}
	for _, glob := range crontabs {
		files, _ := fs.Glob(host, glob) // the only error is that of an invalid pattern
		for _, file := range files {
			f, err := host.Open(file)
			if err != nil {
				blind = blind || strings.HasPrefix(file, spool)
				continue
			}
			text := bufio.NewScanner(f)
			for n := 1; text.Scan(); n++ {
				line := strings.TrimSpace(text.Text())
				if slices.ContainsFunc(archives, func(dir string) bool { return removesFrom(line, dir) }) {
					lines = append(lines, fmt.Sprintf("/%s:%d: %s", file, n, line))
				}
			}
			f.Close()
		}
	}
	return lines, blind
}

var (
	// remover matches a program, or an action of find, that removes.
	remover = regexp.MustCompile(`(^|[\s;|&({'"` + "`" + `/])(rm|unlink|shred|tmpreaper|tmpwatch)\s|\s-delete\b`)
	// named matches a find that selects by name.
	named = regexp.MustCompile(`\s-i?(name|path|wholename|regex)\s`)
)

// removesFrom reports whether a shell line removes files in dir: whether it has a command that removes, and
// names dir, something in it or, for find, a directory above.
func removesFrom(line, dir string) bool {
	if strings.HasPrefix(line, "#") || !remover.MatchString(line+" ") {
		return false
	}
	separates := func(r rune) bool { return strings.ContainsRune(" \t'\"`;|&(){}=<>", r) }
	for _, word := range strings.FieldsFunc(line, separates) {
		if !path.IsAbs(word) {
			continue
		}
		word = path.Clean(word)
		if word == dir || strings.HasPrefix(word, dir+"/") {
			return true
		}
		above := word != "/" && strings.HasPrefix(dir, word+"/")
		other := named.MatchString(line) && !strings.Contains(line, "mp4") && !strings.Contains(line, "flv")
		if above && !other && strings.Contains(line, "find ") {
			return true
		}
	}
	return false
}
