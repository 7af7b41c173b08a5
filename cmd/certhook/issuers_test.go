package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func newTestIssuerDir(t *testing.T) issuerDir {
	t.Helper()
	d := newIssuerDir(t.TempDir())
	if err := os.Mkdir(d.path, 0o755); err != nil {
		t.Fatal(err)
	}
	return d
}

// A power cut after commit does not undo the new name: the directory, and the one above it
// in case that x509ca is new, are synced when the file is there.
func TestIssuersAreOnTheDiskBeforeSuccess(t *testing.T) {
	d := newTestIssuerDir(t)
	var synced []string
	d.sync = func(dir *os.File) error {
		if _, err := os.Stat(filepath.Join(d.path, "tunnelcast-vpn-1.pem")); err != nil {
			t.Errorf("%s is synced too early: %v", dir.Name(), err)
		}
		synced = append(synced, dir.Name())
		return dir.Sync()
	}
	if _, err := d.put("tunnelcast-vpn-1.pem", []byte("new")); err != nil {
		t.Fatal(err)
	}
	if err := d.commit(); err != nil {
		t.Fatal(err)
	}
	if want := []string{d.path, filepath.Dir(d.path)}; !slices.Equal(synced, want) {
		t.Errorf("synced %q, want %q", synced, want)
	}
	broken := errors.New("input/output error")
	d.sync = func(*os.File) error { return broken }
	if err := d.commit(); !errors.Is(err, broken) {
		t.Errorf("commit returns %v, want %v", err, broken)
	}
}

// A file that cannot be written stays as it was, and leaves nothing behind.
func TestIssuerThatCannotBeWritten(t *testing.T) {
	d := newTestIssuerDir(t)
	if err := os.MkdirAll(filepath.Join(d.path, "a.pem", "directory"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := d.write(filepath.Join(d.path, "a.pem"), []byte("new")); err == nil {
		t.Error("a directory was replaced by a file")
	}
	if got := filesIn(d.path, "."); !slices.Equal(got, []string{filepath.Join(d.path, "a.pem")}) {
		t.Errorf("the directory holds %q", got)
	}
}

func TestUndoneIssuers(t *testing.T) {
	d := newTestIssuerDir(t)
	if _, err := d.put("old.pem", []byte("old")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"old.pem", "new.pem"} {
		undo, err := d.put(name, []byte("new"))
		if err != nil {
			t.Fatal(err)
		}
		if err := undo(); err != nil {
			t.Error(err)
		}
	}
	if got := readAll(t, d.path); got != "old.pem\nold" {
		t.Errorf("the directory holds %q, want the old file alone", got)
	}
}

// An interrupted run leaves a temporary file, which swanctl must not load as an issuer.
func TestLeftoversOfAnInterruptedRunGo(t *testing.T) {
	d := newTestIssuerDir(t)
	kept := []string{"tunnelcast-vpn-1.pem", ".tunnelcast-vpn-1.pem", "own.pem"}
	names := append([]string{".tunnelcast-vpn.example-1.pem1234567890", ".tunnelcast/12.pem"}, kept...)
	if err := os.Mkdir(d.unfinished(), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(d.path, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.clean(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(kept)
	if got := filesIn(d.path, "."); !slices.Equal(got, []string{
		filepath.Join(d.path, kept[0]), filepath.Join(d.path, kept[1]), filepath.Join(d.path, kept[2]),
	}) {
		t.Errorf("left are %q, want %q", got, kept)
	}
	if err := newIssuerDir("/nonexistent").clean(); err != nil {
		t.Errorf("without a directory: %v", err)
	}
}
