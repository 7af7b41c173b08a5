package internal_test

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestMapNamesEveryPackage compares the table of packages in docs/architecture.md with the tree.
func TestMapNamesEveryPackage(t *testing.T) {
	page, err := os.ReadFile("../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	var mapped []string
	for _, row := range regexp.MustCompile("(?m)^\\| `(internal/[^`]+)` \\|").FindAllStringSubmatch(string(page), -1) {
		mapped = append(mapped, row[1])
	}
	var packages []string
	err = filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, ".go") {
			return err
		}
		pkg := path.Join("internal", path.Dir(filepath.ToSlash(name)))
		if pkg != "internal" && !slices.Contains(packages, pkg) {
			packages = append(packages, pkg)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, pkg := range packages {
		if !slices.Contains(mapped, pkg) {
			t.Errorf("docs/architecture.md: the table of packages lacks %s: add a row with its layer and its job", pkg)
		}
	}
	for _, pkg := range mapped {
		if !slices.Contains(packages, pkg) {
			t.Errorf("docs/architecture.md: the table of packages has %s, which does not exist: remove its row", pkg)
		}
	}
}
