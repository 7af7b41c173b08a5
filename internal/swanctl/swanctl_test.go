package swanctl

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// files are the contents of a swanctl directory.
type files map[string]string

func (f files) write(t testing.TB) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range f {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func (f files) read(t testing.TB) *Config {
	t.Helper()
	c, err := Read(f.write(t))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func conf(text string) files { return files{"swanctl.conf": text} }

func TestLocalAuths(t *testing.T) {
	for name, test := range map[string]struct {
		files files
		want  string // connection, id, certs; DIR is the directory
	}{
		"the guide's": {conf(`
			connections {
				rw {
					local {
						auth = pubkey
						certs = /le/cert.pem
						id = vpn.example
					}
					remote { auth = eap-mschapv2 }
				}
			}`), "rw vpn.example [/le/cert.pem]"},
		"empty": {conf(""), ""},
		"no connections": {conf(`
			pools { p { addrs = 10.0.0.100-10.0.0.200 } }
			secrets { eap-a { secret = "}{" } }`), ""},

		"relative path": {conf(`connections { rw { local { certs = vpn.pem } } }`), "rw  [DIR/x509/vpn.pem]"},
		"several certificates": {conf(`
			connections { rw {
				local { certs = /a.pem, /b.pem , 0x3082 }
				local-2 { certs = /c.pem }
			} }`), "rw  [/a.pem /b.pem]; rw  [/c.pem]"},
		"cert section": {conf(`connections { rw { local { cert-1 { file = /a.pem } } } }`), "rw  [/a.pem]"},
		"several rounds": {conf(`
			connections { rw {
				Local-b { round = 2
					certs = /b.pem }
				local-a { round = 1
					certs = /a.pem }
				remote { certs = /c.pem }
			} }`), "rw  [/b.pem]; rw  [/a.pem]"},

		"auth by a shared key or RSA": {conf(`
			connections {
				a { local { auth = psk
					certs = /a.pem } }
				b { local { auth = rsa-2048-sha256
					certs = /b.pem } }
			}`), "b  [/b.pem]"},
		"auth with hashes": {conf(`
			connections { rw {
				local { auth = pubkey-sha384-sha256
					certs = /a.pem }
				local-2 { auth = ecdsa-384-sha384
					certs = /b.pem }
				local-3 { auth = ike:rsa-sha256
					certs = /c.pem }
			} }`), "rw  [/a.pem]; rw  [/b.pem]; rw  [/c.pem]"},
		"EAP over TLS": {conf(`
			connections {
				a { local { auth = eap-tls
					certs = /a.pem } }
				b { local { auth = eap-ttls:ecdsa-sha256
					certs = /b.pem } }
				c { local { auth = EAP-PEAP
					certs = /c.pem } }
				d { local { auth = eap-13
					certs = /d.pem } }
			}`), "a  [/a.pem]; b  [/b.pem]; c  [/c.pem]; d  [/d.pem]"},
		"EAP by password": {conf(`
			connections {
				a { local { auth = eap-mschapv2
					certs = /a.pem } }
				b { local { auth = XAuth
					certs = /b.pem } }
			}`), ""},

		"included files": {files{
			"swanctl.conf":  "include conf.d/*.conf\ninclude none/*.conf\n",
			"conf.d/a.conf": "connections { rw { local { certs = /a.pem } } }",
			"conf.d/b.conf": "connections { rw { local { id = b } } }",
		}, "rw b [/a.pem]"},
		"included in a section": {files{
			"swanctl.conf": "connections {\n include conf.d/a\n}\n",
			"conf.d/a":     "rw { local { certs = /a.pem\n id = a } }",
		}, "rw a [/a.pem]"},
		"inherited": {conf(`
			base { local { certs = /a.pem
				id = a } }
			connections {
				rw : base { local { id = b } }
				two : base, other { }
			}`), "rw b [/a.pem]; two a [/a.pem]"},
		"inherited in a section": {conf(`
			l { certs = /a.pem }
			connections { rw { local : l { id = b } } }`), "rw b [/a.pem]"},
		"loop of references": {conf(`
			a : b { local { id = a } }
			b : a { }
			connections { rw : a { c : connections { } } }`), "rw a []"},
	} {
		t.Run(name, func(t *testing.T) {
			c := test.files.read(t)
			var got []string
			for _, a := range c.LocalAuths() {
				line := fmt.Sprintf("%s %s %s", a.Connection, a.Identity, a.Certs)
				got = append(got, strings.ReplaceAll(line, c.dir, "DIR"))
			}
			if s := strings.Join(got, "; "); s != test.want {
				t.Errorf("got  %s\nwant %s", s, test.want)
			}
		})
	}
}

// Which ways to write a value mean which value.
func TestSyntax(t *testing.T) {
	const rw = "connections {\n rw {\n local {\n certs = /a.pem\n }\n }\n}\n"
	for name, test := range map[string]struct{ text, want string }{
		"one line":           {`connections { rw { local { certs = /a.pem } } }`, "rw  [/a.pem]"},
		"Windows line ends":  {strings.ReplaceAll(rw, "\n", "\r\n"), "rw  [/a.pem]"},
		"string":             {`connections { rw { local { certs = "/a\\b \"c.pem" } } }`, `rw  [/a\b "c.pem]`},
		"comment in string":  {"connections { rw { local {\n id = \"C=CH, CN=x # y\"\n} } }", "rw C=CH, CN=x # y []"},
		"words":              {"connections { rw { local { id =  C=CH,   CN=x\n} } }", "rw C=CH, CN=x []"},
		"key set twice":      {"connections { rw { local { certs = /a.pem\n certs = /b.pem } } }", "rw  [/b.pem]"},
		"key taken back":     {"connections { rw { local { certs = /a.pem\n certs =\n } } }", "rw  []"},
		"key called include": {"include = x\nincludes = y\n" + rw, "rw  [/a.pem]"},
		"comments": {`# connections {
			connections { # here
				rw { local { # certs = /old.pem
					certs = /a.pem # new
				} } }
			#`, "rw  [/a.pem]"},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, a := range conf(test.text).read(t).LocalAuths() {
				got = append(got, fmt.Sprintf("%s %s %s", a.Connection, a.Identity, a.Certs))
			}
			if s := strings.Join(got, "; "); s != test.want {
				t.Errorf("got  %s\nwant %s", s, test.want)
			}
		})
	}
}

