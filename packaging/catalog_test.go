package packaging

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"tunnelcast/internal/promised"
)

// sources are the journal entries in the programs' code.
type sources struct {
	events map[string]string // MESSAGE_ID: where it is declared
	fields []string          // TUNNELCAST_...
}

// readSources parses the programs' code. It reports entries without an event.
func readSources(t *testing.T) sources {
	t.Helper()
	s := sources{events: map[string]string{}, fields: []string{"SYSLOG_IDENTIFIER"}}
	files, err := filepath.Glob("../cmd/*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	for _, name := range append(files, "../internal/hook/events.go", "../internal/hook/hook.go") {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(node ast.Node) bool {
			call, ok := node.(*ast.CallExpr)
			if !ok {
				return true
			}
			at := set.Position(call.Pos()).String()
			switch name := called(call); {
			case (name == "hook.Event" || name == "Event") && len(call.Args) == 1:
				if id, ok := literal(call.Args[0]); ok {
					if before := s.events[id]; before != "" {
						t.Errorf("%s: event %s is also declared at %s", at, id, before)
					}
					s.events[id] = at
				}
			case regexp.MustCompile(`(?i)(^|\.)(log|result)\.(Info|Warn|Error)$`).MatchString(name):
				if len(call.Args) < 2 || !isEvent(call.Args[1]) {
					t.Errorf("%s: an entry has no event after its message", at)
				}
				fallthrough
			case name == "hook.With":
				for _, arg := range call.Args[1:] {
					if key, ok := literal(arg); ok {
						s.fields = append(s.fields, "TUNNELCAST_"+strings.ToUpper(strings.ReplaceAll(key, "-", "_")))
					}
				}
			}
			return true
		})
	}
	return s
}

// called returns the called function as it is written, as in a.b.C.
func called(call *ast.CallExpr) string {
	var parts []string
	for expr := call.Fun; ; {
		switch e := expr.(type) {
		case *ast.SelectorExpr:
			parts = append(parts, e.Sel.Name)
			expr = e.X
			continue
		case *ast.Ident:
			parts = append(parts, e.Name)
		}
		slices.Reverse(parts)
		return strings.Join(parts, ".")
	}
}

func literal(expr ast.Expr) (string, bool) {
	lit, ok := expr.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(lit.Value)
	return s, err == nil
}

// isEvent reports whether an argument is an event: a variable, or failures.Event(err).
func isEvent(expr ast.Expr) bool {
	switch e := expr.(type) {
	case *ast.Ident:
		return true
	case *ast.CallExpr:
		return strings.HasSuffix(called(e), ".Event")
	}
	return false
}

// readCatalog returns the entries of one language by their MESSAGE_ID.
func readCatalog(t *testing.T, japanese bool) map[string]string {
	t.Helper()
	entries := map[string]string{}
	files, err := filepath.Glob("catalog/*.catalog")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, ".ja.catalog") != japanese {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range strings.Split("\n"+string(text), "\n-- ")[1:] {
			id, entry, _ := strings.Cut(entry, "\n")
			if _, twice := entries[id]; twice {
				t.Errorf("%s: %s is explained twice", name, id)
			}
			entries[id] = entry
		}
	}
	return entries
}

func TestEveryEventIsExplained(t *testing.T) {
	s := readSources(t)
	headers := regexp.MustCompile(`^Subject: \S.*\nDefined-By: tunnelcast\nDocumentation: man:\S+\(8\)\n\n`)
	field := regexp.MustCompile(`@([A-Z_]+)@`)
	languages := map[string]map[string]string{"English": readCatalog(t, false), "Japanese": readCatalog(t, true)}
	isKana := func(r rune) bool { return unicode.In(r, unicode.Hiragana, unicode.Katakana) }
	for language, entries := range languages {
		for id, at := range s.events {
			if _, err := strconv.ParseUint(id[:min(16, len(id))], 16, 64); err != nil || len(id) != 32 {
				t.Errorf("%s: %s is not a 128-bit id", at, id)
			}
			if entries[id] == "" {
				t.Errorf("%s: %s has no explanation in %s", at, id, language)
			}
		}
		for id, entry := range entries {
			if s.events[id] == "" {
				t.Errorf("%s in %s: no code has this event", id, language)
			}
			if !headers.MatchString(entry) {
				t.Errorf("%s in %s does not begin with Subject, Defined-By, Documentation and an empty line:\n%s",
					id, language, entry)
			}
			if language == "Japanese" && strings.IndexFunc(entry, isKana) < 0 {
				t.Errorf("%s is not in Japanese:\n%s", id, entry)
			}
			for _, m := range field.FindAllStringSubmatch(entry, -1) {
				if !slices.Contains(s.fields, m[1]) {
					t.Errorf("%s in %s: no entry has the field %s", id, language, m[1])
				}
			}
		}
	}
}

// TestCatalogIsRead has systemd read the catalogs, in each language.
func TestCatalogIsRead(t *testing.T) {
	promised.Program(t, "journalctl")
	promised.Program(t, "localedef")
	if _, err := os.Stat("/usr/share/i18n/locales/ja_JP"); err != nil {
		promised.Lacking(t, err)
	}
	root := t.TempDir()
	for _, dir := range []string{"usr/lib/systemd/catalog", "var/lib/systemd/catalog", "locale"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(filepath.Join(root, "usr/lib/systemd/catalog"), os.DirFS("catalog")); err != nil {
		t.Fatal(err)
	}
	run := func(language, command string, args ...string) string {
		cmd := exec.Command(command, args...)
		cmd.Env = append(os.Environ(), "LOCPATH="+filepath.Join(root, "locale"), "LC_ALL="+language)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v: %s", cmd, err, out)
		}
		return string(out)
	}
	run("C", "localedef", "-i", "ja_JP", "-f", "UTF-8", filepath.Join(root, "locale/ja_JP.UTF-8"))
	if out := run("C", "journalctl", "--update-catalog", "--root="+root); out != "" {
		t.Errorf("journalctl --update-catalog printed %q", out)
	}
	for language, japanese := range map[string]bool{"C.UTF-8": false, "ja_JP.UTF-8": true} {
		out := run(language, "journalctl", "--dump-catalog", "--root="+root)
		for id, entry := range readCatalog(t, japanese) {
			// systemd adds an empty line at the end if the file has none.
			if !strings.Contains(out, "-- "+id+"\n"+strings.TrimSpace(entry)+"\n") {
				t.Errorf("in %s, systemd reads %s differently:\n%s", language, id, out)
			}
		}
	}
}
