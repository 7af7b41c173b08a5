package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"tunnelcast/internal/lease"
)

// row is one connected client. Its identity is the peer's choice of bytes; each
// format makes it harmless in its own way.
type row struct {
	Name      string    `json:"name,omitempty"`
	Refused   string    `json:"refused,omitempty"` // why there is no name
	Identity  string    `json:"identity"`
	Addresses []string  `json:"addresses"`
	Since     time.Time `json:"since,omitzero"` // UTC
	From      string    `json:"from"`
}

func (g *gateway) list(ctx context.Context, format string) error {
	ctx, cancel := context.WithTimeout(ctx, charonTimeout)
	defer cancel()
	leases, _, err := g.askCharon(ctx)
	if err != nil {
		return err
	}
	rows := g.rows(leases)
	switch format {
	case "json":
		encoder := json.NewEncoder(g.env.Stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(rows)
	case "html":
		return writePage(g.env.Stdout, rows, g.rules.Zone, g.env.Now())
	}
	return writeTable(g.env.Stdout, rows, g.env.Now())
}

func (g *gateway) rows(leases []lease.Lease) []row {
	rows := []row{}
	for _, l := range leases {
		r := row{Identity: l.Identity, From: l.Remote}
		if !l.Established.IsZero() {
			r.Since = l.Established.UTC().Truncate(time.Second)
		}
		for _, addr := range l.Addresses {
			r.Addresses = append(r.Addresses, addr.String())
		}
		if name, err := g.rules.Name(l.Identity); err == nil {
			r.Name = strings.TrimSuffix(name, ".")
		} else {
			r.Refused = err.Error()
		}
		rows = append(rows, r)
	}
	slices.SortStableFunc(rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Identity, b.Identity), slices.Compare(a.Addresses, b.Addresses))
	})
	return rows
}

// name is what a person is shown.
func (r row) name() string { return cmp.Or(r.Name, "-") }

// ago says since when, coarsely.
func (r row) ago(now time.Time) string {
	if r.Since.IsZero() {
		return "-"
	}
	d := max(now.Sub(r.Since), 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %02d min", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}

func writeTable(w io.Writer, rows []row, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tADDRESS\tSINCE\tFROM\tIDENTITY")
	for _, r := range rows {
		identity := fmt.Sprintf("%q", r.Identity)
		if plain := strings.Trim(identity, `"`); plain == r.Identity && !strings.Contains(plain, " ") {
			identity = plain
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", r.name(), strings.Join(r.Addresses, ","), r.ago(now), r.From, identity)
	}
	return t.Flush()
}

const pageHead = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="30">
<meta name="color-scheme" content="light dark">
<title>%[1]s: %[2]d connected</title>
<style>
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem; font-weight: 600 }
table { border-collapse: collapse; width: 100%% }
th, td { text-align: left; padding: .5rem .75rem .5rem 0; border-bottom: 1px solid #8884; overflow-wrap: anywhere; vertical-align: top }
th, small { font-weight: normal; opacity: .7 }
@media (max-width: 40rem) {
  thead { display: none }
  tr { display: block; padding: .5rem 0; border-bottom: 1px solid #8884 }
  td { display: block; border: 0; padding: 0 }
  td:first-child { font-weight: 600 }
  td[data-label]::before { content: attr(data-label) " "; opacity: .7 }
}
</style>
</head>
<body>
<h1>%[1]s: %[2]d connected</h1>
<table>
<thead><tr><th>Name</th><th>Address</th><th>Since</th><th>From</th></tr></thead>
<tbody>
`

const pageTail = `</tbody>
</table>
<p><small>%s UTC</small></p>
</body>
</html>
`

// writePage writes one page that needs nothing else. All that comes from a peer
// stands between tags, escaped.
func writePage(w io.Writer, rows []row, zone string, now time.Time) error {
	var b strings.Builder
	fmt.Fprintf(&b, pageHead, html.EscapeString(strings.TrimSuffix(zone, ".")), len(rows))
	for _, r := range rows {
		name := html.EscapeString(r.Name)
		if r.Name == "" {
			name = "<small>no name: " + html.EscapeString(strings.ToValidUTF8(r.Identity, "?")) + "</small>"
		}
		fmt.Fprintf(&b, "<tr><td>%s</td><td>%s</td><td data-label=\"since\">%s</td><td data-label=\"from\">%s</td></tr>\n", name,
			html.EscapeString(strings.Join(r.Addresses, " ")), r.ago(now), html.EscapeString(r.From))
	}
	fmt.Fprintf(&b, pageTail, now.UTC().Format(time.DateTime))
	_, err := io.WriteString(w, b.String())
	return err
}
