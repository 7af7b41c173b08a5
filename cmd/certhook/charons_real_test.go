package main

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tunnelcast/internal/charon"
	"tunnelcast/internal/hook"
)

// identity is what the gateway offers and the client asks for.
const identity = "vpn.example"

// charons are a gateway and a client, each a charon-systemd in a network
// namespace of its own, joined by a veth. The kernel may lack ESP: clients log
// in without a child SA.
type charons struct {
	t    *testing.T
	dir  string
	stop map[string]func() // by side
}

// gatewayConf is the guide's connection. The directories around it are made by
// startCharons.
const gatewayConf = `connections {
	roadwarrior {
		version = 2
		unique = never
		local {
			auth = pubkey
			certs = %s
			id = ` + identity + `
		}
		remote {
			auth = eap-mschapv2
			eap_id = %%any
		}
		children { net { local_ts = 0.0.0.0/0 } }
	}
}
secrets {
	eap-alice { id = alice
		secret = wonderland }
}
`

const clientConn = `
	%s {
		version = 2
		remote_addrs = 192.0.2.1
		childless = force
		local { auth = eap-mschapv2
			id = %s
			eap_id = alice }
		remote { auth = pubkey
			id = ` + identity + ` }
		children { net { } }
	}
`

const strongswanConf = `charon-systemd {
	load_modular = no
	load = random nonce openssl pem pkcs1 pkcs8 x509 pubkey constraints revocation kernel-netlink socket-default vici updown eap-identity eap-mschapv2 md4 hmac kdf gcm sha1 sha2 aes gmp curve25519
	retransmit_tries = 2
	retransmit_timeout = 1
	plugins { vici { socket = unix://%[1]s/vici } }
	filelog { all { path = %[1]s/charon.log
		default = 1 } }
}
swanctl {
	load = random openssl pem pkcs1 pkcs8 x509 pubkey
}
`

