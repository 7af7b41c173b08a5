package main

import (
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
	"tunnelcast/internal/hook"
	"tunnelcast/internal/lineage"
	"tunnelcast/internal/rotation"
	"tunnelcast/internal/swanctl"
)

// hostSnapshot is what a run reads of its host, once. Only what a switch has changed is read
// again, by update.
type hostSnapshot struct {
	rotation.Snapshot

	host     *host
	reader   *reader
	appArmor *appArmor
	conf     *swanctl.Config // nil if there is no swanctl.conf
	fault    error           // why swanctl.conf cannot be read

	dirs     []string // of the lineages to look after
	lineages map[string]*rotation.Lineage

	session *charon.Session // nil if charon does not run
	down    error           // why charon cannot be asked, charon.ErrNotRunning among others
}

// read takes a snapshot. Without dirs, the lineages are those that the settings or the
// configuration name. What cannot be read is stored as an error beside its place, because it
// may not matter to the lineages of this run.
func (h *host) read(ctx context.Context, dirs ...string) *hostSnapshot {
	s := &hostSnapshot{
		host: h, reader: newReader(), appArmor: &appArmor{root: h.root}, lineages: map[string]*rotation.Lineage{},
	}
	s.Dir, s.Unit = h.cli.SwanctlDir, h.cli.Unit
	s.readConfiguration()
	if s.dirs = dirs; len(dirs) == 0 {
		s.dirs = s.lineageDirs()
	}
	for _, dir := range s.dirs {
		s.lineage(dir)
	}
	s.readKeys()
	s.readIPsec()
	if s.session, s.down = charon.Dial(ctx, h.cli.Vici); s.down == nil {
		s.down = s.readCharon(ctx)
	}
	return s
}

func (s *hostSnapshot) close() {
	if s.session != nil {
		s.session.Close()
	}
}

// update reads again what a switch changes: the issuers' files and what charon holds.
func (s *hostSnapshot) update(ctx context.Context) error {
	s.reader = newReader()
	s.readIssuers()
	return s.readCharon(ctx)
}

func (s *hostSnapshot) readConfiguration() {
	s.X509 = s.filesOf("x509")
	s.readIssuers()
	conf, err := swanctl.Read(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		s.fault = err
		return
	}
	s.conf = conf
	for _, auth := range conf.LocalAuths() {
		section := rotation.Section{
			Connection: auth.Connection, Identity: auth.Identity, NotInFiles: auth.NotInFiles, Starts: auth.Starts,
		}
		for _, path := range auth.Certs {
			file := s.reader.file(path)
			file.Access = s.appArmor.access(path)
			section.Certs = append(section.Certs, file)
		}
		s.Sections = append(s.Sections, section)
	}
	for _, a := range conf.Authorities() {
		authority := rotation.Authority{Name: a.Name}
		if a.File != "" {
			authority.File = s.reader.file(a.File)
		}
		s.Authorities = append(s.Authorities, authority)
	}
}

func (s *hostSnapshot) readIssuers() { s.X509CA = s.filesOf("x509ca") }

func (s *hostSnapshot) filesOf(name string) []*rotation.File {
	var files []*rotation.File
	for _, file := range filesIn(s.Dir, name) {
		files = append(files, s.reader.file(file))
	}
	return files
}

// lineageDirs returns the directories of the lineages that the settings name, or else
// those that the configuration leads to.
func (s *hostSnapshot) lineageDirs() []string {
	var dirs []string
	for _, l := range s.host.cli.Lineages {
		if !filepath.IsAbs(l) {
			l = filepath.Join(liveDir, l)
		}
		dirs = append(dirs, filepath.Clean(l))
	}
	if len(dirs) > 0 {
		return dirs
	}
	files := slices.Clone(s.X509)
	for _, section := range s.Sections {
		files = append(files, section.Certs...)
	}
	for _, file := range files {
		for _, hop := range file.Hops {
			dir := filepath.Dir(hop)
			if isLineage(dir) && !slices.Contains(dirs, dir) {
				dirs = append(dirs, dir)
				break
			}
		}
	}
	return dirs
}

// lineage returns what was read of a lineage.
func (s *hostSnapshot) lineage(dir string) *rotation.Lineage {
	if l, ok := s.lineages[dir]; ok {
		return l
	}
	l := &rotation.Lineage{Dir: dir, LeafFile: leafFile(dir), Required: s.host.requires(dir)}
	s.lineages[dir] = l
	l.Dirs = []string{filepath.Clean(dir), real(dir)}
	for _, hop := range hops(l.LeafFile) {
		l.Dirs = append(l.Dirs, filepath.Dir(hop))
	}
	if l.Pair, l.Fault = lineage.Read(lineageFS{dir, s.reader}); l.Fault == nil {
		s.reader.keys[real(filepath.Join(dir, "privkey.pem"))] = l.Pair.Key
		l.Leaf = l.Pair.Leaf
	} else {
		l.Leaf = s.reader.file(l.LeafFile).First
	}
	l.Archived = s.archived(l.LeafFile)
	return l
}

