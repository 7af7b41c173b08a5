package box

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync/atomic"
)

// A Client is a device with its own network and its own charon.
type Client struct {
	*machine
	Tunnel
	streams atomic.Int64 // that Publish has sent
}

// Client starts a device. Its name appears in messages only; the gateway does not know it.
func (b *Box) Client(ctx context.Context, name string) (*Client, error) {
	c, err := b.device(ctx, name)
	if err != nil {
		return nil, err
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
		if err := c.WriteFile(name, content, 0o644); err != nil {
			return nil, err
		}
	}
	return c, c.boot(ctx)
}

// device makes a machine with a cable to the gateway, and does not start it.
func (b *Box) device(ctx context.Context, name string) (*Client, error) {
	b.clients++
	m, err := newMachine(ctx, b.namespaces, b.tree.dir, name+strconv.Itoa(b.clients))
	if err != nil {
		return nil, err
	}
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
	return &Client{machine: m, Tunnel: NewTunnel(m, m.name)}, nil
}

// boot starts the device's charon and waits until that answers.
func (c *Client) boot(ctx context.Context) error {
	if err := c.start(ctx, "/usr/sbin/charon-systemd"); err != nil {
		return err
	}
	return c.Wait(ctx, "charon of "+c.name, func() (bool, error) {
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

// Host runs a command of this computer in the device's network, and returns its standard output.
func (c *Client) Host(ctx context.Context, args ...string) (string, error) {
	return c.net(ctx, args...)
}

// Publish sends a test picture and a tone to the gateway, by RTMP through the tunnel, in real time. Each stream has
// another tone: of two recordings with the same content, recorddone would keep only one MP4.
func (c *Client) Publish(ctx context.Context, stream string, seconds int) error {
	_, err := c.net(ctx, Camera(seconds, int(c.streams.Add(1)), "rtmp://"+Inside+"/live/"+stream)...)
	if err != nil {
		return fmt.Errorf("publish %s for %d s: %w", stream, seconds, err)
	}
	return nil
}

// Camera returns the command, for this computer, that sends a test picture and a tone by RTMP in real time. Each number
// has another tone.
func Camera(seconds, number int, url string) []string {
	return []string{"ffmpeg", "-nostdin", "-hide_banner", "-loglevel", "error",
		"-re", "-f", "lavfi", "-i", "testsrc=size=320x240:rate=25",
		"-re", "-f", "lavfi", "-i", fmt.Sprintf("sine=frequency=%d:sample_rate=48000", 440+20*(number%100)),
		"-t", strconv.Itoa(seconds), "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "25",
		"-c:a", "aac", "-f", "flv", url}
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
	return c.Look(ctx, url, "--autoplay-policy=no-user-gesture-required")
}

// Look opens a page as Browse does, with more flags of Chromium: such as --screenshot, after which Chromium ends.
func (c *Client) Look(ctx context.Context, url string, flags ...string) error {
	profile := filepath.Join(c.namespaces.dir, c.name, "chromium")
	args := append([]string{"chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
		"--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
		"--no-proxy-server", "--user-data-dir=" + profile}, flags...)
	if _, err := c.net(ctx, append(args, url)...); err != nil {
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
