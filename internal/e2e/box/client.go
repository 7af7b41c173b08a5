package box

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
)

// A Client is a device with its own network and its own charon.
type Client struct {
	*machine
	streams atomic.Int64 // that Publish has sent
}

// Client starts a device. Its name appears in messages only; the gateway does not know it.
func (b *Box) Client(ctx context.Context, name string) (*Client, error) {
	b.clients++
	m, err := newMachine(ctx, b.namespaces, b.tree.dir, name+strconv.Itoa(b.clients))
	if err != nil {
		return nil, err
	}
	c := &Client{machine: m}
	address := fmt.Sprintf("198.51.100.%d", b.clients)
	gateway := filepath.Join(b.namespaces.dir, b.Gateway.name, "net")
	near := "client" + strconv.Itoa(b.clients)
	for _, cmd := range [][]string{
		{"ip", "link", "add", "uplink", "type", "veth", "peer", "name", near, "netns", gateway},
		{"ip", "address", "add", address + "/32", "peer", Outside, "dev", "uplink"},
		{"ip", "link", "set", "uplink", "up"},
	} {
		if _, err := m.net(ctx, cmd...); err != nil {
			return nil, err
		}
	}
	for _, cmd := range [][]string{
		{"ip", "link", "set", near, "up"},
		{"ip", "route", "add", address + "/32", "dev", near, "src", Outside},
	} {
		if _, err := b.Gateway.net(ctx, cmd...); err != nil {
			return nil, err
		}
	}
	root, err := b.Gateway.Root(ctx)
	if err != nil {
		return nil, err
	}
	for name, content := range map[string]string{
		"/etc/strongswan.d/charon/kernel-libipsec.conf": own("kernel-libipsec.conf"),
		"/etc/strongswan.d/log.conf":                    own("client-log.conf"),
		"/etc/swanctl/x509ca/root.pem":                  root,
	} {
		if err := m.WriteFile(name, content, 0o644); err != nil {
			return nil, err
		}
	}
	return c, c.boot(ctx)
}

// boot starts the device's charon and waits until that answers.
func (c *Client) boot(ctx context.Context) error {
	if err := c.start(ctx, "/usr/sbin/charon-systemd"); err != nil {
		return err
	}
	return c.wait(ctx, "charon of "+c.name, func() (bool, error) {
		_, err := c.Run(ctx, "swanctl", "--stats")
		return err == nil, err
	})
}

// Restart ends the device like Close and starts it again, with the same files and the same outer address.
func (c *Client) Restart(ctx context.Context) error {
	c.stop()
	c.leader, c.done = 0, make(chan struct{})
	return c.boot(ctx)
}

// Close ends the device without a message to the gateway, as a power failure does.
func (c *Client) Close() { c.stop() }

// Connect establishes the tunnel as one of Users and returns the virtual IP.
func (c *Client) Connect(ctx context.Context, user string) (address string, err error) {
	config, err := clientConfig(user)
	if err != nil {
		return "", err
	}
	if err := c.WriteFile("/etc/swanctl/conf.d/vpn.conf", config, 0o600); err != nil {
		return "", err
	}
	// The cache may hold an earlier certificate of the gateway: see ServerCertSerial.
	for _, cmd := range [][]string{
		{"swanctl", "--load-all", "--clear", "--noprompt"},
		{"swanctl", "--flush-certs"},
		{"swanctl", "--initiate", "--child", "net", "--timeout", "60"},
	} {
		if _, err := c.Run(ctx, cmd...); err != nil {
			return "", fmt.Errorf("connect %s as %s: %w", c.name, user, err)
		}
	}
	return c.Address(ctx)
}

var virtualIP = regexp.MustCompile(`local-vips=\[([0-9.]+)`)

// Address returns the device's virtual IP.
func (c *Client) Address(ctx context.Context) (string, error) {
	sas, err := c.Run(ctx, "swanctl", "--list-sas", "--raw")
	if err != nil {
		return "", err
	}
	m := virtualIP.FindStringSubmatch(sas)
	if m == nil {
		return "", fmt.Errorf("find the virtual IP of %s: charon has %q", c.name, sas)
	}
	return m[1], nil
}