// archived returns the versions of a lineage's certificate that certbot keeps in the directory
// of the present one.
func (s *hostSnapshot) archived(leafFile string) []*x509.Certificate {
	present, err := filepath.EvalSymlinks(leafFile)
	if err != nil {
		return nil
	}
	var all []*x509.Certificate
	kind := strings.TrimSuffix(filepath.Base(leafFile), ".pem")
	for _, path := range filesIn(filepath.Dir(present), ".") {
		if !strings.HasPrefix(filepath.Base(path), kind) {
			continue
		}
		if file := s.reader.file(path); file.First != nil {
			all = append(all, file.First)
		}
	}
	return all
}

// keyDirectories are swanctl's, with the keys that it loads from each
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

// readKeys reads the private keys that swanctl --load-creds finds. That command unloads
// all others, so only these survive a reload.
func (s *hostSnapshot) readKeys() {
	for _, dir := range keyDirectories {
		for _, path := range filesIn(s.Dir, dir.name) {
			if _, err := s.reader.read(path); err != nil {
				continue
			}
			key, err := s.reader.key(path)
			if err != nil {
				s.OpaqueKeys = append(s.OpaqueKeys, path)
				continue
			}
			s.Keys = append(s.Keys, rotation.KeyFile{
				Path: path, Key: key, Loaded: dir.loads(key), Access: s.appArmor.access(path),
			})
		}
	}
	s.OpaqueKeys = append(s.OpaqueKeys, filesIn(s.Dir, "pkcs12")...)
	if s.fault != nil || s.conf != nil && s.conf.HasTokens() {
		s.OpaqueKeys = append(s.OpaqueKeys, filepath.Join(s.Dir, "swanctl.conf"))
	}
}

// readIPsec reads the certificates that strongSwan's older configuration names.
func (s *hostSnapshot) readIPsec() {
	etc := filepath.Join(s.host.root, "etc")
	s.IPsecConf = filepath.Join(etc, "ipsec.conf")
	text, _ := s.reader.read(s.IPsecConf)
	for line := range strings.Lines(string(text)) {
		key, file, _ := strings.Cut(strings.TrimSpace(line), "=")
		if key = strings.TrimSpace(key); key != "leftcert" && key != "rightcert" {
			continue
		}
		file = strings.Trim(strings.TrimSpace(file), `"`)
		if !filepath.IsAbs(file) {
			file = filepath.Join(etc, "ipsec.d/certs", file)
		}
		s.IPsec = append(s.IPsec, s.reader.file(file))
	}
}

func (s *hostSnapshot) readCharon(ctx context.Context) error {
	c := &rotation.Charon{Up: map[string]bool{}}
	s.Charon = nil
	var err error
	if c.Certificates, err = credentials(ctx, s.session); err != nil {
		return err
	}
	for _, list := range []struct {
		names *[]string
		ask   func(context.Context) ([]string, error)
	}{
		{&c.Keys, s.session.Keys},
		{&c.Connections, s.session.Connections},
		{&c.Authorities, s.session.Authorities},
	} {
		if *list.names, err = list.ask(ctx); err != nil {
			return err
		}
	}
	for _, section := range s.Sections {
		if !section.Starts {
			continue
		}
		if c.Up[section.Connection], err = s.session.Up(ctx, section.Connection); err != nil {
			return err
		}
	}
	s.Charon = c
	return nil
}

func credentials(ctx context.Context, session *charon.Session) (rotation.Credentials, error) {
	certs, err := session.Certificates(ctx)
	if err != nil {
		return nil, err
	}
	var all rotation.Credentials
	for _, c := range certs {
		if cert, err := x509.ParseCertificate(c.DER); err == nil {
			all = append(all, rotation.Credential{Certificate: cert, HasKey: c.HasKey})
		}
	}
	return all, nil
}

// decide returns the plan for one lineage, or why there can be none.
func (s *hostSnapshot) decide(dir string) (*rotation.Plan, error) {
	if err := isDirectory(dir); err != nil {
		return nil, hook.With(fmt.Errorf("read lineage: %w", err), lineageMissing)
	}
	if s.fault != nil {
		return nil, s.fault
	}
	return rotation.Decide(&s.Snapshot, s.lineage(dir), s.host.env.Now()), nil
}

// isDirectory returns why a lineage's directory cannot be read at all.
func isDirectory(dir string) error {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is not a directory", dir)
	}
	return err
}

// isLineage recognises a lineage's directory by the two names that all ACME clients
// write. What they lead to may be missing.
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

// filesIn returns the files in some directories below another.
func filesIn(dir string, names ...string) []string {
	var files []string
	for _, name := range names {
		entries, _ := os.ReadDir(filepath.Join(dir, name))
		for _, e := range entries {
			files = append(files, filepath.Join(dir, name, e.Name()))
		}
	}
	return files
}
