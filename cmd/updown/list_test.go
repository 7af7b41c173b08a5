package main

import (
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"tunnelcast/internal/hook"
	"tunnelcast/internal/lease"
)

var listNow = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// listedRows are of clients as they may be, with a zone that has the names of two.
func listedRows(t *testing.T) []row {
	t.Helper()
	g := newTestGateway(t, &bind{dir: t.TempDir(), addr: "127.0.0.1:1"}, "--pools", "10.0.0.100-10.0.0.200,fd00::/64")
	live := []lease.Lease{
		client("bob", "10.0.0.101"),
		client("<script>alert(1)</script>\n\x1b[31m\xff", "10.0.0.102"),
		client("alice@example.org", "10.0.0.100", "fd00::100"),
	}
	for i, ago := range []time.Duration{90 * time.Minute, 0, 30 * time.Second} {
		live[i].Established = listNow.Add(-ago)
		live[i].Remote = "198.51.100.7"
	}
	var zone []lease.RR
	for _, name := range []string{"alice 10.0.0.100", "alice fd00::100", "bob 10.0.0.101"} {
		label, addr, _ := strings.Cut(name, " ")
		zone = append(zone, lease.Address(label+".example.", netip.MustParseAddr(addr)))
	}
	rows := g.rows(live, nil, zone, nil)
	for i := range rows {
		if rows[i].Name == "alice.example" {
			rows[i].BytesIn, rows[i].BytesOut, rows[i].Idle = 1_500_000, 12, 5
			rows[i].Limit, rows[i].Ends = "max-session", listNow.Add(30*time.Second)
		}
	}
	return rows
}

func TestListTable(t *testing.T) {
	const hostile = `"<script>alert(1)</script>\n\x1b[31m\xff"`
	want := `NAME ADDRESS SINCE IDLE IN OUT FROM IDENTITY ENDS WHY NO NAME
- 10.0.0.102 0 s 0 s 0 B 0 B 198.51.100.7 ` + hostile + ` - ` + hostile + ` is not
alice.example 10.0.0.100,fd00::100 30 s 5 s 1.5 MB 12 B 198.51.100.7 alice@example.org max-session in 30 s
bob.example 10.0.0.101 1 h 30 min 0 s 0 B 0 B 198.51.100.7 bob -
`
	squeeze := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	var b strings.Builder
	if err := writeTable(&b, listedRows(t), listNow); err != nil {
		t.Fatal(err)
	}
	got, cause, _ := strings.Cut(b.String(), " is not")
	_, rest, _ := strings.Cut(cause, "\n")
	if squeeze(got+" is not\n"+rest) != squeeze(want) || strings.Count(b.String(), "\n") != 4 {
		t.Errorf("got\n%s", b.String())
	}
	b.Reset()
	if err := writeTable(&b, nil, listNow); err != nil ||
		squeeze(b.String()) != "NAME ADDRESS SINCE IDLE IN OUT FROM IDENTITY" {
		t.Errorf("without clients: %s", b.String())
	}
}

func TestListJSON(t *testing.T) {
	rows := listedRows(t)
	text, err := json.Marshal(rows)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &rows); err != nil {
		t.Fatal(err)
	}
	if len(rows) != 3 || rows[0].Refused == "" || rows[1].Name != "alice.example" ||
		rows[1].Since.Format(time.RFC3339) != "2026-11-21T11:59:30Z" {
		t.Errorf("got %+v", rows)
	}
	for _, want := range []string{`"bytes_in":1500000`, `"bytes_out":12`, `"idle_seconds":5`, `"limit":"max-session"`,
		`"ends":"2026-11-21T12:00:30Z"`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}

func TestSize(t *testing.T) {
	for bytes, want := range map[uint64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 kB", 1_550_000: "1.6 MB", 999_950: "1.0 MB",
		3_000_000_000: "3.0 GB", 1 << 63: "9223372.0 TB",
	} {
		if got := size(bytes); got != want {
			t.Errorf("%d bytes are %s, want %s", bytes, got, want)
		}
	}
}

func TestPage(t *testing.T) {
	text := page(listedRows(t), 3, "example.", listNow)
	if strings.Contains(text, "<script>alert") || strings.Contains(text, "\xff") || strings.Contains(text, "%!") {
		t.Errorf("an identity got through:\n%s", text)
	}
	for _, want := range []string{"<h1>example: 3 connected</h1>",
		`<td role="cell">alice.example</td><td role="cell" data-label="address">` +
			`<span class="ip">10.0.0.100</span><span class="ip">fd00:<wbr>:<wbr>100</span></td>`,
		"&lt;script&gt;", "<small>no name: &#34;&lt;script", "viewport", `content="light dark"`, "refresh",
		"<span>1.5 MB in</span> <small>12 B out</small>", "<small>max-session in 30 s</small>",
		`Written at <time datetime="2026-11-21T12:00:00Z">2026-11-21 12:00:00 UTC</time>`, `role="alert" hidden`} {
		if !strings.Contains(text, want) {
			t.Errorf("the page has no %q:\n%s", want, text)
		}
	}
	text = page(nil, 0, "example.", listNow)
	if !strings.Contains(text, "Nobody is connected.") || strings.Contains(text, "<table") {
		t.Errorf("without clients:\n%s", text)
	}
	if at, ok := pageTime(text); !ok || !at.Equal(listNow) {
		t.Errorf("written at %v, %v", at, ok)
	}
}

