package e2e

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"tunnelcast/internal/e2e/box"
)

// docs/one-program.md says how to use one program without the other three. Its commands leave the units of that
// program enabled and active, disable all others, and its check succeeds. An upgrade changes nothing of that.
func TestOneProgramAlone(t *testing.T) {
	b := server(t)
	page, err := os.ReadFile("../../docs/one-program.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := regexp.MustCompile(`(?m)^## `).Split(string(page), -1)
	// commands returns the blocks of commands in the section with this heading, and the section.
	commands := func(heading string) (blocks []string, section string) {
		t.Helper()
		for _, section = range sections {
			if strings.HasPrefix(section, heading+"\n") {
				for _, m := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(section, -1) {
					blocks = append(blocks, strings.ReplaceAll(m[1], "YOUR_HOST", box.Name))
				}
				return blocks, section
			}
		}
		t.Fatalf("the page has no section %s", heading)
		return nil, ""
	}
	bash := func(blocks []string) {
		t.Helper()
		for _, block := range blocks {
			run(t, b, "bash", "-ec", block)
		}
	}
	all, _ := commands("All four again")
	if len(all) != 1 {
		t.Fatalf("the section All four again has %d blocks, want 1", len(all))
	}
	const file = "/var/cache/alone.deb"
	deb, err := os.ReadFile(deb(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Gateway.WriteFile(file, string(deb), 0o644); err != nil {
		t.Fatal(err)
	}
	var units []string
	for _, pattern := range []string{"*.timer", "*.path"} {
		files, err := filepath.Glob("../../packaging/systemd/tunnelcast-" + pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			// tunnelcast-links.timer runs only while a link is configured.
			if strings.Contains(string(text), "\n[Install]") {
				units = append(units, filepath.Base(file))
			}
		}
	}
	certbotLink := box.Links["certhook"]
	states := func() string {
		out, _ := b.Gateway.Run(t.Context(), append([]string{"systemctl", "is-enabled"}, units...)...)
		active, _ := b.Gateway.Run(t.Context(), append([]string{"systemctl", "is-active"}, units...)...)
		link, _ := b.Gateway.Run(t.Context(), "sh", "-c", "ls "+certbotLink+` 2>&1
systemctl is-enabled tunnelcast-sync.service tunnelcast-certcheck.service`)
		return out + active + link
	}
	whole := states()
	for _, program := range slices.Sorted(maps.Keys(programs)) {
		t.Run(program, func(t *testing.T) {
			blocks, section := commands("Only " + program)
			if len(blocks) != 2 || !strings.Contains(blocks[1], "tunnelcast-"+program+" check") {
				t.Fatalf("the section has the blocks %q, want one that switches off and one that checks", blocks)
			}
			_, keep, _ := strings.Cut(section, "stay")
			keep, _, _ = strings.Cut(keep, ".\n")
			t.Cleanup(func() {
				bash(all)
				if now := states(); now != whole {
					t.Errorf("after the commands of All four again the units are\n%s, before\n%s", now, whole)
				}
			})
			bash(blocks)
			for _, unit := range units {
				kept := strings.Contains(keep, "`"+unit+"`")
				want := map[string]string{"is-enabled": "disabled", "is-active": "inactive"}
				if kept {
					want = map[string]string{"is-enabled": "enabled", "is-active": "active"}
				}
				for state, want := range want {
					out, _ := b.Gateway.Run(t.Context(), "systemctl", state, unit)
					if got := strings.TrimSpace(out); got != want {
						t.Errorf("%s of %s: %s, want %s", state, unit, got, want)
					}
				}
			}
			before := states()
			run(t, b, slices.Concat(strings.Fields(apt), []string{"install", "--reinstall", file})...)
			if after := states(); after != before {
				t.Errorf("an installation over it changed\n%s to\n%s", before, after)
			}
		})
	}
}
