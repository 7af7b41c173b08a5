package guide

import (
	"strings"
	"testing"
)

const page = "<!-- run: fresh -->\n# Title\n\n| placeholder | meaning | example |\n| --- | --- | --- |\n" +
	"| `YOUR_HOST` | name | `h.example` |\n\n## One\n\nWrite `/etc/x`:\n\n" +
	"```conf append /etc/x\nhost YOUR_HOST\n```\n\nThen:\n\n```sh client retry\nhostname\n```\n\n```text\n…\n```\n\n" +
	"```powershell not-run: Windows\nGet-Host\n```\n"

func TestParse(t *testing.T) {
	p, err := Parse(page)
	if err != nil {
		t.Fatal(err)
	}
	if p.Run != "fresh" || p.Values["YOUR_HOST"] != "h.example" || len(p.Unused()) != 0 {
		t.Errorf("run %q, values %v, unused %v", p.Run, p.Values, p.Unused())
	}
	want := []Block{
		{Kind: File, Line: 12, Section: "One", Info: "conf append /etc/x", Path: "/etc/x", Append: true,
			Text: "host YOUR_HOST\n"},
		{Kind: Command, Line: 18, Section: "One", Info: "sh client retry", Machine: "client", Retry: true,
			Text: "hostname\n"},
		{Kind: Output, Line: 22, Section: "One", Info: "text", Text: "…\n"},
		{Kind: NotRun, Line: 26, Section: "One", Info: "powershell not-run: Windows", Reason: "Windows",
			Text: "Get-Host\n"},
	}
	if len(p.Blocks) != len(want) {
		t.Fatalf("%d blocks, want %d: %+v", len(p.Blocks), len(want), p.Blocks)
	}
	for i := range want {
		if p.Blocks[i] != want[i] {
			t.Errorf("block %d: %+v\nwant %+v", i, p.Blocks[i], want[i])
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"no info string":               "```\nx\n```\n",
		"no path":                      "```conf\nx\n```\n",
		"path not visible":             "Text.\n\n```conf /etc/x\nx\n```\n",
		"path in another paragraph":    "See `/etc/x`.\n\nText.\n\n```conf /etc/x\nx\n```\n",
		"no reason":                    "```sh not-run:\nx\n```\n",
		"output without a command":     "```text\nx\n```\n",
		"output after a file":          "`/x`\n\n```conf /x\nx\n```\n```text\nx\n```\n",
		"repeated without expectation": "```sh retry\nx\n```\n",
		"unknown word":                 "```sh client later-on\nx\n```\n",
		"no end":                       "```sh\nx\n",
	} {
		if _, err := Parse(text); err == nil || !strings.HasPrefix(err.Error(), "line ") {
			t.Errorf("%s: error %v, want one with the line", name, err)
		}
	}
}

func TestFill(t *testing.T) {
	got, err := Fill("a YOUR_X b YOUR_Y", map[string]string{"YOUR_X": "1", "YOUR_Y": "2"})
	if err != nil || got != "a 1 b 2" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := Fill("YOUR_Z", nil); err == nil || !strings.Contains(err.Error(), "YOUR_Z") {
		t.Errorf("error %v, want one that names YOUR_Z", err)
	}
}

func TestMatch(t *testing.T) {
	for name, c := range map[string]struct {
		want, got string
		same      bool
	}{
		"same":                  {"a\nb\n", "a\nb\n", true},
		"blanks":                {"a  b", " a b \n\n", true},
		"any text":              {"a … z", "a b c z", true},
		"any text, other end":   {"a … z", "a b c y", false},
		"any lines":             {"…\nb\n…\n", "a\nb\nc\nd\n", true},
		"any lines, none":       {"…\nb\n…\n", "b\n", true},
		"any lines, other":      {"…\nb\n…\n", "a\nc\n", false},
		"more than on the page": {"a", "a\nb", false},
		"less than on the page": {"a\nb", "a", false},
		"nothing":               {"", "", true},
		"no pattern":            {"a.c", "abc", false},
	} {
		if err := Match(c.want, c.got); (err == nil) != c.same {
			t.Errorf("%s: %v", name, err)
		}
	}
}
