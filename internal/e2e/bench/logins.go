package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"tunnelcast/internal/vici"
)

// loginsAtOnce is the number of clients that log in at the same time. charon runs one hook at a time, whatever their
// number.
const loginsAtOnce = 4

// logins measures how long a real charon takes to let a number of clients in, with the hook and without. The clients
// are one charon with many connections.
func (b *bench) logins(ctx context.Context) error {
	server, err := b.startNamed(ctx)
	if err != nil {
		return err
	}
	all := clients("guest", b.pick(100, 8))
	c, err := b.startCharons(ctx, all)
	if err != nil {
		return err
	}
	gw, err := c.configure("/run/tunnelcast")
	if err != nil {
		return err
	}
	if _, err := gw.sync(ctx); err != nil {
		return err
	}
	in := func(with bool) func(int) (usage, error) {
		return func(int) (usage, error) {
			stop := func() error { return nil }
			if with {
				stop = gw.pathUnit(ctx)
			}
			start := time.Now()
			err := c.each(ctx, "initiate")
			u := usage{wall: time.Since(start)}
			return u, errors.Join(err, stop())
		}
	}
	out := func(int) error {
		names, err := server.names(ctx)
		if err != nil {
			return err
		}
		if err := c.each(ctx, "terminate"); err != nil {
			return err
		}
		_, err = gw.sync(ctx)
		left, namesErr := server.names(ctx)
		if err = errors.Join(err, namesErr); err == nil && len(left) > 0 {
			err = fmt.Errorf("%d clients had %d names; when all had left, there were %d",
				len(all), len(names), len(left))
		}
		return err
	}
	with := &side{before: func(int) error { return c.serve(ctx, string(gw.hook())) }, work: in(true),
		after: func(round int) error {
			names, err := server.names(ctx)
			if err == nil && len(names) != len(all) {
				err = fmt.Errorf("%d clients are connected, and the zone has %d names", len(all), len(names))
			}
			return errors.Join(err, out(round))
		}}
	without := &side{before: func(int) error { return c.serve(ctx, "") }, work: in(false), after: out}
	if err := measure(ctx, b.rounds(5, 1), with, without); err != nil {
		return err
	}
	rate := func(s *side) float64 { return float64(len(all)) / s.wall().median() }
	b.add(row{Work: fmt.Sprintf("%d logins at a real charon", len(all)), Unit: inSeconds, Ours: with.wall(),
		Against: "no hook", Theirs: without.wall(), Goal: times(1.25),
		Note: fmt.Sprintf("%d at a time: %s clients a second with the hook, %s without; the clients' charon has the "+
			"same processors", loginsAtOnce, digits(rate(with)), digits(rate(without)))})
	return nil
}

// charons are a gateway's and a client's charon-systemd, of the tree, which runs them by chroot: they load plugins by
// their paths. The client has a network namespace of its own.
type charons struct {
	*testbed // with the path of its directory that is the same inside the chroot
	clients  []client
}

const (
	gatewaySocket, clientSocket = "/run/charon.vici", "/run/client.vici"
	charonRoot                  = "/run/root"
	insideDir                   = "/run/bench"
)

// furnishCharons mounts the tree with the testbed's /run, and its directory at insideDir, inside and outside.
const furnishCharons = `set -e
tree=$1 dir=$2 root=` + charonRoot + ` inside=` + insideDir + `
mkdir $root $inside
mount --bind $tree $root
mount -o remount,bind,ro $root
mount --bind $dir $inside
mount --bind /run $root/run
mount --bind $dir $root$inside
mount --bind /dev $root/dev
mount -t proc proc $root/proc
mount -t tmpfs tmpfs $root/tmp
ip netns add client
ip link add outside type veth peer name outside netns client
ip address add 192.0.2.1/24 dev outside
ip link set outside up
ip -n client address add 192.0.2.2/24 dev outside
ip -n client link set outside up
ip -n client link set lo up`

// charonConf has no protection from many logins of one address. A packet that is lost is sent again soon: by default
// charon waits four seconds.
const charonConf = `charon-systemd {
	load_modular = no
	load = random nonce openssl pem pkcs1 pkcs8 x509 pubkey constraints kernel-libipsec kernel-netlink ` +
	`socket-default vici updown eap-identity eap-mschapv2 md4 hmac kdf gcm sha1 sha2 aes gmp curve25519
	dos_protection = no
	retransmit_timeout = 0.5
	retransmit_base = 1
	retransmit_tries = 60
	plugins { vici { socket = unix://%s } }
	filelog { all { path = %s
		default = 0 } }
}
swanctl {
	load = random openssl pem pkcs1 pkcs8 x509 pubkey
}
`