// sync writes the page when something on it has changed, at least each minute, and
// never half of it.
func TestBindPageIsWritten(t *testing.T) {
	b := startBind(t)
	file := filepath.Join(b.dir, "clients.html")
	g := newTestGateway(t, b, "--page", file)
	now := time.Now().Truncate(time.Second) // named checks the clock
	g.env.Now = func() time.Time { return now }
	step := func(after time.Duration, want bool, words ...string) {
		t.Helper()
		now = now.Add(after)
		g.sync()
		text, err := os.ReadFile(file)
		at, ok := pageTime(string(text))
		if err != nil || !ok || at.Equal(now) != want {
			t.Errorf("written at %v, now it is %v: %v", at, now, err)
		}
		for _, w := range words {
			if !strings.Contains(string(text), w) {
				t.Errorf("no %q in\n%s", w, text)
			}
		}
	}
	step(0, true, "Nobody is connected.")
	step(10*time.Second, false)
	g.live = []lease.Lease{client("alice", "10.0.0.100")}
	step(time.Second, true, "example: 1 connected", "alice.example", "10.0.0.100")
	step(time.Minute, true, "alice.example")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}

	g.Page = filepath.Join(b.dir, "nowhere", "clients.html")
	wantSome(t, g.syncs(), "page: ", "no such file or directory")
	g.want("alice A 10.0.0.100")
}

// A name is listed if the zone has it, and otherwise why it has not.
func TestBindListShowsTheZone(t *testing.T) {
	b := startBind(t)
	g := newTestGateway(t, b)
	g.sync() // learns the pools
	for _, l := range []lease.Lease{
		client("alice@a.example", "10.0.0.100", "fd00::100"),
		client("alice@b.example", "10.0.0.101"), // another alice
		client("printer", "10.0.0.102"),         // a name with an address by hand
		client("ns", "10.0.0.103"),
		client("eve", "172.16.0.9"),
		client("mallory", "10.0.0.104", "172.16.0.10"),
	} {
		_ = g.up(l) // the zone tells
	}
	g.sync()
	g.live = append(g.live, client("late", "10.0.0.105")) // its hook has failed
	g.stdout.Reset()
	if err := g.list(t.Context(), "json"); err != nil {
		t.Fatal(err)
	}
	var rows []row
	if err := json.Unmarshal(g.stdout.Bytes(), &rows); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range rows {
		got = append(got, r.Identity+" "+strings.Join(r.Addresses, ",")+" "+r.name())
		why := map[string]string{
			"alice@b.example": `alice.example. is "alice@a.example"`,
			"printer":         "printer.example. has the address 10.0.0.9",
			"ns":              "the name ns is reserved",
			"eve":             "172.16.0.9 is in none of the gateway's pools",
			"mallory":         "172.16.0.10 is in none of the gateway's pools",
			"late":            "not in the zone yet",
		}[r.Identity]
		if (r.Refused == "") != (r.Name != "") || r.Refused != "" && (why == "" || !strings.Contains(r.Refused, why)) {
			t.Errorf("%+v; want %q", r, why)
		}
	}
	want := `alice@b.example 10.0.0.101 -
eve 172.16.0.9 -
late 10.0.0.105 -
mallory 172.16.0.10 -
ns 10.0.0.103 -
printer 10.0.0.102 -
alice@a.example 10.0.0.100,fd00::100 alice.example
mallory 10.0.0.104 mallory.example`
	if lines := strings.Join(got, "\n"); lines != want {
		t.Errorf("got\n%s", lines)
	}

	// sync has named those that have no name, each once.
	g.sync()
	for _, name := range []string{"alice@b.example", "printer", "ns", "eve", "mallory"} {
		pattern := regexp.MustCompile(`msg="no name for a client" .*identity=` + name + " ")
		if n := len(pattern.FindAllString(g.log.String(), -1)); n != 1 {
			t.Errorf("%d entries for %s in\n%s", n, name, g.log.String())
		}
	}

	// Without the zone nothing is said of names.
	b.named.Stop()
	g.stdout.Reset()
	err := g.list(t.Context(), "table")
	if !errors.Is(err, hook.ErrSome) || !strings.Contains(g.stdout.String(), "not known: transfer zone example.") ||
		strings.Contains(g.stdout.String(), "mallory.example") {
		t.Errorf("without named: %v\n%s", err, g.stdout.String())
	}
}
