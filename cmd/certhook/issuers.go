package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"tunnelcast/internal/file"
)

// issuerDir is swanctl's directory x509ca, of which swanctl loads every regular file.
//
// put and remove change a file's name; commit then makes sure that a power cut does not
// undo that. Only one run may use it at a time, which lock ensures.
type issuerDir struct {
	path string
	sync func(dir *os.File) error // (*os.File).Sync; tests watch it
}

func newIssuerDir(swanctlDir string) issuerDir {
	return issuerDir{path: filepath.Join(swanctlDir, "x509ca"), sync: (*os.File).Sync}
}

// unfinished is the directory of temporary files. It is below x509ca, because the sandbox
// of tunnelcast-certcheck.service may write there alone, and swanctl skips directories
// (load_certs in src/swanctl/commands/load_creds.c).
func (d issuerDir) unfinished() string { return filepath.Join(d.path, ".tunnelcast") }

// oldUnfinished matches the temporary files of version 0.1.0, which swanctl does load.
var oldUnfinished = regexp.MustCompile(`^\.tunnelcast-.+-[0-9]+\.pem[0-9]+$`)

// clean removes what an interrupted run has left.
func (d issuerDir) clean() error {
	entries, err := os.ReadDir(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove temporary files: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(d.path, e.Name())
		if path != d.unfinished() && !oldUnfinished.MatchString(e.Name()) {
			continue
		}
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("remove the temporary files of an interrupted run: %w", err)
		}
	}
	return nil
}

// put replaces a file, whole or not at all, and returns a function that undoes that. A
// file that has the text already is left alone.
func (d issuerDir) put(name string, text []byte) (undo func() error, err error) {
	path := filepath.Join(d.path, name)
	before, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		undo = func() error { return os.Remove(path) }
	case err != nil:
		return nil, fmt.Errorf("compare an issuer: %w", err)
	case bytes.Equal(before, text):
		return func() error { return nil }, nil
	default:
		undo = func() error { return d.write(path, before) }
	}
	return undo, d.write(path, text)
}

// write makes a file with its contents on the disk, and renames it to path.
func (d issuerDir) write(path string, text []byte) (err error) {
	if err := os.MkdirAll(d.unfinished(), 0o755); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(d.unfinished())) }()
	unfinished := filepath.Join(d.unfinished(), filepath.Base(path))
	if err := file.Replace(unfinished, text, 0o644, file.OnDisk); err != nil {
		return err
	}
	if err := os.Rename(unfinished, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// remove removes a file, which need not exist.
func (d issuerDir) remove(name string) error {
	if err := os.Remove(filepath.Join(d.path, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("an issuer's file of the old chain stays: %w", err)
	}
	return nil
}

// commit writes the directory to the disk, and the one above it, in case that x509ca is
// new.
func (d issuerDir) commit() error {
	for _, dir := range []string{d.path, filepath.Dir(d.path)} {
		f, err := os.Open(dir)
		if err != nil {
			return fmt.Errorf("sync %s: %w", dir, err)
		}
		if err := errors.Join(d.sync(f), f.Close()); err != nil {
			return fmt.Errorf("sync %s: %w", dir, err)
		}
	}
	return nil
}
