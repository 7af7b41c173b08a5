package rundir

import (
	"context"
	"encoding/json"
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
)

// Links is the path of the directory /run/tunnelcast/links, by which pppd's hooks and `updown links` work
// together. It exists only if a link is configured.
//
//	request          exists while a hook asks for a run; tunnelcast-links.path watches it under this name
//	lock             held exclusively by the one run
//	params/LINK      the link's index and pppd's ipparam for it; in a second line, the number of that pppd's process
//	seen             since when each link has its addresses
//
// tunnelcast-links.service removes the request before the run looks at the kernel, so a request that is made during a
// run leads to another one. Losing the directory loses only the times and, until pppd's next call, the ipparams.
type Links string

func (d Links) path(name string) string { return filepath.Join(string(d), name) }

// Exists reports whether a run or a hook has used the directory since the last boot.
func (d Links) Exists() bool {
	_, err := os.Stat(string(d))
	return err == nil
}

// Lock locks the directory for one run. It waits until ctx ends for another run.
func (d Links) Lock(ctx context.Context) (unlock func(), err error) {
	if err := os.MkdirAll(string(d), 0o755); err != nil {
		return nil, fmt.Errorf("lock the links: %w", err)
	}
	f, err := os.OpenFile(d.path("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the links: %w", err)
	}
	if err := file.Lock(ctx, f, file.Exclusive); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// Request asks for a run, for a link that has this index now. The ipparam is saved if there is one, with the process
// number of the pppd that called; index 0 means that the link is gone.
func (d Links) Request(link string, index int, ipparam, pppd string) error {
	err := os.MkdirAll(d.path("params"), 0o755)
	if err == nil && index != 0 && ipparam != "" {
		err = file.Replace(
			d.path(filepath.Join("params", link)),
			fmt.Appendf(nil, "%d %s\n%s\n", index, ipparam, pppd),
			0o644,
			file.InMemory,
		)
	}
	if err == nil {
		err = os.WriteFile(d.path("request"), nil, 0o644)
	}
	if err != nil {
		return fmt.Errorf("request a look at the links: %w", err)
	}
	return nil
}

// Param returns the ipparam that pppd has for the link with this index, or an empty string. When pppd dials again, it
// makes a new interface of the same name, and it calls no script for that while one is still running. Therefore the
// ipparam also holds for another index, as long as the link belongs to the same pppd.
func (d Links) Param(link string, index int) string {
	text, err := os.ReadFile(d.path(filepath.Join("params", link)))
	if err != nil {
		return ""
	}
	lines := strings.Split(string(text), "\n")
	number, param, _ := strings.Cut(lines[0], " ")
	same := number == strconv.Itoa(index)
	if !same && len(lines) > 1 && lines[1] != "" {
		same = lines[1] == d.pppd(link)
	}
	if !same { // an interface of that name which had another pppd, or none
		return ""
	}
	return param
}

// pppd returns the process number that pppd has written into its file for the link, which it does when it makes the
// interface. Since version 2.5 the file is in a directory of pppd's.
func (d Links) pppd(link string) string {
	run := filepath.Dir(filepath.Dir(string(d))) // /run
	for _, dir := range []string{run, filepath.Join(run, "pppd")} {
		if text, err := os.ReadFile(filepath.Join(dir, link+".pid")); err == nil {
			return strings.TrimSpace(string(text))
		}
	}
	return ""
}

// Seen is what the last run saw of a link.
type Seen struct {
	Addresses []netip.Addr
	Since     time.Time    // when a run first saw these addresses
	Told      []netip.Addr // the addresses of which on-event was told last
}

// Seen returns what the last run saw, by the links' names. Without the file, or with a damaged one, it is empty.
func (d Links) Seen() map[string]Seen {
	seen := map[string]Seen{}
	text, err := os.ReadFile(d.path("seen"))
	if err != nil || json.Unmarshal(text, &seen) != nil {
		return map[string]Seen{}
	}
	return seen
}

// SetSeen saves what this run saw.
func (d Links) SetSeen(seen map[string]Seen) error {
	text, err := json.Marshal(seen)
	if err == nil {
		err = file.Replace(d.path("seen"), text, 0o644, file.InMemory)
	}
	if err != nil {
		return fmt.Errorf("remember the links: %w", err)
	}
	return nil
}

// Remove removes the directory, when no link is configured any more. The lock is held.
func (d Links) Remove() error {
	if err := os.RemoveAll(string(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the memory of links: %w", err)
	}
	return nil
}
