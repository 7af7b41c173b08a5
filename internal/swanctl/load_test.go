package swanctl

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"tunnelcast/internal/vici"
	"tunnelcast/internal/vici/vicitest"
)

// outline has a line per value, list or section of a message, sorted: the order has
// no meaning. What charon and swanctl themselves make of the same configuration is
// compared in cmd/certhook.
func outline(t *testing.T, m vici.Message) string {
	t.Helper()
	tree, err := vicitest.Tree(m)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	var walk func(indent string, tree map[string]any)
	walk = func(indent string, tree map[string]any) {
		for _, key := range slices.Sorted(maps.Keys(tree)) {
			if sub, ok := tree[key].(map[string]any); ok {
				lines = append(lines, indent+key)
				walk(indent+"\t", sub)
				continue
			}
			lines = append(lines, fmt.Sprintf("%s%s = %q", indent, key, tree[key]))
		}
	}
	walk("", tree)
	return strings.Join(lines, "\n")
}

func TestMessages(t *testing.T) {
	c := files{"x509/a.pem": "certificate", "x509ca/ca.pem": "issuer", "swanctl.conf": `
		base { version = 2
			proposals = aes256-sha256-modp2048 , default
			rekey_time = 4h }
		connections {
			rw : base {
				rekey_time =
				local { certs = a.pem, 0x3082, 0sMII=
					id = "C=CH, CN=a" }
				remote { auth = eap-mschapv2
					CACerts = ca.pem }
				children { net { updown = /script iptables } empty { } }
			}
		}
		authorities { ca { cacert = ca.pem
			crl_uris = http://a, http://b
			cert_uri_base = http://c } }`}.read(t)
	got, err := c.ConnectionMessage("rw")
	want := `rw
	children
		empty
		net
			updown = "/script iptables"
	local
		certs = ["certificate" "0\x82" "0\x82"]
		id = "C=CH, CN=a"
	proposals = ["aes256-sha256-modp2048" "default"]
	remote
		CACerts = ["issuer"]
		auth = "eap-mschapv2"
	version = "2"`
	if lines := outline(t, got); err != nil || lines != want {
		t.Errorf("error %v, got\n%s\nwant\n%s", err, lines, want)
	}
	got, err = c.AuthorityMessage("ca")
	want = `ca
	cacert = "issuer"
	cert_uri_base = "http://c"
	crl_uris = ["http://a" "http://b"]`
	if lines := outline(t, got); err != nil || lines != want {
		t.Errorf("error %v, got\n%s\nwant\n%s", err, lines, want)
	}
}

func TestMessageRefuses(t *testing.T) {
	c := conf(`
		connections {
			gone { local { certs = gone.pem } }
			digits { local { certs = 0xzz } }
			büro { }
		}
		authorities { gone { cacert = gone.pem } }`).read(t)
	connection := func(name string) error { _, err := c.ConnectionMessage(name); return err }
	authority := func(name string) error { _, err := c.AuthorityMessage(name); return err }
	for want, err := range map[string]error{
		"connection none is not in swanctl.conf any more": connection("none"),
		"authority none is not in swanctl.conf any more":  authority("none"),
		"connection gone: certs: open " + c.dir:           connection("gone"),
		"authority gone: open " + c.dir:                   authority("gone"),
		"connection digits: certs: encoding/hex":          connection("digits"),
		`invalid name "büro": VICI requires 1 to 255`:     connection("büro"),
	} {
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
