package main

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tunnelcast/internal/charon"
	"tunnelcast/internal/e2e/box"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/promised"
)

// identity is the name that the gateway offers and that clients ask for.
const identity = "vpn.example"

// charons are a gateway and a client, each a charon-systemd in a network namespace of its own,
// joined by a veth pair. The kernel may lack ESP, so clients log in without a child SA.
type charons struct {
	t    testing.TB
	dir  string
	in   []string          // words that run a command in the namespaces
	root []string          // and words that run one in the daemons' tree
	stop map[string]func() // by side
}

// gatewayConf is the guide's configuration. The parameters are the certificate's file and the
// lineage's directory.
const gatewayConf = `connections {
	roadwarrior {
		version = 2
		unique = never
		local {
			auth = pubkey
			certs = %[1]s
			id = ` + identity + `
		}
		remote {
			auth = eap-mschapv2
			eap_id = %%any
		}
		children { net { local_ts = 0.0.0.0/0 } }
	}
}
authorities {
	letsencrypt { file = %[2]s/chain.pem }
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
	load = random nonce openssl pem pkcs1 pkcs8 x509 pubkey constraints revocation kernel-netlink socket-default ` +
	`vici updown eap-identity eap-mschapv2 md4 hmac kdf gcm sha1 sha2 aes gmp curve25519
	retransmit_tries = 4
	retransmit_timeout = 1
	plugins { vici { socket = unix://%[1]s/vici } }
	filelog { all { path = %[1]s/charon.log
		default = 1 } }
}
swanctl {
	load = random openssl pem pkcs1 pkcs8 x509 pubkey
}
`

// namespaces is a shell script that holds the mount and PID namespaces of a test. It waits
// for the end of its standard input, which the test has. However the test ends, the kernel
// then kills all processes in the namespaces, and removes their mounts and the named network
// namespaces in their own /run.
//
// With a tree, which is that of the box, the daemons run in the tree. They see the test's
// directory under the same name as the test.
const namespaces = `set -e
mount -t tmpfs tmpfs /run
mkdir /run/lock
if [ -n "$1" ]; then
	mount --bind "$1" "$1"
	mount -o remount,bind,ro "$1"
	mount -t tmpfs tmpfs "$1/tmp"
	mkdir -p "$1$2"
	mount --bind "$2" "$1$2"
	mount --rbind /dev "$1/dev"
	mount -t proc proc "$1/proc"
	mount -t tmpfs tmpfs "$1/run"
fi
echo ready
read -r _`

// plugins are those of strongswanConf that Debian has in other packages than charon's.
var plugins = []string{"openssl", "eap-mschapv2", "eap-identity"}

