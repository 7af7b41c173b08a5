package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tunnelcast/internal/charon"
	"tunnelcast/internal/file"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/lineage"
	"tunnelcast/internal/swanctl"
)

// host is this machine's swanctl configuration and the charon it belongs to.
type host struct {
	env  hook.Env
	cli  cli
	root string // where AppArmor's files are: /
}

// use is how swanctl's configuration uses one lineage.
type use struct {
	connections []served // name a file of it
	byIdentity  []served // name no certificate; in use only with inX509
	inX509      bool     // a file of x509/ is the lineage's: charon picks it by identity
	authorities []string // name a file of it
}

// served is one local section of a connection and the file of the lineage that it
// names.
type served struct {
	name, identity, file string
	starts               bool // charon itself starts a tunnel of it
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
	conf, err := swanctl.Read(h.cli.SwanctlDir)
	if errors.Is(err, fs.ErrNotExist) {
		return u, nil
	}
	if err != nil {
		return u, err
	}
	for _, c := range conf.LocalAuths() {
		for _, file := range c.Certs {
			if within(file, dir) {
				u.connections = append(u.connections, served{c.Connection, c.Identity, file, c.Starts})
			}
		}
		if len(c.Certs) == 0 && !c.NotInFiles {
			u.byIdentity = append(u.byIdentity, served{c.Connection, c.Identity, "", c.Starts})
		}
	}
	for _, file := range filesIn(h.cli.SwanctlDir, "x509") {
		u.inX509 = u.inX509 || within(file, dir)
	}
	for _, a := range conf.Authorities() {
		if a.File != "" && within(a.File, dir) {
			u.authorities = append(u.authorities, a.Name)
		}
	}
	return u, nil
}