func TestLocalAuthDetails(t *testing.T) {
	c := conf(`
		connections {
			file { local { certs = a.pem }
				children { x { start_action = none } y { start_action = trap|start } } }
			none { local { id = a } children { x { start_action = trap } } }
			place { local { certs = 0x3082 } }
			token { local { cert1 { handle = 01 } } }
			raw { local { pubkeys = a.pub } }
		}`).read(t)
	var got []string
	for _, a := range c.LocalAuths() {
		got = append(got, fmt.Sprintf("%s %v %v", a.Connection, a.NotInFiles, a.Starts))
	}
	want := "file false true, none false false, place true false, token true false, raw true false"
	if line := strings.Join(got, ", "); line != want {
		t.Errorf("got  %s\nwant %s", line, want)
	}
	if got, want := c.Connections(), []string{"file", "none", "place", "token", "raw"}; !slices.Equal(got, want) {
		t.Errorf("connections %q, want %q", got, want)
	}
}

func TestChildren(t *testing.T) {
	got := files{"swanctl.conf": "include conf.d/*.conf\n", "conf.d/a.conf": `
		tunnel { updown = /etc/swanctl/script/updown.sh iptables }
		connections {
			vpn { children {
				net : tunnel { local_ts = 0.0.0.0/0 }
				other { }
			} }
			two { }
		}`}.read(t).Children()
	want := []Child{{"vpn", "net", "/etc/swanctl/script/updown.sh iptables"}, {"vpn", "other", ""}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestUnique(t *testing.T) {
	got := conf(`
		connections {
			a { unique = replace }
			b { }
			c { unique = never }
			d : other { }
		}
		other { unique = keep }`).read(t).Unique()
	if want := map[string]string{"a": "replace", "d": "keep"}; !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestAuthoritiesTokensNameservers(t *testing.T) {
	c := conf(`
		authorities { a { cacert = a.pem } b { file = /b.pem } c { handle = 01 } }
		secrets { eap-a { id = a } token-1 { handle = 01 } }
		pools {
			v4 { addrs = 10.0.0.100-10.0.0.200
				dns = 10.0.0.1 , 10.0.0.2, ns.example }
			v6 { addrs = fd00::100-fd00::200
				dns = fd00::1, 10.0.0.1 }
		}`).read(t)
	authorities := []Authority{{"a", filepath.Join(c.dir, "x509ca", "a.pem")}, {"b", "/b.pem"}, {"c", ""}}
	if got := c.Authorities(); !slices.Equal(got, authorities) {
		t.Errorf("authorities %v, want %v", got, authorities)
	}
	if !c.HasTokens() || conf(`secrets { eap-token { id = a } }`).read(t).HasTokens() {
		t.Error("tokens are not told from other secrets")
	}
	nameservers := []netip.Addr{
		netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::1"),
	}
	if got := c.Nameservers(); !slices.Equal(got, nameservers) {
		t.Errorf("nameservers %v, want %v", got, nameservers)
	}
}

func TestReadRefuses(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"section without end":   {"connections {\n rw {\n", "swanctl.conf:3: a section has no end"},
		"end without a section": {"\n}", "swanctl.conf:2: } without a section"},
		"string without end":    {"a = \"x", "swanctl.conf:1: a string has no end"},
		"section without body":  {"a : b = c", `swanctl.conf:1: section "a" has no body`},
		"neither":               {"a b", `swanctl.conf:1: "a" is neither a setting nor a section`},
		"string as key":         {"\n\"a\" = b", "swanctl.conf:2: unexpected '\"'"},
		"includes itself":       {"include swanctl.conf\n", "swanctl.conf: includes more than 10 deep"},
	} {
		if _, err := Read(conf(test.text).write(t)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %s", name, err, test.want)
		}
	}
	if _, err := Read(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no configuration: %v", err)
	}
}
