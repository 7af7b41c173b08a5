package main

import (
	"bytes"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"tunnelcast/internal/hook"
	"tunnelcast/internal/lineage"
	"tunnelcast/internal/vici"
	"tunnelcast/internal/vici/vicitest"
)

// fakeCharon accepts every command and holds what it was started with.
type fakeCharon struct {
	leaves      [][]byte    // certificates with keys, each in PEM
	others      []byte      // certificates without, in PEM
	connections []string    // that are loaded
	keys        []string    // ids of the keys that VICI clients have loaded
	loads       string      // the id of the key that load-key loads
	up          func() bool // whether a connection has an IKE_SA

	mu   sync.Mutex
	took []string // commands that change something
}

// start returns the socket.
func (c *fakeCharon) start(t *testing.T) (socket string) {
	t.Helper()
	var held []vici.Message
	hold := func(text []byte, key string) {
		certs, err := lineage.ParseCertificates(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, cert := range certs {
			held = append(held, vicitest.Message(
				vici.Value("type", "X509"), vici.Value("data", string(cert.Raw)), vici.Value("has_privkey", key)))
		}
	}
	for _, leaf := range c.leaves {
		hold(leaf, "yes")
	}
	hold(c.others, "no")
	return vicitest.Start(t, &vicitest.Server{Handle: func(command string, _ vici.Message) (vicitest.Answer, bool) {
		answer := vicitest.Answer{Response: vicitest.Message(vici.Value("success", "yes"))}
		switch command {
		case "list-certs":
			answer.Events = held
		case "list-sas":
			if c.up() {
				answer.Events = []vici.Message{vicitest.Message(vici.Section("site"))}
			}
		case "get-conns":
			answer.Response = vicitest.Message(vici.List("conns", c.connections...))
		case "get-keys":
			answer.Response = vicitest.Message(vici.List("keys", c.keys...))
		case "get-authorities":
			answer.Response = vicitest.Message(vici.List("authorities"))
		case "load-key":
			answer.Response = vicitest.Message(vici.Value("success", "yes"), vici.Value("id", c.loads))
			fallthrough
		default:
			c.mu.Lock()
			defer c.mu.Unlock()
			c.took = append(c.took, command)
		}
		return answer, true
	}})
}

// commands returns those that changed something, in their order.
func (c *fakeCharon) commands() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.took, " ")
}

// runCerthook runs the command in this process and returns what it printed.
func runCerthook(t *testing.T, socket, swanctlDir string, args ...string) (stdout string, err error) {
	t.Helper()
	var out bytes.Buffer
	err = run(t.Context(), hook.Env{
		Name: "certhook",
		Args: append([]string{"--config", os.DevNull, "--vici", socket, "--swanctl-dir", swanctlDir,
			"--unit", "tunnelcast-test-none.service"}, args...),
		Getenv: func(string) string { return "" },
		Stdout: &out, Stderr: &out,
		Log: slog.New(slog.DiscardHandler), Result: slog.New(slog.DiscardHandler),
		Now: time.Now,
	})
	return out.String(), err
}
