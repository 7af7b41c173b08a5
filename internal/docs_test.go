package internal_test

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// pages returns the project's pages for readers, by their paths from the top.
func pages(t *testing.T) map[string]string {
	t.Helper()
	names, err := filepath.Glob("../*.md")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	pages := map[string]string{}
	for _, name := range append(names, more...) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		pages[strings.TrimPrefix(filepath.ToSlash(name), "../")] = string(text)
	}
	if len(pages) < 8 {
		t.Errorf("only %d pages were found: %v", len(pages), slices.Sorted(maps.Keys(pages)))
	}
	return pages
}

var (
	fence   = regexp.MustCompile("(?ms)^```.*?^```$")
	link    = regexp.MustCompile(`\]\(([^)]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	dropped = regexp.MustCompile(`[^\p{L}\p{M}\p{N} _-]`)
)

// anchors returns the anchors of a page's headings, as GitHub makes them.
func anchors(page string) []string {
	var anchors []string
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(page, ""), -1) {
		anchors = append(anchors, strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-"))
	}
	return anchors
}

// TestLinksLeadSomewhere follows every link between the pages, to the file and to the heading.
func TestLinksLeadSomewhere(t *testing.T) {
	pages := pages(t)
	for name, page := range pages {
		for _, m := range link.FindAllStringSubmatch(fence.ReplaceAllString(page, ""), -1) {
			file, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(file, "://") {
				continue
			}
			target := name
			if file != "" {
				target = filepath.ToSlash(filepath.Join(filepath.Dir(name), file))
			}
			if _, err := os.Stat(filepath.Join("..", target)); err != nil {
				t.Errorf("%s links to %s: %v", name, m[1], err)
			}
			if anchor != "" && !slices.Contains(anchors(pages[target]), anchor) {
				t.Errorf("%s links to %s: %s has no such heading", name, m[1], target)
			}
		}
	}
}

// TestPathsExist looks up the files and packages that the pages name. NAME stands for each program.
func TestPathsExist(t *testing.T) {
	named := regexp.MustCompile("`((?:cmd|internal|packaging|docs|\\.ci)/[^` ]*)`")
	for name, page := range pages(t) {
		if name == "CHANGELOG.md" { // it names what existed at the time
			continue
		}
		for _, m := range named.FindAllStringSubmatch(page, -1) {
			for _, program := range []string{"updown", "recorddone", "archiveprune", "certhook"} {
				found, err := filepath.Glob(filepath.Join("..", strings.ReplaceAll(m[1], "NAME", program)))
				if err != nil || len(found) == 0 {
					t.Errorf("%s names %s, which does not exist (%v)", name, m[1], err)
				}
			}
		}
	}
}

// TestVariablesAreListed compares the variables in CONTRIBUTING.md with those in the tree. Names of the same form in a
// message catalog are fields of journal entries; those in a man page are explained to users there.
func TestVariablesAreListed(t *testing.T) {
	page := pages(t)["CONTRIBUTING.md"]
	_, table, found := strings.Cut(page, "\n## Variables\n")
	if !found {
		t.Fatal("CONTRIBUTING.md has no section Variables")
	}
	table, _, _ = strings.Cut(table, "\n## ")
	listed := map[string]bool{}
	for line := range strings.Lines(table) {
		if cell, _, ok := strings.Cut(strings.TrimPrefix(line, "| "), " |"); ok && strings.HasPrefix(line, "| ") {
			for _, m := range regexp.MustCompile("`([A-Z][A-Z0-9_]+)`").FindAllStringSubmatch(cell, -1) {
				listed[m[1]] = true
			}
		}
	}
	variable := regexp.MustCompile(`TUNNELCAST_[A-Z0-9_]*[A-Z0-9]`)
	literal := regexp.MustCompile(`"TUNNELCAST_[A-Z0-9_]*[A-Z0-9]"`) // in Go, as an argument of os.Getenv
	explained := map[string]bool{"TUNNELCAST_MESSAGE_ID": true}      // a field that a test makes up
	used := map[string]string{}
	var everything strings.Builder
	err := filepath.WalkDir("..", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "bin"):
			return fs.SkipDir
		case !d.Type().IsRegular() || strings.HasSuffix(name, ".md"):
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		found := variable.FindAllString(string(text), -1)
		if filepath.Ext(name) == ".go" {
			found = literal.FindAllString(string(text), -1)
		}
		if strings.HasSuffix(name, ".catalog") || strings.HasPrefix(filepath.ToSlash(name), "../packaging/man/") {
			for _, v := range found {
				explained[v] = true
			}
			return nil
		}
		for _, v := range found {
			used[strings.Trim(v, `"`)] = name
		}
		everything.Write(text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for v, file := range used {
		if !explained[v] && !listed[v] {
			t.Errorf("%s uses %s, which neither CONTRIBUTING.md, a man page nor a message catalog lists",
				file, v)
		}
	}
	for v := range listed {
		if !strings.Contains(everything.String(), v) {
			t.Errorf("CONTRIBUTING.md lists %s, which nothing uses", v)
		}
	}
	if len(listed) < 10 {
		t.Errorf("only %d variables are listed", len(listed))
	}
}
