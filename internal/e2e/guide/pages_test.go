package guide

import (
	"os"
	"path/filepath"
	"testing"
)

// TestPages reads all pages of docs that are run. Their placeholders are defined and used.
func TestPages(t *testing.T) {
	files, err := filepath.Glob("../../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !runComment.Match(text) {
			continue
		}
		name := filepath.Base(file)
		page, err := Parse(string(text))
		if err != nil {
			t.Errorf("docs/%s: %v", name, err)
			continue
		}
		found = found || name == "guide.md"
		if page.Run == "no" {
			continue
		}
		if unused := page.Unused(); unused != nil {
			t.Errorf("docs/%s defines %v, which no block contains", name, unused)
		}
		for _, b := range page.Blocks {
			if _, err := Fill(b.Text, page.Values); err != nil {
				t.Errorf("docs/%s:%d: %v", name, b.Line, err)
			}
		}
	}
	if !found {
		t.Fatal("docs/guide.md is not a page that is run")
	}
}