// promised fails the test instead of skipping it when the tools were promised.
func promised(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("TUNNELCAST_E2E") == "1" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// startCharons starts both. certs goes into the gateway's swanctl.conf; the
// client trusts one root, in PEM, and has a connection per name.
func startCharons(t *testing.T, certs string, root []byte, clients ...string) *charons {
	if os.Geteuid() != 0 {
		promised(t, "needs root for network namespaces")
	}
	for _, tool := range []string{"/usr/sbin/charon-systemd", "/usr/sbin/swanctl", "ip", "unshare"} {
		if _, err := exec.LookPath(tool); err != nil {
			promised(t, "needs %s", tool)
		}
	}
	for _, plugin := range []string{"openssl", "eap-mschapv2", "eap-identity"} {
		if _, err := os.Stat("/usr/lib/ipsec/plugins/libstrongswan-" + plugin + ".so"); err != nil {
			promised(t, "needs charon's plugin %s (libstrongswan-standard-plugins, libcharon-extauth-plugins)", plugin)
		}
	}
	c := &charons{t: t, dir: t.TempDir(), stop: map[string]func(){}}
	for _, side := range []string{"gw", "client"} {
		for _, sub := range []string{"x509", "x509ca", "private", "ecdsa", "rsa", "pkcs8", "bliss", "pkcs12", "pubkey", "x509aa", "x509ac", "x509crl", "x509ocsp"} {
			if err := os.MkdirAll(filepath.Join(c.dir, side, sub), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		c.write(side+"/strongswan.conf", fmt.Sprintf(strongswanConf, filepath.Join(c.dir, side)))
	}
	var conns strings.Builder
	for _, name := range clients {
		fmt.Fprintf(&conns, clientConn, name, name)
	}
	c.write("gw/swanctl.conf", fmt.Sprintf(gatewayConf, certs))
	c.write("client/swanctl.conf", "connections {"+conns.String()+"}\nsecrets { eap-alice { id = alice\nsecret = wonderland } }\n")
	c.write("client/x509ca/root.pem", string(root))

	gw, client := c.namespace("gw"), c.namespace("client")
	c.must("ip", "link", "add", gw, "type", "veth", "peer", "name", client)
	for ns, address := range map[string]string{gw: "192.0.2.1/24", client: "192.0.2.2/24"} {
		c.must("ip", "link", "set", ns, "netns", ns)
		c.must("ip", "-n", ns, "address", "add", address, "dev", ns)
		c.must("ip", "-n", ns, "link", "set", ns, "up")
		c.must("ip", "-n", ns, "link", "set", "lo", "up")
	}
	for _, side := range []string{"gw", "client"} {
		c.start(side)
	}
	c.mustSwanctl("client", "--load-all", "--noprompt")
	return c
}

func (c *charons) namespace(side string) string {
	name := fmt.Sprintf("tc%s%d", side[:1], os.Getpid())
	c.must("ip", "netns", "add", name)
	c.t.Cleanup(func() { exec.Command("ip", "netns", "delete", name).Run() })
	return name
}

// start runs a side's charon until the test ends and waits for its socket.
func (c *charons) start(side string) {
	c.t.Helper()
	run := exec.Command("ip", "netns", "exec", fmt.Sprintf("tc%s%d", side[:1], os.Getpid()),
		"unshare", "-m", "sh", "-c", "mount -t tmpfs tmpfs /run && exec /usr/sbin/charon-systemd")
	run.Env = append(os.Environ(), "STRONGSWAN_CONF="+filepath.Join(c.dir, side, "strongswan.conf"))
	if err := run.Start(); err != nil {
		c.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); run.Wait() }()
	c.stop[side] = func() { run.Process.Kill(); <-done; os.Remove(c.socket(side)) }
	c.t.Cleanup(c.stop[side])
	for end := time.Now().Add(10 * time.Second); ; {
		conn, err := net.Dial("unix", c.socket(side))
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(end) {
			log, _ := os.ReadFile(filepath.Join(c.dir, side, "charon.log"))
			c.t.Fatalf("charon of %s does not start: %v\n%s", side, err, log)
		}
		<-time.After(10 * time.Millisecond)
	}
}

func (c *charons) socket(side string) string { return filepath.Join(c.dir, side, "vici") }

func (c *charons) write(name, text string) {
	c.t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

func (c *charons) must(name string, args ...string) {
	c.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		c.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// swanctl runs swanctl on one side.
func (c *charons) swanctl(side string, args ...string) (string, error) {
	run := exec.Command("/usr/sbin/swanctl", append(args, "--uri", "unix://"+c.socket(side))...)
	run.Env = append(os.Environ(), "SWANCTL_DIR="+filepath.Join(c.dir, side), "STRONGSWAN_CONF="+filepath.Join(c.dir, side, "strongswan.conf"))
	out, err := run.CombinedOutput()
	return string(out), err
}

func (c *charons) mustSwanctl(side string, args ...string) string {
	c.t.Helper()
	out, err := c.swanctl(side, args...)
	if err != nil {
		c.t.Fatalf("swanctl %s on %s: %v\n%s", strings.Join(args, " "), side, err, out)
	}
	return out
}

// presented logs a client in anew and returns the certificate it was shown.
func (c *charons) presented(name string) *x509.Certificate {
	c.t.Helper()
	c.mustSwanctl("client", "--flush-certs")
	if err := c.login(name); err != nil {
		c.t.Fatal(err)
	}
	s, err := charon.Dial(c.t.Context(), c.socket("client"))
	if err != nil {
		c.t.Fatal(err)
	}
	defer s.Close()
	certs, err := s.Certificates(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	var shown []*x509.Certificate
	for _, held := range certs {
		if cert, err := x509.ParseCertificate(held.DER); err == nil && !cert.IsCA {
			shown = append(shown, cert)
		}
	}
	if len(shown) != 1 {
		c.t.Fatalf("the client holds %d leaves", len(shown))
	}
	return shown[0]
}

// login connects a client anew and says why it could not.
func (c *charons) login(name string) error {
	c.swanctl("client", "--terminate", "--ike", name, "--timeout", "5")
	out, err := c.swanctl("client", "--initiate", "--ike", name, "--timeout", "5")
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// hook runs certhook as certbot does for a lineage, see certhook.
func (c *charons) hook(lineage string, args ...string) (output, log string, err error) {
	return c.certhook(map[string]string{"RENEWED_LINEAGE": lineage}, args...)
}

// certhook runs the command against the gateway in this process and returns what
// it said on its streams and in its log.
func (c *charons) certhook(variables map[string]string, args ...string) (output, log string, err error) {
	var out, logged bytes.Buffer
	env := hook.Env{
		Name:   "certhook",
		Args:   append([]string{"--vici", c.socket("gw"), "--swanctl-dir", filepath.Join(c.dir, "gw"), "--unit", "tunnelcast-test-none.service"}, args...),
		Getenv: func(name string) string { return variables[name] },
		Stdout: &out, Stderr: &out,
		Log: slog.New(slog.NewTextHandler(&logged, nil)),
		Now: time.Now,
	}
	err = run(c.t.Context(), env)
	return out.String(), logged.String(), err
}
