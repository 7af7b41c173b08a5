// Package guide reads a page of docs as a list of the steps that its reader takes, so that a test can take them.
//
// Whatever a reader types or writes is in a fenced block. The first word of the block's info string is its language,
// the only word that a Markdown viewer uses. The other words are for the tests:
//
//	```sh                    commands, as root on the server
//	```sh client             commands, as root on another machine
//	```sh background         commands that run until Ctrl-C, which comes after the next retry block
//	```sh retry              commands that are repeated until they print what the next block shows
//	```sh restarts           a command that restarts the machine
//	```text                  what the commands of the block before print; … stands for any text
//	```conf /etc/x.conf      a file on the server, whole
//	```conf append /etc/x    lines at the end of a file
//	```conf client /etc/x    a file on another machine
//	```sh not-run: REASON    what only the reader does
//
// The paragraph before a file's block must name its path, because a viewer does not show the info string.
//
// Words such as YOUR_HOST are placeholders. A table, whose first cell in a row is the placeholder and whose last cell
// is an example, gives them values. A comment such as <!-- run: fresh --> says on what server the page is run.
package guide

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// A Page is a page of docs.
type Page struct {
	// Run is what the page is run on: "fresh", a bare VPS; "original", the original guide's server; "installed", that
	// server with our package; "no", nothing.
	Run    string
	Values map[string]string // of the placeholders that this page defines
	Blocks []Block
}

// A Kind is what a block is to the reader.
type Kind int

const (
	Command Kind = iota // to be run by a shell
	Output              // what the command before printed
	File                // to be written to a file
	NotRun              // commands or settings that no test can carry out
)

// A Block is a fenced block of a page.
type Block struct {
	Kind    Kind
	Line    int    // of its opening fence, from 1
	Section string // the heading above it
	Info    string // the info string
	Machine string // "" is the server
	Retry   bool   // of a command: repeat it until it succeeds and its output matches
	Until   bool   // of a command: it runs until Ctrl-C, which comes after the next block with Retry
	Reboot  bool   // of a command: it restarts the machine
	Path    string // of a file
	Append  bool   // of a file: its end, not the whole
	Reason  string // of a block that is not run
	Text    string
}

var (
	runComment  = regexp.MustCompile(`(?m)^<!-- run: (.*) -->$`)
	row         = regexp.MustCompile("(?m)^\\| `(YOUR_[A-Z_]+)` \\|.*\\| `([^`]+)` \\|$")
	placeholder = regexp.MustCompile(`YOUR_[A-Z_]+`)
	path        = regexp.MustCompile(`^/[^ ]+$`)
	machineName = regexp.MustCompile(`^[a-z][a-z0-9]*$`)
)

// Parse reads a page. An error names the line.
func Parse(text string) (*Page, error) {
	p := &Page{Values: map[string]string{}}
	if m := runComment.FindStringSubmatch(text); m != nil {
		p.Run = m[1]
	}
	for _, m := range row.FindAllStringSubmatch(text, -1) {
		p.Values[m[1]] = m[2]
	}
	var block *Block
	var paragraph, section string
	blank := true
	for i, line := range strings.Split(text, "\n") {
		switch {
		case block != nil && line == "```":
			p.Blocks = append(p.Blocks, *block)
			block, paragraph, blank = nil, "", true
		case block != nil:
			block.Text += line + "\n"
		case strings.HasPrefix(line, "```"):
			block = &Block{Line: i + 1, Section: section, Info: strings.TrimPrefix(line, "```")}
			if p.Run == "no" {
				block.Kind, block.Reason = NotRun, "a page that is not run"
			} else if err := block.parseInfo(paragraph); err != nil {
				return nil, fmt.Errorf("line %d: block %q: %w", i+1, block.Info, err)
			}
		case strings.HasPrefix(line, "#"):
			section, paragraph = strings.TrimLeft(line, "# "), ""
		case strings.TrimSpace(line) == "":
			blank = true
		case blank:
			paragraph, blank = line, false
		default:
			paragraph += "\n" + line
		}
	}
	if block != nil {
		return nil, fmt.Errorf("line %d: the block has no end", block.Line)
	}
	for i, b := range p.Blocks {
		if b.Kind == Output && (i == 0 || p.Blocks[i-1].Kind != Command) {
			return nil, fmt.Errorf("line %d: output without a command before it", b.Line)
		}
		if b.Until && !slices.ContainsFunc(p.Blocks[i:], func(b Block) bool { return b.Retry }) {
			return nil, fmt.Errorf("line %d: a command runs in the background, and no retry block ends it", b.Line)
		}
		if b.Retry && (i+1 == len(p.Blocks) || p.Blocks[i+1].Kind != Output) {
			return nil, fmt.Errorf("line %d: a command is repeated, but no output is expected", b.Line)
		}
	}
	return p, nil
}

