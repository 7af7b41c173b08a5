package swanctl

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"

	"tunnelcast/internal/vici"
)

// The keys of a connection that swanctl sends as lists, and those whose items are
// files that it sends the contents of, with the directories of relative ones
// (src/swanctl/commands/load_conns.c).
var (
	listKeys = []string{"local_addrs", "remote_addrs", "proposals", "esp_proposals", "ah_proposals",
		"local_ts", "remote_ts", "vips", "pools", "groups", "cert_policy"}
	fileKeys = map[string]string{"certs": "x509", "cacerts": "x509ca", "pubkeys": "pubkey"}
)

// ConnectionMessage returns the message by which swanctl --load-conns loads one connection.
// That command loads all of them, unloads those of other VICI clients, and fails if
// any of them is broken.
func (c *Config) ConnectionMessage(name string) (vici.Message, error) {
	connection := c.section("connections").sections[name]
	if connection == nil {
		return nil, fmt.Errorf("connection %s is not in swanctl.conf any more", name)
	}
	fields, err := c.connectionFields(connection)
	if err != nil {
		return nil, fmt.Errorf("connection %s: %w", name, err)
	}
	return vici.Encode(vici.Section(name, fields...))
}

func (c *Config) connectionFields(from *section) ([]vici.Field, error) {
	var fields []vici.Field
	for _, key := range from.keys() {
		value := from.values[key]
		sub, isFiles := fileKeys[strings.ToLower(key)]
		switch {
		case isFiles:
			var contents []string
			for _, item := range listItems(value) {
				content, err := c.content(sub, item)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", key, err)
				}
				contents = append(contents, content)
			}
			fields = append(fields, vici.List(key, contents...))
		case slices.Contains(listKeys, strings.ToLower(key)):
			fields = append(fields, vici.List(key, listItems(value)...))
		default:
			fields = append(fields, vici.Value(key, value))
		}
	}
	for _, name := range from.order {
		sub, err := c.connectionFields(from.sections[name])
		if err != nil {
			return nil, err
		}
		fields = append(fields, vici.Section(name, sub...))
	}
	return fields, nil
}

// AuthorityMessage returns the message by which swanctl --load-authorities loads one
// authority (src/swanctl/commands/load_authorities.c). That command unloads those of
// other VICI clients.
func (c *Config) AuthorityMessage(name string) (vici.Message, error) {
	authority := c.section("authorities").sections[name]
	if authority == nil {
		return nil, fmt.Errorf("authority %s is not in swanctl.conf any more", name)
	}
	var fields []vici.Field
	for _, key := range authority.keys() {
		value := authority.values[key]
		switch key {
		case "cacert":
			content, err := c.content("x509ca", value)
			if err != nil {
				return nil, fmt.Errorf("authority %s: %w", name, err)
			}
			fields = append(fields, vici.Value(key, content))
		case "crl_uris", "ocsp_uris":
			fields = append(fields, vici.List(key, listItems(value)...))
		default:
			fields = append(fields, vici.Value(key, value))
		}
	}
	return vici.Encode(vici.Section(name, fields...))
}

// content returns what an item of a list of files stands for.
func (c *Config) content(sub, item string) (string, error) {
	var content []byte
	var err error
	switch strings.ToLower(item[:min(2, len(item))]) {
	case "0x":
		content, err = hex.DecodeString(strings.ReplaceAll(item[2:], ":", ""))
	case "0s":
		content, err = base64.StdEncoding.DecodeString(item[2:])
	default:
		content, err = os.ReadFile(c.path(sub, item))
	}
	return string(content), err
}
