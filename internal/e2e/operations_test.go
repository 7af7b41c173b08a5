package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"tunnelcast/internal/e2e/box"
	"tunnelcast/internal/promised"
)

// journalctl -x explains each kind of entry.
func TestJournalExplains(t *testing.T) {
	b := server(t)
	empty := box.Archive + "/explained.flv"
	if err := b.Gateway.WriteFile(empty, "", 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(b.Gateway.Path(empty)) })
	_, err := b.Gateway.Run(t.Context(),
		"systemd-run", "--quiet", "--wait", "--collect", "tunnelcast-recorddone", empty)
	if err == nil {
		t.Fatal("recorddone succeeds with an empty recording")
	}
	for _, entry := range []struct{ field, want string }{
		{"TUNNELCAST_PATH=" + empty, "Documentation: man:tunnelcast-recorddone(8)"},
		{"TUNNELCAST_IDENTITY=alice", "Documentation: man:tunnelcast-updown(8)"},
	} {
		if entry.field == "TUNNELCAST_IDENTITY=alice" {
			connect(t, client(t, b, "explained"), "alice")
		}
		out, err := b.Gateway.Journal(t.Context(), "--catalog", "--lines=1", entry.field)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"Subject: ", "Defined-By: tunnelcast", entry.want} {
			if !strings.Contains(out, want) {
				t.Errorf("%s: journalctl -x does not print %q:\n%s", entry.field, want, out)
			}
		}
		if strings.Contains(out, "@TUNNELCAST_") {
			t.Errorf("%s: the entry lacks a field that the explanation uses:\n%s", entry.field, out)
		}
	}
}

// Each program writes its numbers, in a form that Prometheus' own tool accepts, and docs/monitoring.md names them all.
func TestMetrics(t *testing.T) {
	b := server(t)
	promtool := promised.Program(t, "promtool")
	const dir = "/var/lib/prometheus/node-exporter"
	run(t, b, "install", "-d", "-g", "www-data", "-m", "2775", dir)
	for program := range programs {
		file := "/etc/tunnelcast/" + program + ".toml"
		before, err := b.Gateway.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := b.Gateway.WriteFile(file, before, 0o644); err != nil {
				t.Error(err)
			}
		})
		if err := b.Gateway.WriteFile(file, before+"\nmetrics = \""+dir+"\"\n", 0o644); err != nil {
			t.Fatal(err)
		}
	}

	camera := client(t, b, "counted")
	connect(t, camera, "dave")
	if err := camera.Publish(t.Context(), "counted", 3); err != nil {
		t.Fatal(err)
	}
	run(t, b, "touch", "-d", "80 hours ago", box.Archive+"/counted-old.mp4")
	run(t, b, "chown", "www-data:www-data", box.Archive+"/counted-old.mp4")
	metric := func(program, series string) string {
		text, _ := b.Gateway.ReadFile(dir + "/tunnelcast_" + program + ".prom")
		m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(series) + ` (.*)$`).FindStringSubmatch(text)
		if m == nil {
			return ""
		}
		return m[1]
	}
	if err := box.Poll(t.Context(), soon, "the recording to be counted", func() (bool, error) {
		return metric("recorddone", "tunnelcast_recorddone_recordings_total") != "", nil
	}); err != nil {
		t.Fatal(err)
	}
	runUnits(t, b)
	// A device of another test may have ended without a message.
	var connected []struct{ Name string }
	list := run(t, b, "tunnelcast-updown", "list", "--format", "json")
	if err := json.Unmarshal([]byte(list), &connected); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, c := range connected {
		names[c.Name] = true
	}
	for _, want := range []struct{ program, series, value string }{
		{"updown", "tunnelcast_updown_clients", fmt.Sprint(len(connected))},
		{"updown", "tunnelcast_updown_names", fmt.Sprint(len(names))},
		{"recorddone", "tunnelcast_recorddone_recordings_total", "1"},
		{"archiveprune", "tunnelcast_archiveprune_removed_total", "1"},
		{"certhook", `tunnelcast_certhook_agree{lineage="` + box.Name + `"}`, "1"},
	} {
		if got := metric(want.program, want.series); got != want.value {
			t.Errorf("%s is %q, want %s", want.series, got, want.value)
		}
	}
	page, err := os.ReadFile("../../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	for program, owner := range programs {
		text, err := b.Gateway.ReadFile(dir + "/tunnelcast_" + program + ".prom")
		if err != nil {
			t.Error(err)
			continue
		}
		check := exec.Command(promtool, "check", "metrics")
		check.Stdin = strings.NewReader(text)
		if out, err := check.CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
			t.Errorf("promtool on %s: %v\n%s\n%s", program, err, out, text)
		}
		for _, m := range regexp.MustCompile(`(?m)^# HELP (\S+)`).FindAllStringSubmatch(text, -1) {
			if !strings.Contains(string(page), "`"+m[1]+"`") {
				t.Errorf("docs/monitoring.md does not name %s", m[1])
			}
		}
		if got := metric(program, fmt.Sprintf("tunnelcast_failures_total{program=%q}", program)); got != "0" {
			t.Errorf("%s counts %s failures", program, got)
		}
		got := strings.TrimSpace(run(t, b, "stat", "-c", "%U %a", dir+"/tunnelcast_"+program+".prom"))
		if got != owner+" 644" {
			t.Errorf("owner and mode of %s's file: %s, want %s 644", program, got, owner)
		}
	}
	if names := strings.Fields(run(t, b, "ls", "-A", dir)); len(names) != len(programs) {
		t.Errorf("%s contains %v", dir, names)
	}
}

// programs maps each program to the user that it runs as.
var programs = map[string]string{
	"updown": "root", "recorddone": "www-data", "archiveprune": "www-data", "certhook": "root",
}
