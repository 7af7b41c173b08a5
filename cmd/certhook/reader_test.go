package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"tunnelcast/internal/lineage/lineagetest"
)

func TestHops(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"live", "archive/vpn", "elsewhere/vpn"} {
		if err := os.MkdirAll(path(name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{
		"live/vpn":               "../elsewhere/vpn",
		"elsewhere/vpn/cert.pem": "../../archive/vpn/cert1.pem", // relative to where the directory really is
		"absolute.pem":           path("live/vpn/cert.pem"),
		"loop.pem":               "loop.pem",
	} {
		if err := os.Symlink(target, path(link)); err != nil {
			t.Fatal(err)
		}
	}
	for file, want := range map[string][]string{
		"none.pem":          {"none.pem"},
		"live/vpn/cert.pem": {"live/vpn/cert.pem", "archive/vpn/cert1.pem"}, // which does not exist
		"absolute.pem":      {"absolute.pem", "live/vpn/cert.pem", "archive/vpn/cert1.pem"},
	} {
		for i := range want {
			want[i] = path(want[i])
		}
		if got := hops(path(file)); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", file, got, want)
		}
	}
	if got := hops(path("loop.pem")); len(got) != 40 {
		t.Errorf("a loop has %d hops, want the kernel's limit, 40", len(got))
	}
}

// A file that several links name is read once; what was read is not read again.
func TestReader(t *testing.T) {
	dir := t.TempDir()
	file, link, gone := filepath.Join(dir, "a.pem"), filepath.Join(dir, "b.pem"), filepath.Join(dir, "gone.pem")
	text := lineagetest.KeyPEM(t, lineagetest.NewKey(t, false))
	if err := errors.Join(os.WriteFile(file, text, 0o600), os.Symlink(file, link)); err != nil {
		t.Fatal(err)
	}
	r := newReader()
	first, err := r.key(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if second, err := r.key(link); err != nil || second.ID() != first.ID() {
		t.Errorf("by its link the key is %v, error %v", second, err)
	}
	if f := r.file(link); f.First != nil || f.ReadError != nil || f.Malformed == nil {
		t.Errorf("a key is read as the certificate %v, errors %v and %v", f.First, f.ReadError, f.Malformed)
	}
	// An error has the name by which the file was asked for.
	f := r.file(gone)
	if failed := new(fs.PathError); !errors.As(f.ReadError, &failed) || failed.Path != gone {
		t.Errorf("got %v, want an error that names %s", f.ReadError, gone)
	}
}
