package internal_test

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A section is what a page has below one heading, up to the next. The first section is what precedes all headings.
type section struct {
	level  int // number of # in the heading
	blocks []string
	rows   [][]string // of all tables, with the text of their cells
	links  []string
	code   map[string]bool // the spans of code
}

var (
	anyBlock = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	remark   = regexp.MustCompile(`(?m) {2,}# .*$`) // beside a command
	span     = regexp.MustCompile("`([^`]+)`")
	tableRow = regexp.MustCompile(`(?m)^\|.*\|$`)
	title    = regexp.MustCompile(`(?m)^(#+) `)
)

// sections returns the sections of a page.
func sections(page string) []section {
	var blocks []string
	page = anyBlock.ReplaceAllStringFunc(page, func(block string) string {
		blocks = append(blocks, remark.ReplaceAllString(block, ""))
		return "\x00" // one for each block
	})
	var sections []section
	starts := title.FindAllStringSubmatchIndex(page, -1)
	for i := -1; i < len(starts); i++ {
		s := section{code: map[string]bool{}}
		from, to := 0, len(page)
		if i >= 0 {
			from, s.level = starts[i][0], starts[i][3]-starts[i][2]
		}
		if i+1 < len(starts) {
			to = starts[i+1][0]
		}
		text := page[from:to]
		n := strings.Count(text, "\x00")
		s.blocks, blocks = blocks[:n], blocks[n:]
		for _, row := range tableRow.FindAllString(text, -1) {
			s.rows = append(s.rows, strings.Split(strings.Trim(row, "| "), " | "))
		}
		for _, m := range span.FindAllStringSubmatch(text, -1) {
			s.code[strings.Join(strings.Fields(m[1]), " ")] = true
		}
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			s.links = append(s.links, m[1])
		}
		sections = append(sections, s)
	}
	return sections
}

// linksIn returns where the links of a section lead, sorted: the page, and the number of the heading on it. Pages are
// named as in English; here is the page of the section.
func linksIn(t *testing.T, pages map[string]string, here string, s section) []string {
	t.Helper()
	var targets []string
	for _, l := range s.links {
		file, anchor, _ := strings.Cut(l, "#")
		if strings.Contains(file, "://") {
			targets = append(targets, l)
			continue
		}
		target := here
		if file != "" {
			target = filepath.ToSlash(filepath.Join(filepath.Dir(here), file))
		}
		if anchor != "" {
			anchor = fmt.Sprintf("#%d", slices.Index(anchors(pages[target]), anchor))
		}
		targets = append(targets, strings.Replace(target, ".ja.md", ".md", 1)+anchor)
	}
	slices.Sort(targets)
	return targets
}

// TestTranslationsAgree compares each page in Japanese with the English one: headings, tables, blocks of commands and
// files, code in the text, and links. Only the remarks beside commands may differ. Links of a Japanese page lead to
// Japanese pages where these exist.
func TestTranslationsAgree(t *testing.T) {
	pages := pages(t)
	found := 0
	for name, page := range pages {
		english, translated := strings.CutSuffix(name, ".ja.md")
		if !translated {
			continue
		}
		found++
		original, ok := pages[english+".md"]
		if !ok {
			t.Errorf("%s has no English page", name)
			continue
		}
		firstLines := func(page string) string { return strings.Join(strings.SplitN(page, "\n", 7)[:6], "\n") }
		if base := filepath.Base(english); !strings.Contains(firstLines(page), "]("+base+".md)") ||
			!strings.Contains(firstLines(original), "]("+base+".ja.md)") {
			t.Errorf("%s and its English page do not link each other in their first lines", name)
		}
		en, ja := sections(original), sections(page)
		if len(en) != len(ja) {
			t.Errorf("%s has %d headings, the English page has %d", name, len(ja)-1, len(en)-1)
			continue
		}
		headings := heading.FindAllStringSubmatch(fence.ReplaceAllString(page, ""), -1)
		for i := range en {
			where := name
			if i > 0 {
				where += ", section " + headings[i-1][1]
			}
			compareSections(t, where, en[i], ja[i])
			other := func(l string) bool { return filepath.Base(l) == filepath.Base(english)+".md" }
			if i == 1 { // the link to the page in the other language
				en[i].links = slices.DeleteFunc(en[i].links, func(l string) bool {
					return l == filepath.Base(english)+".ja.md"
				})
				ja[i].links = slices.DeleteFunc(ja[i].links, other)
			}
			want := linksIn(t, pages, english+".md", en[i])
			if got := linksIn(t, pages, name, ja[i]); !slices.Equal(got, want) {
				t.Errorf("%s links to %q, the English section to %q", where, got, want)
			}
			for _, l := range ja[i].links {
				file, _, _ := strings.Cut(l, "#")
				better := filepath.ToSlash(filepath.Join(filepath.Dir(name), strings.Replace(file, ".md", ".ja.md", 1)))
				if !strings.HasSuffix(file, ".ja.md") && pages[better] != "" && !strings.Contains(file, "://") {
					t.Errorf("%s links to %s, which exists in Japanese", where, l)
				}
			}
		}
	}
	if found < 1 {
		t.Error("no page in Japanese was found")
	}
}

func compareSections(t *testing.T, where string, en, ja section) {
	t.Helper()
	if en.level != ja.level {
		t.Errorf("%s is of level %d, in English of level %d", where, ja.level, en.level)
	}
	if !slices.Equal(en.blocks, ja.blocks) {
		t.Errorf("%s has the blocks\n%s\nthe English section has\n%s", where, strings.Join(ja.blocks, "\n"),
			strings.Join(en.blocks, "\n"))
	}
	if len(en.rows) != len(ja.rows) {
		t.Errorf("%s has %d table rows, the English section has %d", where, len(ja.rows), len(en.rows))
	}
	for i := range min(len(en.rows), len(ja.rows)) {
		if len(en.rows[i]) != len(ja.rows[i]) {
			t.Errorf("%s: row %q has %d cells, in English %d", where, ja.rows[i], len(ja.rows[i]), len(en.rows[i]))
		}
	}
	for code := range en.code {
		if !ja.code[code] {
			t.Errorf("%s lacks `%s`", where, code)
		}
	}
	for code := range ja.code {
		if !en.code[code] {
			t.Errorf("%s has `%s`, which the English section lacks", where, code)
		}
	}
}
