package nginx

import (
	"path/filepath"
	"strings"
)

// Names returns the directory and, if there is a symbolic link in its path, its path without links.
func Names(dir string) []string {
	if target, err := filepath.EvalSymlinks(dir); err == nil && target != dir {
		return []string{dir, target}
	}
	return []string{dir}
}

// Within reports whether a directory is one of the archives or below one. It follows symbolic links.
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
