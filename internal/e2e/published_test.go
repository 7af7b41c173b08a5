package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tunnelcast/internal/e2e/box"
	"tunnelcast/internal/recording/recordingtest"
)

const published = `#!/bin/sh
echo "$TUNNELCAST_PATH $TUNNELCAST_SOURCE $(id -un) $(grep -c . /proc/net/route) $(nice)" >>/run/published/log
`

// The program of on-published is called once for each MP4 of a hook or a sweep, outside their sandboxes.
func TestPublished(t *testing.T) {
	b := server(t)
	const config = "/etc/tunnelcast/recorddone.toml"
	before, err := b.Gateway.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Gateway.WriteFile(config, before, 0o644); err != nil {
			t.Error(err)
		}
	})
	const program = "/etc/tunnelcast/published"
	err = errors.Join(
		b.Gateway.WriteFile(config, `on-published = ["`+program+`"]`+"\n", 0o644),
		b.Gateway.WriteFile(program, published, 0o755))
	if err != nil {
		t.Fatal(err)
	}
	run(t, b, "install", "-d", "-o", "www-data", "/run/published")
	wantLog := func(path, source string) {
		t.Helper()
		want := fmt.Sprintf("%s %s www-data ", path, source)
		last := ""
		err := box.Poll(t.Context(), soon, "the program to be called", func() (bool, error) {
			out, err := b.Gateway.Run(t.Context(), "sh", "-c", "cat /run/published/log 2>/dev/null || true")
			last = out
			return strings.HasPrefix(out, want) && strings.HasSuffix(out, " 19\n") && strings.Count(out, "\n") == 1, err
		})
		if err != nil {
			t.Errorf("the program recorded %q, want %q: %v", last, want, err)
		}
		// A process in its own network namespace would have no routes.
		if fields := strings.Fields(last); len(fields) == 5 && fields[3] == "1" {
			t.Errorf("the program has no network: %q", last)
		}
		run(t, b, "rm", "-f", "/run/published/log")
	}
	run(t, b, "systemctl", "start", "tunnelcast-sweep.service") // creates the queue

	c := client(t, b, "camera")
	connect(t, c, "dave")
	if err := c.Publish(t.Context(), "told", 3); err != nil {
		t.Fatal(err)
	}
	var names []string
	err = box.Poll(t.Context(), soon, "the recording to become an MP4", func() (bool, error) {
		all, err := b.Gateway.Recordings()
		names = slices.DeleteFunc(all, func(n string) bool { return !strings.HasPrefix(n, "told") })
		return len(names) == 1 && strings.HasSuffix(names[0], ".mp4"), err
	})
	if err != nil {
		t.Fatalf("%v; the archive contains %v", err, names)
	}
	mp4 := filepath.Join(box.Archive, names[0])
	t.Cleanup(func() { os.Remove(b.Gateway.Path(mp4)) })
	wantLog(mp4, strings.TrimSuffix(mp4, ".mp4")+".flv")

	// A recording that a restart of nginx left.
	flv := box.Archive + "/swept.flv"
	if err := b.Gateway.WriteFile(flv, string(recordingtest.Sample(t, 2, "200k")), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, b, "chown", "www-data:www-data", flv)
	t.Cleanup(func() { os.Remove(b.Gateway.Path(box.Archive + "/swept.mp4")) })
	run(t, b, "systemctl", "start", "tunnelcast-sweep.service")
	wantLog(box.Archive+"/swept.mp4", flv)

	out := run(t, b, "runuser", "-u", "www-data", "--", "tunnelcast-recorddone", "check", "--test-event")
	if !strings.Contains(out, "done in ") {
		t.Errorf("check --test-event prints %q", out)
	}
}

// sync writes the clients' page to the directory that nginx serves, and updates it when a client connects or
// disconnects.
func TestPage(t *testing.T) {
	b := server(t)
	before, err := b.Gateway.ReadFile(updownToml)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Gateway.WriteFile(updownToml, before, 0o644); err != nil {
			t.Error(err)
		}
		os.Remove(b.Gateway.Path("/var/www/html/clients.html"))
	})
	if err := b.Gateway.WriteFile(updownToml, "page = \"/var/www/html/clients.html\"\n", 0o644); err != nil {
		t.Fatal(err)
	}
	c := client(t, b, "tablet")
	address := connect(t, c, "carol")
	wantPage := func(want bool) {
		t.Helper()
		last := ""
		err := box.Poll(t.Context(), soon, "the page", func() (bool, error) {
			var err error
			last, err = b.Gateway.ReadFile("/var/www/html/clients.html")
			return strings.Contains(last, "carol."+box.Zone) == want && strings.Contains(last, address) == want, err
		})
		if err != nil {
			t.Errorf("%v:\n%s", err, last)
		}
	}
	wantPage(true)
	if out := run(t, b, "tunnelcast-updown", "list"); !strings.Contains(out, "carol."+box.Zone) {
		t.Errorf("list prints:\n%s", out)
	}
	if err := c.Disconnect(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantPage(false)

	// If the unit may not write to the page's directory, check prints the setting that allows it.
	if err := b.Gateway.WriteFile(updownToml, "page = \"/srv/clients.html\"\n", 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := b.Gateway.Run(t.Context(), "systemctl", "start", "tunnelcast-sync.service"); err == nil {
		t.Errorf("sync has written to /srv: %s", out)
	}
	run(t, b, "systemctl", "reset-failed", "tunnelcast-sync.service")
	out, err := b.Gateway.Run(t.Context(), "tunnelcast-updown", "check")
	if text := out + fmt.Sprint(err); !strings.Contains(text, "ReadWritePaths=/srv") {
		t.Errorf("check: %s", text)
	}
}
