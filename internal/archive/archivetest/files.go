package archivetest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Files lists a directory, hidden files too, as "name=content".
func Files(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, e.Name()+"="+string(content))
	}
	return strings.Join(names, " ")
}
