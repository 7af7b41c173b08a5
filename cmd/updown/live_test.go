package main

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"tunnelcast/internal/hook"
	"tunnelcast/internal/units"
	"tunnelcast/internal/vici"
	"tunnelcast/internal/vici/vicitest"
)

// vpnSA is the message of list-sas for one client.
func vpnSA(identity, addr string) vici.Message {
	return vicitest.Message(vici.Section("vpn", vici.Value("state", "ESTABLISHED"),
		vici.Value("remote-eap-id", identity), vici.List("remote-vips", addr)))
}

// dyingCharon has two clients. Its first connection ends in the middle of the packet
// after so many; further connections are answered whole.
func dyingCharon(packets int) *vicitest.Server {
	return &vicitest.Server{
		Handle: func(command string, _ vici.Message) (answer vicitest.Answer, ok bool) {
			switch command {
			case "get-pools":
				answer.Response = vicitest.Message(vici.Section("clients",
					vici.Value("base", "10.0.0.100"), vici.Value("size", "101")))
			case "list-sas":
				answer.Events = []vici.Message{vpnSA("alice", "10.0.0.100"), vpnSA("bob", "10.0.0.101")}
			default:
				return answer, false
			}
			return answer, true
		},
		Cut: func(connection, packet int) bool { return connection == 1 && packet > packets },
	}
}

// Wherever charon's reply breaks off, a part of it is never taken for the whole. sync
// asks again.
func TestCharonEndsWhileItAnswers(t *testing.T) {
	for packets, where := range []string{"the pools", "the registration", "the first client", "the second client",
		"the end of the list", "the last confirmation"} {
		t.Run(where, func(t *testing.T) {
			g, charon := gatewayOf(t, packets)
			leases, pools, err := g.live(t.Context())
			if err != nil || len(leases) != 2 || len(pools.Pools) != 1 || charon.Connections() != 2 {
				t.Errorf("leases %v, pools %v, error %v after %d connections", leases, pools, err, charon.Connections())
			}
		})
	}
	t.Run("and stays away", func(t *testing.T) {
		g, _ := gatewayOf(t, 3)
		g.restartTime = 0
		leases, _, err := g.live(t.Context())
		if !errors.As(err, new(notProven)) || strings.Count(err.Error(), "without evidence") != 1 || leases != nil {
			t.Errorf("leases %v, error %v", leases, err)
		}
	})
}

func gatewayOf(t *testing.T, packets int) (*host, *vicitest.Server) {
	t.Helper()
	charon := dyingCharon(packets)
	var c cli
	env := hook.Env{Name: "updown", Now: time.Now,
		Args: []string{"--config", os.DevNull, "--vici", vicitest.Start(t, charon), "--run-dir", t.TempDir()}}
	if _, err := hook.Parse(env, &c, "test"); err != nil {
		t.Fatal(err)
	}
	g, err := newHost(c.settings, env)
	if err != nil {
		t.Fatal(err)
	}
	g.askUnit = func(context.Context, string) (units.State, error) {
		return units.State{Load: "loaded", Active: "active"}, nil
	}
	return g, charon
}
