package packaging

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"tunnelcast/internal/promised"
)

// runExample runs a program of the examples as an event would.
func runExample(t *testing.T, name string, args, vars []string) (output string, err error) {
	t.Helper()
	cmd := exec.Command("sh", append([]string{filepath.Join("examples", name)}, args...)...)
	cmd.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, vars...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func sessionVars(event, identity string) []string {
	return []string{"TUNNELCAST_EVENT=" + event, "TUNNELCAST_IDENTITY=" + identity, "TUNNELCAST_NAME=alice.example",
		"TUNNELCAST_ADDRESS=10.0.0.100", "TUNNELCAST_FROM=198.51.100.7", "TUNNELCAST_SINCE=2026-11-26T12:00:00Z",
		"TUNNELCAST_BYTES_IN=5", "TUNNELCAST_BYTES_OUT=6", "TUNNELCAST_REASON=max-idle 30m0s: no traffic for 30m12s",
		"TUNNELCAST_LINK="}
}

// An identity that a client chose to be harmful.
const hostile = "a\"b\\c'd`id`$(id)\nBcc: all@example.org\x01"

func TestWebhookExample(t *testing.T) {
	promised.Program(t, "curl")
	var posted []string
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var message struct{ Text string }
		if err != nil || json.Unmarshal(body, &message) != nil || r.URL.Path != "/hooks/secret" ||
			r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("posted to %s: %q, %v", r.URL, body, err)
		}
		posted = append(posted, message.Text)
		w.WriteHeader(status)
	}))
	defer server.Close()
	url := filepath.Join(t.TempDir(), "webhook")
	if err := os.WriteFile(url, []byte(server.URL+"/hooks/secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, vars := range [][]string{sessionVars("connected", "alice"), sessionVars("disconnected", hostile),
		sessionVars("ended", "alice")} {
		if out, err := runExample(t, "notify-webhook", []string{url}, vars); err != nil || out != "" {
			t.Errorf("%v: %s", err, out)
		}
	}
	want := "alice is connected from 198.51.100.7 as alice.example\n" +
		"a\"b\\c'd`id`$(id)Bcc: all@example.org has left (connected since 2026-11-26T12:00:00Z)\n" +
		"alice was disconnected: max-idle 30m0s: no traffic for 30m12s"
	if got := strings.Join(posted, "\n"); got != want {
		t.Errorf("posted\n%s\nwant\n%s", got, want)
	}
	status = http.StatusForbidden
	if out, err := runExample(t, "notify-webhook", []string{url}, sessionVars("connected", "alice")); err == nil ||
		!strings.Contains(out, "403") {
		t.Errorf("a refused post: %v: %s", err, out)
	}
}

func TestMailExample(t *testing.T) {
	dir := t.TempDir()
	sendmail := "#!/bin/sh\necho \"$*\" >" + dir + "/args\ncat >" + dir + "/mail\n"
	if err := os.WriteFile(filepath.Join(dir, "sendmail"), []byte(sendmail), 0o755); err != nil {
		t.Fatal(err)
	}
	vars := append(sessionVars("ended", hostile), "PATH="+dir+":/usr/bin:/bin") // the last one counts
	if out, err := runExample(t, "notify-mail", []string{"root"}, vars); err != nil || out != "" {
		t.Fatalf("%v: %s", err, out)
	}
	args, _ := os.ReadFile(filepath.Join(dir, "args"))
	mail, _ := os.ReadFile(filepath.Join(dir, "mail"))
	head, body, _ := strings.Cut(string(mail), "\n\n")
	if string(args) != "-i -- root\n" ||
		head != "To: root\nSubject: VPN: a\"b\\c'd`id`$(id)Bcc: all@example.org ended" ||
		!strings.Contains(body, "Event:     ended max-idle 30m0s: no traffic for 30m12s\n") {
		t.Errorf("sendmail %s\n%s", args, mail)
	}
}

func TestRsyncExample(t *testing.T) {
	promised.Program(t, "rsync")
	from, to := t.TempDir(), t.TempDir()
	path := filepath.Join(from, "-rf a b:c.mp4")
	if err := os.WriteFile(path, []byte("film"), 0o644); err != nil {
		t.Fatal(err)
	}
	vars := []string{"TUNNELCAST_PATH=" + path, "TUNNELCAST_SOURCE=x", "TUNNELCAST_SECONDS=1.000", "TUNNELCAST_BYTES=4"}
	if out, err := runExample(t, "published-rsync", []string{to + "/"}, vars); err != nil || out != "" {
		t.Errorf("%v: %s", err, out)
	}
	if text, err := os.ReadFile(filepath.Join(to, filepath.Base(path))); err != nil || string(text) != "film" {
		t.Errorf("copied %q, %v", text, err)
	}
	vars[0] = "TUNNELCAST_PATH=/nonexistent/test.mp4"
	if out, err := runExample(t, "published-rsync", []string{to + "/"}, vars); err == nil || !strings.Contains(out,
		"No such file") {
		t.Errorf("a file that does not exist: %v: %s", err, out)
	}
}
