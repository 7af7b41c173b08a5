package charon

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/strongswan/govici/vici"
)

// The keys of a connection that swanctl sends as lists, and those whose items are
// files that it sends the contents of, with the directories of relative ones
// (src/swanctl/commands/load_conns.c).
var (
	listKeys = []string{"local_addrs", "remote_addrs", "proposals", "esp_proposals", "ah_proposals",
		"local_ts", "remote_ts", "vips", "pools", "groups", "cert_policy"}
	fileKeys = map[string]string{"certs": "x509", "cacerts": "x509ca", "pubkeys": "pubkey"}
)

// LoadConnection gives charon one connection of the swanctl.conf of a directory,
// with the section that swanctl --load-conns would send. That command would send
// all of them, unload those of other VICI clients, and fail for any that is
// broken.
//
// charon closes and restarts the tunnels of a connection that changed and has
// start_action = start; established SAs of others stay.
func (s *Session) LoadConnection(ctx context.Context, dir, name string) error {
	connections, err := readConnections(dir)
	if err != nil {
		return err
	}
	connection := connections.sections[name]
	if connection == nil {
		return fmt.Errorf("connection %s is not in swanctl.conf any more", name)
	}
	m, err := connectionMessage(dir, connection)
	if err != nil {
		return fmt.Errorf("connection %s: %w", name, err)
	}
	_, err = s.callCredentials(ctx, "load-conn", map[string]any{name: m})
	return err
}

func connectionMessage(dir string, from *section) (*vici.Message, error) {
	m := vici.NewMessage()
	for _, key := range from.keys() {
		value := any(from.values[key])
		sub, isFiles := fileKeys[strings.ToLower(key)]
		switch {
		case isFiles:
			var contents []string
			for _, item := range tokens(from.values[key]) {
				content, err := blob(dir, sub, item)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", key, err)
				}
				contents = append(contents, content)
			}
			value = contents
		case slices.Contains(listKeys, strings.ToLower(key)):
			value = tokens(from.values[key])
		}
		if err := m.Set(key, value); err != nil {
			return nil, err
		}
	}
	for _, name := range from.order {
		sub, err := connectionMessage(dir, from.sections[name])
		if err != nil {
			return nil, err
		}
		if err := m.Set(name, sub); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// blob returns what an item of a list of files means.
func blob(dir, sub, item string) (string, error) {
	var content []byte
	var err error
	switch strings.ToLower(item[:min(2, len(item))]) {
	case "0x":
		content, err = hex.DecodeString(strings.ReplaceAll(item[2:], ":", ""))
	case "0s":
		content, err = base64.StdEncoding.DecodeString(item[2:])
	default:
		content, err = os.ReadFile(inDirectory(dir, sub, item))
	}
	return string(content), err
}

// keys returns the keys of a section that have a value, sorted. One without was
// taken back (key =).
func (s *section) keys() []string {
	var keys []string
	for key, value := range s.values {
		if value != "" {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// LoadAuthority gives charon one authority of the swanctl.conf of a directory, as
// swanctl --load-authorities would (src/swanctl/commands/load_authorities.c); that
// would unload those of other VICI clients.
func (s *Session) LoadAuthority(ctx context.Context, dir, name string) error {
	authorities, err := readSection(dir, "authorities")
	if err != nil {
		return err
	}
	authority := authorities.sections[name]
	if authority == nil {
		return fmt.Errorf("authority %s is not in swanctl.conf any more", name)
	}
	m := vici.NewMessage()
	for _, key := range authority.keys() {
		value := any(authority.values[key])
		switch key {
		case "cacert":
			if value, err = blob(dir, "x509ca", authority.values[key]); err != nil {
				return fmt.Errorf("authority %s: %w", name, err)
			}
		case "crl_uris", "ocsp_uris":
			value = tokens(authority.values[key])
		}
		if err := m.Set(key, value); err != nil {
			return err
		}
	}
	_, err = s.callCredentials(ctx, "load-authority", map[string]any{name: m})
	return err
}

// LoadIssuer gives charon the DER of an authority's certificate under a name, by
// which UnloadIssuer takes it away. charon forgets those that load-cert, or a file in
// x509ca, gave it only when it restarts.
func (s *Session) LoadIssuer(ctx context.Context, name string, der []byte) error {
	m, err := message(map[string]any{"cacert": string(der)})
	if err != nil {
		return err
	}
	_, err = s.callCredentials(ctx, "load-authority", map[string]any{name: m})
	return err
}

// Authorities returns the names of the authorities and issuers that charon has
// loaded.
func (s *Session) Authorities(ctx context.Context) ([]string, error) {
	answer, err := s.callCredentials(ctx, "get-authorities", nil)
	if err != nil {
		return nil, err
	}
	names, _ := answer.Get("authorities").([]string)
	return names, nil
}

// UnloadIssuer takes away what LoadIssuer gave.
func (s *Session) UnloadIssuer(ctx context.Context, name string) error {
	_, err := s.callCredentials(ctx, "unload-authority", map[string]any{"name": name})
	return err
}

// FlushCertificates empties charon's cache of verified certificates. charon looks
// there first, so a certificate of the past is chosen from it as long as it has a
// key. CRLs and OCSP responses stay.
func (s *Session) FlushCertificates(ctx context.Context) error {
	_, err := s.callCredentials(ctx, "flush-certs", map[string]any{"type": "X509"})
	return err
}

// Up reports whether an IKE_SA of a connection is there, established or not yet.
func (s *Session) Up(ctx context.Context, connection string) (bool, error) {
	whole := ctx
	ctx, cancel := context.WithTimeout(whole, credentialDeadline)
	defer cancel()
	up := false
	err := s.stream(ctx, "list-sas", "list-sa", value("ike", connection), func([]byte) error {
		up = true
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("charon list-sas: %w", ended(whole, err))
	}
	return up, nil
}
