package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"tunnelcast/internal/lease"
)

func listed(t *testing.T, format string) string {
	t.Helper()
	g := newTestGateway(t, &bind{dir: t.TempDir(), addr: "127.0.0.1:1"})
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	g.env.Now = func() time.Time { return now }
	g.live = []lease.Lease{
		client("bob", "10.0.0.101"),
		client("<script>alert(1)</script>\n\x1b[31m\xff", "10.0.0.102"),
		client("alice@example.org", "10.0.0.100", "fd00::100"),
	}
	for i, ago := range []time.Duration{90 * time.Minute, 0, 30 * time.Second} {
		g.live[i].Established = now.Add(-ago)
		g.live[i].Remote = "198.51.100.7"
	}
	if err := g.list(context.Background(), format); err != nil {
		t.Fatal(err)
	}
	return g.stdout.String()
}

func TestListTable(t *testing.T) {
	want := `NAME           ADDRESS               SINCE     FROM          IDENTITY
-              10.0.0.102            0 s       198.51.100.7  "<script>alert(1)</script>\n\x1b[31m\xff"
alice.example  10.0.0.100,fd00::100  30 s      198.51.100.7  alice@example.org
bob.example    10.0.0.101            1 h 30 min  198.51.100.7  bob
`
	squeeze := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	if got := listed(t, "table"); squeeze(got) != squeeze(want) || strings.Count(got, "\n") != 4 {
		t.Errorf("got\n%s", got)
	}
}

func TestListJSON(t *testing.T) {
	var rows []row
	if err := json.Unmarshal([]byte(listed(t, "json")), &rows); err != nil {
		t.Fatal(err)
	}
	if len(rows) != 3 || rows[1].Name != "alice.example" || rows[1].Since.Format(time.RFC3339) != "2026-11-21T11:59:30Z" || rows[0].Refused == "" {
		t.Errorf("got %+v", rows)
	}
}

func TestListPage(t *testing.T) {
	page := listed(t, "html")
	if strings.Contains(page, "<script") || strings.Contains(page, "\xff") || strings.Contains(page, "%!") {
		t.Errorf("an identity got through:\n%s", page)
	}
	for _, want := range []string{"<h1>example: 3 connected</h1>", "<td>alice.example</td><td>10.0.0.100 fd00::100</td>", "&lt;script&gt;", "viewport", `content="light dark"`, "refresh"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %q:\n%s", want, page)
		}
	}
}
