package swanctl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// configDir makes a swanctl directory of files.
func configDir(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
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

func read(t testing.TB, dir string) *Config {
	t.Helper()
	c, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestChildren(t *testing.T) {
	dir := configDir(t, map[string]string{"swanctl.conf": "include conf.d/*.conf\n", "conf.d/a.conf": `
		tunnel { updown = /etc/swanctl/script/updown.sh iptables }
		connections { vpn { children { net : tunnel { local_ts = 0.0.0.0/0 }
			other { } } }
		two { } }`})
	got := read(t, dir).Children()
	want := []Child{{"vpn", "net", "/etc/swanctl/script/updown.sh iptables"}, {"vpn", "other", ""}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestLocalAuths(t *testing.T) {
	const guide = "certs = /le/cert.pem\n id = vpn.example\n"
	for name, test := range map[string]struct {
		files map[string]string
		want  string // name identity [certs], DIR for the directory
	}{
		"guide":           {map[string]string{"swanctl.conf": "connections {\n rw {\n local {\n auth = pubkey\n" + guide + "}\n remote { auth = eap-mschapv2 } } }"}, "rw vpn.example [/le/cert.pem]"},
		"one line":        {map[string]string{"swanctl.conf": "connections { rw { local { certs = /le/cert.pem } } }"}, "rw  [/le/cert.pem]"},
		"comments":        {map[string]string{"swanctl.conf": "# connections {\nconnections { # here\n rw { local { # certs = /old.pem\n certs = /le/cert.pem # new\n } } }\n#"}, "rw  [/le/cert.pem]"},
		"relative":        {map[string]string{"swanctl.conf": "connections { rw { local { certs = vpn.pem } } }"}, "rw  [DIR/x509/vpn.pem]"},
		"several":         {map[string]string{"swanctl.conf": "connections { rw { local { certs = /a.pem, /b.pem , 0x3082 } local-2 { certs = /c.pem } } }"}, "rw  [/a.pem /b.pem]; rw  [/c.pem]"},
		"quoted":          {map[string]string{"swanctl.conf": `connections { rw { local { certs = "/a\\b \"c.pem" } } }`}, `rw  [/a\b "c.pem]`},
		"quoted id":       {map[string]string{"swanctl.conf": "connections { rw { local {\n id = \"C=CH, CN=x # y\"\n} } }"}, "rw C=CH, CN=x # y []"},
		"cert sections":   {map[string]string{"swanctl.conf": "connections { rw { local { cert-1 { file = /a.pem } } } }"}, "rw  [/a.pem]"},
		"included":        {map[string]string{"swanctl.conf": "include conf.d/*.conf\ninclude none/*.conf\n", "conf.d/a.conf": "connections { rw { local { certs = /a.pem } } }", "conf.d/b.conf": "connections { rw { local { id = b } } }"}, "rw b [/a.pem]"},
		"included inside": {map[string]string{"swanctl.conf": "connections {\n include conf.d/a\n}\n", "conf.d/a": "rw { local {\n" + guide + "} }"}, "rw vpn.example [/le/cert.pem]"},
		"inherited": {map[string]string{"swanctl.conf": "base { local { certs = /a.pem\n id = a } }\nconnections { rw : base { local { id = b } }\n two : base, other { } }"},
			"rw b [/a.pem]; two a [/a.pem]"},
		"inherited below":    {map[string]string{"swanctl.conf": "l { certs = /a.pem }\nconnections { rw { local : l { id = b } } }"}, "rw b [/a.pem]"},
		"loop of references": {map[string]string{"swanctl.conf": "a : b { local { id = a } }\nb : a { }\nconnections { rw : a { c : connections { } } }"}, "rw a []"},
		"a key set twice":    {map[string]string{"swanctl.conf": "connections { rw { local { certs = /a.pem\n certs = /b.pem } } }"}, "rw  [/b.pem]"},
		"key taken back":     {map[string]string{"swanctl.conf": "connections { rw { local { certs = /a.pem\n certs =\n } } }"}, "rw  []"},
		"other ways of auth": {map[string]string{"swanctl.conf": "connections { rw { local { auth = psk\n certs = /a.pem } }\n r { local { auth = rsa-2048-sha256\n certs = /b.pem } } }"}, "r  [/b.pem]"},
		"auth with hashes": {map[string]string{"swanctl.conf": "connections { rw { local { auth = pubkey-sha384-sha256\n certs = /a.pem } local-2 { auth = ecdsa-384-sha384\n certs = /b.pem } local-3 { auth = ike:rsa-sha256\n certs = /c.pem } } }"},
			"rw  [/a.pem]; rw  [/b.pem]; rw  [/c.pem]"},
		"EAP in TLS": {map[string]string{"swanctl.conf": "connections { a { local { auth = eap-tls\n certs = /a.pem } }\n b { local { auth = eap-ttls:ecdsa-sha256\n certs = /b.pem } }\n c { local { auth = EAP-PEAP\n certs = /c.pem } }\n d { local { auth = eap-13\n certs = /d.pem } } }"},
			"a  [/a.pem]; b  [/b.pem]; c  [/c.pem]; d  [/d.pem]"},
		"EAP by password":   {map[string]string{"swanctl.conf": "connections { a { local { auth = eap-mschapv2\n certs = /a.pem } }\n b { local { auth = XAuth\n certs = /b.pem } } }"}, ""},
		"several rounds":    {map[string]string{"swanctl.conf": "connections { rw { Local-b { round = 2\n certs = /b.pem } local-a { round = 1\n certs = /a.pem } remote { certs = /c.pem } } }"}, "rw  [/b.pem]; rw  [/a.pem]"},
		"named include":     {map[string]string{"swanctl.conf": "include = x\nincludes = y\nconnections { rw { local { certs = /a.pem } } }"}, "rw  [/a.pem]"},
		"no connections":    {map[string]string{"swanctl.conf": "pools { p { addrs = 10.0.0.100-10.0.0.200 } }\nsecrets { eap-a { secret = \"}{\" } }"}, ""},
		"empty":             {map[string]string{"swanctl.conf": ""}, ""},
		"windows line ends": {map[string]string{"swanctl.conf": "connections {\r\n rw {\r\n local {\r\n certs = /a.pem\r\n }\r\n }\r\n}\r\n"}, "rw  [/a.pem]"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := configDir(t, test.files)
			var got []string
			for _, c := range read(t, dir).LocalAuths() {
				got = append(got, fmt.Sprintf("%s %s %s", c.Connection, c.Identity, strings.ReplaceAll(fmt.Sprint(c.Certs), dir, "DIR")))
			}
			if s := strings.Join(got, "; "); s != test.want {
				t.Errorf("got  %s\nwant %s", s, test.want)
			}
		})
	}
}

func TestDetails(t *testing.T) {
	dir := configDir(t, map[string]string{"swanctl.conf": `
		connections {
			file { local { certs = a.pem } children { x { start_action = none } y { start_action = trap|start } } }
			none { local { id = a } children { x { start_action = trap } } }
			place { local { certs = 0x3082 } }
			token { local { cert1 { handle = 01 } } }
			raw { local { pubkeys = a.pub } }
		}
		authorities { a { cacert = a.pem } b { file = /b.pem } c { handle = 01 } }
		secrets { eap-a { id = a } token-1 { handle = 01 } }`})
	c := read(t, dir)
	var got []string
	for _, a := range c.LocalAuths() {
		got = append(got, fmt.Sprintf("%s %v %v", a.Connection, a.NotInFiles, a.Starts))
	}
	want := "file false true, none false false, place true false, token true false, raw true false"
	if strings.Join(got, ", ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, ", "), want)
	}
	authorities := []Authority{{"a", dir + "/x509ca/a.pem"}, {"b", "/b.pem"}, {"c", ""}}
	if got := c.Authorities(); !slices.Equal(got, authorities) {
		t.Errorf("authorities %v", got)
	}
	if !c.HasTokens() {
		t.Error("no tokens")
	}
}

func TestReadRefuses(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"open section":    {"connections {\n rw {\n", "swanctl.conf:3: a section has no end"},
		"end too many":    {"\n}", "swanctl.conf:2: } without a section"},
		"open string":     {"a = \"x", "swanctl.conf:1: a string has no end"},
		"neither":         {"a b", `swanctl.conf:1: "a" is neither a setting nor a section`},
		"a stray string":  {"\n\"a\" = b", "swanctl.conf:2: unexpected '\"'"},
		"includes itself": {"include swanctl.conf\n", "swanctl.conf: includes more than 10 deep"},
	} {
		_, err := Read(configDir(t, map[string]string{"swanctl.conf": test.text}))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %s", name, err, test.want)
		}
	}
	if _, err := Read(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no configuration: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add("a : b, c { local { certs = \"x\\\"\" } } # c\ninclude x\nconnections { rw : a { local { id = @x } } }")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "include") { // reads this machine's files
			return
		}
		Read(configDir(t, map[string]string{"swanctl.conf": text}))
	})
}
