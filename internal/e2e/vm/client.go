package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"

	"tunnelcast/internal/e2e/box"
)

// A Client is a device: namespaces in the machine, in which a charon of its own runs.
type Client struct {
	box.Tunnel
	machine *Machine
	unit    string
	enter   []string // the words that run a command on the device
}

// The device has its own /run and settings. Its charon and swanctl are copies that no AppArmor profile names: it is the
// gateway's that are to be tested. It trusts the authority that issued the gateway's certificate. pebble is another one
// after each boot, so its certificate is kept, also through a power failure.
const device = `
name=$1 number=$2 address=$3 outside=$4
dir=/srv/$name
mkdir -p "$dir/swanctl/conf.d" "$dir/swanctl/x509ca"
cp -a /etc/strongswan.d "$dir/"
printf 'resolve {\n load = no\n}\n' >"$dir/strongswan.d/charon/resolve.conf"
echo 'include conf.d/*.conf' >"$dir/swanctl/swanctl.conf"
[ -s /srv/root.pem ] || curl -sSf -o /srv/root.pem https://localhost:15000/roots/0
sync /srv/root.pem /srv
cp /srv/root.pem "$dir/swanctl/x509ca/"
systemd-run --quiet --collect --unit="$name" --property=PrivateNetwork=yes \
	--property=TemporaryFileSystem='/run /var/log' \
	--property=BindPaths="$dir/swanctl:/etc/swanctl $dir/strongswan.d:/etc/strongswan.d" \
	/usr/local/lib/client/charon-systemd
pid=$(systemctl show --property=MainPID --value "$name")
ip link add "$name" type veth peer name uplink netns "$pid"
ip link set "$name" up
ip route add "$address/32" dev "$name" src "$outside"
nsenter -t "$pid" -n ip address add "$address/32" peer "$outside" dev uplink
nsenter -t "$pid" -n ip link set uplink up
echo "$pid"`

// Client starts a device. Its name appears in messages only; the gateway does not know it.
func (m *Machine) Client(ctx context.Context, name string) (*Client, error) {
	m.clients++
	number := strconv.Itoa(m.clients)
	c := &Client{machine: m, unit: "client" + number}
	pid, err := m.Shell(ctx, device, c.unit, number, "198.51.100."+number, box.Outside)
	if err != nil {
		return nil, fmt.Errorf("start device %s: %w", name, err)
	}
	c.enter = []string{"nsenter", "--target", strings.TrimSpace(pid), "--mount", "--net", "--"}
	c.Tunnel = box.NewTunnel(c, name)
	return c, m.Wait(ctx, "charon of "+name, func() (bool, error) {
		_, err := c.Run(ctx, "swanctl", "--stats")
		return err == nil, err
	})
}

// Close ends the device without a message to the gateway, as a power failure does. Its error, if the machine has ended,
// tells nothing more.
func (c *Client) Close() {
	_, _ = c.machine.Shell(context.Background(), `systemctl kill --signal=KILL "$1"; ip link delete "$1" || :`, c.unit)
}

// Run runs a command on the device, as its root, and returns its standard output. The error is a *box.CommandError.
func (c *Client) Run(ctx context.Context, args ...string) (string, error) {
	if args[0] == "swanctl" {
		args = append([]string{"/usr/local/lib/client/swanctl"}, args[1:]...)
	}
	return c.machine.Run(ctx, append(c.enter[:len(c.enter):len(c.enter)], args...)...)
}

// Command is Run with streams that are connected.
func (c *Client) Command(ctx context.Context, stdin io.Reader, stdout io.Writer, args ...string) error {
	return c.machine.Command(ctx, stdin, stdout, append(c.enter[:len(c.enter):len(c.enter)], args...)...)
}

// WriteFile writes a file of the device.
func (c *Client) WriteFile(name, content string, mode os.FileMode) error {
	return writeFile(c.Command, name, content, mode)
}

// Wait is that of the machine.
func (c *Client) Wait(ctx context.Context, what string, ready func() (bool, error)) error {
	return c.machine.Wait(ctx, what, ready)
}

// Publish sends a test picture and a tone to the gateway, by RTMP through the tunnel, in real time. This computer's
// ffmpeg makes them; the agent takes them into the machine.
func (c *Client) Publish(ctx context.Context, stream string, seconds int) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("publish %s: %w", stream, err)
	}
	defer listener.Close()
	relayed := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			err = c.Command(ctx, conn, conn, "/usr/local/sbin/agent", "tcp", box.Inside+":1935")
			conn.Close()
		}
		relayed <- err
	}()
	url := "rtmp://" + listener.Addr().String() + "/live/" + stream
	_, err = box.Output(ctx, box.Camera(seconds, int(c.machine.streams.Add(1)), url)...)
	listener.Close()
	if err := errors.Join(err, <-relayed); err != nil {
		return fmt.Errorf("publish %s for %d s: %w", stream, seconds, err)
	}
	return nil
}
