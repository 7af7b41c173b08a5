package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"

	"tunnelcast/internal/ddns"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/lease"
)

// printPlan prints what a run would do, for a dry run.
func (h *host) printPlan(changes []lease.Change, refused []lease.Refusal, kept []lease.RR) {
	for _, change := range changes {
		fmt.Fprint(h.env.Stdout, ddns.Text(change, h.nameTTL()))
	}
	for _, r := range refused {
		fmt.Fprintf(h.env.Stdout, "; no name for %q: %v\n", r.Lease.Identity, r.Err)
	}
	for _, rr := range kept {
		fmt.Fprintf(h.env.Stdout, "; kept, since this gateway did not add it: %s\n", text(rr))
	}
}

// text returns an address or a pointer as a zone file has it.
func text(rr lease.RR) string {
	if rr.Type == "PTR" {
		return rr.Owner + " PTR " + rr.Target
	}
	return rr.Owner + " " + rr.Type + " " + rr.Addr.String()
}

// some lists the first items and counts the rest.
func some(items []string) string {
	const few = 10
	if len(items) <= few {
		return strings.Join(items, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(items[:few], ", "), len(items)-few)
}

// logKept logs, once a day, the names inside the pools that are not this gateway's.
func (h *host) logKept(kept []lease.RR) {
	if len(kept) == 0 || !h.dir.Daily("kept", h.env.Now()) {
		return
	}
	texts := make([]string, len(kept))
	for i, rr := range kept {
		texts[i] = text(rr)
	}
	h.env.Log.Warn(fmt.Sprintf("%d names inside the pools are not this gateway's and stay: %s; "+
		"if they are left over from another program, `tunnelcast-updown sync --force` removes them",
		len(kept), some(texts)), namesKept, "count", len(kept))
}

// logRefused logs what the DNS server refused, each with its client, and returns it
// as one error that wraps hook.ErrSome.
func (h *host) logRefused(refused []ddns.Refused, live []lease.Lease) error {
	if len(refused) == 0 {
		return nil
	}
	identities := map[string]string{}
	for _, l := range live {
		if name, err := h.rules.Name(l.Identity); err == nil {
			identities[name] = l.Identity
		}
	}
	var texts []string
	var cause, race error // the first of each
	for _, r := range refused {
		name := r.RR.Owner
		if r.RR.Type == "PTR" {
			name = r.RR.Target
		}
		what := text(r.RR)
		if identity, ok := identities[name]; ok {
			what += fmt.Sprintf(" of %q", identity)
		}
		texts = append(texts, what)
		if errors.Is(r.Err, ddns.ErrPrerequisite) {
			race = cmp.Or(race, r.Err)
		} else {
			cause = cmp.Or(cause, r.Err)
			h.env.Log.Warn("name refused by the DNS server", nameRefused, "identity", identities[name], "name", name,
				"address", r.RR.Addr, "server", h.Server, "cause", r.Err)
		}
	}
	if cause != nil && race != nil {
		cause = fmt.Errorf("%w; %w", cause, race)
	}
	return withDNSEvent(fmt.Errorf("%w: %s: %w", hook.ErrSome, some(texts), cmp.Or(cause, race)))
}

// logChange logs and counts what was done.
func (h *host) logChange(done lease.Change) {
	h.env.Metrics.Add(metricAdded, h.logAddresses("name added", nameAdded, done.Add))
	h.env.Metrics.Add(metricRemoved, h.logAddresses("name removed", nameRemoved, done.Remove))
	h.logPointers("PTR added", pointerAdded, done.Add)
	h.logPointers("PTR removed", pointerRemoved, done.Remove)
	if n := len(done.Renew); n > 0 {
		h.env.Log.Info("names have the new TTL", ttlChanged, "zone", done.Zone, "count", n)
	}
}

// logAddresses logs each A and AAAA, and returns how many there are.
func (h *host) logAddresses(message string, event slog.Attr, rrs []lease.RR) (n float64) {
	for _, rr := range rrs {
		if rr.Type != "PTR" {
			h.env.Log.Info(message, event, "name", rr.Owner, "address", rr.Addr)
			n++
		}
	}
	return n
}

func (h *host) logPointers(message string, event slog.Attr, rrs []lease.RR) {
	for _, rr := range rrs {
		if rr.Type == "PTR" {
			h.env.Log.Info(message, event, "pointer", rr.Owner, "name", rr.Target)
		}
	}
}

// logUnnamed logs each connected client without a name, once for each cause, since
// the client's hook may not have known the cause. It ignores clients of connections
// that the settings leave out.
func (h *host) logUnnamed(refused []lease.Refusal) {
	before := h.dir.Unnamed()
	var now []string
	for _, r := range refused {
		line := strconv.Quote(r.Lease.Identity) + " " + strconv.Quote(r.Err.Error()) + "\n"
		if errors.Is(r.Err, lease.ErrLeftOut) || slices.Contains(now, line) {
			continue
		}
		now = append(now, line)
		if slices.Contains(before, line) {
			continue
		}
		name, err := h.rules.Name(r.Lease.Identity)
		event := noPool
		switch {
		case err != nil:
			event = identityRefused
		case errors.Is(r.Err, lease.ErrHeld):
			event = nameHeld
		}
		h.env.Log.Warn("no name for a client", event, "identity", r.Lease.Identity, "name", name, "cause", r.Err)
	}
	if strings.Join(now, "") != strings.Join(before, "") {
		if err := h.dir.SetUnnamed(now); err != nil {
			h.env.Log.Warn("clients without a name will be logged again", runFailed, "cause", err)
		}
	}
}
