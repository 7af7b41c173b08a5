// Package swanctl reads swanctl.conf as strongSwan's swanctl does, and encodes its
// connections and authorities as the messages with which swanctl loads them into
// charon.
//
// It only reads files. Read parses the configuration once; the certificates and keys
// that it names are read when a message is encoded.
package swanctl

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
)

// Config is the swanctl.conf of one directory, with all that it includes.
type Config struct {
	dir  string
	root *section
}

// Read reads the swanctl.conf of a directory, usually /etc/swanctl. If the file does
// not exist, the error is fs.ErrNotExist.
func Read(dir string) (*Config, error) {
	c := &Config{dir: dir, root: newSection()}
	if err := new(parser).file(filepath.Join(dir, "swanctl.conf"), c.root); err != nil {
		return nil, fmt.Errorf("read swanctl.conf: %w", err)
	}
	return c, nil
}

// section returns a section of the file with all that it inherits.
func (c *Config) section(name string) *section { return c.root.section(name).merged(c.root) }

// Connections returns the names of all connections.
func (c *Config) Connections() []string { return c.section("connections").order }

// LocalAuth is one local section of a connection that authenticates with a
// certificate: how this host proves who it is.
type LocalAuth struct {
	Connection string
	Identity   string   // local id; if it is empty, charon uses the certificate's subject
	Certs      []string // absolute paths, as swanctl resolves them; symlinks are not followed
	NotInFiles bool     // the section also has certificates that are not in files, or raw public keys
	Starts     bool     // charon itself starts a tunnel of the connection (start_action)
}

// LocalAuths returns the local sections that authenticate with a certificate.
func (c *Config) LocalAuths() []LocalAuth {
	var all []LocalAuth
	connections := c.section("connections")
	for _, name := range connections.order {
		connection := connections.sections[name]
		for _, sub := range connection.order {
			local := connection.sections[sub]
			if strings.HasPrefix(strings.ToLower(sub), "local") && byCertificate(local.values["auth"]) {
				a := LocalAuth{Connection: name, Identity: local.values["id"], Starts: starts(connection)}
				a.Certs, a.NotInFiles = c.certificates(local)
				all = append(all, a)
			}
		}
	}
	return all
}

// certificates returns the certificate files of a local section and whether it has
// certificates elsewhere, or raw public keys.
func (c *Config) certificates(local *section) (files []string, others bool) {
	others = local.values["pubkeys"] != ""
	for _, item := range listItems(local.values["certs"]) {
		if isInline(item) {
			others = true
			continue
		}
		files = append(files, c.path("x509", item))
	}
	for _, name := range local.order {
		if !strings.HasPrefix(name, "cert") {
			continue
		}
		if file := local.sections[name].values["file"]; file != "" {
			files = append(files, file)
		} else {
			others = true // on a smartcard or TPM
		}
	}
	return files, others
}

// byCertificate reports whether auth of a local section means a certificate
// (parse_auth in src/libcharon/plugins/vici/vici_config.c; the default is pubkey).
// Of the EAP methods, those do that are TLS or carry it; plain "eap" lets the peer
// choose the method.
func byCertificate(auth string) bool {
	if auth == "" || hasAnyPrefix(auth, "ike:", "pubkey", "rsa", "ecdsa") {
		return true
	}
	method, _, _ := strings.Cut(strings.ToLower(auth), ":")
	return slices.Contains(eapOverTLS, method)
}

var eapOverTLS = []string{"eap", "eap-dynamic", "eap-tls", "eap-ttls", "eap-peap", "eap-13", "eap-21", "eap-25"}

// starts reports whether a child of a connection has start_action = start, alone or
// together with trap.
func starts(connection *section) bool {
	children := connection.section("children")
	return slices.ContainsFunc(children.order, func(name string) bool {
		return strings.Contains(strings.ToLower(children.sections[name].values["start_action"]), "start")
	})
}

// Authority is one section of authorities.
type Authority struct {
	Name string
	File string // absolute path of its certificate; empty if that is not in a file
}

// Authorities returns all authorities.
func (c *Config) Authorities() []Authority {
	var all []Authority
	authorities := c.section("authorities")
	for _, name := range authorities.order {
		values := authorities.sections[name].values
		a := Authority{Name: name, File: values["file"]}
		if cert := values["cacert"]; cert != "" {
			a.File = c.path("x509ca", cert)
		}
		all = append(all, a)
	}
	return all
}

// HasTokens reports whether swanctl loads keys from smartcards or TPMs, which are not
// in files.
func (c *Config) HasTokens() bool {
	return slices.ContainsFunc(c.section("secrets").order, func(name string) bool {
		return strings.HasPrefix(name, "token")
	})
}

// Child is one child section of a connection.
type Child struct {
	Connection, Name string
	Updown           string // the command line; empty if there is none
}

// Children returns the children of all connections.
func (c *Config) Children() []Child {
	var all []Child
	connections := c.section("connections")
	for _, name := range connections.order {
		children := connections.sections[name].section("children")
		for _, child := range children.order {
			all = append(all, Child{name, child, children.sections[child].values["updown"]})
		}
	}
	return all
}

// Unique returns, by name, the value of unique for the connections that allow an identity
// one session at a time: keep or replace.
func (c *Config) Unique() map[string]string {
	all := map[string]string{}
	connections := c.section("connections")
	for _, name := range connections.order {
		switch unique := connections.sections[name].values["unique"]; unique {
		case "keep", "replace":
			all[name] = unique
		}
	}
	return all
}

// Nameservers returns the DNS servers that pools assign to clients, each once.
func (c *Config) Nameservers() []netip.Addr {
	var all []netip.Addr
	pools := c.section("pools")
	for _, name := range pools.order {
		for text := range strings.SplitSeq(pools.sections[name].values["dns"], ",") {
			addr, err := netip.ParseAddr(strings.TrimSpace(text))
			if err == nil && !slices.Contains(all, addr) {
				all = append(all, addr)
			}
		}
	}
	return all
}

// path resolves a file that swanctl.conf may give relative to one of swanctl's
// directories.
func (c *Config) path(sub, file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(c.dir, sub, file)
}

// listItems splits a list as swanctl does.
func listItems(list string) []string {
	var all []string
	for item := range strings.SplitSeq(list, ",") {
		if item = strings.Trim(item, " "); item != "" {
			all = append(all, item)
		}
	}
	return all
}

// isInline reports whether an item of a list of files is the content itself, in
// hexadecimal digits or base64.
func isInline(item string) bool { return hasAnyPrefix(strings.ToLower(item), "0x", "0s") }

func hasAnyPrefix(s string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}
