package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"tunnelcast/internal/file"
	"tunnelcast/internal/lease"
)

// runDir is /run/tunnelcast, where the hook and sync meet. It is root's, and
// nothing in it outlives a boot or is missed when it is gone.
//
//	poke/            what hooks ask sync to look at
//	hooks.lock       shared by hooks at work, exclusive to sync
//	sync.lock        held by the one sync that runs
//	pools            charon's pools as the last sync learned them; empty: it has none
//	leases           who held which address then
//	ttl              of the names, where the last sync has seen to it
//	said-*           made when something was said that is said once a day
//	unnamed          the clients without a name that were said, and why
//
// # The contract with tunnelcast-sync.path
//
// The unit watches the directory /run/tunnelcast/poke with DirectoryNotEmpty=
// and starts tunnelcast-sync.service. That directive looks at the state and not
// at a change: systemd looks again whenever the service has ended, so a poke
// that comes while sync runs is not lost, and one that came before the path unit
// was started is not either.
//
// A hook on `down` makes the file "down". A hook on `up` makes one file per
// address, "LABEL@ADDRESS", a claim, before it looks at the zone, and keeps
// hooks.lock shared until the DNS server has answered. Hooks remove nothing.
//
// sync remembers all claims (see stateDir), and removes the pokes before it reads
// the zone, with hooks.lock held exclusively for that moment. So of every hook whose poke is removed both ends
// are visible: its address stands in the zone that is read afterwards, and its
// IKE_SA in the lists that charon is asked for afterwards, because charon makes
// that call wait for IKE_SAs that are busy, as with a hook. What is in the
// directory when sync takes the lock again to send its update are hooks that
// came in between; sync leaves their names alone and runs again for them. A hook
// that comes while sync sends waits for it, for no longer than its timeout.
//
// sync takes the pokes before all else, a key that is missing included, and they
// are gone also if it then fails: a poke that stays has it run without pause.
// The timer's next run sees what is left to do.
type runDir string

func (d runDir) poke() string { return filepath.Join(string(d), "poke") }

func (d runDir) make() error { return os.MkdirAll(d.poke(), 0o755) }

// down asks sync to look.
func (d runDir) down() error { return d.write("down", "") }

// write makes or overwrites a poke. The directory is nearly always there.
func (d runDir) write(name, content string) error {
	file := filepath.Join(d.poke(), name)
	err := os.WriteFile(file, []byte(content), 0o644)
	if errors.Is(err, fs.ErrNotExist) {
		if err = d.make(); err == nil {
			err = os.WriteFile(file, []byte(content), 0o644)
		}
	}
	if err != nil {
		return fmt.Errorf("poke sync: %w", err)
	}
	return nil
}

// claim is what a hook on `up` says of itself in its pokes.
type claim struct {
	Identity string
	SA       string
	GaveUp   time.Time // when the DNS server had not answered in time, or zero
}

// text is a line of three: encoding/json takes longer than the DNS server.
func (c claim) text() string {
	var gaveUp int64
	if !c.GaveUp.IsZero() {
		gaveUp = c.GaveUp.UnixMicro()
	}
	return strconv.Quote(c.Identity) + " " + strconv.Quote(c.SA) + " " + strconv.FormatInt(gaveUp, 10) + "\n"
}

func readClaim(text string) (c claim, ok bool) {
	var gaveUp int64
	if _, err := fmt.Sscanf(text, "%q %q %d\n", &c.Identity, &c.SA, &gaveUp); err != nil {
		return claim{}, false
	}
	if gaveUp != 0 {
		c.GaveUp = time.UnixMicro(gaveUp)
	}
	return c, true
}

func claimName(rr lease.RR) string {
	label, _, _ := strings.Cut(rr.Owner, ".")
	return label + "@" + rr.Addr.String()
}

func (d runDir) claim(c claim, rrs []lease.RR) error {
	for _, rr := range rrs {
		if err := d.write(claimName(rr), c.text()); err != nil {
			return err
		}
	}
	return nil
}

