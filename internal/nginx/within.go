package nginx

import (
	"path/filepath"
	"strings"
)

// Names returns a directory and, if a symbolic link is on the way to it, what that leads to.
func Names(dir string) []string {
	if target, err := filepath.EvalSymlinks(dir); err == nil && target != dir {
		return []string{dir, target}
	}
	return []string{dir}
}

// Within tells whether a directory is one of the archives or below one, whatever links lead there.
func Within(dir string, archives []string) bool {
	for _, a := range archives {
		for _, name := range Names(a) {
			for _, d := range Names(dir) {
				if d == name || strings.HasPrefix(d, name+"/") {
					return true
				}
			}
		}
	}
	return false
}
