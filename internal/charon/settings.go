package charon

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A Configured connection is one local section of a connection in swanctl.conf:
// one way in which this host authenticates with a certificate.
type Configured struct {
	Name     string   // of the connection
	Identity string   // local id, empty if charon is to take the certificate's subject
	Certs    []string // absolute paths, as swanctl resolves them; no link followed
	Other    bool     // it also names certificates in no file, or raw public keys
	Starts   bool     // charon itself starts a tunnel of the connection (start_action)
}

// ReadConfigured returns the local sections of the connections in the
// swanctl.conf of a directory that authenticate with a certificate. A directory
// without that file gives fs.ErrNotExist.
func ReadConfigured(dir string) ([]Configured, error) {
	connections, err := readConnections(dir)
	if err != nil {
		return nil, err
	}
	var all []Configured
	for _, name := range connections.order {
		for _, local := range connections.sections[name].order {
			if !strings.HasPrefix(strings.ToLower(local), "local") {
				continue
			}
			s := connections.sections[name].sections[local]
			if !byCertificate(s.values["auth"]) {
				continue
			}
			c := Configured{Name: name, Identity: s.values["id"], Other: s.values["pubkeys"] != "", Starts: starts(connections.sections[name])}
			for _, cert := range tokens(s.values["certs"]) {
				if inPlace(cert) {
					c.Other = true
					continue
				}
				c.Certs = append(c.Certs, inDirectory(dir, "x509", cert))
			}
			for _, sub := range s.order {
				if !strings.HasPrefix(sub, "cert") {
					continue
				}
				if file := s.sections[sub].values["file"]; file != "" {
					c.Certs = append(c.Certs, file)
				} else {
					c.Other = true
				}
			}
			all = append(all, c)
		}
	}
	return all, nil
}

// byCertificate reports whether auth of a local section means a certificate
// (parse_auth in src/libcharon/plugins/vici/vici_config.c; its default is
// pubkey). Of the EAP methods those do that are TLS or that tunnel in it; plain
// "eap" leaves the method to the peer.
func byCertificate(auth string) bool {
	if auth == "" || hasAnyPrefix(auth, "ike:", "pubkey", "rsa", "ecdsa") {
		return true
	}
	method, _, _ := strings.Cut(strings.ToLower(auth), ":")
	return slices.Contains([]string{"eap", "eap-dynamic", "eap-tls", "eap-ttls", "eap-peap", "eap-13", "eap-21", "eap-25"}, method)
}

// starts reports whether a child of a connection has start_action = start, alone
// or beside trap.
func starts(connection *section) bool {
	children := connection.section("children")
	return slices.ContainsFunc(children.order, func(name string) bool {
		return strings.Contains(strings.ToLower(children.sections[name].values["start_action"]), "start")
	})
}

// tokens splits a list as swanctl does.
func tokens(list string) []string {
	var all []string
	for token := range strings.SplitSeq(list, ",") {
		if token = strings.Trim(token, " "); token != "" {
			all = append(all, token)
		}
	}
	return all
}

// inPlace reports whether an item of a list of files is no file but the
// certificate itself, in hexadecimal digits or base64.
func inPlace(item string) bool { return hasAnyPrefix(strings.ToLower(item), "0x", "0s") }

// inDirectory makes a path absolute that swanctl.conf may give relative to one of
// swanctl's directories.
func inDirectory(dir, sub, file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(dir, sub, file)
}

// ReadConnections returns the names of all connections, from the same place.
func ReadConnections(dir string) ([]string, error) {
	connections, err := readConnections(dir)
	if err != nil {
		return nil, err
	}
	return connections.order, nil
}

// An Authority is what swanctl.conf has for one authority.
type Authority struct {
	Name string
	File string // absolute path of its certificate; "" if it is not in a file
}

// ReadAuthorities returns the authorities of the swanctl.conf of a directory.
func ReadAuthorities(dir string) ([]Authority, error) {
	authorities, err := readSection(dir, "authorities")
	if err != nil {
		return nil, err
	}
	var all []Authority
	for _, name := range authorities.order {
		a := Authority{Name: name, File: authorities.sections[name].values["file"]}
		if cert := authorities.sections[name].values["cacert"]; cert != "" {
			a.File = inDirectory(dir, "x509ca", cert)
		}
		all = append(all, a)
	}
	return all, nil
}

