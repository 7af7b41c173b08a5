package packaging

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unicode"
)

// This file keeps three texts for a person whose server does not work in agreement: the explanations of journalctl -x
// (packaging/catalog), the remedies that the programs print, and the pages in docs.
//
// How each text marks what a person types:
//
//   - a catalog has a command on a line of its own, indented by two spaces, and a line of a configuration file
//     indented by four;
//   - a page has it in a code span or in a block;
//   - a program has it in backquotes.

// typable are the first words of what an explanation or a program has a person type into a shell.
var typable = strings.Fields(`apparmor_parser apt-get btrfs certbot chattr chgrp chmod chown crontab df dig du ffmpeg
	findmnt grep install ip ipsec journalctl ln ls lsattr lsof mkdir mount mv named-checkconf namei nginx rm rndc
	runuser setfacl ss swanctl sysctl systemctl timedatectl touch tsig-keygen tunnelcast-archiveprune
	tunnelcast-certhook tunnelcast-recorddone tunnelcast-updown @SYSLOG_IDENTIFIER@`)

// isCommand reports whether a text that a person types is a command, and not a line of a file.
func isCommand(text string) bool {
	first, _, _ := strings.Cut(text, " ")
	return slices.Contains(typable, first)
}

var (
	comment = regexp.MustCompile(`\s+# .*$`)
	// hole matches what differs from server to server: a field of an entry, a value that a program inserts, a word in
	// capitals.
	hole  = regexp.MustCompile(`@[A-Z_]+@|\x00|\b[A-Z][A-Z_]+\b`)
	blank = regexp.MustCompile(`^(?:@[A-Z_]+@|\x00)*$`)
)

// typed returns what a catalog entry has a person type.
func typed(entry string) (texts []string) {
	for line := range strings.Lines(entry) {
		text := strings.TrimSpace(comment.ReplaceAllString(strings.TrimRight(line, "\n"), ""))
		if strings.HasPrefix(line, "  ") && !blank.MatchString(text) {
			texts = append(texts, text)
		}
	}
	return texts
}

// like returns an expression that matches a text with anything in place of its holes.
func like(text string) *regexp.Regexp {
	var b strings.Builder
	end := 0
	for _, at := range hole.FindAllStringIndex(text, -1) {
		b.WriteString(regexp.QuoteMeta(text[end:at[0]]))
		if text[at[0]] == 0 {
			b.WriteString(`.+?`) // a program may insert several words
		} else {
			b.WriteString(`\S+`)
		}
		end = at[1]
	}
	b.WriteString(regexp.QuoteMeta(text[end:]))
	return regexp.MustCompile(`(?:^|[\s;&]|-- )` + b.String() + `(?:$|[\s;&])`)
}

// A page is a page for a person whose server does not work.
type page struct {
	typed []string // code spans and lines of blocks
	rows  []row
}

// A row is a row of a table: what one sees, what it means, what to do.
type row struct {
	line   int
	cells  []string
	titles []string // of explanations, in bold type
}

var (
	span = regexp.MustCompile("`([^`]+)`")
	bold = regexp.MustCompile(`\*\*(.+?)\.?\*\*`)
)

func spans(text string) (all []string) {
	for _, m := range span.FindAllStringSubmatch(text, -1) {
		all = append(all, strings.ReplaceAll(m[1], `\|`, "|"))
	}
	return all
}

func readPage(t *testing.T, name string) page {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../docs", name))
	if err != nil {
		t.Fatal(err)
	}
	var p page
	inBlock, prose := false, ""
	for n, line := range strings.Split(string(text), "\n") {
		switch {
		case strings.HasPrefix(line, "```"):
			inBlock = !inBlock
		case inBlock:
			p.typed = append(p.typed, strings.TrimSpace(line))
		case strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| ---"):
			cells := strings.Split(strings.Trim(strings.ReplaceAll(line, `\|`, "\x01"), "| "), " | ")
			for i := range cells {
				cells[i] = strings.ReplaceAll(cells[i], "\x01", `\|`)
			}
			r := row{line: n + 1, cells: cells}
			for _, m := range bold.FindAllStringSubmatch(line, -1) {
				r.titles = append(r.titles, m[1])
			}
			p.rows = append(p.rows, r)
			fallthrough
		default:
			prose += line + " " // a code span may continue on the next line
		}
	}
	p.typed = append(p.typed, spans(prose)...)
	return p
}

