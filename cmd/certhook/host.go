package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"tunnelcast/internal/charon"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/lineage"
)

// host is this machine's swanctl configuration and the charon it belongs to.
type host struct {
	env     hook.Env
	cli     cli
	swanctl charon.Swanctl
	root    string // where AppArmor's files are: /
}

// use is how swanctl's configuration uses one lineage.
type use struct {
	connections []served
	inX509      bool // a file of x509/ is the lineage's: charon picks it by identity
}

// served is one connection and the file of the lineage that it names.
type served struct {
	name, identity, file string
}

func (u use) any() bool { return len(u.connections) > 0 || u.inX509 }

// listed says whether the lineage is one of those to look after, and whether
// the configuration names it.
func (h *host) listed(dir string) (ok, named bool) {
	for _, l := range h.cli.Lineages {
		if l == filepath.Base(dir) || filepath.Clean(l) == filepath.Clean(dir) {
			return true, true
		}
	}
	return len(h.cli.Lineages) == 0, false
}

// uses finds the certificate files of swanctl's configuration that are a
// lineage's, through whatever links. No configuration at all is no use.
func (h *host) uses(dir string) (use, error) {
	var u use
	configured, err := charon.ReadConfigured(h.swanctl.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return u, nil
	}
	if err != nil {
		return u, err
	}
	for _, c := range configured {
		for _, file := range c.Certs {
			if within(file, dir) {
				u.connections = append(u.connections, served{c.Name, c.Identity, file})
			}
		}
	}
	for _, file := range filesIn(h.swanctl.Dir, "x509") {
		u.inX509 = u.inX509 || within(file, dir)
	}
	return u, nil
}

// lineages returns the directories of the lineages to look after: those that are
// listed, or else those that the configuration leads to.
func (h *host) lineages() ([]string, error) {
	var dirs []string
	for _, l := range h.cli.Lineages {
		if !filepath.IsAbs(l) {
			l = filepath.Join("/etc/letsencrypt/live", l)
		}
		dirs = append(dirs, filepath.Clean(l))
	}
	if len(dirs) > 0 {
		return dirs, nil
	}
	configured, err := charon.ReadConfigured(h.swanctl.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	files := filesIn(h.swanctl.Dir, "x509")
	for _, c := range configured {
		files = append(files, c.Certs...)
	}
	for _, file := range files {
		for _, hop := range hops(file) {
			dir := filepath.Dir(hop)
			if isLineage(dir) && !slices.Contains(dirs, dir) {
				dirs = append(dirs, dir)
				break
			}
		}
	}
	return dirs, nil
}

var (
	errMissing = errors.New("read lineage")
	errInvalid = errors.New("lineage")
)

// isDirectory says why a lineage cannot be looked at at all.
func isDirectory(dir string) error {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is no directory", dir)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errMissing, err)
	}
	return nil
}

// isLineage tells a lineage's directory by its four names; what they lead to may
// be missing.
func isLineage(dir string) bool {
	for _, name := range []string{"cert.pem", "chain.pem", "fullchain.pem", "privkey.pem"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
			return false
		}
	}
	return true
}

// within says whether a path leads, at any of its links, to a lineage's live
// directory or to the one that its links point into (archive/NAME).
func within(file, dir string) bool {
	dir = filepath.Clean(dir)
	dirs := []string{dir}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dirs = append(dirs, real)
	}
	cert := filepath.Join(dir, "cert.pem")
	for _, hop := range hops(cert) {
		dirs = append(dirs, filepath.Dir(hop))
	}
	return slices.ContainsFunc(hops(file), func(hop string) bool { return slices.Contains(dirs, filepath.Dir(hop)) })
}

// hops returns a path and every path that its last element leads to, one link
// after the other, also when the last one dangles.
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
			// live/NAME may itself be a link: .. is meant where it really is.
			at := filepath.Dir(last)
			if real, err := filepath.EvalSymlinks(at); err == nil {
				at = real
			}
			target = filepath.Join(at, target)
		}
		all = append(all, filepath.Clean(target))
	}
	return all
}

// filesIn returns the files of some of swanctl's directories.
func filesIn(swanctlDir string, names ...string) []string {
	var files []string
	for _, name := range names {
		entries, _ := os.ReadDir(filepath.Join(swanctlDir, name))
		for _, e := range entries {
			files = append(files, filepath.Join(swanctlDir, name, e.Name()))
		}
	}
	return files
}

