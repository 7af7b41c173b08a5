package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// The set-up of docs/scale.md: a primary that two gateways update, each with its own key and its own pool, and a
// secondary.
const (
	primaryAddr, secondaryAddr = "10.0.0.1", "10.0.0.2"

	sharedZone = `key "gw1" { algorithm hmac-sha256; secret "Z2F0ZXdheSBvbmUncyBvd24ga2V5IGZvciBhIGJlbmNo"; };
key "gw2" { algorithm hmac-sha256; secret "Z2F0ZXdheSB0d28ncyBvd24ga2V5IGZvciBhIGJlbmNo"; };
key "ns2" { algorithm hmac-sha256; secret "dGhlIHNlY29uZGFyeSdzIG93biBrZXkgZm9yIGEgYmVuY2g="; };
zone "example" {
	type primary;
	file "db.example";
	update-policy {
		deny * name example. ANY;
		deny * name ns.example. ANY;
		deny * name vpn.example. ANY;
		grant gw1 zonesub A AAAA;
		grant gw2 zonesub A AAAA;
	};
	allow-transfer { key gw1; key gw2; key ns2; };
	notify explicit;
	also-notify { 10.0.0.2; };
	notify-source 10.0.0.1;
};
zone "0.9.10.in-addr.arpa" {
	type primary;
	file "db.reverse";
	update-policy { grant gw1 zonesub PTR; };
	allow-transfer { key gw1; };
};
`
	// The reverse zone of the first gateway's first clients.
	reverseZone   = "0.9.10.in-addr.arpa"
	secondaryZone = `key "ns2" { algorithm hmac-sha256; secret "dGhlIHNlY29uZGFyeSdzIG93biBrZXkgZm9yIGEgYmVuY2g="; };
zone "example" {
	type secondary;
	primaries { 10.0.0.1 key ns2; };
	file "db.example";
};
`
)

// keyFile writes a gateway's key to a file, in the format of tsig-keygen.
func (n *named) keyFile(name string) (file string, err error) {
	file = filepath.Join(n.dir, name+".key")
	for line := range strings.Lines(sharedZone) {
		if strings.HasPrefix(line, "key \""+name) {
			return file, os.WriteFile(file, []byte(line), 0o600)
		}
	}
	return "", fmt.Errorf("the configuration has no key %s", name)
}

// gateways measures two gateways that share a zone, and its secondary. It tests what docs/scale.md says about them.
func (b *bench) gateways(ctx context.Context) error {
	primary, err := b.startServer(ctx, "primary", primaryAddr, sharedZone, true)
	if err != nil {
		return err
	}
	secondary, err := b.startServer(ctx, "secondary", secondaryAddr, secondaryZone, false)
	if err != nil {
		return err
	}
	count := b.pick(500, 20) // of each
	everybody := clients("roadwarrior", 2*count)
	var all [2][]client
	var gws [2]*updown
	var pools [2]string
	settings := [2][]string{{fmt.Sprintf("reverse-zones = %q", reverseZone)}}
	for i := range gws {
		name := fmt.Sprint("gw", i+1)
		key, err := primary.keyFile(name)
		if err != nil {
			return err
		}
		primary.key = key // a transfer needs one
		all[i] = everybody[i*count : (i+1)*count]
		pools[i] = all[i][0].addr + "-" + all[i][count-1].addr
		socket, runDir := "/run/"+name+".vici", "/run/tunnelcast-"+name
		for _, setting := range [][2]string{
			{"server", primaryAddr}, {"key", key}, {"vici", socket}, {"run-dir", runDir}, {"pools", pools[i]},
		} {
			settings[i] = append(settings[i], fmt.Sprintf("%s = %q", setting[0], setting[1]))
		}
		gws[i], err = b.startUpdown(ctx, socket, runDir, settings[i]...)
		if err != nil {
			return err
		}
	}

	// Both fill the zone at the same time. Then the first gateway's clients leave; the second one's keep their names.
	var took [2]time.Duration
	var failed [2]error
	var group sync.WaitGroup
	for i, gw := range gws {
		group.Go(func() { took[i], failed[i] = gw.arrive(ctx, all[i]) })
	}
	group.Wait()
	copied, err := secondary.catchUp(ctx, primary)
	err = errors.Join(failed[0], failed[1], err,
		primary.holds(ctx, everybody), primary.points(ctx, all[0][0], all[0][count/2-1]))
	if err != nil {
		return err
	}
	if _, err := gws[0].leave(ctx, all[0]); err != nil {
		return err
	}
	if _, err := secondary.catchUp(ctx, primary); err != nil {
		return err
	}
	if err := errors.Join(primary.holds(ctx, all[1]), secondary.holds(ctx, all[1])); err != nil {
		return err
	}
	b.add(row{
		Work: fmt.Sprintf("2 gateways, 1 zone: %d connects at each, %d at a time", count, atOnce),
		Unit: inSeconds, Ours: sample{took[0].Seconds(), took[1].Seconds()},
		Note: "each gateway has its own key and pool. The zone held the names of both, and those of the second after " +
			"the first gateway's clients had left"})
	b.add(row{Work: "... until a secondary has the last of them", Unit: inSeconds, Ours: sample{copied.Seconds()},
		Note: "bind9 waits up to five seconds before it notifies (notify-delay)"})
	if err := b.roams(ctx, primary, gws, all); err != nil {
		return err
	}
	return errors.Join(refusesNS(ctx, primary), b.adopts(ctx, primary, gws[0], pools[1]))
}

