// Package box is a server as the guide builds it, with VPN clients before it, on one machine and gone afterwards.
//
// The gateway is a Debian container with systemd, charon, bind9, nginx with its RTMP module and certbot, configured
// with the very files of packaging/examples. A small ACME server (pebble) inside it issues its certificate. Each client is
// a container with a charon of its own, joined to the gateway by a veth pair. ESP is done in user space
// (kernel-libipsec), so the kernel needs no IPsec. Clients share the gateway's tree; a publisher's ffmpeg is this
// machine's own, run in the client's network, so that the gateway has none.
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

// Where the gateway is and what it serves, as in packaging/examples.
const (
	Zone    = "example"
	Name    = "vpn.example" // of the gateway and its certificate
	Inside  = "10.0.0.1"    // the gateway's address in the VPN
	Outside = "192.0.2.1"   // the gateway's address before it
	Archive = "/var/www/html/archive"
)

// Options of a run.
type Options struct {
	Suite  string // of the gateway and its clients, one of Releases; "" is bookworm
	Server Server
	// Step, if not nil, is told of each part of Start and Client that takes a while.
	Step func(what string)
}

// A Server is what the gateway is before the first test looks at it.
type Server int

const (
	Guide Server = iota // as the guide leaves it
	Stock               // the guide's daemons as their packages leave them
	Bare                // Debian with systemd and no daemon
)

// A Box is one run: a gateway and its clients.
type Box struct {
	Gateway    *Gateway
	options    Options
	tree       *tree
	namespaces *namespaces
	clients    int
}

// Missing says what this machine lacks to run a box, in one line; nil if nothing.
func Missing() error {
	var missing []string
	if os.Geteuid() != 0 {
		missing = append(missing, "root (it boots a server with mounts and networks of its own)")
	}
	for _, tool := range []struct{ name, pkg string }{
		{"apt-get", "apt"}, {"debootstrap", "debootstrap"}, {"systemd-nspawn", "systemd-container"},
		{"ip", "iproute2"}, {"nsenter", "util-linux"}, {"unshare", "util-linux"}, {"mount", "mount"}, {"ffmpeg", "ffmpeg"},
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

// found says whether a tool is where commands will look for it: a user's PATH on Debian has no sbin.
func found(tool string) bool {
	path, _ := strings.CutPrefix(environ()[0], "PATH=")
	for _, dir := range filepath.SplitList(path) {
		if _, err := exec.LookPath(filepath.Join(dir, tool)); err == nil {
			return true
		}
	}
	return false
}

// Start boots a gateway. The guide's is then ready for clients: its units run, it has its certificate, charon its
// connection; the guide's scripts are in place, tunnelcast is not. With the tree in the cache that takes a few seconds.
// When it fails, or ctx ends, nothing is left.
func Start(ctx context.Context, options Options) (_ *Box, err error) {
	if err := Missing(); err != nil {
		return nil, err
	}
	if options.Suite == "" {
		options.Suite = "bookworm"
	}
	b := &Box{options: options}
	if b.tree, err = openTree(ctx, options.Suite, options.Server == Bare, b.step); err != nil {
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
	if err := b.Gateway.setUp(ctx); err != nil {
		return nil, err
	}
	return b, nil
}

func (b *Box) step(what string) {
	if b.options.Step != nil {
		b.options.Step(what)
	}
}

// Close ends every process of the run and gives back all that it held.
func (b *Box) Close() error {
	defer b.tree.close()
	return b.namespaces.close()
}

// Journal returns the end of the gateway's journal and the name of a file with all of it, which outlives the run.
func (b *Box) Journal() (string, error) {
	if b.Gateway == nil || b.Gateway.leader == 0 {
		return "", errors.New("save the journal: the gateway was not started")
	}
	// Often this is called because a context has ended.
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
	return fmt.Sprintf("end of the gateway's journal, which is whole in %s:\n%s", file, lastLines(text, 40)), nil
}

// Explain adds the end of the gateway's journal to an error. After an interruption nobody wants it.
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
