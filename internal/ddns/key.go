package ddns

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/miekg/dns"
)

// algorithms are those of RFC 8945 section 6 that may still be used; there is
// no hmac-md5 and no hmac-sha1.
var algorithms = map[string]string{
	"hmac-sha224": dns.HmacSHA224,
	"hmac-sha256": dns.HmacSHA256,
	"hmac-sha384": dns.HmacSHA384,
	"hmac-sha512": dns.HmacSHA512,
}

// secret is the key itself, in base64. It prints as a placeholder, whatever the
// verb or the logger.
type secret string

const redacted = "[secret]"

func (secret) String() string               { return redacted }
func (secret) GoString() string             { return redacted }
func (secret) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, redacted) }
func (secret) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Key is a TSIG key.
type Key struct {
	Name      string // fully qualified, lower case
	Algorithm string // "hmac-sha256", ...
	secret    secret
}

// Format prints the key without its secret, whatever the verb; fmt would not ask
// a field that is not exported.
func (k Key) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "%s %s %s", k.Name, k.Algorithm, redacted) }

// ErrReadKey is in every error of ReadKey.
var ErrReadKey = errors.New("read key")

// maxKeyFile is far more than any key needs, in bytes.
const maxKeyFile = 64 << 10

// ReadKey reads a key in one of BIND's forms: the key statements that
// tsig-keygen and named's session key have, of which the first counts, or
// either file of a pair Kname.+163+12345.key and .private.
//
// A file that others may read or write is refused, since whoever reads the key
// owns the zone. No error holds a piece of the file.
func ReadKey(file string) (*Key, error) {
	if name, ok := pairName(file); ok {
		text, err := readSecret(strings.TrimSuffix(file, filepath.Ext(file)) + ".private")
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrReadKey, err)
		}
		key, err := parsePrivate(name, text)
		if err != nil {
			return nil, fmt.Errorf("%w %s: %w", ErrReadKey, file, err)
		}
		return key, nil
	}
	text, err := readSecret(file)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReadKey, err)
	}
	keys, err := parseKeys(text)
	if err != nil {
		return nil, fmt.Errorf("%w %s: %w", ErrReadKey, file, err)
	}
	return keys[0], nil
}

func readSecret(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s: not a regular file", file)
	}
	if mode := info.Mode().Perm(); mode&0o007 != 0 {
		return "", fmt.Errorf("%s: mode %04o lets everybody at the key (chmod o= %s)", file, mode, file)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(text) > maxKeyFile {
		err = fmt.Errorf("%s: longer than %d bytes", file, maxKeyFile)
	}
	return string(text), err
}

// parseKeys reads one or more `key NAME { algorithm A; secret S; };` in the
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
				return nil, fmt.Errorf("no key in it")
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

// scanner splits a named.conf into words; "{", "}" and ";" are words.
type scanner struct {
	text string
	line int
}

// key reads what follows the word key.
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

// next returns the next word, a quoted one with its quotes, and "" at the end.
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

// index is strings.IndexAny, or the end.
func index(s, chars string) int {
	if i := strings.IndexAny(s, chars); i >= 0 {
		return i
	}
	return len(s)
}

func newKey(name, algorithm, text string) (*Key, error) {
	if _, ok := dns.IsDomainName(name); !ok || name == "" {
		return nil, fmt.Errorf("the key's name is no domain name")
	}
	if _, ok := algorithms[algorithm]; !ok {
		return nil, fmt.Errorf("algorithm %.20q cannot be used: hmac-sha224, hmac-sha256, hmac-sha384 and hmac-sha512 can", algorithm)
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(raw) == 0 {
		return nil, fmt.Errorf("the secret is not base64") // the decoder's error would quote it
	}
	return &Key{dns.CanonicalName(name), algorithm, secret(text)}, nil
}

// pairName takes the key's name out of a file of a pair, which dnssec-keygen named
// K, the name, +, three digits of the algorithm, +, five of the key tag.
func pairName(file string) (name string, ok bool) {
	base := filepath.Base(file)
	rest, isKey := strings.CutSuffix(base, ".key")
	rest, isPrivate := strings.CutSuffix(rest, ".private")
	rest, isPair := strings.CutPrefix(rest, "K")
	parts := strings.Split(rest, "+")
	if isKey == isPrivate || !isPair || len(parts) != 3 || len(parts[0]) < 2 || !strings.HasSuffix(parts[0], ".") ||
		!digits(parts[1], 3) || !digits(parts[2], 5) {
		return "", false
	}
	return parts[0], true
}

func digits(s string, n int) bool { return len(s) == n && strings.Trim(s, "0123456789") == "" }

// parsePrivate reads the .private file of a pair.
func parsePrivate(name, text string) (*Key, error) {
	numbers := map[string]string{"162": "hmac-sha224", "163": "hmac-sha256", "164": "hmac-sha384", "165": "hmac-sha512"}
	var algorithm, key string
	for line := range strings.Lines(text) {
		field, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch field {
		case "Algorithm":
			number, _, _ := strings.Cut(value, " ")
			algorithm = numbers[number]
		case "Key":
			key = value
		}
	}
	if key == "" {
		return nil, fmt.Errorf("a key without secret")
	}
	return newKey(name, algorithm, key)
}
