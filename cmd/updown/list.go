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

	"tunnelcast/internal/hook"
	"tunnelcast/internal/lease"
)

// row is one connected client. A client with only some of its addresses in the zone has
// one row for these and one for the others. The peer chooses the identity, so each
// format escapes it.
type row struct {
	Name      string    `json:"name,omitempty"`    // under which the zone has the addresses
	Refused   string    `json:"refused,omitempty"` // why the zone has no name for them
	Identity  string    `json:"identity"`
	Addresses []string  `json:"addresses"`
	Since     time.Time `json:"since,omitzero"` // UTC
	From      string    `json:"from"`
}

// list prints the connected clients with the names that the zone has for them. If
// the zone cannot be read it prints them without names and returns an error that
// wraps hook.ErrSome.
func (h *host) list(ctx context.Context, format string) error {
	charonCtx, cancel := context.WithTimeout(ctx, charonTimeout)
	defer cancel()
	leases, pools, err := h.askCharon(charonCtx)
	if err != nil {
		return err
	}
	zoneCtx, cancel := context.WithTimeout(ctx, dnsTimeout)
	defer cancel()
	var zone []lease.RR
	server, zoneErr := h.dnsServer()
	if zoneErr == nil {
		zone, zoneErr = server.Transfer(zoneCtx, h.rules.Zone)
		zoneErr = withDNSEvent(zoneErr)
	}
	rows := h.rows(leases, pools, zone, zoneErr)
	now := h.env.Now()
	switch format {
	case "json":
		encoder := json.NewEncoder(h.env.Stdout)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(rows)
	case "html":
		err = writePage(h.env.Stdout, rows, len(leases), h.rules.Zone, now)
	default:
		err = writeTable(h.env.Stdout, rows, now)
	}
	if err == nil && zoneErr != nil {
		err = fmt.Errorf("%w: the clients' names are not known: %w", hook.ErrSome, zoneErr)
	}
	return err
}

// rows compares the clients with the forward zone, by the rules of sync. zoneErr is the
// error of reading the zone.
func (h *host) rows(leases []lease.Lease, pools lease.Pools, zone []lease.RR, zoneErr error) []row {
	rules := h.rules
	rules.Known, _ = h.memory.Load() // check reports an error
	if len(rules.Pools) == 0 {
		rules.Pools, rules.AnyAddress = pools, len(pools) == 0
	}
	rules.LeftOut = h.leftOut(leases)
	_, refused := rules.Plan(leases, map[string][]lease.RR{rules.Zone: zone}, nil)
	refusals := map[string][]lease.Refusal{}
	for _, r := range refused {
		refusals[r.Lease.Identity] = append(refusals[r.Lease.Identity], r)
	}
	have := make(map[lease.RR]bool, len(zone))
	for _, rr := range zone {
		have[rr] = true
	}

	rows := []row{}
	for _, l := range leases {
		r := row{Identity: l.Identity, From: l.Remote}
		if !l.Established.IsZero() {
			r.Since = l.Established.UTC().Truncate(time.Second)
		}
		owner, nameErr := rules.Name(l.Identity)
		named := r
		named.Name = strings.TrimSuffix(owner, ".")
		without := map[string][]string{} // addresses by the reason why they have no name
		for _, addr := range l.Addresses {
			if nameErr == nil && have[lease.Address(owner, addr)] {
				named.Addresses = append(named.Addresses, addr.String())
				continue
			}
			why := "it is not in the zone yet: sync adds it within a minute, or the journal says why not"
			if i := slices.IndexFunc(refusals[l.Identity], func(r lease.Refusal) bool {
				return slices.Equal(r.Lease.Addresses, l.Addresses) && r.Lease.Connection == l.Connection &&
					(!r.Addr.IsValid() || r.Addr == addr)
			}); i >= 0 {
				why = strings.TrimPrefix(refusals[l.Identity][i].Err.Error(), fmt.Sprintf("identity %q: ", l.Identity))
			} else if zoneErr != nil {
				why = "not known: " + zoneErr.Error()
			}
			without[why] = append(without[why], addr.String())
		}
		if len(named.Addresses) > 0 {
			rows = append(rows, named)
		}
		for why, addrs := range without {
			r.Refused, r.Addresses = why, addrs
			rows = append(rows, r)
		}
	}
	slices.SortStableFunc(rows, func(a, b row) int {
		return cmp.Or(
			cmp.Compare(a.Name, b.Name),
			cmp.Compare(a.Identity, b.Identity),
			slices.Compare(a.Addresses, b.Addresses))
	})
	return rows
}

