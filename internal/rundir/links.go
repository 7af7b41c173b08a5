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
//	params/LINK      the link's index and pppd's ipparam for it
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

// Request asks for a run, for a link that has this index now. The ipparam is saved if there is one; index 0 means
// that the link is gone.
func (d Links) Request(link string, index int, ipparam string) error {
	err := os.MkdirAll(d.path("params"), 0o755)
	if err == nil && index != 0 && ipparam != "" {
		err = file.Replace(
			d.path(filepath.Join("params", link)),
			[]byte(strconv.Itoa(index)+" "+ipparam+"\n"),
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

// Param returns the ipparam that pppd has for the link with this index, or an empty string.
func (d Links) Param(link string, index int) string {
	text, err := os.ReadFile(d.path(filepath.Join("params", link)))
	if err != nil {
		return ""
	}
	number, param, _ := strings.Cut(strings.TrimSuffix(string(text), "\n"), " ")
	if number != strconv.Itoa(index) { // an earlier interface of that name
		return ""
	}
	return param
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
