package swanctl

import (
	"slices"
	"strings"
	"testing"
)

// Whatever the file holds, reading it ends, without a panic, and so does all that can
// be asked about it.
func FuzzRead(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "include") { // would read this machine's files
			t.Skip()
		}
		root := newSection()
		if err := (&parser{text: text}).statements("swanctl.conf", root, false); err != nil {
			return
		}
		c := &Config{dir: t.TempDir(), root: root}
		names := c.Connections()
		for _, a := range c.LocalAuths() {
			if !slices.Contains(names, a.Connection) {
				t.Fatalf("the connection %q is not among %q", a.Connection, names)
			}
		}
		for _, child := range c.Children() {
			if !slices.Contains(names, child.Connection) {
				t.Fatalf("the connection %q is not among %q", child.Connection, names)
			}
		}
		c.Authorities()
		c.HasTokens()
		c.Nameservers()
		if strings.Contains(text, "/") { // would read this machine's files
			return
		}
		for _, name := range names {
			if m, err := c.ConnectionMessage(name); err == nil && len(m) == 0 {
				t.Fatalf("the connection %q has no message", name)
			}
		}
	})
}
