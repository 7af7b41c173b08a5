package ddns

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	testSecret = "c2VjcmV0IG9mIHRoZSB0ZXN0"
	other      = "YW5vdGhlciBzZWNyZXQ="
)

func writeKey(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, mode); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestReadKey(t *testing.T) {
	for name, test := range map[string]struct{ text, key, algorithm, err string }{
		"tsig-keygen": {text: "key \"ddns\" {\n\talgorithm hmac-sha256;\n\tsecret \"" + testSecret + "\";\n};\n",
			key: "ddns.", algorithm: "hmac-sha256"},
		"unquoted": {text: "key DDNS.Example { secret " + testSecret + ";algorithm HMAC-SHA512; };",
			key: "ddns.example.", algorithm: "hmac-sha512"},
		"comments": {text: "# a\n// b } \n/* key x { */ key x /*y*/ { algorithm \"hmac-sha224\"; // z\nsecret \"" +
			testSecret + "\"; # \"\n};", key: "x.", algorithm: "hmac-sha224"},
		"several": {text: "key a{algorithm hmac-sha384;secret " + testSecret +
			";};key b{algorithm hmac-sha256;secret " + other + ";};", key: "a.", algorithm: "hmac-sha384"},
		"empty":        {text: "", err: "it has no key"},
		"no algorithm": {text: "key a { secret " + testSecret + "; };", err: "without algorithm"},
		"no secret":    {text: "key a { algorithm hmac-sha256; };", err: "without secret"},
		"md5": {text: "key a { algorithm hmac-md5; secret " + testSecret + "; };",
			err: `"hmac-md5" is not supported`},
		"sha1": {text: "key a { algorithm hmac-sha1; secret " + testSecret + "; };", err: "not supported"},
		"not base64": {text: "key a { algorithm hmac-sha256; secret \"%%" + testSecret + "\"; };",
			err: "not base64"},
		"empty secret":  {text: "key a { algorithm hmac-sha256; secret \"\"; };", err: "not base64"},
		"twice":         {text: "key a { secret " + other + "; secret " + testSecret + "; };", err: "two secrets"},
		"cut":           {text: "key a { algorithm hmac-sha256; secret \"" + testSecret, err: "no end"},
		"cut later":     {text: "key a { algorithm hmac-sha256; secret " + testSecret, err: `line 1: ";" is missing`},
		"half a second": {text: "key a { algorithm hmac-sha256; secret " + testSecret + "; };\nkey b {", err: "line 2"},
		"other field": {text: "key a { algorithm hmac-sha256; password " + testSecret + "; };",
			err: "neither algorithm nor secret"},
		"other file": {text: testSecret, err: "not a key statement"},
		"comment":    {text: "/* " + testSecret, err: "comment has no end"},
		"bad name": {text: "key \"a..b\" { algorithm hmac-sha256; secret " + testSecret + "; };",
			err: "not a domain name"},
	} {
		t.Run(name, func(t *testing.T) {
			key, err := ReadKey(writeKey(t, "k", test.text, 0o640))
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("got %v, want %q", err, test.err)
				}
				if err != nil && (strings.Contains(err.Error(), testSecret[:6]) ||
					strings.Contains(err.Error(), "\n")) {
					t.Errorf("the error shows the file: %v", err)
				}
				return
			}
			if err != nil || key.Name != test.key || key.Algorithm != test.algorithm ||
				string(key.secret) != testSecret {
				t.Errorf("got %+v, %v", key, err)
			}
		})
	}
}

func TestReadKeyPair(t *testing.T) {
	const private = "Private-key-format: v1.3\nAlgorithm: 163 (HMAC_SHA256)\nKey: " + testSecret + "\nBits: AAA=\n"
	file := writeKey(t, "Kddns.example.+163+12345.private", private, 0o600)
	for _, file := range []string{file, strings.TrimSuffix(file, "private") + "key"} {
		key, err := ReadKey(file)
		if err != nil || key.Name != "ddns.example." || key.Algorithm != "hmac-sha256" ||
			string(key.secret) != testSecret {
			t.Errorf("got %+v, %v", key, err)
		}
	}
	file = writeKey(t, "Kx.+157+12345.private", strings.Replace(private, "163", "157", 1), 0o600)
	if _, err := ReadKey(file); err == nil || strings.Contains(err.Error(), testSecret) {
		t.Errorf("md5: %v", err)
	}
}

func TestReadKeyLooksAtTheFile(t *testing.T) {
	const text = "key a { algorithm hmac-sha256; secret " + testSecret + "; };"
	for _, mode := range []os.FileMode{0o644, 0o604, 0o602, 0o666} {
		if _, err := ReadKey(writeKey(t, "k", text, mode)); err == nil || !strings.Contains(err.Error(), "chmod o=") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	if _, err := ReadKey(t.TempDir()); err == nil {
		t.Error("a directory is a key")
	}
	if _, err := ReadKey(writeKey(t, "k", text+strings.Repeat(" ", maxKeyFile), 0o600)); err == nil {
		t.Error("a file without end is a key")
	}
}

func TestSecretIsNeverPrinted(t *testing.T) {
	key := Key{Name: "a.", Algorithm: "hmac-sha256", secret: testSecret}
	var out strings.Builder
	log := slog.New(slog.NewTextHandler(&out, nil))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+verb+verb+"\n", key, &key, key.secret)
	}
	log.Info("x", "key", key, "secret", key.secret)
	j, err := json.Marshal([]any{key, key.secret})
	if err != nil {
		t.Fatal(err)
	}
	hex := fmt.Sprintf("%x", testSecret)
	if s := out.String() + string(j); strings.Contains(s, testSecret) || strings.Contains(s, hex) {
		t.Errorf("there it is: %s", s)
	}
}

func FuzzParseKeys(f *testing.F) {
	f.Add("key \"a\" { algorithm hmac-sha256; secret \"" + testSecret + "\"; };")
	f.Add("# x\nkey a{secret " + testSecret + ";algorithm hmac-sha512;};/**/")
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := parseKeys(text)
		if err == nil && len(keys) == 0 {
			t.Error("no key and no error")
		}
		for _, key := range keys {
			if key.secret == "" || !slices.Contains(algorithms, key.Algorithm) || !strings.HasSuffix(key.Name, ".") {
				t.Errorf("half a key: %+v", key)
			}
		}
	})
}
