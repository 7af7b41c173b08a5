package guide

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTranslationsHaveTheSameSteps parses each Japanese page and compares its steps and the values of its placeholders
// with those of the English page. Tests run the English pages, and so what the Japanese ones say, too.
func TestTranslationsHaveTheSameSteps(t *testing.T) {
	translations, err := filepath.Glob("../../../docs/*.ja.md")
	if err != nil || len(translations) == 0 {
		t.Fatalf("no page in Japanese: %v", err)
	}
	for _, translation := range translations {
		original := strings.TrimSuffix(translation, ".ja.md") + ".md"
		var pages [2]*Page
		for i, name := range []string{original, translation} {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(string(text), "<!-- run: ") {
				continue // not a page to follow
			}
			if pages[i], err = Parse(string(text)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		en, ja := pages[0], pages[1]
		if en == nil || ja == nil {
			if en != ja {
				t.Errorf("%s and %s do not both say on what they are run", original, translation)
			}
			continue
		}
		if en.Run != ja.Run || !maps.Equal(en.Values, ja.Values) {
			t.Errorf("%s is run on %q with %v, %s on %q with %v", translation, ja.Run, ja.Values, original, en.Run,
				en.Values)
		}
		if len(en.Blocks) != len(ja.Blocks) {
			t.Errorf("%s has %d blocks, %s %d", translation, len(ja.Blocks), original, len(en.Blocks))
		}
		for i := range min(len(en.Blocks), len(ja.Blocks)) {
			want, got := en.Blocks[i], ja.Blocks[i]
			got.Line, got.Section = want.Line, want.Section
			if got != want {
				t.Errorf("%s:%d: %+v\nwant\n%+v", translation, ja.Blocks[i].Line, got, want)
				break
			}
		}
	}
}