// daemons returns the tree in which charon and swanctl are: that of the box, or "" for this
// machine. Where there is neither, the test is skipped, or fails if they were promised.
func daemons(t testing.TB) (tree string) {
	t.Helper()
	here := os.Geteuid() == 0
	files := []string{"/usr/sbin/charon-systemd", "/usr/sbin/swanctl"}
	for _, p := range plugins {
		files = append(files, "/usr/lib/ipsec/plugins/libstrongswan-"+p+".so")
	}
	for _, file := range files {
		_, err := os.Stat(file)
		here = here && err == nil
	}
	if here && !promised.All() {
		return ""
	}
	lacking := box.Missing()
	if lacking == nil && !promised.All() {
		lacking = errors.New("charon is not installed here; TUNNELCAST_E2E=1 takes that of the box")
	}
	if lacking != nil {
		promised.Lacking(t, lacking)
	}
	tree, release, err := box.Tree(t.Context(), "bookworm", func(what string) { t.Log(what) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return tree
}

// startCharons starts both, the gateway without connections. The client trusts one root, in
// PEM, and has a connection for each name.
func startCharons(t testing.TB, root []byte, clients ...string) *charons {
	// Not t.TempDir, which may be in any place: the tree has a /tmp.
	dir, err := os.MkdirTemp("/tmp", "tunnelcast-certhook-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := &charons{t: t, dir: dir, stop: map[string]func(){}}
	c.enter(daemons(t))
	for _, side := range []string{"gw", "client"} {
		const subs = "x509 x509ca private ecdsa rsa pkcs8 bliss pkcs12 pubkey x509aa x509ac x509crl x509ocsp"
		for _, sub := range strings.Fields(subs) {
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
	c.write("client/swanctl.conf",
		"connections {"+conns.String()+"}\nsecrets { eap-alice { id = alice\nsecret = wonderland } }\n")
	c.write("client/x509ca/root.pem", string(root))

	for _, side := range []string{"gw", "client"} {
		c.must("ip", "netns", "add", side)
	}
	c.must("ip", "-n", "gw", "link", "add", "outside", "type", "veth", "peer", "name", "outside", "netns", "client")
	for side, address := range map[string]string{"gw": "192.0.2.1/24", "client": "192.0.2.2/24"} {
		c.must("ip", "-n", side, "address", "add", address, "dev", "outside")
		c.must("ip", "-n", side, "link", "set", "outside", "up")
		c.must("ip", "-n", side, "link", "set", "lo", "up")
	}
	for _, side := range []string{"gw", "client"} {
		c.start(side)
	}
	c.mustSwanctl("client", "--load-all", "--noprompt")
	return c
}

// enter makes the namespaces, and the words that run a command in them.
func (c *charons) enter(tree string) {
	c.t.Helper()
	holder := exec.Command("unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "--",
		"/bin/sh", "-c", namespaces, "namespaces", tree, c.dir)
	holder.Stderr = os.Stderr
	in, err1 := holder.StdinPipe()
	out, err2 := holder.StdoutPipe()
	if err := errors.Join(err1, err2, holder.Start()); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { in.Close(); holder.Wait() })
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		c.t.Fatalf("make namespaces: %v", err)
	}
	c.in = []string{"nsenter", "--target", strconv.Itoa(childOf(holder.Process.Pid)), "--mount", "--pid", "--"}
	if tree != "" {
		c.root = []string{"chroot", tree}
	}
	// The program for certhook's setting swanctl.
	c.write("swanctl", "#!/bin/sh\nexec "+strings.Join(slices.Concat(c.in, c.root), " ")+" /usr/sbin/swanctl \"$@\"\n")
	if err := os.Chmod(filepath.Join(c.dir, "swanctl"), 0o700); err != nil {
		c.t.Fatal(err)
	}
}

// childOf returns the one child process of a process, -1 if it has none.
func childOf(pid int) int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	child, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return -1
	}
	return child
}

// start runs a side's charon until the test ends and waits for its socket.
func (c *charons) start(side string) {
	c.t.Helper()
	words := slices.Concat(c.in, []string{"ip", "netns", "exec", side}, c.root, []string{"/usr/sbin/charon-systemd"})
	run := exec.Command(words[0], words[1:]...)
	run.Env = append(os.Environ(), "STRONGSWAN_CONF="+filepath.Join(c.dir, side, "strongswan.conf"))
	daemon, err := box.StartDaemon(run, filepath.Join(c.dir, side, "charon.out"))
	if err != nil {
		c.t.Fatal(err)
	}
	c.stop[side] = func() {
		// The child of nsenter is charon, and nsenter ends with it. If nsenter were killed first, charon would become
		// the child of a process that may never wait for it, and the PID namespace would not end.
		if pid := childOf(daemon.Pid()); pid > 0 {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		daemon.Join()
		os.Remove(c.socket(side))
	}
	err = daemon.Wait(c.t.Context(), "charon of "+side, func() (bool, error) {
		conn, err := net.Dial("unix", c.socket(side))
		if err == nil {
			conn.Close()
		}
		return err == nil, err
	})
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(c.dir, side, "charon.log"))
		c.t.Fatalf("%v\ncharon.log:\n%s", err, log)
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
	words := slices.Concat(c.in, []string{name}, args)
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		c.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// swanctl runs swanctl on one side.
func (c *charons) swanctl(side string, args ...string) (string, error) {
	return c.swanctlAt(c.socket(side), side, args...)
}

// swanctlAt is swanctl with another socket than charon's.
func (c *charons) swanctlAt(socket, side string, args ...string) (string, error) {
	run := exec.Command(filepath.Join(c.dir, "swanctl"), append(args, "--uri", "unix://"+socket)...)
	dir := filepath.Join(c.dir, side)
	run.Env = append(os.Environ(), "SWANCTL_DIR="+dir, "STRONGSWAN_CONF="+filepath.Join(dir, "strongswan.conf"))
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

// presented logs a client in again and returns the certificate that it was shown.
func (c *charons) presented(name string) *x509.Certificate {
	c.t.Helper()
	shown, err := c.shown(name)
	if err != nil {
		c.t.Fatal(err)
	}
	return shown
}

// shown is presented for a client whose login may fail.
func (c *charons) shown(name string) (*x509.Certificate, error) {
	c.t.Helper()
	c.mustSwanctl("client", "--flush-certs")
	if err := c.login(name); err != nil {
		return nil, err
	}
	s, err := charon.Dial(c.t.Context(), c.socket("client"))
	if err != nil {
		return nil, err
	}
	defer s.Close()
	certs, err := s.Certificates(c.t.Context())
	if err != nil {
		return nil, err
	}
	var leaves []*x509.Certificate
	for _, held := range certs {
		if cert, err := x509.ParseCertificate(held.DER); err == nil && !cert.IsCA {
			leaves = append(leaves, cert)
		}
	}
	if len(leaves) != 1 {
		return nil, fmt.Errorf("the client holds %d leaves", len(leaves))
	}
	return leaves[0], nil
}

// login connects a client again. The error has what swanctl printed.
func (c *charons) login(name string) error {
	c.swanctl("client", "--terminate", "--ike", name, "--timeout", "60")
	out, err := c.swanctl("client", "--initiate", "--ike", name, "--timeout", "60")
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// hook runs certhook as certbot does for a lineage; see certhook.
func (c *charons) hook(lineage string, args ...string) (output, log string, err error) {
	return c.certhook(map[string]string{"RENEWED_LINEAGE": lineage}, args...)
}

// arguments are the settings of certhook for the gateway.
func (c *charons) arguments() []string {
	return []string{"--config", os.DevNull, "--swanctl", filepath.Join(c.dir, "swanctl"), "--vici", c.socket("gw"),
		"--swanctl-dir", filepath.Join(c.dir, "gw"), "--unit", "tunnelcast-test-none.service"}
}

// certhook runs the command for the gateway in this process, and returns what it printed and
// what it logged.
func (c *charons) certhook(variables map[string]string, args ...string) (output, log string, err error) {
	var out, logged bytes.Buffer
	env := hook.Env{
		Name:   "certhook",
		Args:   append(c.arguments(), args...),
		Getenv: func(name string) string { return variables[name] },
		Stdout: &out, Stderr: &out,
		Log:    slog.New(slog.NewTextHandler(&logged, nil)),
		Result: slog.New(slog.NewTextHandler(&logged, nil)),
		Now:    time.Now,
	}
	err = run(c.t.Context(), env)
	return out.String(), logged.String(), err
}
