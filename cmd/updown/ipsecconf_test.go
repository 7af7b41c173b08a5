package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestIPsecLines(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"ipsec.conf": `# leftupdown=/not/this
include more/*.conf
config setup
conn %default
    leftupdown = "/etc/swanctl/script/updown.sh iptables"
conn office
	rightupdown=/usr/sbin/tunnelcast-updown
    leftsubnet=0.0.0.0/0
`,
		"more/one.conf": "conn one\n  leftupdown=/one\ninclude ../ipsec.conf\n", // each file is read once
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "ipsec.conf")
	want := []calledBy{
		{"conn one in " + filepath.Join(dir, "more/one.conf"), "/one"},
		{"conn %default in " + file, "/etc/swanctl/script/updown.sh iptables"},
		{"conn office in " + file, "/usr/sbin/tunnelcast-updown"},
	}
	if got := ipsecLines(file); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := ipsecLines(filepath.Join(dir, "none")); len(got) > 0 {
		t.Errorf("of a file that does not exist: %v", got)
	}
}
