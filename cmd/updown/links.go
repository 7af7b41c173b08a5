package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"tunnelcast/internal/ddns"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/iproute"
	"tunnelcast/internal/lease"
	"tunnelcast/internal/links"
	"tunnelcast/internal/rundir"
	"tunnelcast/internal/units"
)

// linksTimer looks at the links each minute. It has no [Install] section: `updown links` starts it in each boot in
// which a link is configured.
const linksTimer = "tunnelcast-links.timer"

type linksFlags struct {
	DryRun bool `help:"Print the ip commands that would do the same, and change nothing."`
	Clear  bool `help:"Remove all routes and rules that this program made, whatever is configured."`
}

func (h *host) linkDir() rundir.Links { return rundir.Links(filepath.Join(h.RunDir, "links")) }

// pppdLink returns the interface for which pppd's ip-up, ip-down, ipv6-up or ipv6-down calls us, or an empty
// string. A variable alone does not make a call by pppd, because a person may have set one of that name.
func pppdLink(env hook.Env) string {
	link := cmp.Or(env.Getenv("PPP_IFACE"), env.Getenv("IFNAME"))
	if len(env.Args) > 0 && env.Args[0] != link {
		return ""
	}
	return link
}

// runLinkHook is a call by pppd. It only asks for a run of `updown links`: while it runs, pppd misses a redial.
func runLinkHook(env hook.Env, link string) error {
	var c hookCLI
	// run-parts passes on pppd's arguments, none of which is ours.
	ppp := env
	ppp.Args = nil
	if err := hook.ParseCall(ppp, &c, description); err != nil {
		return err
	}
	h, err := newHost(c.settings, env)
	if err != nil {
		return err
	}
	ipparam := env.Getenv("PPP_IPPARAM")
	_, byName := h.LinkSections.sections[link]
	_, byParam := h.LinkSections.sections[ipparam]
	if !byName && !byParam {
		return nil
	}
	if strings.ContainsAny(link, "/\n") || strings.Contains(ipparam, "\n") {
		return hook.With(hook.Usagef("pppd called for the interface %q with the ipparam %q: "+
			"neither can have a line break or a slash", link, ipparam), linkFailed)
	}
	index := 0
	if i, err := net.InterfaceByName(link); err == nil { // after ip-down it may be gone
		index = i.Index
	}
	return hook.With(h.linkDir().Request(link, index, ipparam, env.Getenv("PPPD_PID")), linkFailed)
}

// links makes the kernel's routes and rules, and the names that follow links, as the settings want them.
func (h *host) links(ctx context.Context, flags linksFlags) error {
	sections, err := h.linkSections()
	if err != nil {
		return hook.With(err, linkFailed)
	}
	dir := h.linkDir()
	if flags.Clear {
		sections = nil
	} else if len(sections) == 0 && !dir.Exists() {
		return nil
	}
	waitCtx, cancel := context.WithTimeout(ctx, charonTimeout)
	defer cancel()
	if !flags.DryRun {
		unlock, err := dir.Lock(waitCtx)
		if err != nil {
			return hook.With(err, linkFailed)
		}
		defer unlock()
	}
	now, problems, err := h.route(ctx, sections, flags.DryRun)
	if err != nil {
		return hook.With(err, linkFailed)
	}
	more := h.publish(ctx, sections, now, flags.DryRun)
	problems = append(problems, more...)
	if flags.DryRun {
		return h.reportLinks(problems, true)
	}
	var fault error
	if len(sections) == 0 {
		fault = dir.Remove()
	} else {
		fault = h.rememberLinks(sections, dir, now)
	}
	if h.env.IsUnit() {
		fault = errors.Join(fault, h.setLinksTimer(ctx, len(sections) > 0))
	}
	return errors.Join(h.reportLinks(problems, false), hook.With(fault, linkFailed))
}

// setLinksTimer has systemd start or stop the timer, so that nothing runs where no link is configured.
func (h *host) setLinksTimer(ctx context.Context, wanted bool) error {
	state, err := h.askUnit(ctx, linksTimer)
	if err != nil || state.Active == "active" == wanted {
		return err
	}
	if wanted {
		return units.Start(ctx, linksTimer)
	}
	return units.Stop(ctx, linksTimer)
}

// hostLinks returns what the kernel has, with pppd's ipparams.
func (h *host) hostLinks() (links.Host, error) {
	now, err := iproute.Read()
	for i := range now.Links {
		now.Links[i].Param = h.linkDir().Param(now.Links[i].Name, now.Links[i].Index)
	}
	return now, err
}

// route makes the kernel's routes and rules as wanted and returns what the kernel has then. Links change while it
// works, so it looks again until nothing is left to do.
func (h *host) route(ctx context.Context, sections links.Sections, dryRun bool) (links.Host, []links.Problem, error) {
	for n := 0; ; n++ {
		now, err := h.hostLinks()
		if err != nil {
			return now, nil, err
		}
		plan, err := sections.Plan(now)
		if err != nil {
			return now, nil, hook.Usagef("%w", err)
		}
		if dryRun {
			for _, step := range plan.Steps {
				fmt.Fprintf(h.env.Stdout, "%s # %s\n", step.Command(), step.Reason)
			}
			return now, plan.Problems, nil
		}
		if len(plan.Steps) == 0 {
			return now, plan.Problems, nil
		}
		var faults []links.Problem
		for _, step := range plan.Steps {
			if err := iproute.Apply(ctx, step); err != nil {
				faults = append(faults, links.Problem{Section: step.Dev, Text: err.Error()})
				continue
			}
			h.logStep(step)
		}
		if n == maxRounds-1 {
			if len(faults) == 0 {
				faults = append(faults, links.Problem{Text: "the links changed again and again; the next run goes on"})
			}
			return now, append(plan.Problems, faults...), nil
		}
		if ctx.Err() != nil {
			return now, plan.Problems, context.Cause(ctx)
		}
	}
}

