package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestIsSetUp(t *testing.T) {
	for name, test := range map[string]struct {
		file, text string // one file of the host
		want       bool
	}{
		"nothing":          {"", "", false},
		"comments alone":   {"updown.toml", "# ttl = 60\n\n  # key\n", false},
		"a setting":        {"updown.toml", "# ttl = 60\n ttl = 30\n", true},
		"a quoted setting": {"updown.toml", "\"ttl\" = 30\n", true},
		"a table":          {"updown.toml", "[names]\n", true},
		"a link":           {"updown.toml", "[link.ppp0]\ntable = 200\n", false},
		"a link and its key": {"updown.toml",
			"key = \"/etc/k\"\nzone=\"z\"\n[ link.ppp0 ]\nname = \"h.z\"\n", false},
		"a link and a pool": {"updown.toml", "pools = [\"10.0.0.0/24\"]\n[link.ppp0]\ntable = 200\n", true},
		"a link, then a table": {"updown.toml",
			"[link.ppp0]\ntable = 200\n[names]\n\"a\" = \"b\"\n", true},
		"a hook's lock": {"run/hooks.lock", "", true},
		"a request":     {"run/poke/down", "", true},
		"a connection": {"swanctl/conf.d/vpn.conf",
			"connections {\n\tvpn { children { net { updown = /etc/swanctl/script/updown.sh } } }\n}\n", true},
		"a commented line":    {"swanctl/conf.d/vpn.conf", "# updown = /etc/swanctl/script/updown.sh\n", false},
		"another file's line": {"swanctl/script/updown.sh", "# updown\nupdown = x\n", false},
		"strongSwan's example": {"swanctl/swanctl.conf",
			"# Section defining IKE connection configurations.\n# connections {\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			if test.file != "" {
				file := filepath.Join(base, test.file)
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(test.text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			c := settings{RunDir: filepath.Join(base, "run"), SwanctlDir: filepath.Join(base, "swanctl")}
			*(*string)(&c.Config) = filepath.Join(base, "updown.toml")
			if got := c.isSetUp(); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
}
