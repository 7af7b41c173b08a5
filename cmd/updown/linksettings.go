package main

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"tunnelcast/internal/hook"
	"tunnelcast/internal/lease"
	"tunnelcast/internal/links"
)

// linkTable has the sections [link.NAME] as they are in the file. They are read only by those runs that are about
// links, so a mistake in one keeps no client from its name.
type linkTable struct{ sections map[string]any }

// UnmarshalTOML implements hook.Table.
func (t *linkTable) UnmarshalTOML(value any) error {
	var ok bool
	if t.sections, ok = value.(map[string]any); !ok {
		return fmt.Errorf("link is a table for each link: [link.ppp0] and below it lines such as table = 200")
	}
	return nil
}

var linkKeys = []string{
	"allow-private",
	"key",
	"name",
	"priority",
	"remove",
	"routes",
	"server",
	"table",
	"ttl",
	"zone",
}

// linkSections returns the settings of all links. An error is a usage error that names the link.
func (h *host) linkSections() (links.Sections, error) {
	sections := links.Sections{}
	for _, name := range slices.Sorted(maps.Keys(h.LinkSections.sections)) {
		section, err := h.linkSection(h.LinkSections.sections[name])
		if err != nil {
			return nil, hook.Usagef("link.%s: %w", name, err)
		}
		sections[name] = section
	}
	if err := sections.Check(); err != nil {
		return nil, hook.Usagef("%w", err)
	}
	return sections, nil
}

func (h *host) linkSection(value any) (links.Section, error) {
	var s links.Section
	table, ok := value.(map[string]any)
	if !ok {
		return s, fmt.Errorf("a section is wanted, such as [link.ppp0], and not one value")
	}
	r := linkReader{table: table}
	for key, value := range table {
		if _, nested := value.(map[string]any); nested {
			return s, fmt.Errorf(
				"%q is a section of its own: an interface name with a dot needs quotes, as in [link.\"eth0.100\"]",
				key,
			)
		}
		if !slices.Contains(linkKeys, key) {
			return s, fmt.Errorf("unknown key %q: the keys are %s", key, strings.Join(linkKeys, ", "))
		}
	}
	s.Table = r.number("table")
	s.Priority = r.number("priority")
	for _, text := range r.texts("routes") {
		route, err := netip.ParsePrefix(text)
		if err != nil {
			r.fail("routes: %q is not a valid network, such as 192.168.2.0/24", text)
		}
		s.Routes = append(s.Routes, route)
	}
	s.Remove = r.flag("remove")
	s.AllowPrivate = r.flag("allow-private")
	name := r.text("name")
	zone, server, key, ttl := r.text("zone"), r.text("server"), r.text("key"), r.ttl()
	if r.err != nil {
		return s, r.err
	}
	if name == "" {
		for _, key := range []string{"zone", "server", "key", "ttl", "remove", "allow-private"} {
			if _, set := table[key]; set {
				return s, fmt.Errorf("%s without name: it says how the link's name is published", key)
			}
		}
		return s, nil
	}
	s.Name = lease.FQDN(strings.ToLower(name))
	if err := lease.CheckZone(name); err != nil {
		return s, fmt.Errorf("name: %w", err)
	}
	zone = cmp.Or(zone, h.Zone)
	if err := lease.CheckZone(zone); err != nil {
		return s, err
	}
	address, err := withPort(cmp.Or(server, h.Server))
	if err != nil {
		return s, fmt.Errorf("server %q: not HOST or HOST:PORT, such as 127.0.0.1:53", server)
	}
	s.Target = links.Target{
		Zone:   lease.FQDN(strings.ToLower(zone)),
		Server: address,
		Key:    cmp.Or(key, h.Key),
		TTL:    time.Duration(cmp.Or(ttl, h.TTL)),
	}
	return s, nil
}

// linkReader reads values of a section and keeps the first error.
type linkReader struct {
	table map[string]any
	err   error
}

func (r *linkReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

func (r *linkReader) number(key string) int {
	value, set := r.table[key]
	if !set {
		return 0
	}
	n, ok := value.(int64)
	if !ok {
		r.fail("%s: a number is wanted, without quotes", key)
	} else if n == 0 {
		r.fail("%s 0: must be positive", key)
	}
	return int(n)
}

func (r *linkReader) text(key string) string {
	value, set := r.table[key]
	if !set {
		return ""
	}
	text, ok := value.(string)
	if !ok || text == "" {
		r.fail("%s: a text in quotes is wanted", key)
	}
	return text
}

func (r *linkReader) texts(key string) []string {
	value, set := r.table[key]
	if !set {
		return nil
	}
	var texts []string
	list, ok := value.([]any)
	for _, item := range list {
		text, isText := item.(string)
		ok = ok && isText
		texts = append(texts, text)
	}
	if !ok || len(texts) == 0 {
		r.fail(`%s: a list is wanted, such as ["192.168.2.0/24"]`, key)
		return nil
	}
	return texts
}

func (r *linkReader) flag(key string) bool {
	value, set := r.table[key]
	if !set {
		return false
	}
	flag, ok := value.(bool)
	if !ok {
		r.fail("%s: true or false is wanted, without quotes", key)
	}
	return flag
}

func (r *linkReader) ttl() seconds {
	value, set := r.table["ttl"]
	if !set {
		return 0
	}
	var ttl seconds
	if err := ttl.UnmarshalText([]byte(fmt.Sprint(value))); err != nil {
		r.fail("ttl: %w", err)
	}
	return ttl
}
