package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
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

// A power cut after commit loses neither a file's contents nor its name: each was
// written to the disk, the contents before the name is there.
func TestIssuersAreOnTheDiskBeforeSuccess(t *testing.T) {
	d := newTestIssuerDir(t)
	final := filepath.Join(d.path, "tunnelcast-vpn-1.pem")
	var synced []string
	d.sync = func(f *os.File) error {
		_, err := os.Stat(final)
		there := " before the file"
		if err == nil {
			there = " after the file"
		}
		name := f.Name()
		if filepath.Dir(name) == d.unfinished() {
			name = "temporary file"
		}
		synced = append(synced, strings.TrimPrefix(name, filepath.Dir(d.path))+there)
		return f.Sync()
	}
	if _, err := d.put("tunnelcast-vpn-1.pem", []byte("new")); err != nil {
		t.Fatal(err)
	}
	if err := d.commit(); err != nil {
		t.Fatal(err)
	}
	want := []string{"temporary file before the file", "/x509ca after the file", " after the file"}
	if !slices.Equal(synced, want) {
		t.Errorf("synced %q, want %q", synced, want)
	}
}

// What cannot be written to the disk is a failure, and leaves the file as it was.
func TestIssuerThatCannotBeSynced(t *testing.T) {
	d := newTestIssuerDir(t)
	if _, err := d.put("a.pem", []byte("old")); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("input/output error")
	d.sync = func(*os.File) error { return broken }
	if _, err := d.put("a.pem", []byte("new")); !errors.Is(err, broken) {
		t.Errorf("put returns %v, want %v", err, broken)
	}
	if err := d.commit(); !errors.Is(err, broken) {
		t.Errorf("commit returns %v, want %v", err, broken)
	}
	if got := readAll(t, d.path); got != "a.pem\nold" {
		t.Errorf("the directory holds %q, want the old file alone", got)
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
