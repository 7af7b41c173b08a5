// Package rundir keeps the files by which the hook and sync, two runs of updown,
// work together: the run directory /run/tunnelcast (Dir), which is empty after a
// boot, and the memory /var/lib/tunnelcast (Memory), which is not. Both belong to
// root. Losing the run directory at any time loses no name and leaves no dead one.
//
// The files of the run directory:
//
//	poke/            requests: what hooks ask sync to look at
//	hooks.lock       held shared by each hook at work, exclusively by sync
//	sync.lock        held by the one sync that runs
//	pools            charon's pools as the last sync learned them; empty: it has none
//	leases           which client held which address at that time
//	ttl              the TTL that the last sync has given to all names
//	said-*           modified when a message that is logged once a day was logged
//	unnamed          the clients without a name that were logged, and why
//
// The name poke is an interface: tunnelcast-sync.path watches it and
// tunnelcast-sync.service tests it.
//
// # Requests
//
// tunnelcast-sync.path watches the directory poke with DirectoryNotEmpty= and
// starts tunnelcast-sync.service. systemd checks the state of the directory, not
// changes to it, and checks it again whenever the service has ended. A request
// that is made while sync runs is therefore not lost, and neither is one that was
// made before the path unit started.
//
// A hook called for `down` makes the request "down". A hook called for `up` makes
// one request per address, a registration named LABEL@ADDRESS, before it looks at
// the zone, and holds hooks.lock shared until the DNS server has answered. Hooks
// clear no requests.
//
// sync copies all registrations to the memory and then clears the requests, both
// before it reads the zone. It holds hooks.lock exclusively while it clears them.
// Hence, for every hook whose request was cleared, both effects are visible: its
// address is in the zone that sync reads next, and its IKE_SA is in the lists that
// charon returns next, because charon delays that reply while an IKE_SA is busy,
// for example with a hook. Requests that exist when sync locks hooks.lock again,
// to send its update, come from hooks that were called in between; sync leaves
// their names alone and runs again for them. A hook that is called while sync
// sends waits for sync, but not longer than its own timeout.
//
// sync clears the requests first, even if it fails afterwards, for example because
// the key is missing: systemd would restart it without pause for a request that
// remains. What is left to do is done by the next run of the timer.
package rundir

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"tunnelcast/internal/file"
	"tunnelcast/internal/lease"
)

// Dir is the path of a run directory. It is made when it is first needed.
type Dir string

func (d Dir) path(name string) string { return filepath.Join(string(d), name) }

func (d Dir) create() error { return os.MkdirAll(d.path(requestDir), 0o755) }

// InUse reports whether a hook has been called since the last boot.
func (d Dir) InUse() bool {
	if _, err := os.Lstat(d.path(hooksLock)); err == nil {
		return true
	}
	requests, err := d.Requests()
	return len(requests) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist)
}

// Remember saves what charon returned for the hooks, which cannot ask charon
// themselves. If known is false, the pools of the last time are kept.
func (d Dir) Remember(pools lease.Pools, known bool, leases []lease.Lease) error {
	var holders []byte
	for _, l := range leases {
		for _, addr := range l.Addresses {
			holders = append(addr.AppendTo(holders), ' ')
			holders = append(strconv.AppendQuote(holders, l.Identity), '\n')
		}
	}
	if err := d.replace("leases", holders, 0o600); err != nil {
		return fmt.Errorf("remember leases: %w", err)
	}
	if !known {
		return nil
	}
	var text strings.Builder
	for _, pool := range pools.Strings() {
		text.WriteString(pool + "\n")
	}
	if err := d.replace("pools", []byte(text.String()), 0o644); err != nil {
		return fmt.Errorf("remember pools: %w", err)
	}
	return nil
}

// Pools returns the pools that the last sync saved. known is false if no sync has
// run since the last boot.
func (d Dir) Pools() (pools lease.Pools, known bool, err error) {
	text, err := os.ReadFile(d.path("pools"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err == nil {
		pools, err = lease.ParsePools(strings.Fields(string(text)))
	}
	if err != nil {
		return nil, false, fmt.Errorf("read the last pools: %w", err)
	}
	return pools, true, nil
}

// Holder returns the identity that holds an address under a name according to the
// last sync and the hooks called since, or "" if they do not know.
func (d Dir) Holder(rr lease.RR) string {
	if r, ok := d.Registration(rr); ok {
		return r.Identity
	}
	content, err := os.ReadFile(d.path("leases"))
	if err != nil {
		return ""
	}
	identity, prefix := "", rr.Addr.String()+" "
	for line := range strings.Lines(string(content)) { // the last one counts
		if text, ok := strings.CutPrefix(line, prefix); ok {
			identity, _ = strconv.Unquote(strings.TrimSuffix(text, "\n"))
		}
	}
	return identity
}

// HasTTL reports whether a sync has given this TTL to all names.
func (d Dir) HasTTL(ttl time.Duration) bool {
	text, err := os.ReadFile(d.path("ttl"))
	return err == nil && string(text) == ttl.String()
}

// SetTTL records that all names have this TTL.
func (d Dir) SetTTL(ttl time.Duration) error {
	if err := d.replace("ttl", []byte(ttl.String()), 0o644); err != nil {
		return fmt.Errorf("remember the TTL: %w", err)
	}
	return nil
}

// Daily reports whether to log a message that is logged once a day and after each
// boot, and records that it is logged now.
func (d Dir) Daily(message string, now time.Time) bool {
	const day = 24 * time.Hour
	path := d.path("said-" + message)
	info, err := os.Stat(path)
	if err == nil && now.Sub(info.ModTime()) < day && now.After(info.ModTime().Add(-time.Hour)) {
		return false
	}
	_ = os.WriteFile(path, nil, 0o644) // if that fails, the message is logged again
	_ = os.Chtimes(path, now, now)
	return true
}

// Unnamed returns the lines that SetUnnamed saved, each with its newline.
func (d Dir) Unnamed() []string {
	text, _ := os.ReadFile(d.path("unnamed")) // without it everything is logged again
	return strings.SplitAfter(string(text), "\n")
}

// SetUnnamed saves one line for each client without a name that was logged.
func (d Dir) SetUnnamed(lines []string) error {
	return d.replace("unnamed", []byte(strings.Join(lines, "")), 0o600)
}

// replace atomically replaces a file unless it has that content already.
func (d Dir) replace(name string, content []byte, mode fs.FileMode) error {
	if have, err := os.ReadFile(d.path(name)); err == nil && bytes.Equal(have, content) {
		return nil
	}
	return file.Replace(d.path(name), content, mode, file.InMemory)
}
