package rundir

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tunnelcast/internal/lease"
)

func address(label, addr string) lease.RR {
	return lease.Address(label+".example.", netip.MustParseAddr(addr))
}

func client(identity string, addrs ...string) lease.Lease {
	l := lease.Lease{Identity: identity}
	for _, a := range addrs {
		l.Addresses = append(l.Addresses, netip.MustParseAddr(a))
	}
	return l
}

func TestRegistrationsAreReadAsTheyWereWritten(t *testing.T) {
	now := time.UnixMicro(time.Now().UnixMicro())
	for _, want := range []Registration{
		{},
		{Identity: "alice", SA: "17"},
		{Identity: "DOM\\al ice\n\"x\" 7\x00\xff", SA: "1", TimedOut: now},
	} {
		if got, ok := parseRegistration(want.text()); !ok || got != want {
			t.Errorf("%+v became %+v, %v", want, got, ok)
		}
	}
	for name, text := range map[string]string{
		"empty":                     "",
		"cut in the identity":       "\"alice",
		"cut after the SA":          "\"alice\" \"17\"",
		"format of earlier version": `{"identity":"alice","sa":"17"}`,
	} {
		if got, ok := parseRegistration(text); ok {
			t.Errorf("%s: %q is read as %+v", name, text, got)
		}
	}
}

// The first request since the boot makes the directory; a request is there until it
// is cleared, and one that is made meanwhile stays.
func TestRequestsStayUntilTheyAreCleared(t *testing.T) {
	d := Dir(filepath.Join(t.TempDir(), "run"))
	if d.InUse() {
		t.Error("in use without any request")
	}
	if _, err := d.Requests(); err == nil {
		t.Error("no error without the directory")
	}
	alice := []lease.RR{address("alice", "10.0.0.1"), address("alice", "fd00::1")}
	if err := errors.Join(d.RequestSync(), d.Register(Registration{Identity: "alice", SA: "1"}, alice)); err != nil {
		t.Fatal(err)
	}
	taken, err := d.Requests()
	if want := []string{"alice@10.0.0.1", "alice@fd00::1", "down"}; err != nil || !slices.Equal(taken, want) {
		t.Fatalf("requests %q, error %v; want %q", taken, err, want)
	}
	bob := address("bob", "10.0.0.2")
	if err := errors.Join(d.Register(Registration{Identity: "bob"}, []lease.RR{bob}), d.Clear(taken)); err != nil {
		t.Fatal(err)
	}
	registered, err := d.Registered("example.")
	if want := map[lease.RR]bool{bob: true}; err != nil || !maps.Equal(registered, want) {
		t.Errorf("registered %v, error %v; want %v", registered, err, want)
	}
	if r, ok := d.Registration(bob); !ok || r.Identity != "bob" {
		t.Errorf("bob's registration is %+v, %v", r, ok)
	}
	if r, ok := d.Registration(alice[0]); ok {
		t.Errorf("alice's registration is still %+v", r)
	}
	if !d.InUse() {
		t.Error("not in use with a request")
	}
	if err := d.Clear(taken); err == nil {
		t.Error("no error for requests that are cleared already")
	}
}

func TestOtherFilesAreNoAddresses(t *testing.T) {
	files := []string{"down", "alice@", "@10.0.0.1", "alice@10.0.0.1", "bob@10.0.0.256", "carol@fd00::1"}
	want := map[lease.RR]bool{address("", "10.0.0.1"): true, address("alice", "10.0.0.1"): true,
		address("carol", "fd00::1"): true}
	if got := Addresses(files, "example."); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestHoldersAreReadAsTheyWereRemembered(t *testing.T) {
	d := Dir(t.TempDir())
	alice := client("alice", "10.0.0.1", "fd00::1")
	evil := client("DOM\\al ice\n10.0.0.3 \"x\" 7\x00\xff", "10.0.0.2")
	if err := d.Remember(nil, false, []lease.Lease{client("before", "10.0.0.1"), alice, evil}); err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]string{
		"10.0.0.1": "alice", "fd00::1": "alice", "10.0.0.2": evil.Identity, "10.0.0.3": "", "10.0.0.12": "",
	} {
		if got := d.Holder(address("x", addr)); got != want {
			t.Errorf("%s is held by %q, want %q", addr, got, want)
		}
	}
	// A hook that was called since then knows better.
	if err := d.Register(Registration{Identity: "bob"}, []lease.RR{address("x", "10.0.0.1")}); err != nil {
		t.Fatal(err)
	}
	if got := d.Holder(address("x", "10.0.0.1")); got != "bob" {
		t.Errorf("10.0.0.1 is held by %q, want bob", got)
	}
}