// startCharons starts both. The client has a connection for each client.
func (t *testbed) startCharons(ctx context.Context, all []client) (*charons, error) {
	furnish := exec.CommandContext(ctx, "/bin/sh", "-c", furnishCharons, "sh", t.tree, t.dir)
	if out, err := furnish.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("furnish the charons: %w\n%s", err, out)
	}
	inside := *t
	inside.dir = insideDir
	c := &charons{testbed: &inside, clients: all}
	for side, socket := range map[string]string{"gw": gatewaySocket, "client": clientSocket} {
		for _, sub := range []string{"x509", "private"} {
			if _, err := c.makeDir(filepath.Join(side, sub)); err != nil {
				return nil, err
			}
		}
		conf := fmt.Sprintf(charonConf, socket, c.file(side, "charon.log"))
		if err := os.WriteFile(c.file(side, "strongswan.conf"), []byte(conf), 0o600); err != nil {
			return nil, err
		}
	}
	if err := writeCertificate(c.file("gw", "private/gw.pem"), c.file("gw", "x509/gw.pem"),
		c.file("client", "x509/gw.pem")); err != nil {
		return nil, err
	}
	if err := os.WriteFile(c.file("client", "swanctl.conf"), []byte(clientConnections(all)), 0o600); err != nil {
		return nil, err
	}
	for side, words := range map[string][]string{"gw": nil, "client": {"ip", "netns", "exec", "client"}} {
		words = append(words, "env", "STRONGSWAN_CONF="+c.file(side, "strongswan.conf"),
			"chroot", charonRoot, "/usr/sbin/charon-systemd")
		daemon, err := t.start(words, c.file(side, "out"))
		if err != nil {
			return nil, err
		}
		err = daemon.Wait(ctx, "charon of "+side, func() (bool, error) {
			conn, err := net.Dial("unix", c.socket(side))
			if err == nil {
				conn.Close()
			}
			return err == nil, err
		})
		if err != nil {
			return nil, err
		}
	}
	return c, errors.Join(c.swanctl(ctx, "client", "--load-all", "--noprompt"), c.serve(ctx, ""))
}

func (c *charons) file(side, name string) string { return filepath.Join(c.scratch(), side, name) }

func (c *charons) socket(side string) string {
	if side == "client" {
		return clientSocket
	}
	return gatewaySocket
}

func (c *charons) swanctl(ctx context.Context, side string, args ...string) error {
	words := append([]string{charonRoot, "/usr/sbin/swanctl"}, args...)
	cmd := exec.CommandContext(ctx, "chroot", append(words, "--uri", "unix://"+c.socket(side))...)
	cmd.Env = append(os.Environ(), "SWANCTL_DIR="+c.file(side, ""), "STRONGSWAN_CONF="+c.file(side, "strongswan.conf"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("swanctl %s on %s: %w\n%s", strings.Join(args, " "), side, err, out)
	}
	return nil
}

// serve loads the gateway's configuration, with a hook or without.
func (c *charons) serve(ctx context.Context, hook string) error {
	if hook != "" {
		hook = "updown = " + hook
	}
	var ids strings.Builder
	for i, client := range c.clients {
		fmt.Fprintf(&ids, "\tid-%d = %s\n", i, client.name)
	}
	conf := `connections { vpn {
	version = 2
	pools = everybody
	local { auth = pubkey
		certs = gw.pem
		id = vpn.example }
	remote { auth = eap-mschapv2
		eap_id = %any }
	children { net { local_ts = 10.0.0.1/32
		` + hook + ` } }
} }
pools { everybody { addrs = 10.9.0.0/16 } }
secrets { eap {
` + ids.String() + `	secret = wonderland } }
`
	if err := os.WriteFile(c.file("gw", "swanctl.conf"), []byte(conf), 0o600); err != nil {
		return err
	}
	return c.swanctl(ctx, "gw", "--load-all", "--noprompt")
}

func clientConnections(all []client) string {
	var connections, secrets strings.Builder
	for i, c := range all {
		fmt.Fprintf(&connections, `%[1]s { version = 2
	remote_addrs = 192.0.2.1
	vips = 0.0.0.0
	local { auth = eap-mschapv2
		id = %[1]s
		eap_id = %[1]s }
	remote { auth = pubkey
		certs = gw.pem
		id = vpn.example }
	children { %[1]s { remote_ts = 10.0.0.1/32 } }
}
`, c.name)
		fmt.Fprintf(&secrets, "\tid-%d = %s\n", i, c.name)
	}
	return "connections {\n" + connections.String() + "}\nsecrets { eap {\n" + secrets.String() +
		"\tsecret = wonderland } }\n"
}

// each has every client initiate or terminate its connection, loginsAtOnce at a time.
func (c *charons) each(ctx context.Context, command string) error {
	var group sync.WaitGroup
	queue, failed := make(chan client, len(c.clients)), make(chan error, loginsAtOnce)
	for _, who := range c.clients {
		queue <- who
	}
	close(queue)
	for range loginsAtOnce {
		group.Go(func() { failed <- c.call(ctx, command, queue) })
	}
	group.Wait()
	close(failed)
	var err error
	for e := range failed {
		err = errors.Join(err, e)
	}
	return err
}

func (c *charons) call(ctx context.Context, command string, queue <-chan client) error {
	conn, err := net.Dial("unix", clientSocket)
	if err != nil {
		return err
	}
	charon := vici.NewClient(conn)
	defer charon.Close()
	for who := range queue {
		fields := []vici.Field{vici.Value("ike", who.name), vici.Value("timeout", "60000")}
		if command == "initiate" {
			fields = append(fields, vici.Value("child", who.name))
		}
		request, err := vici.Encode(fields...)
		if err == nil {
			_, err = charon.Call(ctx, command, request)
		}
		if err != nil {
			log, _ := os.ReadFile(c.file("client", "charon.log"))
			return fmt.Errorf("%s %s: %w\n%s", command, who.name, err, log[max(0, len(log)-2000):])
		}
	}
	return nil
}