// lineages returns the directories of the lineages to look after: those that are
// listed, or else those that the configuration leads to.
func (h *host) lineages() ([]string, error) {
	var dirs []string
	for _, l := range h.cli.Lineages {
		if !filepath.IsAbs(l) {
			l = filepath.Join(liveDir, l)
		}
		dirs = append(dirs, filepath.Clean(l))
	}
	if len(dirs) > 0 {
		return dirs, nil
	}
	files := filesIn(h.cli.SwanctlDir, "x509")
	conf, err := swanctl.Read(h.cli.SwanctlDir)
	switch {
	case err == nil:
		for _, c := range conf.LocalAuths() {
			files = append(files, c.Certs...)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
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

// isLineage recognises a lineage's directory by the two names that all ACME clients
// write; what they lead to may be missing.
func isLineage(dir string) bool {
	for _, name := range []string{"fullchain.pem", "privkey.pem"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrPermission) {
			return false
		}
	}
	return true
}

// leafFile returns the file of a lineage whose first certificate is the leaf.
func leafFile(dir string) string {
	file := filepath.Join(dir, "cert.pem")
	if _, err := os.Lstat(file); err != nil {
		return filepath.Join(dir, "fullchain.pem")
	}
	return file
}

// within says whether a path leads, at any of its links, to a lineage's live
// directory or to the one that its links point into (archive/NAME).
func within(file, dir string) bool {
	dir = filepath.Clean(dir)
	dirs := []string{dir}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dirs = append(dirs, real)
	}
	for _, hop := range hops(leafFile(dir)) {
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

// diskKeys are the private keys that swanctl --load-creds finds. It unloads every
// other key, so these must stay and these survive a reload.
type diskKeys struct {
	files   map[string]string // by the keys' ids
	refused map[string]string // files whose kind of key swanctl does not load from their directory
	unknown []string          // files and sections that may hold any key: encrypted, PKCS#12, on a token
}

// keyDirectories are swanctl's, with what it loads from each
// (src/swanctl/commands/load_creds.c).
var keyDirectories = []struct {
	name  string
	loads func(lineage.Key) bool
}{
	{"private", func(lineage.Key) bool { return true }},
	{"pkcs8", func(lineage.Key) bool { return true }},
	{"rsa", lineage.Key.RSA},
	{"ecdsa", func(k lineage.Key) bool { return !k.RSA() }},
}

func (h *host) keysOnDisk() diskKeys {
	keys := diskKeys{files: map[string]string{}, refused: map[string]string{}}
	for _, dir := range keyDirectories {
		for _, file := range filesIn(h.cli.SwanctlDir, dir.name) {
			text, err := os.ReadFile(file)
			if err != nil {
				continue
			}
			switch key, err := lineage.ParseKey(text); {
			case err != nil:
				keys.unknown = append(keys.unknown, file)
			case dir.loads(key):
				keys.files[key.ID()] = cmp.Or(keys.files[key.ID()], file)
			default:
				keys.refused[key.ID()] = file
			}
		}
	}
	keys.unknown = append(keys.unknown, filesIn(h.cli.SwanctlDir, "pkcs12")...)
	if conf, err := swanctl.Read(h.cli.SwanctlDir); err != nil || conf.HasTokens() {
		keys.unknown = append(keys.unknown, filepath.Join(h.cli.SwanctlDir, "swanctl.conf"))
	}
	return keys
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
	dir, err := os.Open(h.cli.SwanctlDir)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := file.Lock(ctx, dir, file.Exclusive); err != nil {
		dir.Close()
		return nil, err
	}
	return dir, nil
}

// held is a certificate that charon holds.
type held struct {
	*x509.Certificate
	key bool // it holds the private key too
}

// credentials are the certificates that charon holds, in the order in which it looks
// for one (the answer to list-certs has it from the same enumerator).
type credentials []held

func (h *host) credentials(ctx context.Context, session *charon.Session) (credentials, error) {
	certs, err := session.Certificates(ctx)
	if err != nil {
		return nil, err
	}
	var all credentials
	for _, c := range certs {
		if cert, err := x509.ParseCertificate(c.DER); err == nil {
			all = append(all, held{cert, c.HasKey})
		}
	}
	return all, nil
}

// holds returns what charon holds of a certificate: itself, and its key.
func (all credentials) holds(cert *x509.Certificate) (held, key bool) {
	for _, c := range all {
		if c.Equal(cert) {
			return true, c.key
		}
	}
	return false, false
}

// shows returns the certificate that charon presents for a connection that names
// none, or none that has a key: the first with a key that has the identity
// (get_private in src/libstrongswan/credentials/credential_manager.c). It is nil if
// there is none. Keys of the ids gone count as unloaded.
func (all credentials) shows(identity string, gone ...string) *x509.Certificate {
	for _, c := range all {
		if !c.key || lineage.Holds(c.Certificate, identity) != nil {
			continue
		}
		if id, err := lineage.KeyID(c.Certificate); err == nil && !slices.Contains(gone, id) {
			return c.Certificate
		}
	}
	return nil
}

// sends returns the chain that charon sends with a certificate, which it builds
// from all that it holds (build_trustchain, the same file); a self-signed end is in
// it, although that is not sent.
func (all credentials) sends(leaf *x509.Certificate) []*x509.Certificate {
	const most = 7 // MAX_TRUST_PATH_LEN
	var chain []*x509.Certificate
	for current := leaf; len(chain) < most; {
		i := slices.IndexFunc(all, func(c held) bool {
			return bytes.Equal(c.RawSubject, current.RawIssuer) && current.CheckSignatureFrom(c.Certificate) == nil
		})
		if i < 0 {
			break
		}
		current = all[i].Certificate
		chain = append(chain, current)
		if selfIssued(current) {
			break
		}
	}
	return chain
}

func selfIssued(cert *x509.Certificate) bool { return bytes.Equal(cert.RawSubject, cert.RawIssuer) }

// sameIssuer reports whether two different certificates are of one subject and key,
// so that charon takes one for the other: a cross-sign.
func sameIssuer(a, b *x509.Certificate) bool {
	return !a.Equal(b) && bytes.Equal(a.RawSubject, b.RawSubject) && bytes.Equal(a.RawSubjectPublicKeyInfo, b.RawSubjectPublicKeyInfo)
}

// archive returns the DER of the lineage's certificates of all times, which
// certbot keeps beside the present one.
func archive(dir string) map[string]bool {
	all := make(map[string]bool)
	present, err := filepath.EvalSymlinks(leafFile(dir))
	if err != nil {
		return all
	}
	kind := strings.TrimSuffix(filepath.Base(leafFile(dir)), ".pem")
	for _, file := range filesIn(filepath.Dir(present), ".") {
		if !strings.HasPrefix(filepath.Base(file), kind) {
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
// versions of a lineage: those archived, and those with the same names and the same
// kind of key. A connection may have two certificates for the same
// names, an RSA one and an ECDSA one.
func (all credentials) earlier(archived map[string]bool, leaf *x509.Certificate) []*x509.Certificate {
	var old []*x509.Certificate
	for _, c := range all {
		if !c.key || c.IsCA || c.Equal(leaf) {
			continue
		}
		if archived[string(c.Raw)] || c.PublicKeyAlgorithm == leaf.PublicKeyAlgorithm && sameNames(c.Certificate, leaf) {
			old = append(old, c.Certificate)
		}
	}
	return old
}

func sameNames(a, b *x509.Certificate) bool {
	x, y := lineage.Names(a), lineage.Names(b)
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(x, y)
}