// An event is a kind of journal entry in a program's code.
type event struct {
	program  string // empty: of all four
	messages []string
	ordinary bool // logged at the level info only
}

// code is what the programs' code says about journal entries.
type code struct {
	events map[string]*event   // by MESSAGE_ID
	texts  map[string][]string // by program: every text, with \x00 for each value that is inserted
	whole  map[string]string   // the texts that are not parts of others, and where they are
}

var (
	formats = regexp.MustCompile(`^(fmt\.(Errorf|Sprintf)|errors\.New|hook\.Usagef)$`)
	verb    = regexp.MustCompile(`%(?:\[\d+\])?[-+#0-9.]*[a-zA-Z]`)
)

// template returns a text in the code, with \x00 for each value that is inserted.
func template(expr ast.Expr) (string, bool) {
	switch e := expr.(type) {
	case *ast.BasicLit:
		s, ok := literal(e)
		return strings.ReplaceAll(verb.ReplaceAllString(s, "\x00"), "%%", "%"), ok
	case *ast.ParenExpr:
		return template(e.X)
	case *ast.BinaryExpr:
		x, isText := template(e.X)
		y, isTextToo := template(e.Y)
		if e.Op != token.ADD || !isText && !isTextToo {
			return "\x00", false
		}
		return x + y, true
	case *ast.CallExpr:
		if len(e.Args) > 0 && formats.MatchString(called(e)) {
			return template(e.Args[0])
		}
	}
	return "\x00", false
}

