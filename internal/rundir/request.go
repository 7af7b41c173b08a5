package rundir

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"tunnelcast/internal/lease"
)

// requestDir is the directory of the requests. tunnelcast-sync.path watches it
// under this name.
const requestDir = "poke"

// down is the request of a hook that was called for a client that left.
const down = "down"

// RequestSync records that a client left.
func (d Dir) RequestSync() error { return d.request(down, "") }

// SomeoneLeft reports whether one of the requests is for a client that left.
func SomeoneLeft(requests []string) bool { return slices.Contains(requests, down) }

// request makes or overwrites a request.
func (d Dir) request(name, content string) error {
	file := filepath.Join(d.path(requestDir), name)
	err := os.WriteFile(file, []byte(content), 0o644)
	if errors.Is(err, fs.ErrNotExist) { // only before the first request since the boot
		if err = d.create(); err == nil {
			err = os.WriteFile(file, []byte(content), 0o644)
		}
	}
	if err != nil {
		return fmt.Errorf("request a sync: %w", err)
	}
	return nil
}

// Requests returns the names of all requests.
func (d Dir) Requests() ([]string, error) {
	entries, err := os.ReadDir(d.path(requestDir))
	if err != nil {
		return nil, fmt.Errorf("read the requests for sync: %w", err)
	}
	return fileNames(entries), nil
}

// Clear removes requests. The caller has called LockOutHooks.
func (d Dir) Clear(requests []string) error {
	for _, name := range requests {
		if err := os.Remove(filepath.Join(d.path(requestDir), name)); err != nil {
			return fmt.Errorf("clear a request for sync: %w", err)
		}
	}
	return nil
}

// Registration is the content of a request that a hook made for `up`.
type Registration struct {
	Identity string
	SA       string    // see lease.Call
	TimedOut time.Time // when the hook's timeout ended without a reply of the DNS server; zero: it did not
}

// text returns one line with the three fields. encoding/json would take longer
// than the DNS server does.
func (r Registration) text() string {
	var timedOut int64
	if !r.TimedOut.IsZero() {
		timedOut = r.TimedOut.UnixMicro()
	}
	return strconv.Quote(r.Identity) + " " + strconv.Quote(r.SA) + " " + strconv.FormatInt(timedOut, 10) + "\n"
}

func parseRegistration(text string) (r Registration, ok bool) {
	var timedOut int64
	if _, err := fmt.Sscanf(text, "%q %q %d\n", &r.Identity, &r.SA, &timedOut); err != nil {
		return Registration{}, false
	}
	if timedOut != 0 {
		r.TimedOut = time.UnixMicro(timedOut)
	}
	return r, true
}

// Register makes a registration for each address under its name.
func (d Dir) Register(r Registration, rrs []lease.RR) error {
	for _, rr := range rrs {
		if err := d.request(fileName(rr), r.text()); err != nil {
			return err
		}
	}
	return nil
}

// Registration returns the registration of an address under a name, if there is
// one. A registration that was cut off because its hook was killed counts as none.
func (d Dir) Registration(rr lease.RR) (r Registration, ok bool) {
	text, err := os.ReadFile(filepath.Join(d.path(requestDir), fileName(rr)))
	if err != nil {
		return r, false
	}
	return parseRegistration(string(text))
}

// Registered returns all registered addresses, under names of the zone.
func (d Dir) Registered(zone string) (map[lease.RR]bool, error) {
	requests, err := d.Requests()
	if err != nil {
		return nil, err
	}
	return Addresses(requests, zone), nil
}

// fileName returns the name of the file for an address under a name: LABEL@ADDRESS.
func fileName(rr lease.RR) string {
	label, _, _ := strings.Cut(rr.Owner, ".")
	return label + "@" + rr.Addr.String()
}

// Addresses returns the addresses that files named LABEL@ADDRESS stand for, under
// names of the zone. It ignores other files.
func Addresses(files []string, zone string) map[lease.RR]bool {
	rrs := map[lease.RR]bool{}
	for _, name := range files {
		label, text, ok := strings.Cut(name, "@")
		addr, err := netip.ParseAddr(text)
		if ok && err == nil {
			rrs[lease.Address(label+"."+zone, addr)] = true
		}
	}
	return rrs
}

func fileNames(entries []fs.DirEntry) []string {
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names
}
