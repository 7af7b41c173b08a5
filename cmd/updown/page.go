package main

import (
	"context"
	"errors"
	"fmt"
	"html"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"tunnelcast/internal/charon"
	"tunnelcast/internal/file"
	"tunnelcast/internal/hook"
)

// The page has columns on a wide screen and a block per client on a narrow one; the
// roles keep it a table for a screen reader in both cases. A name may break anywhere,
// an IPv6 address after a colon, an IPv4 address nowhere.
const pageHead = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="30">
<meta name="color-scheme" content="light dark">
<title>%[1]s: %[2]d connected</title>
<style>
html { background: Canvas; color: CanvasText }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem; font-weight: 600; overflow-wrap: anywhere }
table { border-collapse: collapse; width: 100%% }
th, td { text-align: left; padding: .5rem 1rem .5rem 0; border-bottom: 1px solid #8884; vertical-align: top }
th:last-child, td:last-child { padding-right: 0 }
th, small { font-weight: normal; opacity: .8 }
td:first-child { overflow-wrap: anywhere; min-width: 10rem }
td small, .ip { display: block }
.ip { font-variant-numeric: tabular-nums }
.nowrap { white-space: nowrap }
#old { border: 2px solid; padding: .5rem 1rem; font-weight: 600 }
@media (max-width: 45rem) {
  thead { position: absolute; clip-path: inset(50%%); height: 1px; overflow: hidden }
  tr { display: block; padding: .6rem 0; border-bottom: 1px solid #8884 }
  td { display: block; border: 0; padding: 0 }
  td:first-child { font-weight: 600 }
  td[data-label] { display: grid; grid-template-columns: 6rem 1fr }
  td[data-label]::before { content: attr(data-label); opacity: .8 }
  td[data-label] > * { grid-column: 2 }
}
</style>
</head>
<body>
<main>
<h1>%[1]s: %[2]d connected</h1>
<p id="old" role="alert" hidden>This page is old: nobody has written it since the time at its end.</p>
`

const pageTable = `<table role="table">
<thead role="rowgroup"><tr role="row"><th role="columnheader">Name</th><th role="columnheader">Address</th>` +
	`<th role="columnheader">Connected</th><th role="columnheader">Traffic</th>` +
	`<th role="columnheader">From</th></tr></thead>
<tbody role="rowgroup">
`

const pageRow = `<tr role="row"><td role="cell">%s</td><td role="cell" data-label="address">%s</td>` +
	`<td role="cell" class="nowrap" data-label="connected"><span>%s</span>%s</td>` +
	`<td role="cell" class="nowrap" data-label="traffic"><span>%s in</span> <small>%s out</small></td>` +
	`<td role="cell" data-label="from">%s</td></tr>` + "\n"

// The page shows that it is old by itself. It goes by the clock of its server, which
// the browser asks for, for that of a phone may be wrong. Without a script the time is
// there to read.
const pageTail = `<p><small>Written at <time datetime="%s">%s UTC</time>.</small></p>
</main>
<script>
const show = now => { document.getElementById("old").hidden = now - Date.parse("%[1]s") < %[3]d };
fetch(location.href, {method: "HEAD", cache: "no-store"})
  .then(reply => Date.parse(reply.headers.get("date")) || Date.now(), () => Date.now()).then(show);
</script>
</body>
</html>
`

const (
	// pageAge is the age from which the page says that it is old.
	pageAge = 5 * time.Minute
	// pagePause is how often it is written while nothing on it changes but the time.
	pagePause = 50 * time.Second
)

// page returns one page that needs nothing else. All that comes from a peer stands
// between tags, escaped.
func page(rows []row, clients int, zone string, now time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, pageHead, html.EscapeString(strings.TrimSuffix(zone, ".")), clients)
	if len(rows) == 0 {
		b.WriteString("<p>Nobody is connected.</p>\n")
	} else {
		b.WriteString(pageTable)
		for _, r := range rows {
			name := html.EscapeString(r.Name)
			if r.Name == "" {
				name = fmt.Sprintf("%s <small>no name: %s</small>", pageText(r.Identity), pageText(r.Refused))
			}
			var more string
			if r.Idle >= 60 {
				more = fmt.Sprintf(" <small>idle for %s</small>", r.idle())
			}
			if r.Limit != "" {
				more += fmt.Sprintf(" <small>%s</small>", r.ends(now))
			}
			fmt.Fprintf(&b, pageRow, name, pageAddresses(r.Addresses), r.ago(now), more, size(r.BytesIn),
				size(r.BytesOut),
				pageAddresses([]string{r.From}))
		}
		b.WriteString("</tbody>\n</table>\n")
	}
	now = now.UTC()
	fmt.Fprintf(&b, pageTail, now.Format(time.RFC3339), now.Format(time.DateTime), pageAge.Milliseconds())
	return b.String()
}

func pageText(s string) string { return html.EscapeString(strings.ToValidUTF8(s, "?")) }

// pageAddresses returns the addresses as HTML, one below the other. An IPv6 address
// may break after a colon.
func pageAddresses(addrs []string) string {
	var b strings.Builder
	for _, addr := range addrs {
		fmt.Fprintf(&b, `<span class="ip">%s</span>`, strings.ReplaceAll(pageText(addr), ":", ":<wbr>"))
	}
	return b.String()
}

// updatePage writes the page of the clients, if there is one and something on it has
// changed. The error wraps hook.ErrSome.
func (h *host) updatePage(ctx context.Context) error {
	if h.Page == "" {
		return nil
	}
	leases, pools, err := h.live(ctx)
	var listed charon.Sessions
	if err == nil && len(leases) > 0 {
		listed, err = h.listSessions(ctx)
	}
	if err == nil {
		// Without the zone the page still shows who is connected; the round has reported it.
		rows, _ := h.listRows(ctx, leases, pools.Pools, listed)
		err = h.writePage(rows, len(leases))
	}
	if err != nil {
		return fmt.Errorf("%w: page: %w", hook.ErrSome, err)
	}
	return nil
}

func (h *host) writePage(rows []row, clients int) error {
	now := h.env.Now()
	have, _ := os.ReadFile(h.Page)
	if written, ok := pageTime(string(have)); ok && now.Sub(written).Abs() < pagePause &&
		string(have) == page(rows, clients, h.rules.Zone, written) {
		return nil
	}
	err := file.Replace(h.Page, []byte(page(rows, clients, h.rules.Zone, now)), 0o644, file.InMemory)
	if errors.Is(err, syscall.EROFS) {
		return fmt.Errorf("%w: %s must not write there; `tunnelcast-updown check` names the line that lets it", err,
			syncService)
	}
	return err
}

const syncService = "tunnelcast-sync.service"

// pageTime returns when a page was written.
func pageTime(page string) (time.Time, bool) {
	_, rest, _ := strings.Cut(page, `<time datetime="`)
	text, _, _ := strings.Cut(rest, `"`)
	t, err := time.Parse(time.RFC3339, text)
	return t, err == nil
}

// pageDir is where the page is.
func (h *host) pageDir() string { return filepath.Dir(h.Page) }
