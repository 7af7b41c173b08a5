package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"tunnelcast/internal/lineage"
	"tunnelcast/internal/rotation"
)

// reader reads each file once, by whatever links it is named.
type reader struct {
	texts map[string]text
	keys  map[string]lineage.Key
	files map[string]*rotation.File
}

type text struct {
	bytes []byte
	err   error
}

func newReader() *reader {
	return &reader{texts: map[string]text{}, keys: map[string]lineage.Key{}, files: map[string]*rotation.File{}}
}

// real returns a path with all links followed, or the path itself if it leads nowhere.
func real(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}

func (r *reader) read(path string) ([]byte, error) {
	key := real(path)
	t, ok := r.texts[key]
	if !ok {
		t.bytes, t.err = os.ReadFile(path)
		r.texts[key] = t
	}
	if failed := new(fs.PathError); errors.As(t.err, &failed) {
		return nil, &fs.PathError{Op: failed.Op, Path: path, Err: failed.Err}
	}
	return t.bytes, t.err
}

// file reads a certificate file that swanctl's configuration leads to.
func (r *reader) file(path string) *rotation.File {
	if f, ok := r.files[path]; ok {
		return f
	}
	f := &rotation.File{Path: path, Hops: hops(path)}
	r.files[path] = f
	if f.Text, f.ReadError = r.read(path); f.ReadError != nil {
		return f
	}
	certs, err := lineage.ParseCertificates(f.Text)
	if f.Malformed = err; err == nil {
		f.First = certs[0]
	}
	return f
}

// key reads a private key.
func (r *reader) key(path string) (lineage.Key, error) {
	if key, ok := r.keys[real(path)]; ok {
		return key, nil
	}
	text, err := r.read(path)
	if err != nil {
		return lineage.Key{}, err
	}
	key, err := lineage.ParseKey(text)
	if err == nil {
		r.keys[real(path)] = key
	}
	return key, err
}

// hops returns a path and every path that its last element links to, one link after the
// other, also when the last one dangles.
func hops(file string) []string {
	const most = 40 // as the kernel
	all := []string{filepath.Clean(file)}
	for len(all) < most {
		last := all[len(all)-1]
		target, err := os.Readlink(last)
		if err != nil {
			break
		}
		if !filepath.IsAbs(target) {
			// live/NAME may itself be a link: .. is relative to where it really is.
			target = filepath.Join(real(filepath.Dir(last)), target)
		}
		all = append(all, filepath.Clean(target))
	}
	return all
}

// lineageFS is a lineage's directory as a file system.
type lineageFS struct {
	dir    string
	reader *reader
}

func (l lineageFS) Open(name string) (fs.File, error)      { return os.Open(l.path(name)) }
func (l lineageFS) ReadFile(name string) ([]byte, error)   { return l.reader.read(l.path(name)) }
func (l lineageFS) ReadLink(name string) (string, error)   { return os.Readlink(l.path(name)) }
func (l lineageFS) Lstat(name string) (fs.FileInfo, error) { return os.Lstat(l.path(name)) }
func (l lineageFS) path(name string) string                { return filepath.Join(l.dir, name) }