// HasTokens reports whether swanctl.conf has keys of smartcards or TPMs loaded,
// which are in no file.
func HasTokens(dir string) (bool, error) {
	secrets, err := readSection(dir, "secrets")
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(secrets.order, func(name string) bool { return strings.HasPrefix(name, "token") }), nil
}

// A Child is what swanctl.conf has for one kind of tunnel of a connection.
type Child struct {
	Connection, Name string
	Updown           string // the command line, empty if there is none
}

// ReadChildren returns the children of all connections, from the same place as
// ReadConfigured.
func ReadChildren(dir string) ([]Child, error) {
	connections, err := readConnections(dir)
	if err != nil {
		return nil, err
	}
	var all []Child
	for _, name := range connections.order {
		children := connections.sections[name].section("children")
		for _, child := range children.order {
			all = append(all, Child{name, child, children.sections[child].values["updown"]})
		}
	}
	return all, nil
}

// ReadNameservers returns the DNS servers that the pools in the swanctl.conf of a
// directory have for clients, each once.
func ReadNameservers(dir string) ([]netip.Addr, error) {
	pools, err := readSection(dir, "pools")
	if err != nil {
		return nil, err
	}
	var all []netip.Addr
	for _, name := range pools.order {
		for text := range strings.SplitSeq(pools.sections[name].values["dns"], ",") {
			if addr, err := netip.ParseAddr(strings.TrimSpace(text)); err == nil && !slices.Contains(all, addr) {
				all = append(all, addr)
			}
		}
	}
	return all, nil
}

func readConnections(dir string) (*section, error) { return readSection(dir, "connections") }

// readSection returns a section of the swanctl.conf of a directory, with all that
// it inherits.
func readSection(dir, name string) (*section, error) {
	root := newSection()
	if err := new(parser).file(filepath.Join(dir, "swanctl.conf"), root); err != nil {
		return nil, fmt.Errorf("read swanctl.conf: %w", err)
	}
	return root.section(name).merged(root), nil
}

func hasAnyPrefix(s string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}

// section is a section of strongSwan's settings, see strongswan.conf(5).
type section struct {
	values   map[string]string
	sections map[string]*section
	order    []string // of sections
	refs     []string // absolute names of sections whose contents are inherited
}

func newSection() *section {
	return &section{values: map[string]string{}, sections: map[string]*section{}}
}

// section returns the named section, made when it is not there: a section that
// is opened twice is one.
func (s *section) section(name string) *section {
	if s.sections[name] == nil {
		s.sections[name] = newSection()
		s.order = append(s.order, name)
	}
	return s.sections[name]
}

// merged returns the section with everything that it and its subsections
// inherit in place. Its own settings win, then those of earlier references. A
// reference that leads back to one of via is left out: strongSwan refuses such
// loops.
func (s *section) merged(root *section, via ...string) *section {
	all := newSection()
	all.addMissing(s)
	for _, ref := range s.refs {
		if from := root.find(ref); from != nil && !slices.Contains(via, ref) {
			all.addMissing(from.merged(root, append(via, ref)...))
		}
	}
	for _, name := range all.order {
		all.sections[name] = all.sections[name].merged(root, via...)
	}
	return all
}

func (s *section) addMissing(from *section) {
	for key, value := range from.values {
		if _, set := s.values[key]; !set {
			s.values[key] = value
		}
	}
	for _, name := range from.order {
		sub := s.section(name)
		sub.refs = append(sub.refs, from.sections[name].refs...)
		sub.addMissing(from.sections[name])
	}
}

func (s *section) find(name string) *section {
	for part := range strings.SplitSeq(name, ".") {
		if s = s.sections[part]; s == nil {
			return nil
		}
	}
	return s
}

// maxIncludes ends a file that includes itself.
const maxIncludes = 10

// parser reads the grammar of src/libstrongswan/settings/settings_lexer.l and
// settings_parser.y.
type parser struct {
	depth int // of includes
	text  string
	at    int
}

