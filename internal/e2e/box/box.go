// Package box runs the guide's server and its VPN clients on one computer, for as long as a test or the demo needs
// them.
//
// The gateway is a Debian container with systemd, charon, bind9, nginx with its RTMP module and certbot, configured
// with the very files of packaging/examples. A small ACME server (pebble) inside it issues its certificate. Each client
// is a container with a charon of its own, connected to the gateway by a veth pair. ESP is done in user space
// (kernel-libipsec), so the kernel needs no IPsec. Clients share the gateway's tree. A publisher's ffmpeg is that of
// this computer, run in the client's network, so the gateway has no ffmpeg.
//
// Nothing of a run outlives its process, even if that is killed: see namespaces.
package box

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// The gateway's names and addresses, as in packaging/examples.
const (
	Zone    = "example"
	Name    = "vpn.example" // of the gateway and its certificate
	Inside  = "10.0.0.1"    // the gateway's address in the VPN
	Outside = "192.0.2.1"   // the gateway's address outside the VPN
	Archive = "/var/www/html/archive"
)

// Options are the options of a run.
type Options struct {
	Suite  string // of the gateway and its clients, a key of Releases; "" is bookworm
	Server Server
	// Step, if not nil, is called at the beginning of each part of Start and Client that takes a while.
	Step func(what string)
}

// A Server is the state of the gateway when Start returns.
type Server int

const (
	Guide Server = iota // set up as the guide describes
	Stock               // the guide's daemons are installed and not configured
	Bare                // Debian with systemd, and none of the guide's daemons
	VPS                 // what a reader of the guide begins with: see vps.go
)

// tree returns the kind of tree that the server boots.
func (s Server) tree() kind {
	switch s {
	case Bare:
		return bareKind
	case VPS:
		return vpsKind
	default:
		return daemonsKind
	}
}

// A Box is one run: a gateway and its clients.
type Box struct {
	Gateway    *Gateway
	options    Options
	tree       *tree
	namespaces *namespaces
	clients    int
}

// Missing returns an error that lists, in one line, what this computer lacks to run a box.
func Missing() error {
	var missing []string
	if os.Geteuid() != 0 {
		missing = append(missing, "root (it boots a server with its own mounts and networks)")
	}
	for _, tool := range []struct{ name, pkg string }{
		{"apt-get", "apt"}, {"debootstrap", "debootstrap"}, {"systemd-nspawn", "systemd-container"},
		{"ip", "iproute2"}, {"nsenter", "util-linux"}, {"unshare", "util-linux"}, {"mount", "mount"},
		{"ffmpeg", "ffmpeg"},
	} {
		if !found(tool.name) {
			missing = append(missing, fmt.Sprintf("%s (package %s)", tool.name, tool.pkg))
		}
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		missing = append(missing, "/dev/net/tun (modprobe tun)")
	}
	if len(missing) > 0 {
		return errors.New("the box needs " + strings.Join(missing, ", "))
	}
	return nil
}

// found reports whether a tool is in the PATH that commands get: a user's PATH on Debian has no sbin.
func found(tool string) bool {
	path, _ := strings.CutPrefix(environ()[0], "PATH=")
	for _, dir := range filepath.SplitList(path) {
		if _, err := exec.LookPath(filepath.Join(dir, tool)); err == nil {
			return true
		}
	}
	return false
}

// Start boots a gateway. The guide's server is then ready for clients: its units run, it has its certificate, charon
// has its connection, and the guide's scripts are installed; tunnelcast is not. That takes a few seconds if the cache
// has the tree. When Start fails, or ctx ends, nothing is left.
func Start(ctx context.Context, options Options) (_ *Box, err error) {
	if err := Missing(); err != nil {
		return nil, err
	}
	if options.Suite == "" {
		options.Suite = "bookworm"
	}
	b := &Box{options: options}
	if b.tree, err = openTree(ctx, options.Suite, options.Server.tree(), b.step); err != nil {
		return nil, err
	}
	cache, err := CacheDir()
	if err != nil {
		b.tree.close()
		return nil, err
	}
	if b.namespaces, err = newNamespaces(ctx, filepath.Join(cache, "box", "run")); err != nil {
		b.tree.close()
		return nil, err
	}
	defer func() {
		if err != nil {
			err = b.Explain(err)
			b.Close()
		}
	}()
	b.step("boot of the gateway")
	if b.Gateway, err = b.startGateway(ctx); err != nil {
		return nil, err
	}
	if options.Server != Guide {
		return b, nil
	}
	b.step("first certificate")
	if err := b.Gateway.Certify(ctx); err != nil {
		return nil, err
	}
	return b, nil
}

func (b *Box) step(what string) {
	if b.options.Step != nil {
		b.options.Step(what)
	}
}

// Close ends every process of the run and releases all that the run held.
func (b *Box) Close() error {
	defer b.tree.close()
	return b.namespaces.close()
}

// Journal returns the end of the gateway's journal, and saves all of it in a file that outlives the run.
func (b *Box) Journal() (string, error) {
	if b.Gateway == nil || b.Gateway.leader == 0 {
		return "", errors.New("save the journal: the gateway was not started")
	}
	// The caller's context has often ended already.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	text, err := b.Gateway.Run(ctx, "journalctl", "--no-pager", "--output=short-precise")
	if err != nil {
		text += b.Gateway.Console() + err.Error()
	}
	file := filepath.Join(os.TempDir(), fmt.Sprintf("tunnelcast-box-%d.journal", os.Getpid()))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("save the journal: %w", err)
	}
	return fmt.Sprintf("end of the gateway's journal (all of it is in %s):\n%s", file, lastLines(text, 40)), nil
}

// Explain adds the end of the gateway's journal to an error, unless the error is an interruption.
func (b *Box) Explain(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	journal, jerr := b.Journal()
	if jerr != nil {
		return fmt.Errorf("%w\n%w", err, jerr)
	}
	return fmt.Errorf("%w\n%s", err, journal)
}
