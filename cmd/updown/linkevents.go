package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tunnelcast/internal/links"
	"tunnelcast/internal/program"
	"tunnelcast/internal/rundir"
)

// linkQueue is where links leaves the calls of the program of on-event. It is not sync's queue, because each queue
// has one writer. tunnelcast-events.path watches both.
func linkQueue(runDir string) program.Queue {
	return program.Queue(filepath.Join(runDir, "linkevents"))
}

// rememberLinks saves since when links have their addresses, and has the program of on-event called for each
// configured link whose addresses are not those that it was told last. An event that cannot be put into the queue
// is tried again in the next run; a run that is killed in between may tell one twice.
func (h *host) rememberLinks(sections links.Sections, dir rundir.Links, now links.Host) error {
	before, seen := dir.Seen(), map[string]rundir.Seen{}
	var faults []error
	for _, name := range sections.Names() {
		link, err := sections.Link(now, name)
		if err != nil || link == nil {
			continue
		}
		s := before[link.Name]
		addrs := linkAddrs(*link)
		if !slices.Equal(s.Addresses, addrs) {
			s.Addresses, s.Since = addrs, h.env.Now().UTC().Truncate(time.Second)
		}
		if link.Up && len(addrs) > 0 && !slices.Equal(s.Told, addrs) {
			if err := h.tellAddress(sections[name], link.Name, s); err != nil {
				faults = append(faults, err)
			} else {
				s.Told = addrs
			}
		}
		seen[link.Name] = s
	}
	// A link that is gone for a while may come back with the addresses that were told.
	for name, s := range before {
		if _, there := seen[name]; !there {
			s.Addresses = nil
			seen[name] = s
		}
	}
	return errors.Join(errors.Join(faults...), dir.SetSeen(seen))
}

// tellAddress puts a call of the program into the queue, if there is one.
func (h *host) tellAddress(section links.Section, link string, now rundir.Seen) error {
	if len(h.OnEvent) == 0 {
		return nil
	}
	fail := func(err error) error { return fmt.Errorf("on-event for the address of %s: %w", link, err) }
	if err := program.Check(h.OnEvent); err != nil {
		return fail(err)
	}
	queue := linkQueue(h.RunDir)
	if err := queue.Room(); err != nil {
		return fail(err)
	}
	last, err := queue.Last()
	if err != nil {
		return fail(err)
	}
	number := max(last+1, uint64(h.env.Now().UnixNano()))
	call := program.Call{Command: h.OnEvent, Timeout: h.EventTimeout, Vars: []string{
		"TUNNELCAST_EVENT=address",
		"TUNNELCAST_IDENTITY=",
		"TUNNELCAST_NAME=" + strings.TrimSuffix(section.Name, "."),
		"TUNNELCAST_ADDRESS=" + joinAddrs(now.Addresses, " "),
		"TUNNELCAST_FROM=" + joinAddrs(now.Told, " "),
		"TUNNELCAST_SINCE=" + now.Since.Format(time.RFC3339),
		"TUNNELCAST_BYTES_IN=",
		"TUNNELCAST_BYTES_OUT=",
		"TUNNELCAST_REASON=",
		"TUNNELCAST_LINK=" + link,
	}}
	if err := queue.Put(number, call); err != nil {
		return fail(err)
	}
	return nil
}