// keysOnDisk returns the files of the keys that swanctl --load-creds finds, by the
// keys' ids. It unloads every other key, so these must stay and these survive a
// reload.
func (h *host) keysOnDisk() map[string]string {
	files := make(map[string]string)
	for _, file := range filesIn(h.swanctl.Dir, "private", "rsa", "ecdsa", "pkcs8") {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		if key, err := lineage.ParseKey(text); err == nil {
			files[key.ID()] = file
		}
	}
	return files
}

// read reads a lineage and checks it as far as it needs no charon: the names too,
// when connections use it.
func (h *host) read(dir string, u use) (*lineage.Lineage, error) {
	l, err := lineage.Read(os.DirFS(dir))
	if err != nil {
		return nil, fmt.Errorf("%w %s: %w", errInvalid, dir, err)
	}
	if err := l.ValidAt(h.env.Now()); err != nil {
		return l, fmt.Errorf("%w %s: %w", errInvalid, dir, err)
	}
	for _, c := range u.connections {
		if err := lineage.Holds(l.Leaf, c.identity); err != nil {
			return l, fmt.Errorf("%w %s: connection %s: %w", errInvalid, dir, c.name, err)
		}
		if err := presents(c.file, l.Leaf); err != nil {
			return l, fmt.Errorf("%w %s: connection %s: %w", errInvalid, dir, c.name, err)
		}
	}
	return l, nil
}

// presents says why a file that a connection names is not the leaf to charon,
// which reads only the first certificate of it.
func presents(file string, leaf *x509.Certificate) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	certs, err := lineage.ParseCertificates(text)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if !certs[0].Equal(leaf) {
		return fmt.Errorf("%s does not begin with the certificate of cert.pem (certs in swanctl.conf should name live/NAME/cert.pem)", file)
	}
	return nil
}

// lock makes runs go one after the other. It is held until the file is closed
// or the process ends.
func (h *host) lock(ctx context.Context) (*os.File, error) {
	dir, err := os.Open(h.swanctl.Dir)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return dir, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			dir.Close()
			return nil, fmt.Errorf("lock %s: %w", h.swanctl.Dir, err)
		}
		select {
		case <-ctx.Done():
			dir.Close()
			return nil, fmt.Errorf("lock %s: another run holds it: %w", h.swanctl.Dir, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// holds returns what charon holds of a certificate: itself, and its key.
func holds(certs []charon.Certificate, cert *x509.Certificate) (held, key bool) {
	for _, c := range certs {
		if bytes.Equal(c.DER, cert.Raw) {
			return true, c.HasKey
		}
	}
	return false, false
}

// archive returns the DER of the lineage's certificates of all times, which
// certbot keeps beside the present one.
func archive(dir string) map[string]bool {
	all := make(map[string]bool)
	present, err := filepath.EvalSymlinks(filepath.Join(dir, "cert.pem"))
	if err != nil {
		return all
	}
	for _, file := range filesIn(filepath.Dir(present), ".") {
		if !strings.HasPrefix(filepath.Base(file), "cert") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		if certs, err := lineage.ParseCertificates(text); err == nil {
			all[string(certs[0].Raw)] = true
		}
	}
	return all
}

// earlier returns the certificates with a key that charon holds from earlier
// versions of a lineage: those that certbot keeps, and those with the same names
// and the same kind of key. A connection may have two certificates for the same
// names, an RSA one and an ECDSA one.
func earlier(certs []charon.Certificate, dir string, leaf *x509.Certificate) []*x509.Certificate {
	archived := archive(dir)
	names := func(c *x509.Certificate) string {
		n := lineage.Names(c)
		slices.Sort(n)
		return strings.Join(n, " ")
	}
	var old []*x509.Certificate
	for _, c := range certs {
		cert, err := x509.ParseCertificate(c.DER)
		if err != nil || !c.HasKey || cert.IsCA || cert.Equal(leaf) {
			continue
		}
		if archived[string(cert.Raw)] || cert.PublicKeyAlgorithm == leaf.PublicKeyAlgorithm && names(cert) == names(leaf) {
			old = append(old, cert)
		}
	}
	return old
}