func (h *host) logStep(step links.Step) {
	what := "route"
	if step.Rule != nil {
		what = "rule"
	}
	if step.Op == links.Remove {
		h.env.Log.Info(what+" removed", linkUnrouted, "command", step.Command(), "reason", step.Reason)
		return
	}
	h.env.Log.Info(what+" added", linkRouted, "command", step.Command(), "reason", step.Reason)
}

// publish sets the names that follow links to the links' addresses. A failure of one name does not affect the others.
func (h *host) publish(ctx context.Context, sections links.Sections, now links.Host, dryRun bool) []links.Problem {
	records, problems := sections.Records(now)
	for _, of := range records {
		if err := h.publishName(ctx, of, dryRun); err != nil {
			problems = append(problems, links.Problem{Section: sections.Of(of[0].Name), Text: err.Error()})
		}
	}
	return problems
}

// publishName changes one name if the server has other addresses for it.
func (h *host) publishName(ctx context.Context, records []links.Record, dryRun bool) error {
	target := records[0].Target
	ctx, cancel := context.WithTimeout(ctx, dnsTimeout)
	defer cancel()
	server, err := h.linkServer(target)
	if err != nil {
		return err
	}
	change, err := nameChange(ctx, server, records)
	if err != nil || len(change.Add)+len(change.Remove) == 0 {
		return err
	}
	if dryRun {
		fmt.Fprint(h.env.Stdout, ddns.Text(change, target.TTL))
		return nil
	}
	if err := server.Update(ctx, change, target.TTL); err != nil {
		return err
	}
	name := strings.TrimSuffix(records[0].Name, ".")
	for _, rr := range change.Add {
		h.env.Log.Info(
			"link's address added to its name",
			linkNamed,
			"name",
			name,
			"address",
			rr.Addr,
			"server",
			target.Server,
		)
	}
	for _, rr := range change.Remove {
		h.env.Log.Info(
			"address removed from a link's name",
			linkNamed,
			"name",
			name,
			"address",
			rr.Addr,
			"server",
			target.Server,
		)
	}
	return nil
}

// nameChange compares what the DNS server has for one name with the records that it should have.
func nameChange(ctx context.Context, server *ddns.Server, records []links.Record) (lease.Change, error) {
	name, zone := records[0].Name, records[0].Target.Zone
	owner, err := server.Lookup(ctx, name)
	if err != nil {
		return lease.Change{}, err
	}
	owner.Apex = name == zone
	change := lease.Change{Zone: zone, Seen: []lease.Owner{owner}}
	for _, rr := range owner.Holds {
		if rr.Type != "A" && rr.Type != "AAAA" && !(owner.Apex && (rr.Type == "NS" || rr.Type == "SOA")) {
			return lease.Change{}, fmt.Errorf(
				"%s has a %s record, beside which it can have no address: remove that, or choose another name",
				strings.TrimSuffix(name, "."),
				rr.Type,
			)
		}
	}
	change.Add, change.Remove = difference(records, owner.Holds)
	if len(owner.Holds) == 0 || len(change.Add)+len(change.Remove) == 0 {
		return change, nil
	}
	// What was seen may be the zone's wildcard, so that the name has no records of its own.
	own, err := server.Confirm(ctx, zone, owner)
	if err == nil && !own {
		change.Seen[0] = lease.Owner{Name: name, Apex: owner.Apex}
		change.Add, change.Remove = difference(records, nil)
	}
	return change, err
}

// difference returns what is missing at a name and what it has too much, in the families of the records.
func difference(records []links.Record, holds []lease.RR) (add, remove []lease.RR) {
	for _, record := range records {
		for _, addr := range record.Addrs {
			if rr := lease.Address(record.Name, addr); !slices.Contains(holds, rr) {
				add = append(add, rr)
			}
		}
		for _, rr := range holds {
			if rr.Addr.IsValid() && rr.Addr.Is6() == record.IPv6 && !slices.Contains(record.Addrs, rr.Addr) {
				remove = append(remove, rr)
			}
		}
	}
	return add, remove
}

// linkServer returns the DNS server for a link's name, with its key.
func (h *host) linkServer(target links.Target) (*ddns.Server, error) {
	other := *h
	other.Server, other.Key = target.Server, target.Key
	return other.dnsServer()
}

// reportLinks logs what could not be done, or prints it, and returns an error if there is anything to repair. What
// only waits for a link is printed by list and check.
func (h *host) reportLinks(problems []links.Problem, dryRun bool) error {
	var texts []string
	for _, p := range problems {
		if dryRun {
			fmt.Fprintf(h.env.Stdout, "# %s\n", p)
		}
		if !p.Waiting {
			texts = append(texts, p.String())
		}
	}
	if len(texts) == 0 {
		return nil
	}
	return hook.With(fmt.Errorf("%w: %s", hook.ErrSome, strings.Join(texts, "; ")), linkFailed)
}

// linkAddrs returns the addresses of a link that last: neither link-local nor temporary ones.
func linkAddrs(link links.Link) []netip.Addr {
	var addrs []netip.Addr
	for _, a := range link.Addresses {
		if a.IsGlobalUnicast() && !a.Tentative && !a.Temporary {
			addrs = append(addrs, a.Addr)
		}
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	return slices.Compact(addrs)
}
