package ddns

import (
	"fmt"
	"path/filepath"
	"strings"
)

// pairName returns the key's name from the name of a file of a pair. dnssec-keygen
// composes it of K, the name, +, three digits of the algorithm, +, and five of the key
// tag.
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

// parsePrivate parses the .private file of a pair.
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
