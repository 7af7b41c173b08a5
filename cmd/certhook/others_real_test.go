package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"tunnelcast/internal/charon"
	"tunnelcast/internal/lineage/lineagetest"
	"tunnelcast/internal/rotation"
	"tunnelcast/internal/swanctl"
	"tunnelcast/internal/vici"
	"tunnelcast/internal/vici/vicitest"
)

// capture passes all on to the gateway's charon and keeps what load-conn and
// load-authority send.
type capture struct {
	socket string

	mu   sync.Mutex
	sent map[string]any // decoded, by command and section
}

func (c *charons) capture(t *testing.T) *capture {
	// swanctl, in its namespace, sees this directory and no other of the tests.
	k := &capture{
		socket: filepath.Join(c.dir, fmt.Sprintf("capture-%d", time.Now().UnixNano())),
		sent:   map[string]any{},
	}
	server := &vicitest.Server{
		Upstream: c.socket("gw"),
		Handle: func(command string, request vici.Message) (_ vicitest.Answer, ok bool) {
			if command == "load-conn" || command == "load-authority" {
				k.mu.Lock()
				defer k.mu.Unlock()
				sections, err := vicitest.Tree(request)
				if err != nil {
					t.Errorf("%s: %v", command, err)
				}
				for name, section := range sections {
					k.sent[command+" "+name] = section
				}
			}
			return vicitest.Answer{}, false
		},
	}
	listener, err := server.Listen(k.socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return k
}

// TestLoadsAsSwanctlDoes compares the messages by which swanctl loads a configuration
// with ours.
func TestLoadsAsSwanctlDoes(t *testing.T) {
	g := newGuide(t, "c1")
	g.write("gw/x509/a.pem", string(lineagetest.PEM(g.authority.Root())))
	g.write("gw/x509ca/b.pem", string(lineagetest.PEM(g.authority.Chain()[0])))
	g.write("gw/included.conf", "connections { included { remote_addrs = 198.51.100.9\n include inner.conf\n } }\n")
	g.write("gw/inner.conf", "local { auth = psk\n id = \"@#0a0b\" }\nremote { auth = psk }\n")
	g.write("gw/swanctl.conf", g.conf("DIR/cert.pem")+`
include included.conf
base {
	version = 2
	proposals = aes256-sha256-modp2048 , aes128gcm16-sha256-ecp256
	rekey_time = 4h # a comment
	local { auth = pubkey
		id = inherited
		round = 1 }
	children { net { local_ts = 10.1.0.0/16 , 10.2.0.0/16
		esp_proposals = aes128gcm16-ecp256 } }
}
connections {
	heir : base {
		remote_addrs = 198.51.100.1, 198.51.100.2
		rekey_time =
		local { id = "C=CH, O=\"x\\\\y\", CN=heir"
			certs = a.pem , `+filepath.Join(g.live, "cert.pem")+` }
		remote { auth = pubkey-sha384-sha256
			cacerts = b.pem
			groups = a, b
			revocation = relaxed }
		remote-eap { auth = eap-mschapv2
			eap_id = %any
			round = 2 }
		children { net { updown = /etc/swanctl/script/updown.sh iptables
				start_action = trap
				mark_in = 42/0xff }
			empty { } }
	}
}
authorities {
	full { cacert = b.pem
		crl_uris = http://crl.example/a.crl , file:///etc/b.crl
		ocsp_uris = http://ocsp.example }
}
`)
	theirs, ours := g.capture(t), g.capture(t)
	for _, command := range []string{"--load-conns", "--load-authorities"} {
		run, err := g.swanctlAt(theirs.socket, "gw", command)
		if err != nil {
			t.Fatalf("swanctl %s: %v\n%s", command, err, run)
		}
	}
	session, err := charon.Dial(t.Context(), ours.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	conf, err := swanctl.Read(filepath.Join(g.dir, "gw"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"roadwarrior", "included", "heir"} {
		message, err := conf.ConnectionMessage(name)
		if err := errors.Join(err, session.LoadConnection(t.Context(), message)); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"letsencrypt", "full"} {
		message, err := conf.AuthorityMessage(name)
		if err := errors.Join(err, session.LoadAuthority(t.Context(), message)); err != nil {
			t.Error(err)
		}
	}
	if len(theirs.sent) != 5 {
		t.Errorf("swanctl sent %d sections, want 5", len(theirs.sent))
	}
	for name, want := range theirs.sent {
		if got := ours.sent[name]; !reflect.DeepEqual(got, want) {
			t.Errorf("%s\ngot  %q\nwant %q", name, got, want)
		}
	}
}

// viciClient sends commands as another program that manages charon does.
func (c *charons) viciClient(t *testing.T, side string) *vici.Client {
	t.Helper()
	conn, err := net.Dial("unix", c.socket(side))
	if err != nil {
		t.Fatal(err)
	}
	client := vici.NewClient(conn)
	t.Cleanup(func() { client.Close() })
	return client
}

// TestOthersAreLeftAlone renews beside a connection and an authority that another
// VICI client has loaded, and a connection whose certificate is gone.
func TestOthersAreLeftAlone(t *testing.T) {
	g := newGuide(t, "c1")
	client := g.viciClient(t, "gw")
	other := lineagetest.NewAuthority(t, "Other", 1)
	for command, section := range map[string]vici.Field{
		"load-conn": vici.Section("branch", vici.Value("version", "2"), vici.List("remote_addrs", "198.51.100.7"),
			vici.Section("local", vici.Value("auth", "psk"), vici.Value("id", "gw")),
			vici.Section("remote", vici.Value("auth", "psk"), vici.Value("id", "branch"))),
		"load-authority": vici.Section("controller", vici.Value("cacert", string(other.Root().Raw))),
	} {
		if _, err := client.Call(t.Context(), command, vicitest.Message(section)); err != nil {
			t.Fatal(err)
		}
	}
	gone := g.authority.Renew(t, "old.example").Save(t, g.le, "old.example", 1)
	g.write("gw/swanctl.conf", g.conf("DIR/cert.pem")+fmt.Sprintf(
		"connections { old { remote_addrs = 198.51.100.1\n local { certs = %s/cert.pem\n id = old.example } } }\n",
		gone))
	if err := os.RemoveAll(gone); err != nil {
		t.Fatal(err)
	}

	leaf := g.renew()
	out, log, err := g.hook(g.live)
	wantFinding(t, err, 3, rotation.OtherBroken, "fails at connection old: certs: open "+gone)
	if out != "" || !strings.Contains(log, "charon serves the new certificate") {
		t.Errorf("output %q, log %s", out, log)
	}
	if !g.presented("c1").Equal(leaf) {
		t.Error("the next client does not see the new certificate")
	}
	for command, want := range map[string]string{"--list-conns": "branch: ", "--list-authorities": "controller:"} {
		if list := g.mustSwanctl("gw", command); !strings.Contains(list, want) {
			t.Errorf("%s lacks %q:\n%s", command, want, list)
		}
	}
	check, _, _ := g.certhook(nil, "check")
	for _, want := range []string{
		"FAIL  certs of connection old, ", "ok    connection branch: of another VICI client", "ok    lineage " + g.live,
	} {
		if !strings.Contains(check, want) {
			t.Errorf("check lacks %q:\n%s", want, check)
		}
	}
	out, _, err = g.certhook(nil, "check", "--heal")
	if err == nil || !strings.Contains(out, "FAIL  connections: the next reload of ") {
		t.Errorf("check --heal does not name the connection that no reload can load: %v\n%s", err, out)
	}

	// charon's unit ends there when it starts, so what is loaded is what counts.
	g.stop["gw"]()
	g.start("gw")
	g.swanctl("gw", "--load-all", "--noprompt")
	if !g.presented("c1").Equal(leaf) {
		t.Error("after a restart the next client does not see the new certificate")
	}
}

// A connection that charon refuses costs no other its certificate, although both name
// the lineage.
func TestOneOfTwoConnectionsIsRefused(t *testing.T) {
	g := newGuide(t, "c1")
	bad := fmt.Sprintf("connections { bad { remote_addrs = 198.51.100.1\n proposals = aes-typo\n"+
		" local { certs = %s/cert.pem\n id = %s } } }\n", g.live, identity)
	g.write("gw/swanctl.conf", bad+g.conf("DIR/cert.pem"))
	g.authority = g.authority.Sibling(t, "Sibling")
	leaf := g.renew()
	_, log, err := g.hook(g.live)
	wantError(t, err, 3, "but not by connection bad: charon load-conn: ")
	if !strings.Contains(log, "charon serves the new certificate") {
		t.Errorf("log %s", log)
	}
	if !g.presented("c1").Equal(leaf) {
		t.Error("the next client does not see the new certificate")
	}
	if out, _, _ := g.certhook(nil, "check", "--heal"); !strings.Contains(out, "charon has not loaded connection bad") {
		t.Errorf("check --heal does not name it:\n%s", out)
	}
	g.stop["gw"]()
	g.start("gw")
	g.swanctl("gw", "--load-all", "--noprompt")
	if !g.presented("c1").Equal(leaf) {
		t.Error("after a restart the next client does not see the new certificate")
	}
}