func (p *parser) file(path string, into *section) error {
	if p.depth == maxIncludes {
		return fmt.Errorf("%s: includes more than %d deep", path, maxIncludes)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	inner := parser{depth: p.depth + 1, text: string(text)}
	if err := inner.statements(path, into, false); err != nil {
		return fmt.Errorf("%s:%d: %w", path, 1+strings.Count(inner.text[:inner.at], "\n"), err)
	}
	return nil
}

func (p *parser) statements(path string, into *section, nested bool) error {
	for {
		p.skip(" \t\r\n")
		switch {
		case p.at == len(p.text):
			if nested {
				return errors.New("a section has no end")
			}
			return nil
		case p.text[p.at] == '#':
			p.until("\n")
			continue
		case p.text[p.at] == '}':
			if !nested {
				return errors.New("} without a section")
			}
			p.at++
			return nil
		}
		name := p.until(" \t\r\n#{}:,=\"")
		if name == "" {
			return fmt.Errorf("unexpected %q", p.text[p.at])
		}
		p.skip(" \t\r\n")
		if name == "include" && !p.next('=') {
			pattern, err := p.value(" ")
			if err != nil {
				return err
			}
			if err := p.include(path, pattern, into); err != nil {
				return err
			}
			continue
		}
		switch {
		case p.take('='):
			value, err := p.value("")
			if err != nil {
				return err
			}
			into.values[name] = value
		case p.take('{'):
			if err := p.statements(path, into.section(name), true); err != nil {
				return err
			}
		case p.take(':'):
			refs := p.until("{}=\"")
			if !p.take('{') {
				return fmt.Errorf("section %q has no body", name)
			}
			sub := into.section(name)
			for ref := range strings.SplitSeq(refs, ",") {
				sub.refs = append(sub.refs, strings.TrimSpace(ref))
			}
			if err := p.statements(path, sub, true); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%q is neither a setting nor a section", name)
		}
	}
}

// include reads the files of a pattern, which is relative to the file that
// names it; a pattern without files is no error.
func (p *parser) include(path, pattern string, into *section) error {
	if !filepath.IsAbs(pattern) {
		pattern = filepath.Join(filepath.Dir(path), pattern)
	}
	files, err := filepath.Glob(pattern)
	if err != nil {
		return fmt.Errorf("include %s: %w", pattern, err)
	}
	for _, file := range files {
		if err := p.file(file, into); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// value reads to the end of the line, a comment, a closing brace or one of the
// further ends; words are joined by one space, strings taken as they are.
func (p *parser) value(ends string) (string, error) {
	var words []string
	for {
		p.skip(" \t\r")
		switch {
		case p.at == len(p.text), strings.IndexByte("#}\n", p.text[p.at]) >= 0:
			return strings.Join(words, " "), nil
		case p.text[p.at] == '"':
			word, err := p.quoted()
			if err != nil {
				return "", err
			}
			words = append(words, word)
		default:
			words = append(words, p.until("#}\"\r\n\t "))
		}
		if ends != "" {
			return strings.Join(words, " "), nil
		}
	}
}

func (p *parser) quoted() (string, error) {
	var text strings.Builder
	for p.at++; p.at < len(p.text); p.at++ {
		c := p.text[p.at]
		if c == '"' {
			p.at++
			return text.String(), nil
		}
		if c == '\\' && p.at+1 < len(p.text) {
			p.at++
			switch c = p.text[p.at]; c {
			case 'n':
				c = '\n'
			case 'r':
				c = '\r'
			case 't':
				c = '\t'
			case '\n':
				continue
			}
		}
		text.WriteByte(c)
	}
	return "", errors.New("a string has no end")
}

func (p *parser) skip(chars string) {
	for p.at < len(p.text) && strings.IndexByte(chars, p.text[p.at]) >= 0 {
		p.at++
	}
}

func (p *parser) until(chars string) string {
	start := p.at
	for p.at < len(p.text) && strings.IndexByte(chars, p.text[p.at]) < 0 {
		p.at++
	}
	return p.text[start:p.at]
}

func (p *parser) next(c byte) bool { return p.at < len(p.text) && p.text[p.at] == c }

func (p *parser) take(c byte) bool {
	if p.next(c) {
		p.at++
		return true
	}
	return false
}
