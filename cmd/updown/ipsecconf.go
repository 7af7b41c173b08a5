package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// calledBy is an updown line: where it is, and the command that charon calls.
type calledBy struct{ what, command string }

// ipsecConf returns the path of strongSwan's older configuration, which strongswan-starter reads.
func (h *host) ipsecConf() string { return filepath.Join(filepath.Dir(h.SwanctlDir), "ipsec.conf") }

// ipsecLines returns the updown lines of an ipsec.conf and of the files that it includes. A file that cannot be read
// has none, because most hosts have no ipsec.conf.
func ipsecLines(file string) []calledBy {
	read := map[string]bool{}
	var lines func(file string) []calledBy
	lines = func(file string) (found []calledBy) {
		text, err := os.ReadFile(file)
		if err != nil || read[file] {
			return nil
		}
		read[file] = true
		conn := ""
		for line := range strings.Lines(string(text)) {
			words := strings.Fields(line)
			key, command, _ := strings.Cut(strings.TrimSpace(line), "=")
			switch key = strings.TrimSpace(key); {
			case len(words) == 2 && words[0] == "conn":
				conn = words[1]
			case len(words) == 2 && words[0] == "include":
				pattern := words[1]
				if !filepath.IsAbs(pattern) {
					pattern = filepath.Join(filepath.Dir(file), pattern)
				}
				included, _ := filepath.Glob(pattern) // a malformed pattern includes nothing
				for _, more := range included {
					found = append(found, lines(more)...)
				}
			case key == "leftupdown" || key == "rightupdown":
				what := fmt.Sprintf("conn %s in %s", conn, file)
				found = append(found, calledBy{what, strings.Trim(strings.TrimSpace(command), `"`)})
			}
		}
		return found
	}
	return lines(file)
}