// Connected reports whether the tunnel is up, according to the device.
func (c *Client) Connected(ctx context.Context) (bool, error) {
	sas, err := c.Run(ctx, "swanctl", "--list-sas", "--raw")
	return strings.Contains(sas, "state=INSTALLED"), err
}

// Disconnect closes the tunnel and returns when the gateway has answered.
func (c *Client) Disconnect(ctx context.Context) error {
	_, err := c.Run(ctx, "swanctl", "--terminate", "--ike", "vpn", "--timeout", "60")
	return err
}

// Dig asks the gateway's name server, through the tunnel, for the addresses of a name, and returns none if the name
// does not exist. It is an error if the server does not answer.
func (c *Client) Dig(ctx context.Context, name string) ([]string, error) {
	out, err := c.Run(ctx, "dig", "@"+Inside, "+short", "+time=2", "+tries=2", name+".", "A")
	if err != nil {
		return nil, err
	}
	return strings.Fields(out), nil
}

var serial = regexp.MustCompile(`serial: +(\S+)`)

// ServerCertSerial returns the serial number, in upper case hexadecimal, of the certificate that the gateway's charon
// presented when this device last connected.
func (c *Client) ServerCertSerial(ctx context.Context) (string, error) {
	out, err := c.Run(ctx, "swanctl", "--list-certs", "--type", "x509")
	if err != nil {
		return "", err
	}
	// Newer versions of certbot request certificates without a subject.
	named := regexp.MustCompile(`altNames: .*\b` + regexp.QuoteMeta(Name) + `\b`)
	var serials []string
	for cert := range strings.SplitSeq(out, "\n\n") {
		if m := serial.FindStringSubmatch(cert); m != nil && named.MatchString(cert) {
			serials = append(serials, plainSerial(m[1]))
		}
	}
	if len(serials) != 1 {
		return "", fmt.Errorf("find the gateway's certificate: charon of %s holds %d certificates of %s:\n%s",
			c.name, len(serials), Name, out)
	}
	return serials[0], nil
}

// Publish sends a test picture and a tone to the gateway, by RTMP through the tunnel, in real time. Each stream has
// another tone: of two recordings with the same content, recorddone would keep only one MP4.
func (c *Client) Publish(ctx context.Context, stream string, seconds int) error {
	length := strconv.Itoa(seconds)
	tone := 440 + 20*(c.streams.Add(1)%100)
	_, err := c.net(ctx, "ffmpeg", "-nostdin", "-hide_banner", "-loglevel", "error",
		"-re", "-f", "lavfi", "-i", "testsrc=size=320x240:rate=25",
		"-re", "-f", "lavfi", "-i", fmt.Sprintf("sine=frequency=%d:sample_rate=48000", tone),
		"-t", length, "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "25",
		"-c:a", "aac", "-f", "flv", "rtmp://"+Inside+"/live/"+stream)
	if err != nil {
		return fmt.Errorf("publish %s for %d s: %w", stream, seconds, err)
	}
	return nil
}

// PublishFile sends an FLV file to the gateway unchanged, by RTMP through the tunnel, in real time.
func (c *Client) PublishFile(ctx context.Context, stream, file string) error {
	_, err := c.net(ctx, "ffmpeg", "-nostdin", "-hide_banner", "-loglevel", "error",
		"-re", "-i", file, "-c", "copy", "-f", "flv", "rtmp://"+Inside+"/live/"+stream)
	if err != nil {
		return fmt.Errorf("publish %s as %s: %w", file, stream, err)
	}
	return nil
}

// Browse opens a page in this computer's Chromium, without a window and in the device's network, until ctx ends.
func (c *Client) Browse(ctx context.Context, url string) error {
	profile := filepath.Join(c.namespaces.dir, c.name, "chromium")
	_, err := c.net(ctx, "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server",
		"--autoplay-policy=no-user-gesture-required", "--user-data-dir="+profile, url)
	if err != nil {
		return fmt.Errorf("browse %s: %w", url, err)
	}
	return nil
}

// Log returns the log of the device's charon.
func (c *Client) Log() (string, error) {
	log, err := c.ReadFile("/var/log/charon.log")
	if err != nil {
		return "", errors.Join(err, errors.New(c.Console()))
	}
	return log, nil
}
