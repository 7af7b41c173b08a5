package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"tunnelcast/internal/e2e/box"
)

// The README says how to use one program without the other three. Its commands leave the units of that program enabled
// and active, disable all others, and an upgrade changes nothing of that.
func TestOneProgramAlone(t *testing.T) {
	b := server(t)
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	pattern := regexp.MustCompile("(?m)^\\| `([a-z]+)` \\| (.*) \\| `(systemctl disable [^`]+)` \\|$")
	rows := pattern.FindAllStringSubmatch(string(readme), -1)
	if len(rows) != len(programs) {
		t.Fatalf("the README has commands for %d programs, want %d", len(rows), len(programs))
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
	restore := func() {
		run(t, b, "systemctl", "unmask", "tunnelcast-sync.service", "tunnelcast-certcheck.service")
		run(t, b, append([]string{"systemctl", "enable", "--now"}, units...)...)
		run(t, b, "ln", "-sfT", "/usr/sbin/tunnelcast-certhook", certbotLink)
	}
	states := func() string {
		out, _ := b.Gateway.Run(t.Context(), append([]string{"systemctl", "is-enabled"}, units...)...)
		active, _ := b.Gateway.Run(t.Context(), append([]string{"systemctl", "is-active"}, units...)...)
		link, _ := b.Gateway.Run(t.Context(), "sh", "-c", "ls "+certbotLink+` 2>&1
systemctl is-enabled tunnelcast-sync.service tunnelcast-certcheck.service`)
		return out + active + link
	}
	for _, row := range rows {
		program, keep, command := row[1], row[2], row[3]
		t.Run(program, func(t *testing.T) {
			t.Cleanup(restore)
			run(t, b, "bash", "-c", command)
			if program != "updown" {
				run(t, b, "systemctl", "mask", "tunnelcast-sync.service")
			}
			if program != "certhook" {
				run(t, b, "systemctl", "mask", "tunnelcast-certcheck.service")
				run(t, b, "rm", "-f", certbotLink)
			}
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
