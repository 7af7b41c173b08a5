package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"tunnelcast/internal/ddns"
	"tunnelcast/internal/lease"
)

func (h *host) keyRemedy(err error) string {
	switch {
	case errors.Is(err, os.ErrPermission):
		return "run it as root"
	case errors.Is(err, os.ErrNotExist) && filepath.Base(h.Key) != "session.key":
		return "`key = \"FILE\"` in /etc/tunnelcast/updown.toml names another; `tsig-keygen NAME` makes a key"
	}
	return ""
}

// zoneRemedy returns the remedy for a failed question about a zone.
func (h *host) zoneRemedy(err error) string {
	_, port, _ := net.SplitHostPort(h.Server)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, ddns.ErrNoReply):
		return fmt.Sprintf("`systemctl start named`; where it runs, `ss -lntup sport = :%s` shows its addresses: "+
			"listen-on in named.conf, the key server in /etc/tunnelcast/updown.toml", port)
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "the key server in /etc/tunnelcast/updown.toml"
	case errors.Is(err, ddns.ErrBadKey), errors.Is(err, ddns.ErrBadSig):
		return h.sameKey()
	case errors.Is(err, ddns.ErrBadTime):
		return "`timedatectl`"
	case errors.Is(err, ddns.ErrNotReady):
		return "`named-checkconf -zj`; `journalctl -u named`"
	}
	return "`named-checkconf -zj`; the keys zone and server in /etc/tunnelcast/updown.toml"
}

func (h *host) sameKey() string {
	if filepath.Base(h.Key) == "session.key" {
		return "this is the session key of another named: `systemctl restart named`, " +
			"or a key of tsig-keygen for another host's server"
	}
	return fmt.Sprintf("the key statement of %s must be in the server's named.conf too; `rndc reconfig`", h.Key)
}

func (h *host) transferRemedy(err error, server *ddns.Server) string {
	_, port, _ := net.SplitHostPort(h.Server)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, ddns.ErrNoReply), errors.Is(err, syscall.EHOSTUNREACH):
		return fmt.Sprintf("TCP port %s of the server must be open, besides UDP: a firewall, "+
			"or another program that forwards UDP only", port)
	case !errors.Is(err, ddns.ErrRefused):
		return "`named-checkconf -zj`; `journalctl -u named`"
	case server.Key == nil:
		return "allow-transfer in the zone's statement in named.conf"
	}
	key := strings.TrimSuffix(server.Key.Name, ".")
	return fmt.Sprintf("`allow-transfer { key %s; };` in the zone's statement in named.conf", key)
}

// updateFault returns the cause of a refused update and the remedy. It sends the server
// further updates, which change nothing, to distinguish the causes.
func (h *host) updateFault(ctx context.Context, err error, server *ddns.Server, zone string,
	rr lease.RR) (remedy string, cause error) {
	ctx, cancel := context.WithTimeout(ctx, dnsTimeout)
	defer cancel()
	switch {
	case errors.Is(err, ddns.ErrBadKey), errors.Is(err, ddns.ErrBadSig), errors.Is(err, ddns.ErrBadTime),
		errors.Is(err, ddns.ErrNoReply):
		return h.zoneRemedy(err), err
	case errors.Is(err, ddns.ErrNotAuth):
		return "the keys zone and server in /etc/tunnelcast/updown.toml", err
	case !errors.Is(err, ddns.ErrRefused):
		return "`journalctl -u named`; named must be able to write the directory of the zone's file: " +
			"/var/lib/bind in Debian", err
	case !server.Primary(ctx, zone):
		return "the key server in /etc/tunnelcast/updown.toml must name the zone's primary",
			fmt.Errorf("%w: %s is a secondary of the zone", ddns.ErrRefused, h.Server)
	case server.Key == nil:
		return "`allow-update { 127.0.0.1; };` in the zone's statement in named.conf", err
	}
	types := "A AAAA"
	if rr.Type == "PTR" {
		types = "PTR"
	}
	key := strings.TrimSuffix(server.Key.Name, ".")
	// named applies the update-policy to each RR, so it accepts an update without RRs. A
	// zone that is frozen, or has no grant for this key at all, refuses that, too.
	empty := lease.Change{Zone: zone, Seen: []lease.Owner{{Name: zone, InUse: true}}}
	switch policy := server.Update(ctx, empty, checkTTL); {
	case !errors.Is(policy, ddns.ErrRefused) && strings.Contains(rr.Owner+rr.Target, "_"):
		return fmt.Sprintf("`check-names ignore;` in the zone's statement in named.conf, "+
			"and `grant %s zonesub %s;` in its update-policy", key, types), err
	case !errors.Is(policy, ddns.ErrRefused):
		return fmt.Sprintf("`grant %s zonesub %s;` in the zone's update-policy in named.conf", key, types),
			fmt.Errorf("%w: the zone's update-policy does not let the key %s change %s %s",
				ddns.ErrRefused, server.Key.Name, rr.Owner, rr.Type)
	case key == "local-ddns":
		return "`update-policy local;` in the zone's statement in named.conf", err
	}
	return fmt.Sprintf("`update-policy { grant %s zonesub %s; };` in the zone's statement in named.conf",
		key, types), err
}
