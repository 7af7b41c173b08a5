package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"tunnelcast/internal/charon"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/lease"
	"tunnelcast/internal/session"
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
	BytesIn   uint64    `json:"bytes_in"` // from the client
	BytesOut  uint64    `json:"bytes_out"`
	Idle      int64     `json:"idle_seconds"`    // since the last packet in either direction
	Limit     string    `json:"limit,omitempty"` // the limit that will end the session if nothing happens
	Ends      time.Time `json:"ends,omitzero"`   // and when
}

// list prints the connected clients with the names that the zone has for them, and
// the configured links. If the zone cannot be read it prints the clients without
// names and returns an error that wraps hook.ErrSome.
func (h *host) list(ctx context.Context, format string) error {
	links, linksErr := h.linkRows()
	if len(links) > 0 && format != "html" && !h.isSetUp() { // this host is for links alone
		if format == "json" {
			return encode(h.env.Stdout, links)
		}
		return writeLinks(h.env.Stdout, links, h.env.Now())
	}
	charonCtx, cancel := context.WithTimeout(ctx, charonTimeout)
	defer cancel()
	leases, pools, err := h.askCharon(charonCtx)
	if err != nil {
		return err
	}
	listed, err := h.listSessions(charonCtx)
	if err != nil {
		return err
	}
	rows, zoneErr := h.listRows(ctx, leases, pools, listed)
	now := h.env.Now()
	switch format {
	case "json":
		all := make([]any, 0, len(rows)+len(links))
		for _, r := range rows {
			all = append(all, r)
		}
		for _, l := range links {
			all = append(all, l)
		}
		err = encode(h.env.Stdout, all)
	case "html":
		_, err = io.WriteString(h.env.Stdout, page(rows, len(leases), h.rules.Zone, now))
	default:
		err = writeTable(h.env.Stdout, rows, now)
		if err == nil && len(links) > 0 {
			fmt.Fprintln(h.env.Stdout)
			err = writeLinks(h.env.Stdout, links, now)
		}
	}
	if err == nil && zoneErr != nil {
		err = fmt.Errorf("%w: the clients' names are not known: %w", hook.ErrSome, zoneErr)
	}
	return errors.Join(err, linksErr)
}

func encode(w io.Writer, value any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// listRows reads the zone and returns a row for each client. Beside an error of the
// zone it returns them without names.
func (h *host) listRows(ctx context.Context, leases []lease.Lease, pools lease.Pools,
	listed charon.Sessions) ([]row, error) {
	ctx, cancel := context.WithTimeout(ctx, dnsTimeout)
	defer cancel()
	var zone []lease.RR
	server, err := h.dnsServer()
	if err == nil {
		zone, err = server.Transfer(ctx, h.rules.Zone)
		err = withDNSEvent(err)
	}
	rows := h.rows(leases, pools, zone, err)
	h.addSessions(rows, listed)
	return rows, err
}

// addSessions adds to the rows what is known of the clients' sessions: of those that
// sync follows, since the login, otherwise since the last rekeying.
func (h *host) addSessions(rows []row, listed charon.Sessions) {
	now := h.env.Now()
	memory, _ := loadSessions(h.RunDir, now) // sync reports an error
	of := map[string]session.Session{}
	holder := func(identity, addr string) string { return lease.IdentityKey(identity) + " " + addr }
	for _, s := range session.Follow(memory.Sessions, listed.Live, now) {
		for _, addr := range s.Addresses {
			of[holder(s.Identity, addr.String())] = s
		}
	}
	for i := range rows {
		r := &rows[i]
		s, ok := of[holder(r.Identity, r.Addresses[0])]
		if !ok { // it came in between
			continue
		}
		r.Since = s.Since.UTC().Truncate(time.Second)
		r.BytesIn, r.BytesOut, r.Idle = s.In, s.Out, int64(s.Idle(now)/time.Second)
		if limit, at, ok := h.policy.Next(s); ok {
			r.Limit, r.Ends = string(limit), at.UTC().Truncate(time.Second)
		}
	}
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
	return span(now.Sub(r.Since)).coarse()
}

// ends says which limit will end the session, and when.
func (r row) ends(now time.Time) string {
	if r.Limit == "" {
		return "-"
	}
	return fmt.Sprintf("%s in %s", r.Limit, span(r.Ends.Sub(now)).coarse())
}

func (r row) idle() string { return span(time.Duration(r.Idle) * time.Second).coarse() }

// coarse writes a length of time for a person.
func (s span) coarse() string {
	d := max(time.Duration(s), 0)
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
	limited := slices.ContainsFunc(rows, func(r row) bool { return r.Limit != "" })
	fmt.Fprint(t, "NAME\tADDRESS\tSINCE\tIDLE\tIN\tOUT\tFROM\tIDENTITY")
	if limited {
		fmt.Fprint(t, "\tENDS")
	}
	if slices.ContainsFunc(rows, func(r row) bool { return r.Refused != "" }) {
		fmt.Fprint(t, "\tWHY NO NAME")
	}
	fmt.Fprintln(t)
	for _, r := range rows {
		identity := fmt.Sprintf("%q", r.Identity)
		if plain := strings.Trim(identity, `"`); plain == r.Identity && !strings.Contains(plain, " ") {
			identity = plain
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s", r.name(), strings.Join(r.Addresses, ","), r.ago(now), r.idle(),
			size(r.BytesIn), size(r.BytesOut), r.From, identity)
		if limited {
			fmt.Fprintf(t, "\t%s", r.ends(now))
		}
		if r.Refused != "" {
			fmt.Fprintf(t, "\t%s", r.Refused)
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

// size writes a number of bytes for a person.
func size(bytes uint64) string {
	if bytes < 1000 {
		return fmt.Sprintf("%d B", bytes)
	}
	value, unit := float64(bytes)/1000, 0
	for value >= 999.95 && unit < len(sizeUnits)-1 {
		value, unit = value/1000, unit+1
	}
	return fmt.Sprintf("%.1f %s", value, sizeUnits[unit])
}

var sizeUnits = []string{"kB", "MB", "GB", "TB"}