// parseCode parses the programs and their packages.
func parseCode(t *testing.T) code {
	t.Helper()
	c := code{events: map[string]*event{}, texts: map[string][]string{}, whole: map[string]string{}}
	set := token.NewFileSet()
	packages := map[string][]*ast.File{}
	for _, top := range []string{"../cmd", "../internal"} {
		err := filepath.WalkDir(top, func(name string, d fs.DirEntry, err error) error {
			skip := regexp.MustCompile(`/(e2e|testdata|[a-z]+test|promised)$`)
			if err != nil {
				return err
			}
			if d.IsDir() && skip.MatchString(filepath.ToSlash(name)) {
				return fs.SkipDir
			}
			if d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return nil
			}
			file, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
			packages[filepath.Dir(name)] = append(packages[filepath.Dir(name)], file)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for dir, files := range packages {
		program := ""
		if filepath.Base(filepath.Dir(dir)) == "cmd" {
			program = filepath.Base(dir)
		}
		byName := map[string]*event{}
		for _, file := range files {
			ast.Inspect(file, func(node ast.Node) bool {
				spec, ok := node.(*ast.ValueSpec)
				if !ok || len(spec.Names) != 1 || len(spec.Values) != 1 {
					return true
				}
				if call, ok := spec.Values[0].(*ast.CallExpr); ok && strings.HasSuffix(called(call), "Event") {
					if id, ok := literal(call.Args[0]); ok {
						e := &event{program: program, ordinary: true}
						byName[spec.Names[0].Name], c.events[id] = e, e
					}
				}
				return true
			})
		}
		for _, file := range files {
			c.read(set, file, program, byName)
		}
	}
	return c
}

// read reads the uses of a package's events in one file, and its texts.
func (c code) read(set *token.FileSet, file *ast.File, program string, byName map[string]*event) {
	ordinary := map[*ast.Ident]bool{}
	ast.Inspect(file, func(node ast.Node) bool {
		call, ok := node.(*ast.CallExpr)
		if !ok || len(call.Args) < 2 {
			return true
		}
		name := called(call)
		logs := regexp.MustCompile(`(?i)(^|\.)(log|result)\.(Info|Warn|Error)$`).MatchString(name)
		for _, arg := range call.Args[1:] {
			id, ok := arg.(*ast.Ident)
			if !ok || byName[id.Name] == nil {
				continue
			}
			ordinary[id] = strings.HasSuffix(name, ".Info")
			if text, ok := template(call.Args[0]); ok && (logs || name == "hook.With") {
				byName[id.Name].messages = append(byName[id.Name].messages, text)
			}
		}
		return true
	})
	inner := map[ast.Node]bool{} // parts of texts
	addText := func(expr ast.Expr) {
		text, ok := template(expr)
		if !ok {
			return
		}
		c.texts[program] = append(c.texts[program], text)
		if !inner[expr] && strings.ContainsFunc(text, unicode.IsLetter) {
			c.whole[text] = set.Position(expr.Pos()).String()
		}
		if sum, ok := expr.(*ast.BinaryExpr); ok {
			ast.Inspect(sum, func(part ast.Node) bool { inner[part] = true; return true })
		}
	}
	ast.Inspect(file, func(node ast.Node) bool {
		switch n := node.(type) {
		case *ast.ImportSpec:
			return false
		case *ast.Field: // its tag is no text
			inner[n.Tag] = true
		case *ast.CallExpr:
			if called(n) == "regexp.MustCompile" {
				ast.Inspect(n, func(part ast.Node) bool { inner[part] = true; return true })
			}
			addText(n)
		case *ast.ValueSpec:
			for _, name := range n.Names { // a declaration, not a use
				ordinary[name] = true
			}
		case *ast.Ident:
			if e := byName[n.Name]; e != nil && !ordinary[n] {
				e.ordinary = false
			}
		case ast.Expr:
			addText(n)
		}
		return true
	})
}

// foreign are texts of errors in lines of the programs that are not theirs.
var foreign = []string{"context canceled", "unknown flag"}

// logs reports whether a program has a fragment of a line in one of its texts, or the system in the text of an error.
// The fragment may also consist of several, as an error does that wraps another.
func (c code) logs(program, fragment string) bool {
	fragment = strings.Trim(fragment, ` :;,"()`)
	has := func(text string) bool { return strings.Contains(text, fragment) }
	if slices.ContainsFunc(c.texts[program], has) || slices.ContainsFunc(c.texts[""], has) ||
		slices.Contains(foreign, fragment) {
		return true
	}
	for n := range syscall.Errno(134) {
		if n.Error() == fragment {
			return true
		}
	}
	for _, at := range joint.FindAllStringIndex(fragment, -1) {
		if c.logs(program, fragment[:at[0]]) && c.logs(program, fragment[at[1]:]) {
			return true
		}
	}
	return false
}

// joint is what stands between an error and the one that it wraps.
var joint = regexp.MustCompile(`: |; | \(|\): | by |, but |, although `)

var (
	// placeholders are the words in a quoted line that stand for a value.
	placeholders = regexp.MustCompile(`…|\b(?:ADDRESS|AGE|ALGORITHM|ARGUMENTS|CAUSE|CODEC|DIRECTORY|EVENT|FILE|FLAG|` +
		`IDENTITY|KEY|KIND|LABEL|MODE|N|NAMES?|PROGRAM|SERVER|SHARE|SIZE|STATE|TIME|TYPE|UNIT|USER|ZONE)\b|` +
		`\b(?:privkey|cert)\.pem\b`)
	checked   = regexp.MustCompile(`^(?:FAIL|ok  )  (.*)$`)
	attribute = regexp.MustCompile(` ([a-z]+)=`)
	quoted    = regexp.MustCompile(`^tunnelcast-([a-z]+)(?:: (.*))?$`)
)

// fragments returns the constant parts of a quoted line, and the keys of its attributes.
func fragments(line string) (parts, keys []string) {
	for _, part := range placeholders.Split(line, -1) {
		for _, m := range attribute.FindAllStringSubmatch(part, -1) {
			keys = append(keys, m[1])
		}
		for _, part := range attribute.Split(part, -1) {
			if part = strings.Trim(part, ` :;,"()`); part != "" {
				parts = append(parts, part)
			}
		}
	}
	return parts, keys
}

// subjects returns the titles of the explanations by MESSAGE_ID.
func subjects(t *testing.T, japanese bool) map[string]string {
	all := map[string]string{}
	for id, entry := range readCatalog(t, japanese) {
		title, _, _ := strings.Cut(strings.TrimPrefix(entry, "Subject: "), "\n")
		all[id] = title
	}
	return all
}

// TestTypedText checks that every text marks in one way what a person types, and that both languages have the same.
func TestTypedText(t *testing.T) {
	inProse := regexp.MustCompile(
		`(?:^|[:;,(] )(?:chmod|chown|systemctl|certbot|rndc|swanctl|tunnelcast-[a-z]+) [a-z-]`)
	english, japanese := readCatalog(t, false), readCatalog(t, true)
	for _, entries := range []map[string]string{english, japanese} {
		for id, entry := range entries {
			for line := range strings.Lines(entry) {
				line = strings.TrimRight(line, "\n")
				indent := len(line) - len(strings.TrimLeft(line, " "))
				switch text := line[indent:]; {
				case indent == 0 && inProse.MatchString(line):
					t.Errorf("%s has a command that is not on a line of its own, indented by two spaces: %s", id, line)
				case indent == 2 && !isCommand(text) && text != "@TUNNELCAST_COMMAND@", indent == 4 && isCommand(text),
					indent != 0 && indent != 2 && indent != 4:
					t.Errorf("%s: a command is indented by two spaces, a line of a file by four: %q", id, line)
				}
			}
			if got, want := typed(japanese[id]), typed(english[id]); !slices.Equal(got, want) {
				t.Errorf("%s has a person type %q in Japanese, and %q in English", id, got, want)
			}
		}
	}
}

// unmarked matches a command in a text of a program.
var unmarked = regexp.MustCompile(`(?:^|[\s(;:])(?:` +
	`(?:systemctl|journalctl|rndc|chmod|chown|chgrp|chattr|lsattr|setfacl|namei|findmnt) [-a-z@/=+\x00]|` +
	`(?:apparmor_parser|named-checkconf|df|dig|ss|apt-get) [-a-z@/=+\x00]|` +
	`tsig-keygen [A-Z]|certbot (?:cert|renew)|swanctl --|ipsec re|` +
	`tunnelcast-(?:[a-z]+|\x00) (?:check|sync|list|links|deploy|sweep|-)|runuser -u|sysctl -|ln -s|mkdir -|` +
	`rm (?:/|-|\x00)|install -|ip link|nginx -)`)

// TestRemediesOfThePrograms checks that the programs have in backquotes what a person types, and nothing else, and that
// the guide or its page for faults has it.
func TestRemediesOfThePrograms(t *testing.T) {
	c, all := parseCode(t), strings.Split(guide(t), "\n")
	has := 0
	for text, at := range c.whole {
		if strings.HasPrefix(text, "<!DOCTYPE") || strings.Contains(at, "/iproute/") {
			continue // a page; commands that are reported as done
		}
		if strings.Count(text, "`")%2 != 0 {
			t.Errorf("%s: a backquote has no partner: %q", at, text)
			continue
		}
		if m := unmarked.FindString(span.ReplaceAllString(text, "")); m != "" {
			t.Errorf("%s: the command %q is not in backquotes: %q", at, m, text)
		}
		for _, remedy := range spans(text) {
			has++
			if !slices.ContainsFunc(all, like(remedy).MatchString) {
				t.Errorf("%s: neither docs/guide.md nor docs/troubleshooting.md has %q", at, remedy)
			}
		}
	}
	t.Logf("%d remedies", has)
}

// guide returns what the guide and its page for faults have a person type.
func guide(t *testing.T) string {
	t.Helper()
	texts := readPage(t, "troubleshooting.md").typed
	if _, err := os.Stat("../docs/guide.md"); err == nil {
		texts = append(texts, readPage(t, "guide.md").typed...)
	}
	return strings.Join(texts, "\n")
}

// TestTroubleshooting holds the page to the explanations and to the code: every kind of entry is on it, with the
// explanation's remedies, and every line that it quotes is one of the programs'.
func TestTroubleshooting(t *testing.T) {
	p, c := readPage(t, "troubleshooting.md"), parseCode(t)
	titles, entries, all := subjects(t, false), readCatalog(t, false), guide(t)
	rowsOf, remedies := map[string][]row{}, 0
	for _, r := range p.rows {
		at := "docs/troubleshooting.md:" + strconv.Itoa(r.line)
		program := ""
		for _, line := range spans(r.cells[0]) {
			if m := checked.FindStringSubmatch(line); m != nil {
				parts, _ := fragments(m[1])
				for _, part := range parts {
					if !c.logs("", part) && !slices.ContainsFunc(slices.Collect(maps.Keys(c.texts)),
						func(program string) bool { return c.logs(program, part) }) {
						t.Errorf("%s: no check prints %q", at, part)
					}
				}
			}
			m := quoted.FindStringSubmatch(line)
			if m == nil {
				continue
			}
			program = m[1]
			if c.texts[program] == nil {
				continue // apt prints it
			}
			if len(r.titles) == 0 {
				t.Errorf("%s: a row with a line of tunnelcast-%s has no title", at, program)
			}
			parts, keys := fragments(m[2])
			for _, part := range parts {
				if !c.logs(program, part) {
					t.Errorf("%s: tunnelcast-%s logs no %q", at, program, part)
				}
			}
			for _, key := range keys {
				if !slices.Contains(append(c.texts[program], c.texts[""]...), key) {
					t.Errorf("%s: tunnelcast-%s has no attribute %s", at, program, key)
				}
			}
		}
		for _, title := range r.titles {
			found := false
			for id, subject := range titles {
				e := c.events[id]
				if subject != title || e == nil || program != "" && e.program != "" && e.program != program {
					continue
				}
				found = true
				rowsOf[id] = append(rowsOf[id], r)
			}
			if !found {
				t.Errorf("%s: no explanation has the title %q", at, title)
			}
		}
	}
	for id, e := range c.events {
		rows := rowsOf[id]
		name := titles[id] + " (tunnelcast-" + e.program + ", " + id + ")"
		if len(rows) == 0 {
			t.Errorf("docs/troubleshooting.md has no row for %s; ordinary: %v", name, e.ordinary)
			continue
		}
		where, lines := all, ""
		if len(rows[0].cells) == 3 { // a fault: its rows have the whole remedy
			where = ""
			for _, r := range rows {
				where += strings.Join(spans(strings.Join(r.cells, " ")), "\n") + "\n"
				for _, line := range spans(r.cells[0]) {
					if m := quoted.FindStringSubmatch(line); m != nil {
						lines += m[2] + "…"
					}
				}
			}
		}
		for _, text := range typed(entries[id]) {
			remedies++
			if !slices.ContainsFunc(strings.Split(where, "\n"), like(text).MatchString) {
				t.Errorf("the page does not have %q, by which journalctl -x explains %s", text, name)
			}
		}
		parts, _ := fragments(lines)
		isOf := func(part string) bool {
			return slices.ContainsFunc(e.messages, func(m string) bool {
				return strings.Contains(m, part) || blank.MatchString(strings.ReplaceAll(m, ": ", ""))
			})
		}
		if len(parts) > 0 && len(e.messages) > 0 && !slices.ContainsFunc(parts, isOf) {
			t.Errorf("the page quotes for %s %q; the code has %q", name, lines, e.messages)
		}
	}
	t.Logf("%d rows, %d events, %d remedies", len(p.rows), len(rowsOf), remedies)
}

// TestTroubleshootingInJapanese checks that the Japanese page names entries as journalctl -x does in Japanese.
// TestTranslationsAgree in internal compares everything else.
func TestTroubleshootingInJapanese(t *testing.T) {
	if _, err := os.Stat("../docs/troubleshooting.ja.md"); errors.Is(err, fs.ErrNotExist) {
		t.Skip("the page has not been translated yet")
	}
	english, japanese := readPage(t, "troubleshooting.md"), readPage(t, "troubleshooting.ja.md")
	if len(english.rows) != len(japanese.rows) {
		t.Fatalf("%d rows in English, %d in Japanese", len(english.rows), len(japanese.rows))
	}
	titles, ja := subjects(t, false), subjects(t, true)
	for i, r := range english.rows {
		other := japanese.rows[i]
		for n, title := range r.titles {
			got := ""
			if n < len(other.titles) {
				got = strings.TrimSuffix(other.titles[n], "。")
			}
			same := func(id string) bool { return titles[id] == title && ja[id] == got }
			if !slices.ContainsFunc(slices.Collect(maps.Keys(titles)), same) {
				t.Errorf("docs/troubleshooting.ja.md:%d has the title %q; the explanation of %q has another",
					other.line, got, title)
			}
		}
	}
}

// unproven are beginnings of lines on the page whose words no test asserts: the tests of these faults look at the event
// of the entry or at what was done, or the fault cannot be made at will. TestTroubleshooting holds the words to the
// code.
var unproven = []string{
	"tunnelcast-updown: address is in none of the gateway's pools",
	"tunnelcast-updown: charon has no pools and none are set",
	"tunnelcast-updown: client not registered for sync",
	"tunnelcast-updown: no PTR yet",
	"tunnelcast-updown: … untrusted reply",
	"tunnelcast-updown: clients without a name will be logged again",
	"tunnelcast-updown: events are dropped",
	"tunnelcast-recorddone: … no space left on device",
	"tunnelcast-recorddone: leftover of a killed run stays",
	"tunnelcast-archiveprune: no limit is set for this archive",
	"tunnelcast-archiveprune: more of this is counted and not logged",
	"tunnelcast-certhook: … charon serves it now, but AppArmor's profile",
	"tunnelcast-certhook: not done within",
	"tunnelcast-certhook: … the certificate is in place, but",
}

// TestQuotedLinesAreProvoked checks that a test asserts the words of every line that the page quotes.
func TestQuotedLinesAreProvoked(t *testing.T) {
	var all strings.Builder
	for _, top := range []string{"../cmd", "../internal"} {
		err := filepath.WalkDir(top, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !regexp.MustCompile(`_test\.go$|/testdata/.*\.txt(ar)?$`).MatchString(name) {
				return err
			}
			text, err := os.ReadFile(name)
			all.Write(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	split := regexp.MustCompile("\"\\s*\\+\\s*\"|`\\s*\\+\\s*`") // a text on two lines
	tests := strings.NewReplacer(`\.`, ".", `\(`, "(", `\)`, ")").Replace(split.ReplaceAllString(all.String(), ""))
	provoked := 0
	for _, r := range readPage(t, "troubleshooting.md").rows {
		for _, line := range spans(r.cells[0]) {
			m := quoted.FindStringSubmatch(line)
			if m == nil || !slices.Contains([]string{"updown", "recorddone", "archiveprune", "certhook"}, m[1]) {
				continue
			}
			parts, _ := fragments(m[2])
			asserted := false
			for _, part := range parts {
				for _, part := range joint.Split(part, -1) {
					asserted = asserted || len(part) >= 8 && strings.Contains(tests, part)
				}
			}
			begins := func(beginning string) bool { return strings.HasPrefix(line, beginning) }
			switch listed := slices.ContainsFunc(unproven, begins); {
			case !asserted && !listed && len(parts) > 0:
				t.Errorf("docs/troubleshooting.md:%d: no test asserts words of %q", r.line, line)
			case asserted && listed:
				t.Errorf("a test asserts words of %q, which is listed as unproven", line)
			case asserted:
				provoked++
			}
		}
	}
	t.Logf("%d lines", provoked)
}
