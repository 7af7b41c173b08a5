package main

import (
	"path"
	"strings"

	"tunnelcast/internal/hook"
)

// patterns are globs of file names, in lower case, because cameras write .MP4 as well.
type patterns []string

func newPatterns(globs []string) patterns {
	p := make(patterns, len(globs))
	for i, glob := range globs {
		p[i] = strings.ToLower(glob)
	}
	return p
}

func (p patterns) match(name string) bool {
	for _, glob := range p {
		// The usual pattern does without path.Match, which is slow for a million names.
		if end, ok := strings.CutPrefix(glob, "*"); ok && !strings.ContainsAny(end, `*?[\`) {
			if len(name) >= len(end) && strings.EqualFold(name[len(name)-len(end):], end) {
				return true
			}
		} else if ok, _ := path.Match(glob, strings.ToLower(name)); ok { // checkPatterns has checked the error
			return true
		}
	}
	return false
}

// checkExcluded returns an error for a glob of exclude that can never match.
func checkExcluded(globs []string) error {
	for _, glob := range globs {
		if _, err := path.Match(glob, ""); err != nil || glob == "" {
			return hook.Usagef("exclude %q is not a valid pattern of names", glob)
		}
		if strings.Contains(glob, "/") {
			return hook.Usagef(
				"exclude %q: is compared with the name of each file and directory, which has no slash", glob)
		}
	}
	return nil
}

// checkPatterns returns an error for a glob that can never match a file name, or is unlikely to match one
// that was meant. Otherwise an archive in which nothing matches would look like one in which nothing is
// too old.
func checkPatterns(key string, globs []string) error {
	for _, glob := range globs {
		if _, err := path.Match(glob, ""); err != nil || glob == "" {
			return hook.Usagef("%s %q is not a valid pattern of file names", key, glob)
		}
		wrong := func(why string) error { return hook.Usagef("%s %q: %s", key, glob, why) }
		wild := strings.ContainsAny(glob, `*?[\`)
		switch {
		case strings.Contains(glob, "/"):
			return wrong("is compared with a file's name, which has no slash; recordings are found in every directory")
		case strings.ContainsAny(glob, "{}") && wild:
			return wrong("braces are not expanded; write two patterns")
		case glob != strings.TrimSpace(glob):
			return wrong("begins or ends with a space; write " + strings.TrimSpace(glob))
		case strings.Contains(glob, " *"), strings.ContainsAny(glob, ";|") && wild, strings.Contains(glob, ","):
			return wrong(`looks like several patterns; write them as a list: ["*.mp4", "*.flv"]`)
		case strings.HasPrefix(glob, ".*"), strings.HasPrefix(glob, "^"), strings.HasSuffix(glob, "$"):
			return wrong("looks like a regular expression; write *.mp4")
		case !wild && (strings.HasPrefix(glob, ".") || !strings.Contains(glob, ".")):
			return wrong("would match only a file of just this name; write *." + strings.TrimPrefix(glob, "."))
		}
	}
	return nil
}
