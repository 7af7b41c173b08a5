package packaging

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"tunnelcast/internal/promised"
)

// manPages returns the names of the English pages. Each has a page of the same name in man/ja.
func manPages(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, dir := range []string{"man", "man/ja"} {
		pages, err := filepath.Glob(dir + "/*.[78]")
		if err != nil || len(pages) != len(commands)+1 {
			t.Fatalf("%s has %d man pages, want %d: %v", dir, len(pages), len(commands)+1, err)
		}
		for i := range pages {
			pages[i] = filepath.Base(pages[i])
		}
		if names != nil && !slices.Equal(names, pages) {
			t.Fatalf("%s has the pages %q, man has %q", dir, pages, names)
		}
		names = pages
	}
	return names
}

// TestManPagesRender formats each page where man finds it once it is installed: that is how man knows its language.
func TestManPagesRender(t *testing.T) {
	promised.Program(t, "man")
	for _, name := range manPages(t) {
		for _, language := range []string{"", "ja"} {
			dir := filepath.Join(t.TempDir(), "man", language, "man"+name[len(name)-1:])
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			source, err := os.ReadFile(filepath.Join("man", language, name))
			if err != nil {
				t.Fatal(err)
			}
			page := filepath.Join(dir, name)
			if err := os.WriteFile(page, source, 0o644); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-P", "cat", page)
			cmd.Env = append(os.Environ(), "MANROFFSEQ=", "MANWIDTH=80", "GROFF_NO_SGR=1", "LC_ALL=C.UTF-8")
			var warnings bytes.Buffer
			cmd.Stderr = &warnings
			text, err := cmd.Output()
			text = overstrike.ReplaceAll(text, nil)
			if err != nil || warnings.Len() > 0 {
				t.Errorf("%s %s: %v\n%s", language, name, err, &warnings)
			}
			heading := "\nNAME\n"
			if language == "ja" {
				heading = "\n名前\n"
			}
			if !strings.Contains(string(text), heading) {
				t.Errorf("%s %s has no heading %q:\n%s", language, name, heading, text)
			}
			for line := range strings.Lines(string(text)) {
				n := columns(strings.TrimSuffix(line, "\n"))
				if n > 80 && !strings.Contains(string(source), strings.TrimSpace(line)) { // not in an example
					t.Errorf("%s %s: %d columns: %s", language, name, n, line)
				}
			}
		}
	}
}

var overstrike = regexp.MustCompile(`.\x08`) // how bold and italic are printed

// columns returns how many columns a terminal needs for s.
func columns(s string) int {
	n := 0
	for _, r := range s {
		n++
		if unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana) || r >= 0x3000 && r < 0x3100 {
			n++
		}
	}
	return n
}

// A manSection is what a page has below one heading.
type manSection struct {
	heading  string
	tags     []string        // of the paragraphs, as written; "" for one in words
	examples []string        // what is between .EX and .EE
	marked   map[string]bool // what is bold or italic outside these: flags, files, values, names of sections
	numbers  map[string]bool
}

// japanese maps the headings of the English pages to those of the Japanese pages. Text in bold names sections, too.
var japanese = map[string]string{
	"NAME": "名前", "SYNOPSIS": "書式", "DESCRIPTION": "説明", "COMMANDS": "コマンド", "OPTIONS": "オプション",
	"CONFIGURATION": "設定", "FILE SYSTEMS": "ファイルシステム", "SESSIONS": "セッション", "EVENTS": "イベント",
	"LINKS": "リンク", "EXIT STATUS": "終了ステータス", "FILES": "ファイル", "EXAMPLES": "例", "SEE ALSO": "関連項目",
}

var (
	fontMacro = regexp.MustCompile(`^\.(B|I|BI|BR|IB|IR|RB|RI) (.*)$`)
	argument  = regexp.MustCompile(`"[^"]*"|\S+`)
	inFont    = regexp.MustCompile(`\\f[BI].*?\\f[PR]`)
	number    = regexp.MustCompile(`\d[\d,.]*\d|\d`)
)

