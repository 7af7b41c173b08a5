package vicitest

import (
	"fmt"

	"tunnelcast/internal/vici"
)

// Message encodes fields. It panics if they are invalid.
func Message(fields ...vici.Field) vici.Message {
	m, err := vici.Encode(fields...)
	if err != nil {
		panic(err)
	}
	return m
}

// Tree decodes a message into strings, string slices and further maps.
func Tree(m vici.Message) (map[string]any, error) {
	root := map[string]any{}
	open := []map[string]any{root}
	for e, err := range m.Elements() {
		if err != nil {
			return nil, err
		}
		in, key := open[len(open)-1], string(e.Key)
		switch e.Kind {
		case vici.SectionStart:
			section := map[string]any{}
			in[key] = section
			open = append(open, section)
		case vici.SectionEnd:
			open = open[:len(open)-1]
		case vici.KeyValue:
			in[key] = string(e.Value)
		case vici.ListStart:
			in[key] = []string{}
		case vici.ListItem:
			in[key] = append(in[key].([]string), string(e.Value))
		}
	}
	return root, nil
}

// SA returns the list-sa event of a client, numbered from 0, with all that charon
// 5.9 sends about a roadwarrior (list_ike and list_child in
// src/libcharon/plugins/vici/vici_query.c).
func SA(client int) vici.Message {
	number := fmt.Sprint(client + 1)
	addr := fmt.Sprintf("10.%d.%d.%d", client>>16&0xff, client>>8&0xff, client&0xff)
	child := vici.Section("net-"+number, vici.Value("name", "net"), vici.Value("uniqueid", number),
		vici.Value("reqid", number), vici.Value("state", "INSTALLED"), vici.Value("mode", "TUNNEL"),
		vici.Value("protocol", "ESP"), vici.Value("encap", "yes"),
		vici.Value("spi-in", "c1a2b3c4"), vici.Value("spi-out", "c4b3a2c1"),
		vici.Value("encr-alg", "AES_GCM_16"), vici.Value("encr-keysize", "128"),
		vici.Value("bytes-in", "734003"), vici.Value("packets-in", "5102"), vici.Value("use-in", "3"),
		vici.Value("bytes-out", "9437184"), vici.Value("packets-out", "7340"), vici.Value("use-out", "3"),
		vici.Value("rekey-time", "2891"), vici.Value("life-time", "3611"), vici.Value("install-time", "349"),
		vici.List("local-ts", "0.0.0.0/0"), vici.List("remote-ts", addr+"/32"))
	return Message(vici.Section("vpn", vici.Value("uniqueid", number), vici.Value("version", "2"),
		vici.Value("state", "ESTABLISHED"), vici.Value("local-host", "203.0.113.1"), vici.Value("local-port", "4500"),
		vici.Value("local-id", "vpn.example"), vici.Value("remote-host", "198.51.100.7"),
		vici.Value("remote-port", "4500"), vici.Value("remote-id", "192.168.1.5"),
		vici.Value("remote-eap-id", "client"+number), vici.Value("initiator-spi", "36c6f4cd03b4e7a2"),
		vici.Value("responder-spi", "8d5a71c4d8f3b09e"), vici.Value("nat-remote", "yes"), vici.Value("nat-any", "yes"),
		vici.Value("encr-alg", "AES_GCM_16"), vici.Value("encr-keysize", "128"),
		vici.Value("prf-alg", "PRF_HMAC_SHA2_256"), vici.Value("dh-group", "CURVE_25519"),
		vici.Value("established", "349"), vici.Value("rekey-time", "13011"),
		vici.List("remote-vips", addr), vici.Section("child-sas", child)))
}