// parseInfo reads the block's info string. paragraph is the text before the block.
func (b *Block) parseInfo(paragraph string) error {
	if before, reason, ok := strings.Cut(b.Info, "not-run:"); ok {
		b.Kind, b.Reason = NotRun, strings.TrimSpace(reason)
		if strings.TrimSpace(before) == "" || b.Reason == "" {
			return fmt.Errorf("a language, not-run: and the reason are needed")
		}
		return nil
	}
	words := strings.Fields(b.Info)
	if len(words) == 0 {
		return fmt.Errorf("an info string is needed: sh, text, or a language and the path of a file")
	}
	language, words := words[0], words[1:]
	switch language {
	case "text":
		b.Kind = Output
	case "sh":
		b.Kind = Command
	default:
		b.Kind = File
	}
	for _, w := range words {
		switch {
		case w == "retry" && b.Kind == Command:
			b.Retry = true
		case w == "restarts" && b.Kind == Command:
			b.Reboot = true
		case w == "background" && b.Kind == Command:
			b.Until = true
		case w == "append" && b.Kind == File:
			b.Append = true
		case path.MatchString(w) && b.Kind == File:
			b.Path = w
		case machineName.MatchString(w) && b.Kind != Output && b.Machine == "":
			b.Machine = w
		default:
			return fmt.Errorf("%q means nothing here", w)
		}
	}
	if b.Kind == File && b.Path == "" {
		return fmt.Errorf("the path of the file is needed, or not-run: and a reason")
	}
	if b.Kind == File && !strings.Contains(paragraph, "`"+b.Path+"`") {
		return fmt.Errorf("the paragraph before it does not name `%s`", b.Path)
	}
	return nil
}

// Fill replaces the placeholders in a text by their values.
func Fill(text string, values map[string]string) (string, error) {
	var missing []string
	text = placeholder.ReplaceAllStringFunc(text, func(name string) string {
		value, ok := values[name]
		if !ok && !slices.Contains(missing, name) {
			missing = append(missing, name)
		}
		return value
	})
	if missing != nil {
		return "", fmt.Errorf("no value for %s", strings.Join(missing, ", "))
	}
	return text, nil
}

// Unused returns the placeholders that the page defines, and that none of its blocks has.
func (p *Page) Unused() []string {
	var unused []string
	for name := range p.Values {
		if !slices.ContainsFunc(p.Blocks, func(b Block) bool {
			return slices.Contains(placeholder.FindAllString(b.Text, -1), name)
		}) {
			unused = append(unused, name)
		}
	}
	slices.Sort(unused)
	return unused
}

// Match compares what a command printed with the output on the page, and returns nil if they are the same. In the
// latter, … stands for any text within a line, and a line of only … for any lines. Blanks are compared as one.
func Match(want, got string) error {
	w, g := lines(want), lines(got)
	if matchLines(w, g) {
		return nil
	}
	return fmt.Errorf("it printed\n%s\nthe page has\n%s", strings.Join(g, "\n"), strings.Join(w, "\n"))
}

// lines returns the lines of a text without blanks at their ends, and without empty lines.
func lines(text string) []string {
	var lines []string
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 0 {
			lines = append(lines, strings.Join(f, " "))
		}
	}
	return lines
}

func matchLines(want, got []string) bool {
	if len(want) == 0 {
		return len(got) == 0
	}
	if want[0] == "…" {
		for i := range len(got) + 1 {
			if matchLines(want[1:], got[i:]) {
				return true
			}
		}
		return false
	}
	return len(got) > 0 && matchLine(want[0], got[0]) && matchLines(want[1:], got[1:])
}

func matchLine(want, got string) bool {
	parts := strings.Split(want, "…")
	for i, part := range parts {
		parts[i] = regexp.QuoteMeta(part)
	}
	return regexp.MustCompile("^" + strings.Join(parts, ".*") + "$").MatchString(got)
}
