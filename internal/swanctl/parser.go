package swanctl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxIncludes is how deep files may include others. It ends a file that includes
// itself.
const maxIncludes = 10

// parser reads one file in the grammar of src/libstrongswan/settings/settings_lexer.l
// and settings_parser.y.
type parser struct {
	depth int // of includes
	text  string
	at    int // the position in text
}

// file reads a file, with those that it includes, into a section.
func (p *parser) file(path string, into *section) error {
	if p.depth == maxIncludes {
		return fmt.Errorf("%s: includes more than %d deep", path, maxIncludes)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	inner := parser{depth: p.depth + 1, text: string(text)}
	if err := inner.statements(path, into, false); err != nil {
		return fmt.Errorf("%s:%d: %w", path, 1+strings.Count(inner.text[:inner.at], "\n"), err)
	}
	return nil
}

// statements reads settings and sections up to the end of the file or, if nested, to
// the closing brace.
func (p *parser) statements(path string, into *section, nested bool) error {
	for {
		p.skip(" \t\r\n")
		switch {
		case p.at == len(p.text):
			if nested {
				return errors.New("a section has no end")
			}
			return nil
		case p.text[p.at] == '#':
			p.until("\n")
			continue
		case p.text[p.at] == '}':
			if !nested {
				return errors.New("} without a section")
			}
			p.at++
			return nil
		}
		name := p.until(" \t\r\n#{}:,=\"")
		if name == "" {
			return fmt.Errorf("unexpected %q", p.text[p.at])
		}
		p.skip(" \t\r\n")
		if name == "include" && !p.next('=') {
			pattern, _, err := p.word()
			if err != nil {
				return err
			}
			if err := p.include(path, pattern, into); err != nil {
				return err
			}
			continue
		}
		switch {
		case p.take('='):
			value, err := p.value()
			if err != nil {
				return err
			}
			into.values[name] = value
		case p.take('{'):
			if err := p.statements(path, into.section(name), true); err != nil {
				return err
			}
		case p.take(':'):
			refs := p.until("{}=\"")
			if !p.take('{') {
				return fmt.Errorf("section %q has no body", name)
			}
			sub := into.section(name)
			for ref := range strings.SplitSeq(refs, ",") {
				sub.refs = append(sub.refs, strings.TrimSpace(ref))
			}
			if err := p.statements(path, sub, true); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%q is neither a setting nor a section", name)
		}
	}
}

// include reads the files that match a pattern, which is relative to the file that
// names it. A pattern that matches nothing is not an error.
func (p *parser) include(path, pattern string, into *section) error {
	if !filepath.IsAbs(pattern) {
		pattern = filepath.Join(filepath.Dir(path), pattern)
	}
	files, err := filepath.Glob(pattern)
	if err != nil {
		return fmt.Errorf("include %s: %w", pattern, err)
	}
	for _, file := range files {
		if err := p.file(file, into); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// value reads words and strings up to the end of the line, a comment or a closing
// brace, and joins them by one space each.
func (p *parser) value() (string, error) {
	var words []string
	for {
		word, ok, err := p.word()
		if err != nil {
			return "", err
		}
		if !ok {
			return strings.Join(words, " "), nil
		}
		words = append(words, word)
	}
}

// word reads one word or string of a value. ok is false where the value ends.
func (p *parser) word() (word string, ok bool, err error) {
	p.skip(" \t\r")
	switch {
	case p.at == len(p.text), strings.IndexByte("#}\n", p.text[p.at]) >= 0:
		return "", false, nil
	case p.take('"'):
		word, err = p.quoted()
		return word, true, err
	}
	return p.until("#}\"\r\n\t "), true, nil
}

// quoted reads a string, after its first quotation mark.
func (p *parser) quoted() (string, error) {
	var text strings.Builder
	for ; p.at < len(p.text); p.at++ {
		c := p.text[p.at]
		if c == '"' {
			p.at++
			return text.String(), nil
		}
		if c == '\\' && p.at+1 < len(p.text) {
			p.at++
			switch c = p.text[p.at]; c {
			case 'n':
				c = '\n'
			case 'r':
				c = '\r'
			case 't':
				c = '\t'
			case '\n':
				continue
			}
		}
		text.WriteByte(c)
	}
	return "", errors.New("a string has no end")
}

// skip skips any of these characters.
func (p *parser) skip(chars string) {
	for p.at < len(p.text) && strings.IndexByte(chars, p.text[p.at]) >= 0 {
		p.at++
	}
}

// until returns the text before the first of these characters.
func (p *parser) until(chars string) string {
	start := p.at
	for p.at < len(p.text) && strings.IndexByte(chars, p.text[p.at]) < 0 {
		p.at++
	}
	return p.text[start:p.at]
}

func (p *parser) next(c byte) bool { return p.at < len(p.text) && p.text[p.at] == c }

// take skips c and returns true if it is next.
func (p *parser) take(c byte) bool {
	if p.next(c) {
		p.at++
		return true
	}
	return false
}
