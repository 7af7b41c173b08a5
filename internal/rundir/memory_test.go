package rundir

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"tunnelcast/internal/lease"
)

func TestMemoryHasWhatWasSaved(t *testing.T) {
	m := Memory(filepath.Join(t.TempDir(), "state"))
	if known, err := m.Load(); err != nil || len(known) > 0 {
		t.Errorf("without a file: %v, error %v", known, err)
	}
	if err := m.Create(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []map[lease.RR]bool{
		{address("alice", "10.0.0.1"): true, address("alice", "fd00::1"): true, address("bob", "10.0.0.2"): true},
		{},
	} {
		if err := m.Save(want); err != nil {
			t.Fatal(err)
		}
		if got, err := m.Load(); err != nil || !maps.Equal(got, want) {
			t.Errorf("%v, error %v; want %v", got, err, want)
		}
	}
}

// What can be read of a damaged file is known, and the error names a line of it.
func TestMemoryIsDamaged(t *testing.T) {
	m := Memory(t.TempDir())
	for name, line := range map[string]string{
		"cut":           "bob.example. 10.0.0",
		"no newline":    "bob.example. 10.0.0.2",
		"relative name": "bob 10.0.0.2\n",
		"not text":      "\x00\x00\x00\n",
	} {
		if err := os.WriteFile(m.File(), []byte("alice.example. 10.0.0.1\n"+line), 0o600); err != nil {
			t.Fatal(err)
		}
		known, err := m.Load()
		if want := map[lease.RR]bool{address("alice", "10.0.0.1"): true}; !errors.Is(err, ErrDamaged) ||
			!maps.Equal(known, want) {
			t.Errorf("%s: %v, error %v", name, known, err)
		}
	}
}

// A file that cannot be read is not replaced: it may be readable later.
func TestMemoryIsNotReplacedUnread(t *testing.T) {
	m := Memory(t.TempDir())
	if err := os.Mkdir(m.File(), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := m.Save(nil); err == nil {
		t.Error("no error")
	}
}

func TestMemoryOfHooks(t *testing.T) {
	m := Memory(filepath.Join(t.TempDir(), "state"))
	alice, bob := address("alice", "10.0.0.1"), address("bob", "fd00::2")
	if added, err := m.Added(); err != nil || len(added) > 0 {
		t.Errorf("without a directory: %v, error %v", added, err)
	}
	if err := m.Add([]lease.RR{alice}); err == nil {
		t.Error("a hook made the directory, which is sync's to make")
	}
	if err := errors.Join(m.Create(), m.Add([]lease.RR{alice, bob})); err != nil {
		t.Fatal(err)
	}
	added, err := m.Added()
	if err != nil || !slices.Equal(added, []string{"alice@10.0.0.1", "bob@fd00::2"}) || !m.Has(alice) {
		t.Errorf("added %v, error %v", added, err)
	}
	if err := m.Forget(added[:1]); err != nil || m.Has(alice) || !m.Has(bob) {
		t.Errorf("after alice is forgotten: alice %v, bob %v, error %v", m.Has(alice), m.Has(bob), err)
	}
}
