package ddns

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// algorithms are those of RFC 8945 section 6 that may still be used, without hmac-md5
// and hmac-sha1.
var algorithms = []string{"hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512"}

// secret is the key in base64. It prints as a placeholder with every verb and logger.
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

// Format prints the key without its secret with every verb: fmt does not call methods of
// unexported fields.
func (k Key) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "%s %s %s", k.Name, k.Algorithm, redacted) }

// ErrReadKey is wrapped by every error of ReadKey.
var ErrReadKey = errors.New("read key")

// maxKeyFile is the largest size of a key file in bytes, far more than a key needs.
const maxKeyFile = 64 << 10

// ReadKey reads a key in one of BIND's formats: key statements, as written by
// tsig-keygen and in named's session key, of which it takes the first; or either file
// of a pair Kname.+163+12345.key and .private.
//
// A file that all users may read or write is an error, because whoever reads the key
// can change the zone. No error contains a part of the file.
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
		return "", fmt.Errorf("%s: mode %04o makes the key accessible to all users (`chmod o= %s`)", file, mode, file)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(text) > maxKeyFile {
		err = fmt.Errorf("%s: longer than %d bytes", file, maxKeyFile)
	}
	return string(text), err
}

func newKey(name, algorithm, text string) (*Key, error) {
	if _, ok := dns.IsDomainName(name); !ok || name == "" {
		return nil, fmt.Errorf("the key's name is not a domain name")
	}
	if !slices.Contains(algorithms, algorithm) {
		return nil, fmt.Errorf("algorithm %.20q is not supported: "+
			"hmac-sha224, hmac-sha256, hmac-sha384 and hmac-sha512 are", algorithm)
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(raw) == 0 {
		return nil, fmt.Errorf("the secret is not base64") // the decoder's error would quote the secret
	}
	return &Key{dns.CanonicalName(name), algorithm, secret(text)}, nil
}
