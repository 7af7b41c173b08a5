package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"tunnelcast/internal/hook"
	"tunnelcast/internal/iproute"
	"tunnelcast/internal/lease"
	"tunnelcast/internal/links"
)

// linkRow is one configured link in the output of list.
type linkRow struct {
	Link      string       `json:"link"`
	Section   string       `json:"section,omitempty"` // if it is not the link's name
	State     string       `json:"state"`             // up, down, missing, or why it cannot be told
	Addresses []netip.Addr `json:"addresses"`
	Peers     []netip.Addr `json:"peers,omitempty"`
	Table     int          `json:"table,omitempty"`
	Name      string       `json:"name,omitempty"`
	Since     time.Time    `json:"since,omitzero"` // when a run first saw these addresses, UTC
}

// linkRows returns a row for each configured link; none if no link is configured.
func (h *host) linkRows() ([]linkRow, error) {
	sections, err := h.linkSections()
	if err != nil || len(sections) == 0 {
		return nil, err
	}
	now, err := h.hostLinks()
	if err != nil {
		return nil, err
	}
	seen := h.linkDir().Seen()
	rows := make([]linkRow, 0, len(sections))
	for _, name := range sections.Names() {
		section := sections[name]
		row := linkRow{Link: name, State: "missing", Table: section.Table, Name: strings.TrimSuffix(section.Name, ".")}
		link, err := sections.Link(now, name)
		switch {
		case err != nil:
			row.State = err.Error()
		case link != nil:
			if link.Name != name {
				row.Link, row.Section = link.Name, name
			}
			row.State = "down"
			if link.Up {
				row.State = "up"
			}
			row.Addresses = linkAddrs(*link)
			for _, a := range link.Addresses {
				if a.Peer.IsValid() && !a.Peer.IsLinkLocalUnicast() && !slices.Contains(row.Peers, a.Peer) {
					row.Peers = append(row.Peers, a.Peer)
				}
			}
			if s := seen[link.Name]; slices.Equal(s.Addresses, row.Addresses) {
				row.Since = s.Since
			}
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func writeLinks(w io.Writer, rows []linkRow, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "LINK\tSTATE\tADDRESS\tPEER\tTABLE\tNAME\tSINCE")
	for _, r := range rows {
		table := "-"
		if r.Table != 0 {
			table = strconv.Itoa(r.Table)
		}
		fmt.Fprintf(
			t,
			"%s\t%s\t%s\t%s\t%s\t%s\t%s\n",
			r.Link,
			r.State,
			cmp.Or(joinAddrs(r.Addresses, ","), "-"),
			cmp.Or(joinAddrs(r.Peers, ","), "-"),
			table,
			cmp.Or(r.Name, "-"),
			row{Since: r.Since}.ago(now),
		)
	}
	return t.Flush()
}

func joinAddrs(addrs []netip.Addr, separator string) string {
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.String()
	}
	return strings.Join(texts, separator)
}

// checkLinks prints whether the configured links are as the settings want them.
func (h *host) checkLinks(ctx context.Context, c *hook.Checks) {
	if len(h.LinkSections.sections) == 0 {
		return
	}
	sections, err := h.linkSections()
	if err != nil {
		c.Say("links", err, "")
		return
	}
	now, err := h.hostLinks()
	if err != nil {
		c.Say("links", err, "")
		return
	}
	plan, err := sections.Plan(now)
	if err != nil {
		c.Say("links", err, "")
		return
	}
	records, problems := sections.Records(now)
	for _, name := range sections.Names() {
		section := sections[name]
		link, err := sections.Link(now, name)
		switch {
		case err != nil:
			c.Say("link "+name, err, "")
			continue
		case link == nil:
			missing := errors.New("there is no such interface, and pppd has reported no such ipparam")
			c.Say("link "+name, missing, "`ip link` lists the interfaces")
			continue
		case !link.Up:
			c.Say("link "+name, errors.New("it is down"), "")
			continue
		}
		c.Say(fmt.Sprintf("link %s, address %s", link.Name, joinAddrs(linkAddrs(*link), ", ")), nil, "")
		if section.Table != 0 {
			what := fmt.Sprintf("table %d of link %s", section.Table, link.Name)
			c.Say(what, now.TableUsed(section.Table, link.Index), "choose another table")
		}
		h.checkKernel(c, section, *link)
	}
	for _, p := range append(plan.Problems, problems...) {
		if link, err := sections.Link(now, p.Section); p.Waiting && (err != nil || link == nil || !link.Up) {
			continue // printed above
		}
		if p.Waiting {
			c.Unknown(p.String(), "no repair is needed: it changes with the link")
			continue
		}
		c.Say("link "+p.Section, errors.New(p.Text), "")
	}
	for _, step := range plan.Steps {
		c.Say("routes and rules", fmt.Errorf("not done yet: %s", step.Command()),
			"`tunnelcast-updown links` does it, and so does its timer every minute")
	}
	for _, of := range records {
		h.checkLinkName(ctx, c, of)
	}
	h.checkLinkUnits(ctx, c)
}

// checkKernel prints whether the kernel lets packets of a link pass.
func (h *host) checkKernel(c *hook.Checks, section links.Section, link links.Link) {
	if section.Table != 0 {
		filter, err := iproute.ReversePathFilter(link.Name)
		if err == nil && filter == 1 {
			err = errors.New("it is 1, so the kernel drops packets for other hosts that come in here, " +
				"if the main table sends the answer elsewhere")
		}
		c.Say("rp_filter of "+link.Name, err, fmt.Sprintf(
			"`sysctl -w net.ipv4.conf.%s.rp_filter=2`, and the same line in /etc/sysctl.d",
			strings.ReplaceAll(link.Name, ".", "/")))
	}
	for _, ipv6 := range []bool{false, true} {
		if !slices.ContainsFunc(section.Routes, func(p netip.Prefix) bool { return p.Addr().Is6() == ipv6 }) {
			continue
		}
		key, of := "net.ipv4.ip_forward", link.Name
		if ipv6 {
			key, of = "net.ipv6.conf.all.forwarding", "all"
		}
		on, err := iproute.Forwarding(of, ipv6)
		if err == nil && !on {
			err = errors.New("it is off, so the networks behind the peer reach no other host than this one")
		}
		c.Say("forwarding on "+link.Name, err, fmt.Sprintf("`sysctl -w %s=1`, and the same line in /etc/sysctl.d", key))
	}
}

// checkLinkName prints whether the DNS server has the right addresses for a name, and whether it accepts our key.
func (h *host) checkLinkName(ctx context.Context, c *hook.Checks, records []links.Record) {
	name, target := strings.TrimSuffix(records[0].Name, "."), records[0].Target
	ctx, cancel := context.WithTimeout(ctx, dnsTimeout)
	defer cancel()
	what := fmt.Sprintf("name %s at %s", name, target.Server)
	server, err := h.linkServer(target)
	if err != nil {
		c.Say(what, err, "")
		return
	}
	change, err := nameChange(ctx, server, records)
	if err == nil && len(change.Seen) > 0 {
		_, err = server.Confirm(ctx, target.Zone, change.Seen[0]) // a signed update of nothing
	}
	if err == nil && len(change.Add)+len(change.Remove) > 0 {
		err = fmt.Errorf("it differs from the link: %s", some(changeTexts(change)))
	}
	c.Say(what, err, "run `tunnelcast-updown links`, which reports why an update fails")
}

func changeTexts(change lease.Change) []string {
	var texts []string
	for _, rr := range change.Add {
		texts = append(texts, text(rr)+" is missing")
	}
	for _, rr := range change.Remove {
		texts = append(texts, text(rr)+" is not the link's")
	}
	return texts
}

func (h *host) checkLinkUnits(ctx context.Context, c *hook.Checks) {
	h.checkUnit(ctx, c, "tunnelcast-links.path")
	state, err := h.askUnit(ctx, linksTimer)
	if err == nil && state.Active != "active" {
		err = fmt.Errorf("it is %s", state.Active)
	}
	c.Say("unit "+linksTimer, err, "`systemctl start tunnelcast-links.service` starts it where a link is configured")
}
