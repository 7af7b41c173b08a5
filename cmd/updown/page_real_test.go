package main

import (
	"context"
	"encoding/json"
	"fmt"
	"html"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"tunnelcast/internal/promised"
)

// axeVersion is of axe-core, which looks for what keeps people from using a page.
const axeVersion = "4.10.2"

// axe returns the script of axe-core, if npm is here to fetch it.
func axe(t *testing.T) (script string) {
	t.Helper()
	npm, err := exec.LookPath("npm")
	if err != nil {
		t.Log("npm is not here, so axe-core looks at nothing")
		return ""
	}
	dir := t.TempDir()
	cmd := exec.Command(npm, "pack", "--silent", "axe-core@"+axeVersion)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Logf("npm does not reach its registry, so axe-core looks at nothing: %v: %s", err, out)
		return ""
	}
	cmd = exec.Command("tar", "-xzf", "axe-core-"+axeVersion+".tgz", "package/axe.min.js")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	text, err := os.ReadFile(filepath.Join(dir, "package/axe.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// look shows pages, one after the other, each in a frame of its width, and writes what it finds.
const look = `<!DOCTYPE html><body style="margin: 0"><pre id="found"></pre><script>
const looks = %s, all = [];
(async () => {
  for (const [name, width] of looks) {
    const frame = document.createElement("iframe"), found = {name, width};
    frame.style = "width: " + width + "px; height: 900px; border: 0";
    frame.src = "/page/" + encodeURIComponent(name);
    await new Promise(done => { frame.onload = done; document.body.append(frame) });
    await new Promise(done => setTimeout(done, 300));
    const page = frame.contentWindow;
    found.scroll = page.document.documentElement.scrollWidth;
    found.old = !page.document.getElementById("old").hidden;
    found.dark = page.matchMedia("(prefers-color-scheme: dark)").matches;
    found.violations = [];
    if (%v) {
      await new Promise(done => {
        page.document.head.append(Object.assign(page.document.createElement("script"), {src: "/axe", onload: done}));
      });
      const result = await page.axe.run(page.document, {rules: {"meta-refresh": {enabled: false}}});
      found.passes = result.passes.length;
      for (const v of result.violations) {
        found.violations.push(v.id + ": " + v.nodes.map(n => n.html.slice(0, 100)).slice(0, 3).join(" "));
      }
    }
    frame.remove();
    all.push(found);
  }
  document.getElementById("found").textContent = JSON.stringify(all);
})();
</script>`

// found is what a browser says of one page at one width, in pixels.
type found struct {
	Name       string
	Width      int
	Scroll     int // how wide the page is
	Old, Dark  bool
	Passes     int // rules of axe-core
	Violations []string
}

var foundText = regexp.MustCompile(`(?s)<pre id="found">(.*?)</pre>`)

func inBrowser(t *testing.T, pages map[string]string, axe string, widths []int, dark bool) (all []found) {
	t.Helper()
	chromium := promised.Program(t, "chromium")
	mux := http.NewServeMux()
	serve := func(path, kind, text string) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			_, _ = w.Write([]byte(text))
		})
	}
	var looks [][]any
	for _, name := range slices.Sorted(maps.Keys(pages)) {
		serve("/page/"+name, "text/html; charset=utf-8", pages[name])
		for _, width := range widths {
			looks = append(looks, []any{name, width})
		}
	}
	list, err := json.Marshal(looks)
	if err != nil {
		t.Fatal(err)
	}
	serve("/axe", "text/javascript", axe)
	serve("/look", "text/html; charset=utf-8", fmt.Sprintf(look, list, axe != ""))
	server := httptest.NewServer(mux)
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	scheme := map[bool]string{true: "0", false: "1"}[dark]
	out, err := exec.CommandContext(ctx, chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
		"--blink-settings=preferredColorScheme="+scheme, "--disable-background-networking", "--no-proxy-server",
		"--user-data-dir="+t.TempDir(), "--window-size=1400,1000", "--virtual-time-budget=600000",
		"--dump-dom", server.URL+"/look").Output()
	if err != nil {
		t.Fatalf("chromium: %v", err)
	}
	m := foundText.FindSubmatch(out)
	if m == nil || json.Unmarshal([]byte(html.UnescapeString(string(m[1]))), &all) != nil || len(all) != len(looks) {
		t.Fatalf("chromium shows\n%.2000s", out)
	}
	return all
}

// The page fits screens of three widths, in both colour schemes, and hides nothing from a screen reader.
func TestPageInBrowser(t *testing.T) {
	axe := axe(t)
	now := time.Now()
	client := func(i int, name string) row {
		return row{Name: name, Identity: "u", From: "2001:db8:1234:5678:9abc:def0:1234:5678",
			Addresses: []string{
				fmt.Sprint("10.0.0.", 100+i), fmt.Sprintf("fd00:1234:5678:9abc:def0:1234:5678:%x", 4096+i),
			},
			Since: now.Add(-time.Duration(i) * 37 * time.Minute), BytesIn: uint64(i) * 123456789,
			Idle: int64(i * 100), Limit: "max-session", Ends: now.Add(2 * time.Hour)}
	}
	var fifty []row
	for i := range 50 {
		fifty = append(fifty, client(i, fmt.Sprintf("client%d.example", i)))
	}
	fifty[3].Name, fifty[3].Identity, fifty[3].Refused = "", "first.last <b>@corp",
		`identity "first.last <b>@corp": not one DNS label`
	pages := map[string]string{}
	for name, rows := range map[string][]row{"none": nil, "one": {client(1, "alice.example")}, "fifty": fifty,
		"long": {client(1, strings.Repeat("w", 63)+".example")}} {
		pages[name] = page(rows, len(rows), "example.", now)
	}
	pages["old"] = page(fifty[:1], 1, "example.", now.Add(-time.Hour))
	for _, dark := range []bool{false, true} {
		for _, f := range inBrowser(t, pages, axe, []int{375, 768, 1280}, dark) {
			if f.Scroll > f.Width || f.Dark != dark || f.Old != (f.Name == "old") || len(f.Violations) > 0 {
				t.Errorf("dark %v: %+v", dark, f)
			}
			t.Logf("%s at %d px, dark %v: %d wide, axe-core passes %d rules", f.Name, f.Width, dark, f.Scroll, f.Passes)
		}
	}
}
