package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"tunnelcast/internal/e2e/box"
)

// A story is the demo, from the installation of the package. The first error ends it.
type story struct {
	ctx context.Context
	*screen
	box           *box.Box
	laptop, phone *box.Client
}

func (t *story) tell(deb string) error {
	for _, chapter := range []struct {
		title string
		tell  func() error
	}{
		{"tunnelcast replaces the guide's shell lines", func() error { return t.install(deb) }},
		{"Clients connect, and have names", t.names},
		{"A stream is published, and recorded", t.recording},
		{"An old recording is removed", t.prune},
		{"The certificate is renewed", t.renewal},
		{"A client disconnects, and its name is removed", t.leave},
	} {
		t.chapter(chapter.title)
		if err := chapter.tell(); err != nil {
			return err
		}
	}
	return nil
}

// onGateway runs a command line on the gateway and shows it with its output.
func (t *story) onGateway(line string) error {
	out, err := t.box.Gateway.Run(t.ctx, "sh", "-c", line)
	t.show(line, out)
	return err
}

// journal shows the last lines that a program wrote to the gateway's journal.
func (t *story) journal(program string, lines int) error {
	return t.onGateway(fmt.Sprintf("journalctl -t tunnelcast-%s -n %d --no-hostname", program, lines))
}

func (t *story) install(deb string) error {
	t.begin("apt install")
	if err := t.box.Gateway.Install(t.ctx, deb); err != nil {
		return err
	}
	t.end("installed with apt; the server's configuration is untouched")
	for _, program := range []string{"updown", "recorddone", "certhook"} {
		link := box.Links[program]
		target, err := t.box.Gateway.Run(t.ctx, "readlink", "-f", link)
		if err != nil {
			return err
		}
		t.show("", fmt.Sprintf("%-48s -> %s", link, target))
	}
	return t.onGateway("systemctl list-units --no-legend --plain 'tunnelcast-*.timer' 'tunnelcast-*.path'")
}

// connect starts a device, connects it and shows its name.
func (t *story) connect(device, user string) (*box.Client, error) {
	c, err := t.box.Client(t.ctx, device)
	if err != nil {
		return nil, err
	}
	t.begin("swanctl --initiate")
	address, err := c.Connect(t.ctx, user)
	if err != nil {
		return nil, err
	}
	t.end(fmt.Sprintf("%s connected from the %s; the virtual IP is %s", user, device, address))
	return c, t.dig(c, user)
}

func (t *story) dig(c *box.Client, user string) error {
	name := user + "." + box.Zone
	addresses, err := c.Dig(t.ctx, name)
	if err != nil {
		return err
	}
	t.show(fmt.Sprintf("dig +short %s @%s", name, box.Inside), strings.Join(addresses, "\n"))
	if len(addresses) != 1 {
		return fmt.Errorf("%s is connected, but %s has addresses %v", user, name, addresses)
	}
	return nil
}

func (t *story) names() (err error) {
	if t.laptop, err = t.connect("laptop", "alice"); err != nil {
		return err
	}
	if _, err = t.connect("tablet", "bob"); err != nil {
		return err
	}
	return t.journal("updown", 2)
}

func (t *story) recording() error {
	const seconds = 5
	t.begin(fmt.Sprintf("ffmpeg publishes rtmp://%s/live/garden through the tunnel", box.Inside))
	if err := t.laptop.Publish(t.ctx, "garden", seconds); err != nil {
		return err
	}
	t.end(fmt.Sprintf("alice published %d s of rtmp://%s/live/garden through the tunnel", seconds, box.Inside))

	t.begin("recorddone")
	var recordings []string
	err := box.Poll(t.ctx, box.Patience, "the recording to become an MP4", func() (bool, error) {
		var err error
		recordings, err = t.box.Gateway.Recordings()
		return len(recordings) == 1 && strings.HasSuffix(recordings[0], ".mp4"), err
	})
	if err != nil {
		return fmt.Errorf("%w; the archive holds %v", err, recordings)
	}
	t.end("after its end, recorddone replaced the FLV by an MP4")
	codecs, err := box.Probe(t.ctx, t.box.Gateway.Path(box.Archive+"/"+recordings[0]))
	if err != nil {
		return err
	}
	if err := errors.Join(t.archive(), t.journal("recorddone", 2)); err != nil {
		return err
	}
	t.show("", "ffmpeg plays it from end to end: "+codecs)
	return nil
}

func (t *story) archive() error { return t.onGateway("ls -l " + box.Archive) }

func (t *story) prune() error {
	const old = "lastweek-2026-01-01_12-00-00.mp4"
	for _, command := range [][]string{
		{"install", "-m", "644", "-o", "www-data", "-g", "www-data", "/etc/services", box.Archive + "/" + old},
		{"touch", "-d", "7 days ago", box.Archive + "/" + old},
	} {
		if _, err := t.box.Gateway.Run(t.ctx, command...); err != nil {
			return err
		}
	}
	if err := t.archive(); err != nil {
		return err
	}
	t.begin("tunnelcast-archiveprune.service")
	if _, err := t.box.Gateway.Run(t.ctx, "systemctl", "start", "tunnelcast-archiveprune.service"); err != nil {
		return err
	}
	t.end("the timer's service removed the recordings that were older than 72 hours")
	recordings, err := t.box.Gateway.Recordings()
	if err != nil {
		return err
	}
	if slices.Contains(recordings, old) {
		return fmt.Errorf("%s was not removed", old)
	}
	return errors.Join(t.archive(), t.journal("archiveprune", 2))
}

func (t *story) renewal() (err error) {
	before, err := t.laptop.ServerCertSerial(t.ctx)
	if err != nil {
		return err
	}
	t.show("", "charon presented alice the certificate with serial number "+before)
	t.begin("certbot renew --force-renewal")
	if _, err := t.box.Gateway.Renew(t.ctx); err != nil {
		return err
	}
	t.end("certbot renewed it and called its deploy hook")
	if err := t.journal("certhook", 2); err != nil {
		return err
	}
	if t.phone, err = t.connect("phone", "carol"); err != nil {
		return err
	}
	after, err := t.phone.ServerCertSerial(t.ctx)
	if err != nil {
		return err
	}
	t.show("", "charon presented carol the certificate with serial number "+after)
	if renewed, err := t.box.Gateway.CertSerial(t.ctx); err != nil || after != renewed {
		return errors.Join(err, fmt.Errorf("charon presented carol %s, the renewed certificate is %s", after, renewed))
	}
	up, err := t.laptop.Connected(t.ctx)
	if err != nil || !up {
		return errors.Join(err, errors.New("alice's tunnel did not survive the renewal"))
	}
	t.show("", "alice's tunnel is the same as before:")
	return t.dig(t.laptop, "alice")
}

func (t *story) leave() error {
	t.begin("swanctl --terminate")
	if err := t.laptop.Disconnect(t.ctx); err != nil {
		return err
	}
	t.end("alice disconnected")
	name := "alice." + box.Zone
	t.begin("sync removes the name")
	var answer []string
	err := box.Poll(t.ctx, box.Patience, "the removal of "+name, func() (bool, error) {
		var err error
		answer, err = t.phone.Dig(t.ctx, name)
		return err == nil && len(answer) == 0, err
	})
	if err != nil {
		return err
	}
	t.end("sync removed " + name)
	return errors.Join(
		t.onGateway("dig @127.0.0.1 "+name+" | grep -o 'status: [A-Z]*'"),
		t.journal("updown", 1))
}
