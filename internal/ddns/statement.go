package ddns

import (
	"fmt"
	"strings"
)

// parseKeys reads one or more statements `key NAME { algorithm A; secret S; };` in the
// grammar of named.conf.
func parseKeys(text string) ([]*Key, error) {
	s := scanner{text: text, line: 1}
	var keys []*Key
	for {
		word, err := s.next()
		if err != nil {
			return nil, err
		}
		switch word {
		case "":
			if len(keys) == 0 {
				return nil, fmt.Errorf("it has no key")
			}
			return keys, nil
		case "key":
		default:
			return nil, fmt.Errorf("line %d: not a key statement", s.line)
		}
		key, err := s.key()
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", s.line, err)
		}
		keys = append(keys, key)
	}
}

// scanner splits a named.conf into words. "{", "}" and ";" are words.
type scanner struct {
	text string
	line int
}

// key parses what follows the word key.
func (s *scanner) key() (*Key, error) {
	name, err := s.value()
	if err != nil {
		return nil, err
	}
	if err := s.expect("{"); err != nil {
		return nil, err
	}
	fields := map[string]string{}
	for {
		field, err := s.next()
		if err != nil {
			return nil, err
		}
		if field == "}" {
			break
		}
		if field != "algorithm" && field != "secret" {
			return nil, fmt.Errorf("neither algorithm nor secret")
		}
		if _, twice := fields[field]; twice {
			return nil, fmt.Errorf("two %ss in one key", field)
		}
		if fields[field], err = s.value(); err != nil {
			return nil, err
		}
		if err := s.expect(";"); err != nil {
			return nil, err
		}
	}
	if err := s.expect(";"); err != nil {
		return nil, err
	}
	for _, field := range []string{"algorithm", "secret"} {
		if _, ok := fields[field]; !ok {
			return nil, fmt.Errorf("a key without %s", field)
		}
	}
	return newKey(name, strings.ToLower(fields["algorithm"]), fields["secret"])
}

func (s *scanner) expect(word string) error {
	got, err := s.next()
	if err == nil && got != word {
		err = fmt.Errorf("%q is missing", word)
	}
	return err
}

func (s *scanner) value() (string, error) {
	word, err := s.next()
	if err == nil && (word == "" || strings.Contains("{};", word)) {
		err = fmt.Errorf("a value is missing")
	}
	return strings.Trim(word, `"`), err
}

// next returns the next word, a quoted one with its quotes, or "" at the end.
func (s *scanner) next() (string, error) {
	for s.text != "" {
		switch {
		case strings.HasPrefix(s.text, "/*"):
			end := strings.Index(s.text, "*/")
			if end < 0 {
				return "", fmt.Errorf("line %d: the comment has no end", s.line)
			}
			s.take(end + len("*/"))
		case strings.HasPrefix(s.text, "//"), s.text[0] == '#':
			s.take(index(s.text, "\n"))
		case strings.ContainsRune(" \t\r\n", rune(s.text[0])):
			s.take(1)
		case strings.ContainsRune("{};", rune(s.text[0])):
			return s.take(1), nil
		case s.text[0] == '"':
			end := strings.IndexAny(s.text[1:], "\"\n")
			if end < 0 || s.text[1+end] == '\n' {
				return "", fmt.Errorf("line %d: the quote has no end", s.line)
			}
			return s.take(end + 2), nil
		default:
			return s.take(index(s.text, " \t\r\n{};\"#")), nil
		}
	}
	return "", nil
}

func (s *scanner) take(n int) string {
	word := s.text[:n]
	s.text = s.text[n:]
	s.line += strings.Count(word, "\n")
	return word
}

// index is strings.IndexAny, but returns len(s) if no character is found.
func index(s, chars string) int {
	if i := strings.IndexAny(s, chars); i >= 0 {
		return i
	}
	return len(s)
}
