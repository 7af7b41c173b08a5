package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"tunnelcast/internal/e2e/box"
)

// An updown is our updown as one gateway has it, with the charon that it serves, which is a fake.
type updown struct {
	*testbed
	charon   *fakeCharon // nil if the charon is real
	runDir   string
	settings string // its updown.toml
}

// startUpdown starts the fake charon and runs sync once, from which the hook learns the pools. The settings are lines
// of TOML that are added to the file of the package.
func (t *testbed) startUpdown(ctx context.Context, socket, runDir string, settings ...string) (*updown, error) {
	u, err := t.configure(runDir, settings...)
	if err != nil {
		return nil, err
	}
	if u.charon, err = startFakeCharon(socket); err != nil {
		return nil, err
	}
	_, err = u.sync(ctx)
	return u, err
}

// configure returns an updown with these settings.
func (t *testbed) configure(runDir string, settings ...string) (*updown, error) {
	// Its memory is on the disk, as on a server, and its own.
	state := filepath.Join(t.scratch(), "state-"+filepath.Base(runDir))
	if err := os.MkdirAll(state, 0o755); err != nil {
		return nil, err
	}
	u := &updown{testbed: t, runDir: runDir,
		settings: filepath.Join(t.scratch(), "updown-"+filepath.Base(runDir)+".toml")}
	packaged, err := os.ReadFile(t.settings("updown"))
	if err != nil {
		return nil, err
	}
	text := fmt.Sprintf("state-dir = %q\n%s\n%s", state, strings.Join(settings, "\n"), packaged)
	return u, os.WriteFile(u.settings, []byte(text), 0o644)
}

// startGuide starts the guide's name server, and an updown that uses it with the settings that the package installs.
func (t *testbed) startGuide(ctx context.Context) (*named, *updown, error) {
	server, err := t.startNamed(ctx)
	if err != nil {
		return nil, nil, err
	}
	u, err := t.startUpdown(ctx, "/run/charon.vici", "/run/tunnelcast")
	return server, u, err
}

// sync runs the reconciler once.
func (u *updown) sync(ctx context.Context, flags ...string) (usage, error) {
	words := append([]string{u.program("updown"), "--config", u.settings, "sync"}, flags...)
	return run(ctx, process{args: words, memory: true})
}

// hook returns the value of updown in the gateway's swanctl.conf.
func (u *updown) hook() hook {
	return hook(strings.Join([]string{u.program("updown"), "--config", u.settings, "iptables"}, " "))
}

// guideHook returns the same value with the guide's script.
func (t *testbed) guideHook() (hook, error) {
	script := filepath.Join(t.dir, "updown.sh")
	return hook(script + " iptables"), os.WriteFile(script, []byte(box.Script("updown.sh")), 0o755)
}

// A hook is the value of updown in swanctl.conf: a command line.
type hook string

// call runs the hook as charon does, by a shell (updown_listener.c). Like charon, it ignores the exit status.
func (h hook) call(ctx context.Context, verb string, c client, sa int) (usage, error) {
	shell := []string{"/bin/sh", "-c", "2>&1 " + string(h)}
	return run(ctx, process{args: shell, env: pluto(verb, c, sa), mayFail: true})
}

// pluto returns the variables that charon sets for a hook.
func pluto(verb string, c client, sa int) []string {
	return []string{
		"PLUTO_VERSION=1.1", "PLUTO_VERB=" + verb, "PLUTO_CONNECTION=net", "PLUTO_INTERFACE=eth0",
		fmt.Sprint("PLUTO_REQID=", sa), "PLUTO_PROTO=esp", fmt.Sprint("PLUTO_UNIQUEID=", sa),
		"PLUTO_ME=192.0.2.1", "PLUTO_MY_ID=vpn.example",
		"PLUTO_MY_CLIENT=0.0.0.0/0", "PLUTO_MY_PORT=0", "PLUTO_MY_PROTOCOL=0",
		"PLUTO_PEER=192.0.2.9", "PLUTO_PEER_ID=198.51.100.9", "PLUTO_XAUTH_ID=" + c.name,
		"PLUTO_PEER_CLIENT=" + c.addr + "/32", "PLUTO_PEER_PORT=0", "PLUTO_PEER_PROTOCOL=0",
		"PLUTO_PEER_SOURCEIP=" + c.addr, "PLUTO_PEER_SOURCEIP4_1=" + c.addr,
	}
}

// atOnce is the number of hooks that run at a time. A single charon runs one; several gateways may share a name server.
const atOnce = 16

// each calls work for all clients, atOnce at a time, and returns the total time.
func each(all []client, work func(client, int) error) (time.Duration, error) {
	var group sync.WaitGroup
	queue, failed := make(chan int), make(chan error, atOnce)
	start := time.Now()
	for range atOnce {
		group.Go(func() {
			for i := range queue {
				if err := work(all[i], i); err != nil {
					select {
					case failed <- err:
					default:
					}
				}
			}
		})
	}
	for i := range all {
		queue <- i
	}
	close(queue)
	group.Wait()
	took := time.Since(start)
	select {
	case err := <-failed:
		return took, err
	default:
		return took, nil
	}
}

// pathUnit does what tunnelcast-sync.path does, without its pauses: it runs sync while there are requests. stop waits
// until there are none and returns the first error of a sync.
func (u *updown) pathUnit(ctx context.Context) (stop func() error) {
	stopped, done := make(chan struct{}), make(chan error, 1)
	go func() {
		quit := stopped
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for last := false; ; {
			pokes, err := os.ReadDir(filepath.Join(u.runDir, "poke"))
			if err == nil && len(pokes) > 0 {
				_, err = u.sync(ctx)
			}
			if err != nil || last && len(pokes) == 0 {
				done <- err
				return
			}
			select {
			case <-tick.C:
			case <-quit:
				quit, last = nil, true // look once more: there may be a new request
			}
		}
	}()
	return func() error { close(stopped); return <-done }
}

// arrive connects clients, while the path unit runs sync as on a server, and returns the time until the last hook has
// ended.
func (u *updown) arrive(ctx context.Context, all []client) (took time.Duration, err error) {
	hook, stop := u.hook(), u.pathUnit(ctx)
	took, err = each(all, func(who client, i int) error {
		u.charon.connect(who)
		_, err := hook.call(ctx, "up-client", who, i)
		return err
	})
	return took, errors.Join(err, stop())
}

// leave disconnects clients and returns the time until the last sync has ended. The fake charon forgets a client before
// the hook runs: the real one does not answer before the client has left.
func (u *updown) leave(ctx context.Context, all []client) (took time.Duration, err error) {
	hook, stop := u.hook(), u.pathUnit(ctx)
	start := time.Now()
	_, err = each(all, func(who client, i int) error {
		u.charon.disconnect(who)
		_, err := hook.call(ctx, "down-client", who, i)
		return err
	})
	err = errors.Join(err, stop())
	return time.Since(start), err
}

// callAll calls a hook for all clients, without a reconciler, and returns the total time.
func (h hook) callAll(ctx context.Context, verb string, all []client) (time.Duration, error) {
	return each(all, func(who client, i int) error {
		_, err := h.call(ctx, verb, who, i)
		return err
	})
}
