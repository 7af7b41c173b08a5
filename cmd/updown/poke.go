package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/renameio/v2"

	"tunnelcast/internal/lease"
)

// runDir is /run/tunnelcast, where the hook and sync meet. It is root's, and
// nothing in it outlives a boot or is missed when it is gone.
//
//	poke/            what hooks ask sync to look at
//	hooks.lock       shared by hooks at work, exclusive to sync
//	sync.lock        held by the one sync that runs
//	pools            charon's pools as the last sync learned them
//	leases           who held which address then
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
// sync removes all pokes before it reads the zone, with hooks.lock held
// exclusively for that moment. So of every hook whose poke is removed both ends
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
	busy := map[lease.RR]bool{}
	for _, name := range names {
		label, text, ok := strings.Cut(name, "@")
		addr, err := netip.ParseAddr(text)
		if ok && err == nil {
			busy[lease.Address(label+"."+zone, addr)] = true
		}
	}
	return busy, nil
}

func (d runDir) pokes() ([]string, error) {
	entries, err := os.ReadDir(d.poke())
	if err != nil {
		return nil, fmt.Errorf("read pokes: %w", err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

// take removes all pokes. The caller holds hooks.lock exclusively.
func (d runDir) take() error {
	names, err := d.pokes()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := os.Remove(filepath.Join(d.poke(), name)); err != nil {
			return fmt.Errorf("take poke: %w", err)
		}
	}
	return nil
}

// lock locks a file of the directory, with syscall.LOCK_SH or LOCK_EX, and
// returns what unlocks it. It waits as long as ctx lasts.
func (d runDir) lock(ctx context.Context, name string, how int) (unlock func(), err error) {
	if err := d.make(); err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	f, err := os.OpenFile(filepath.Join(string(d), name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	// Nobody is in the way in the ordinary case, and then it takes no thread.
	if err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB); err == nil {
		return func() { f.Close() }, nil
	}
	done := make(chan error, 1)
	go func() {
		for {
			err := syscall.Flock(int(f.Fd()), how)
			if errors.Is(err, syscall.EINTR) {
				continue
			}
			done <- err
			return
		}
	}()
	select {
	case err := <-done:
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		return func() { f.Close() }, nil
	case <-ctx.Done():
		// The kernel is still asked; whatever it answers is given back.
		go func() { <-done; f.Close() }()
		return nil, fmt.Errorf("lock %s: somebody else has it: %w", f.Name(), context.Cause(ctx))
	}
}

// remember keeps what charon said for the hooks, which may not ask it.
func (d runDir) remember(pools lease.Pools, leases []lease.Lease) error {
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
	// No pools is what charon says until its configuration is loaded.
	if len(pools) == 0 {
		return nil
	}
	text := strings.Join(pools.Strings(), "\n") + "\n"
	if err := d.replace("pools", []byte(text), 0o644); err != nil {
		return fmt.Errorf("remember pools: %w", err)
	}
	return nil
}

// replace publishes a file. renameio would try first whether /tmp is on the same
// file system.
func (d runDir) replace(name string, content []byte, mode fs.FileMode) error {
	return renameio.WriteFile(filepath.Join(string(d), name), content, mode, renameio.WithTempDir(string(d)))
}

// pools returns the pools that the last sync learned; none if there was no sync
// since boot.
func (d runDir) pools() (lease.Pools, error) {
	text, err := os.ReadFile(filepath.Join(string(d), "pools"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the last pools: %w", err)
	}
	pools, err := lease.ParsePools(strings.Fields(string(text)))
	if err != nil {
		return nil, fmt.Errorf("read the last pools: %w", err)
	}
	return pools, nil
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
