package main

import (
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strongswan/govici/vici"

	"tunnelcast/internal/charon"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/lineage/lineagetest"
)

// capture relays to the gateway's charon and keeps what load-conn and load-authority
// are sent.
type capture struct {
	socket string

	mu   sync.Mutex
	sent map[string]any // decoded, by command and section
}

func (c *charons) capture(t *testing.T) *capture {
	k := &capture{socket: filepath.Join(c.dir, fmt.Sprintf("capture-%d", time.Now().UnixNano())), sent: map[string]any{}}
	l, err := net.Listen("unix", k.socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go relay(client, c.socket("gw"), func(command string, message []byte) []byte {
				if command == "load-conn" || command == "load-authority" {
					k.mu.Lock()
					defer k.mu.Unlock()
					for name, section := range decode(message) {
						k.sent[command+" "+name] = section
					}
				}
				return nil
			})
		}
	}()
	return k
}

// decode reads the elements of a VICI message (src/libcharon/plugins/vici/README.md).
func decode(message []byte) map[string]any {
	take := func(size int) string {
		length := 0
		for _, b := range message[:size] {
			length = length<<8 | int(b)
		}
		text := string(message[size : size+length])
		message = message[size+length:]
		return text
	}
	var section func() map[string]any
	section = func() map[string]any {
		all := map[string]any{}
		for len(message) > 0 {
			kind := message[0]
			message = message[1:]
			switch kind {
			case 1:
				name := take(1)
				all[name] = section()
			case 2:
				return all
			case 3:
				key := take(1)
				all[key] = take(2)
			case 4:
				key, items := take(1), []string{}
				for message[0] == 5 {
					message = message[1:]
					items = append(items, take(2))
				}
				message = message[1:]
				all[key] = items
			}
		}
		return all
	}
	return section()
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
	dir := filepath.Join(g.dir, "gw")
	for _, name := range []string{"roadwarrior", "included", "heir"} {
		if err := session.LoadConnection(t.Context(), dir, name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"letsencrypt", "full"} {
		if err := session.LoadAuthority(t.Context(), dir, name); err != nil {
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

// client sends commands as another program that manages charon does.
func (c *charons) viciClient(t *testing.T, side string) *vici.Session {
	t.Helper()
	s, err := vici.NewSession(vici.WithAddr("unix", c.socket(side)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func tree(t *testing.T, values map[string]any) *vici.Message {
	t.Helper()
	m := vici.NewMessage()
	for key, value := range values {
		if sub, ok := value.(map[string]any); ok {
			value = tree(t, sub)
		}
		if err := m.Set(key, value); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// TestOthersAreLeftAlone renews beside a connection and an authority that another
// VICI client has loaded, and a connection whose certificate is gone.
func TestOthersAreLeftAlone(t *testing.T) {
	g := newGuide(t, "c1")
	client := g.viciClient(t, "gw")
	other := lineagetest.NewAuthority(t, "Other", 1)
	for command, message := range map[string]map[string]any{
		"load-conn": {"branch": map[string]any{"version": "2", "remote_addrs": []string{"198.51.100.7"},
			"local": map[string]any{"auth": "psk", "id": "gw"}, "remote": map[string]any{"auth": "psk", "id": "branch"}}},
		"load-authority": {"controller": map[string]any{"cacert": string(other.Root().Raw)}},
	} {
		if _, err := client.Call(t.Context(), command, tree(t, message)); err != nil {
			t.Fatal(err)
		}
	}
	gone := g.authority.Renew(t, "old.example").Save(t, g.le, "old.example", 1)
	g.write("gw/swanctl.conf", g.conf("DIR/cert.pem")+fmt.Sprintf(
		"connections { old { remote_addrs = 198.51.100.1\n local { certs = %s/cert.pem\n id = old.example } } }\n", gone))
	if err := os.RemoveAll(gone); err != nil {
		t.Fatal(err)
	}

	leaf := g.renew()
	out, log, err := g.hook(g.live)
	if hook.Status(err) != 3 || !errors.Is(err, errOtherBroken) || !strings.Contains(err.Error(), "fails at connection old: certs: open "+gone) {
		t.Errorf("error %v, want status 3 and the connection old", err)
	}
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
	for _, want := range []string{"FAIL  certs of connection old, ", "ok    connection branch: of another VICI client", "ok    lineage " + g.live} {
		if !strings.Contains(check, want) {
			t.Errorf("check lacks %q:\n%s", want, check)
		}
	}
	if out, _, err := g.certhook(nil, "check", "--heal"); err == nil || !strings.Contains(out, "FAIL  connections: the next reload of ") {
		t.Errorf("check --heal says nothing of the connection that no reload can load: %v\n%s", err, out)
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
	g.write("gw/swanctl.conf", fmt.Sprintf("connections { bad { remote_addrs = 198.51.100.1\n proposals = aes-typo\n local { certs = %s/cert.pem\n id = %s } } }\n", g.live, identity)+g.conf("DIR/cert.pem"))
	g.authority = g.authority.Sibling(t, "Sibling")
	leaf := g.renew()
	_, log, err := g.hook(g.live)
	if hook.Status(err) != 3 || !strings.Contains(err.Error(), "but not by connection bad: charon load-conn: ") || !strings.Contains(log, "charon serves the new certificate") {
		t.Errorf("error %v, log %s", err, log)
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

const startingConf = `connections {
	site {
		version = 2
		remote_addrs = 192.0.2.2
		keyingtries = 0
		local { certs = %[1]s/cert.pem
			id = ` + identity + ` }
		remote { auth = psk
			id = branch }
		children { lan { remote_ts = 10.2.0.0/16
			start_action = start } }
	}
}
secrets { ike-branch { id = branch
	secret = abcdefgh } }
`

// newSite is a gateway that starts a tunnel to the client itself, and has it up.
func newSite(t *testing.T) *gateway {
	g := newGuide(t, "c1")
	g.write("client/swanctl.conf", `connections { site { version = 2
	local { auth = psk
		id = branch }
	remote { auth = pubkey
		id = `+identity+` }
	children { lan { local_ts = 10.2.0.0/16 } } } }
secrets { ike-branch { id = branch
	secret = abcdefgh } }
`)
	g.mustSwanctl("client", "--load-all", "--noprompt")
	g.write("gw/swanctl.conf", fmt.Sprintf(startingConf, g.live))
	g.mustSwanctl("gw", "--load-all", "--noprompt")
	g.tunnel()
	return g
}

// tunnel waits for the one tunnel and returns the line that identifies it.
func (g *gateway) tunnel() string {
	g.t.Helper()
	for end := time.Now().Add(30 * time.Second); ; {
		list := g.mustSwanctl("gw", "--list-sas", "--ike", "site")
		head, _, _ := strings.Cut(list, "\n")
		if strings.Contains(head, "ESTABLISHED") {
			return head
		}
		if time.Now().After(end) {
			g.t.Fatalf("the tunnel does not come up:\n%s", list)
		}
		<-time.After(20 * time.Millisecond)
	}
}

func (g *gateway) shownToBranch() *x509.Certificate {
	g.t.Helper()
	g.mustSwanctl("client", "--flush-certs")
	g.swanctl("gw", "--terminate", "--ike", "site", "--timeout", "5")
	g.swanctl("gw", "--initiate", "--ike", "site", "--timeout", "5")
	g.tunnel()
	s, err := charon.Dial(g.t.Context(), g.socket("client"))
	if err != nil {
		g.t.Fatal(err)
	}
	defer s.Close()
	certs, err := s.Certificates(g.t.Context())
	if err != nil {
		g.t.Fatal(err)
	}
	var leaves []*x509.Certificate
	for _, held := range certs {
		if cert, err := x509.ParseCertificate(held.DER); err == nil && !cert.IsCA {
			leaves = append(leaves, cert)
		}
	}
	if len(leaves) != 1 {
		g.t.Fatalf("the branch holds %d leaves", len(leaves))
	}
	return leaves[0]
}

// TestTunnelsThatCharonStartsStay renews under a tunnel of a connection with
// start_action = start.
func TestTunnelsThatCharonStartsStay(t *testing.T) {
	g := newSite(t)
	before := g.tunnel()
	var leaf *x509.Certificate
	for range 3 {
		leaf = g.renew()
		if out, _, err := g.hook(g.live); err != nil || out != "" {
			t.Fatalf("error %v, output %q", err, out)
		}
	}
	if now := g.tunnel(); !sameTunnel(now, before) {
		t.Errorf("the tunnel is not the same:\n%s\n%s", before, now)
	}
	g.agrees()
	if !g.shownToBranch().Equal(leaf) {
		t.Error("the branch is not shown the new certificate when the tunnel is set up again")
	}
	g.mustSwanctl("gw", "--load-all", "--noprompt") // what a reload of the unit does
	g.tunnel()
	if !g.shownToBranch().Equal(leaf) {
		t.Error("a reload loses the new certificate")
	}
}

// With the same key for the next certificate, charon would go on with the old one
// unless the connection is loaded.
func TestTunnelOfAKeptKeyIsNotClosedUnsaid(t *testing.T) {
	g := newSite(t)
	key := lineagetest.NewKey(t, false)
	save := func(valid time.Duration) *x509.Certificate {
		return g.save(lineagetest.NewFiles(t, g.authority.Issue(t, key.Public(), []string{identity}, func(c *x509.Certificate) {
			c.NotAfter = time.Now().Add(valid)
		}), g.authority.Chain(), key))
	}
	old := save(1000 * time.Hour)
	if _, _, err := g.hook(g.live); err != nil {
		t.Fatal(err)
	}
	before := g.tunnel()
	leaf := save(30 * time.Hour)
	for range 2 { // it is said as long as it is so
		_, log, err := g.hook(g.live)
		if hook.Status(err) != 3 || !strings.Contains(err.Error(), "connection site goes on with its earlier certificate") || log != "" {
			t.Errorf("error %v, log %s", err, log)
		}
	}
	if now := g.tunnel(); !sameTunnel(now, before) {
		t.Errorf("the tunnel is not the same:\n%s\n%s", before, now)
	}
	if out, _, err := g.certhook(nil, "check"); err == nil || !strings.Contains(out, "charon does not serve what is on disk") {
		t.Errorf("check: %v\n%s", err, out)
	}
	if !g.shownToBranch().Equal(old) {
		t.Error("the connection has moved")
	}

	// Nothing is disturbed when the tunnel is down.
	g.mustSwanctl("gw", "--terminate", "--ike", "site", "--timeout", "5")
	if _, _, err := g.hook(g.live); err != nil {
		t.Error(err)
	}
	if !g.shownToBranch().Equal(leaf) {
		t.Error("the branch is not shown the new certificate")
	}

	// That one ends within two days, so the next closes the tunnel.
	leaf = save(1000 * time.Hour)
	if _, log, err := g.hook(g.live); err != nil || !strings.Contains(log, "the tunnel of connection site is closed") {
		t.Errorf("error %v, log %s", err, log)
	}
	if !g.shownToBranch().Equal(leaf) {
		t.Error("the branch is not shown the new certificate")
	}
}

// sameTunnel compares the unique id and the SPIs of list-sas.
func sameTunnel(a, b string) bool {
	fields := func(line string) []string {
		return slices.DeleteFunc(strings.Fields(line), func(f string) bool { return !strings.HasPrefix(f, "#") && !strings.Contains(f, "_") })
	}
	return slices.Equal(fields(a), fields(b))
}

// relay passes packets of the VICI protocol on in both directions. see is called with
// each command and its message; what it returns, if anything, is answered in place of
// charon.
func relay(client net.Conn, socket string, see func(command string, message []byte) (answer []byte)) {
	defer client.Close()
	charon, err := net.Dial("unix", socket)
	if err != nil {
		return
	}
	defer charon.Close()
	go io.Copy(client, charon)
	for {
		var length [4]byte
		if _, err := io.ReadFull(client, length[:]); err != nil {
			return
		}
		packet := make([]byte, binary.BigEndian.Uint32(length[:]))
		if _, err := io.ReadFull(client, packet); err != nil {
			return
		}
		const request = 0
		if packet[0] == request {
			end := 2 + int(packet[1])
			if answer := see(string(packet[2:end]), packet[end:]); answer != nil {
				client.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(answer))), answer...))
				continue
			}
		}
		charon.Write(append(length[:], packet...))
	}
}

// between listens on a socket that leads to the gateway's charon, and answers one
// command itself: by an error, or by success if cause is empty.
func (c *charons) between(t testing.TB, command, cause string) (socket string) {
	t.Helper()
	const response = 1
	answer := append([]byte{response, 3, byte(len("success"))}, "success\x00\x03yes"...)
	if cause != "" {
		answer = append([]byte{response, 3, byte(len("success"))}, "success\x00\x02no"...)
		answer = append(append(answer, 3, byte(len("errmsg"))), "errmsg"...)
		answer = append(binary.BigEndian.AppendUint16(answer, uint16(len(cause))), cause...)
	}
	socket = filepath.Join(t.TempDir(), "vici")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go relay(client, c.socket("gw"), func(name string, _ []byte) []byte {
				if name == command {
					return answer
				}
				return nil
			})
		}
	}()
	return socket
}