// name returns what is printed as the name.
func (r row) name() string { return cmp.Or(r.Name, "-") }

// ago returns the time since the client connected, in its largest unit.
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
	fmt.Fprint(t, "NAME\tADDRESS\tSINCE\tFROM\tIDENTITY")
	if slices.ContainsFunc(rows, func(r row) bool { return r.Refused != "" }) {
		fmt.Fprint(t, "\tWHY NO NAME")
	}
	fmt.Fprintln(t)
	for _, r := range rows {
		identity := fmt.Sprintf("%q", r.Identity)
		if plain := strings.Trim(identity, `"`); plain == r.Identity && !strings.Contains(plain, " ") {
			identity = plain
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s", r.name(), strings.Join(r.Addresses, ","), r.ago(now), r.From, identity)
		if r.Refused != "" {
			fmt.Fprintf(t, "\t%s", r.Refused)
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

// The page has columns on a wide screen and a block per client on a narrow one. A name
// may wrap anywhere, an IPv6 address after a colon, an IPv4 address nowhere.
const pageHead = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="30">
<meta name="color-scheme" content="light dark">
<title>%[1]s: %[2]d connected</title>
<style>
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem; font-weight: 600; overflow-wrap: anywhere }
table { border-collapse: collapse; width: 100%% }
th, td { text-align: left; padding: .5rem 1.5rem .5rem 0; border-bottom: 1px solid #8884; vertical-align: top }
th:last-child, td:last-child { padding-right: 0 }
th, small { font-weight: normal; opacity: .75 }
td:first-child { overflow-wrap: anywhere; min-width: 12rem }
td small { display: block }
.ip { display: block; font-variant-numeric: tabular-nums }
.since { white-space: nowrap }
@media (min-width: 64rem) { wbr { display: none } }
@media (max-width: 40rem) {
  thead { display: none }
  tr { display: block; padding: .6rem 0; border-bottom: 1px solid #8884 }
  td { display: block; border: 0; padding: 0 }
  td:first-child { font-weight: 600 }
  td[data-label] { display: grid; grid-template-columns: 5rem 1fr }
  td[data-label]::before { content: attr(data-label); opacity: .75 }
  td .ip { grid-column: 2 }
}
</style>
</head>
<body>
<h1>%[1]s: %[2]d connected</h1>
`

const pageTable = `<table>
<thead><tr><th>Name</th><th>Address</th><th>Since</th><th>From</th></tr></thead>
<tbody>
`

const pageTail = `<p><small>%s UTC</small></p>
</body>
</html>
`

// writePage writes a page without references to other files. Everything that a peer
// chooses is escaped text between tags.
func writePage(w io.Writer, rows []row, clients int, zone string, now time.Time) error {
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
			fmt.Fprintf(&b, `<tr><td>%s</td><td data-label="address">%s</td>`+
				`<td class="since" data-label="since">%s</td><td data-label="from">%s</td></tr>`+"\n",
				name, pageAddresses(r.Addresses), r.ago(now), pageAddresses([]string{r.From}))
		}
		b.WriteString("</tbody>\n</table>\n")
	}
	fmt.Fprintf(&b, pageTail, now.UTC().Format(time.DateTime))
	_, err := io.WriteString(w, b.String())
	return err
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