// manSections parses a page, which must have a line .TH.
func manSections(page string) (title string, sections []manSection) {
	lines := strings.Split(strings.TrimSpace(page), "\n")
	first := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, ".TH ") })
	title, lines = lines[first], lines[first+1:]
	s := &manSection{}
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		if heading, ok := strings.CutPrefix(line, ".SH "); ok {
			sections = append(sections, manSection{heading: strings.Trim(heading, `"`),
				marked: map[string]bool{}, numbers: map[string]bool{}})
			s = &sections[len(sections)-1]
			continue
		}
		if line == ".EX" {
			end := i + slices.Index(lines[i:], ".EE")
			s.examples = append(s.examples, strings.Join(lines[i+1:end], "\n"))
			i = end
			continue
		}
		if line == ".TP" || line == ".TQ" {
			i++
			tag := line + " "
			if strings.HasPrefix(lines[i], ".") {
				tag += lines[i]
			}
			s.tags = append(s.tags, tag)
			continue
		}
		if m := fontMacro.FindStringSubmatch(line); m != nil {
			fonts, words := m[1], argument.FindAllString(m[2], -1)
			if len(fonts) == 1 { // all words are one text
				words = []string{strings.ReplaceAll(m[2], `"`, "")}
			}
			line = ""
			for n, word := range words {
				word = strings.Trim(word, `"`)
				if font := fonts[n%len(fonts)]; font != 'R' {
					word = fmt.Sprintf(`\f%c%s\fP`, font, word)
				}
				line += word
			}
		}
		for _, text := range inFont.FindAllString(line, -1) {
			s.marked[text] = true
		}
		for _, n := range number.FindAllString(line, -1) {
			s.numbers[n] = true
		}
	}
	return title, sections
}

// inJapanese returns what the Japanese pages have in place of a text in bold or italic: the name of a section, or of a
// document if it exists in Japanese; otherwise the text itself.
func inJapanese(marked string) string {
	text := strings.TrimSuffix(marked[len(`\fB`):], `\fP`)
	if heading, ok := japanese[text]; ok && strings.HasPrefix(marked, `\fB`) {
		return strings.Replace(marked, text, heading, 1)
	}
	if document, ok := strings.CutSuffix(text, ".md"); ok {
		for _, dir := range []string{"..", "../docs"} {
			if _, err := os.Stat(filepath.Join(dir, document+".ja.md")); err == nil {
				return strings.Replace(marked, text, document+".ja.md", 1)
			}
		}
	}
	return marked
}

// TestJapaneseManPages compares the pages in Japanese with the English ones, which other tests compare with the
// programs: sections, flags and other tags, examples, everything in bold or italic, and numbers. Japanese writes some
// numbers in digits that are words in English.
func TestJapaneseManPages(t *testing.T) {
	for _, name := range manPages(t) {
		var sections [2][]manSection
		for i, dir := range []string{"man", "man/ja"} {
			page, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			// Without these lines, groff adjusts lines that have too few spaces, and groff 1.23 warns.
			if i == 1 && !regexp.MustCompile(`(?m)^\.ds AD l\n\.TH .*\n\.ad l$`).Match(page) {
				t.Errorf("%s/%s lacks .ds AD l before .TH, or .ad l after it", dir, name)
			}
			var title string
			title, sections[i] = manSections(string(page))
			program, section, _ := strings.Cut(name, ".")
			program = strings.ToUpper(strings.ReplaceAll(program, "-", `\-`))
			if want := ".TH " + program + " " + section + ` "" tunnelcast "`; !strings.HasPrefix(title, want) {
				t.Errorf("%s/%s begins with %s", dir, name, title)
			}
		}
		english, translated := sections[0], sections[1]
		if len(english) != len(translated) {
			t.Errorf("man/ja/%s has %d sections, want %d", name, len(translated), len(english))
			continue
		}
		for i, en := range english {
			ja := translated[i]
			where := fmt.Sprintf("man/ja/%s, %s", name, ja.heading)
			if ja.heading != japanese[en.heading] {
				t.Errorf("%s: the English heading is %s", where, en.heading)
			}
			if !slices.Equal(ja.tags, en.tags) {
				t.Errorf("%s: the tags are\n%s\nwant\n%s", where, strings.Join(ja.tags, "\n"),
					strings.Join(en.tags, "\n"))
			}
			if !slices.Equal(ja.examples, en.examples) {
				t.Errorf("%s: the examples are %q, want %q", where, ja.examples, en.examples)
			}
			marked := map[string]bool{}
			for text := range en.marked {
				marked[inJapanese(text)] = true
			}
			if !maps.Equal(ja.marked, marked) {
				t.Errorf("%s: bold and italic are\n%q\nwant\n%q", where,
					slices.Sorted(maps.Keys(ja.marked)), slices.Sorted(maps.Keys(marked)))
			}
			for n := range en.numbers {
				if !ja.numbers[n] {
					t.Errorf("%s lacks the number %s", where, n)
				}
			}
		}
	}
}