// roams moves a client from the second gateway to the first. Its name moves when it has left the second gateway and the
// first one's timer has run.
func (b *bench) roams(ctx context.Context, primary *named, gws [2]*updown, all [2][]client) error {
	before, after := all[1][0], client{all[1][0].name, all[0][0].addr}
	gws[0].charon.connect(after)
	if _, err := gws[0].hook().call(ctx, "up-client", after, 1); err != nil {
		return err
	}
	if err := primary.holds(ctx, all[1]); err != nil {
		return fmt.Errorf("a name of another gateway: %w", err)
	}
	gws[1].charon.disconnect(before)
	for _, gw := range []*updown{gws[1], gws[0]} {
		if _, err := gw.sync(ctx); err != nil {
			return err
		}
	}
	return primary.holds(ctx, append([]client{after}, all[1][1:]...))
}

// adopts has a gateway remove the names of another one that is dead. It did not add them, so it keeps them until sync
// runs with --force and the dead gateway's pool.
func (b *bench) adopts(ctx context.Context, primary *named, alive *updown, pool string) error {
	heir := []string{"--pools", pool}
	for _, turn := range []struct {
		flags []string
		least int
		most  int
	}{{nil, 2, math.MaxInt}, {heir, 2, math.MaxInt}, {append(heir, "--force"), 1, 1}} {
		if _, err := alive.sync(ctx, turn.flags...); err != nil {
			return err
		}
		names, err := primary.names(ctx)
		if err != nil {
			return err
		}
		if len(names) < turn.least || len(names) > turn.most {
			return fmt.Errorf("one client is connected, one gateway is dead, and the zone has %d names", len(names))
		}
	}
	return nil
}

// refusesNS tries a change that a gateway's key does not permit.
func refusesNS(ctx context.Context, primary *named) error {
	cmd := exec.CommandContext(ctx, "nsupdate", "-k", primary.key)
	const update = "zone example\nupdate add ns.example. 60 A 10.9.0.1\nsend\n"
	cmd.Stdin = strings.NewReader("server " + primary.addr + "\n" + update)
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "REFUSED") {
		return fmt.Errorf("a gateway's key may change ns.example: %v\n%s", err, out)
	}
	return nil
}

// catchUp waits until a secondary has the primary's serial.
func (n *named) catchUp(ctx context.Context, primary *named) (time.Duration, error) {
	start := time.Now()
	want, err := primary.serial(ctx)
	if err != nil {
		return 0, err
	}
	err = n.daemon.Wait(ctx, "the secondary", func() (bool, error) {
		have, err := n.serial(ctx)
		return have >= want, err
	})
	return time.Since(start), err
}

// points checks that these clients have PTRs.
func (n *named) points(ctx context.Context, all ...client) error {
	for _, c := range all {
		out, err := n.dig(ctx, "+short", "-x", c.addr)
		if err != nil || strings.TrimSpace(out) != c.name+".example." {
			return errors.Join(err, fmt.Errorf("the PTR of %s is %q", c.addr, out))
		}
	}
	return nil
}