func TestPoolsThatAreNotKnownLeaveThoseBefore(t *testing.T) {
	d := Dir(t.TempDir())
	if pools, known, err := d.Pools(); known || err != nil || len(pools) > 0 {
		t.Errorf("before any sync: %v, %v, error %v", pools, known, err)
	}
	want, err := lease.ParsePools([]string{"10.0.0.0/24", "fd00::1-fd00::9"})
	if err != nil {
		t.Fatal(err)
	}
	for _, known := range []bool{true, false} {
		pools := want
		if !known {
			pools = nil
		}
		if err := d.Remember(pools, known, nil); err != nil {
			t.Fatal(err)
		}
		if got, ok, err := d.Pools(); !ok || err != nil || !slices.Equal(got, want) {
			t.Errorf("pools %v, %v, error %v; want %v", got, ok, err, want)
		}
	}
	if err := d.Remember(nil, true, nil); err != nil {
		t.Fatal(err)
	}
	if got, known, err := d.Pools(); !known || err != nil || len(got) > 0 {
		t.Errorf("charon has no pools: %v, %v, error %v", got, known, err)
	}
	if err := os.WriteFile(d.path("pools"), []byte("10.0.0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, known, err := d.Pools(); known || err == nil {
		t.Errorf("a damaged file: %v, error %v", known, err)
	}
}

func TestTTLAndUnnamed(t *testing.T) {
	d := Dir(t.TempDir())
	if d.HasTTL(time.Minute) {
		t.Error("a TTL before it is set")
	}
	if err := d.SetTTL(time.Minute); err != nil || !d.HasTTL(time.Minute) || d.HasTTL(time.Hour) {
		t.Errorf("not the TTL that was set; error %v", err)
	}
	lines := []string{"\"a\" \"x\"\n", "\"b\" \"y\"\n"}
	if err := d.SetUnnamed(lines); err != nil || strings.Join(d.Unnamed(), "") != strings.Join(lines, "") {
		t.Errorf("unnamed %q, error %v; want %q", d.Unnamed(), err, lines)
	}
}

func TestDaily(t *testing.T) {
	d, now := Dir(t.TempDir()), time.Now()
	for _, test := range []struct {
		after time.Duration
		want  bool
	}{{0, true}, {23 * time.Hour, false}, {25 * time.Hour, true}, {26 * time.Hour, false},
		{20 * time.Hour, true}, // the clock was set back
		{21 * time.Hour, false}} {
		if got := d.Daily("x", now.Add(test.after)); got != test.want {
			t.Errorf("after %s: %v", test.after, got)
		}
	}
}

// Hooks work at the same time, and sync waits for all of them. Whoever waits stops
// when its context ends, and then does not keep the lock.
func TestLocks(t *testing.T) {
	d := Dir(filepath.Join(t.TempDir(), "run"))
	lock := func(how func(context.Context) (func(), error)) func() {
		t.Helper()
		unlock, err := how(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return unlock
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	busy := func(name string, how func(context.Context) (func(), error)) {
		t.Helper()
		unlock, err := how(ended)
		if err == nil {
			unlock()
		}
		if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "another run holds it") {
			t.Errorf("%s: error %v", name, err)
		}
	}
	one, two := lock(d.LockHook), lock(d.LockHook)
	busy("sync beside two hooks", d.LockOutHooks)
	one()
	busy("sync beside a hook", d.LockOutHooks)
	lock(d.LockSync)()
	two()

	waiting := make(chan error)
	out := lock(d.LockOutHooks)
	busy("a hook beside sync", d.LockHook)
	go func() {
		unlock, err := d.LockHook(t.Context())
		if err == nil {
			unlock()
		}
		waiting <- err
	}()
	out()
	if err := <-waiting; err != nil {
		t.Error(err)
	}
}

// Whatever is in the directory, no registration is made up of it.
func FuzzAddresses(f *testing.F) {
	for _, name := range []string{"down", "alice@10.0.0.1", "alice@fd00::1", "a@b@10.0.0.1", "alice@10.0.0.1%eth0", "@",
		"alice@::ffff:10.0.0.1"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		for rr := range Addresses([]string{name}, "example.") {
			label, addr, _ := strings.Cut(name, "@")
			if rr.Owner != label+".example." || rr.Addr.String() != netip.MustParseAddr(addr).String() {
				t.Errorf("%q stands for %v", name, rr)
			}
		}
	})
}

// A registration that was cut or changed is never read as another client's.
func FuzzRegistration(f *testing.F) {
	for _, r := range []Registration{{}, {Identity: "alice", SA: "17"},
		{Identity: "DOM\\al ice\n\"x\" 7\x00\xff", TimedOut: time.UnixMicro(1)}} {
		f.Add(r.text())
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, ok := parseRegistration(text)
		if !ok {
			return
		}
		if again, ok := parseRegistration(r.text()); !ok || again != r {
			t.Errorf("%q is %+v and then %+v", text, r, again)
		}
	})
}