// claimed returns the claim on an address under a name, if there is one.
func (d runDir) claimed(rr lease.RR) (c claim, ok bool) {
	text, err := os.ReadFile(filepath.Join(d.poke(), claimName(rr)))
	if err != nil {
		return c, false
	}
	return readClaim(string(text))
}

// claims returns all addresses that are claimed, under names of the zone.
func (d runDir) claims(zone string) (map[lease.RR]bool, error) {
	names, err := d.pokes()
	if err != nil {
		return nil, err
	}
	return claimsOf(names, zone), nil
}

// claimsOf reads the names of claims and leaves out what is none.
func claimsOf(names []string, zone string) map[lease.RR]bool {
	claims := map[lease.RR]bool{}
	for _, name := range names {
		label, text, ok := strings.Cut(name, "@")
		addr, err := netip.ParseAddr(text)
		if ok && err == nil {
			claims[lease.Address(label+"."+zone, addr)] = true
		}
	}
	return claims
}

func (d runDir) pokes() ([]string, error) {
	entries, err := os.ReadDir(d.poke())
	if err != nil {
		return nil, fmt.Errorf("read pokes: %w", err)
	}
	return fileNames(entries), nil
}

func fileNames(entries []fs.DirEntry) []string {
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names
}

// take removes pokes. The caller holds hooks.lock exclusively.
func (d runDir) take(names []string) error {
	for _, name := range names {
		if err := os.Remove(filepath.Join(d.poke(), name)); err != nil {
			return fmt.Errorf("take poke: %w", err)
		}
	}
	return nil
}

// lock locks a file of the directory and returns what unlocks it. It waits as long as ctx lasts.
func (d runDir) lock(ctx context.Context, name string, how file.How) (unlock func(), err error) {
	if err := d.make(); err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	f, err := os.OpenFile(filepath.Join(string(d), name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := file.Lock(ctx, f, how); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// remember keeps what charon said for the hooks, which may not ask it. Pools that
// are not known leave those of the last time.
func (d runDir) remember(pools lease.Pools, known bool, leases []lease.Lease) error {
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

// replace replaces a file, unless it has that content.
func (d runDir) replace(name string, content []byte, mode fs.FileMode) error {
	path := filepath.Join(string(d), name)
	if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, content) {
		return nil
	}
	return file.Replace(path, content, mode, file.InMemory)
}

// pools returns the pools that the last sync learned; known is false if there was
// no sync since boot.
func (d runDir) pools() (pools lease.Pools, known bool, err error) {
	text, err := os.ReadFile(filepath.Join(string(d), "pools"))
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

// renewed reports whether a sync has given the names this TTL.
func (d runDir) renewed(ttl time.Duration) bool {
	text, err := os.ReadFile(filepath.Join(string(d), "ttl"))
	return err == nil && string(text) == ttl.String()
}

func (d runDir) setRenewed(ttl time.Duration) error {
	if err := d.replace("ttl", []byte(ttl.String()), 0o644); err != nil {
		return fmt.Errorf("remember the TTL: %w", err)
	}
	return nil
}

// aDay is the pause between two entries that daily allows.
const aDay = 24 * time.Hour

// daily reports whether it is time to log something that is logged once a day and
// after a boot.
func (d runDir) daily(what string, now time.Time) bool {
	file := filepath.Join(string(d), "said-"+what)
	if info, err := os.Stat(file); err == nil && now.Sub(info.ModTime()) < aDay && now.After(info.ModTime().Add(-time.Hour)) {
		return false
	}
	_ = os.WriteFile(file, nil, 0o644) // if that fails, it is said again
	_ = os.Chtimes(file, now, now)
	return true
}

// holder returns the identity that holds an address under a name, as far as the
// last sync and the hooks since then know; "" if they do not.
func (d runDir) holder(rr lease.RR) string {
	if c, ok := d.claimed(rr); ok {
		return c.Identity
	}
	content, err := os.ReadFile(filepath.Join(string(d), "leases"))
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
