package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"tunnelcast/internal/e2e/box"
)

// An updown is our updown as one gateway has it, with the charon that it serves, which is a stand-in.
type updown struct {
	*testbed
	charon *standIn
	runDir string
	flags  []string
}

// startUpdown starts one whose first sync has run, which tells its hook the pools.
func (t *testbed) startUpdown(ctx context.Context, socket, runDir string, flags ...string) (*updown, error) {
	charon, err := startStandIn(socket)
	if err != nil {
		return nil, err
	}
	// What it remembers is on the disk, as on a server, and nobody else's.
	state := filepath.Join(t.scratch(), "state-"+filepath.Base(runDir))
	if err := os.MkdirAll(state, 0o755); err != nil {
		return nil, err
	}
	u := &updown{testbed: t, charon: charon, runDir: runDir, flags: append(slices.Clone(flags), "--state-dir", state)}
	_, err = u.sync(ctx)
	return u, err
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

// sync is one run of the reconciler.
func (u *updown) sync(ctx context.Context, flags ...string) (usage, error) {
	return run(ctx, process{args: u.ours("updown", slices.Concat(u.flags, []string{"sync"}, flags)...), memory: true})
}

// hook returns the value of updown in the gateway's swanctl.conf.
func (u *updown) hook() hook {
	return hook(strings.Join(u.ours("updown", append(slices.Clone(u.flags), "iptables")...), " "))
}

// guideHook is the same with the guide's script.
func (t *testbed) guideHook() (hook, error) {
	script := filepath.Join(t.dir, "updown.sh")
	return hook(script + " iptables"), os.WriteFile(script, []byte(box.Script("updown.sh")), 0o755)
}

// A hook is a line of swanctl.conf.
type hook string

// call runs it as charon does, by a shell (updown_listener.c). Like charon, it does not mind the exit status.
func (h hook) call(ctx context.Context, verb string, c client, sa int) (usage, error) {
	return run(ctx, process{args: []string{"/bin/sh", "-c", "2>&1 " + string(h)}, env: pluto(verb, c, sa), mayFail: true})
}

// pluto gives the variables that charon has for a hook.
func pluto(verb string, c client, sa int) []string {
	return []string{
		"PLUTO_VERSION=1.1", "PLUTO_VERB=" + verb, "PLUTO_CONNECTION=net", "PLUTO_INTERFACE=eth0", fmt.Sprint("PLUTO_REQID=", sa),
		"PLUTO_PROTO=esp", fmt.Sprint("PLUTO_UNIQUEID=", sa), "PLUTO_ME=192.0.2.1", "PLUTO_MY_ID=vpn.example", "PLUTO_MY_CLIENT=0.0.0.0/0",
		"PLUTO_MY_PORT=0", "PLUTO_MY_PROTOCOL=0", "PLUTO_PEER=192.0.2.9", "PLUTO_PEER_ID=198.51.100.9", "PLUTO_PEER_CLIENT=" + c.addr + "/32",
		"PLUTO_PEER_PORT=0", "PLUTO_PEER_PROTOCOL=0", "PLUTO_XAUTH_ID=" + c.name, "PLUTO_PEER_SOURCEIP=" + c.addr, "PLUTO_PEER_SOURCEIP4_1=" + c.addr,
	}
}

// atOnce is how many hooks run at a time. charon itself runs one; several gateways that share a server do not.
const atOnce = 16

// each calls work for all clients, so many at a time, and gives the time that it took in all.
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

// pathUnit does what tunnelcast-sync.path does, without its pauses, until it is told to stop: it starts a sync while there are
// pokes. The function that it gives waits until there are none, and gives the first error of a sync.
func (u *updown) pathUnit(ctx context.Context) (stop func() error) {
	told, done := make(chan struct{}), make(chan error, 1)
	go func() {
		quit := told
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
				quit, last = nil, true // once more: there may have been a poke since
			}
		}
	}()
	return func() error { close(told); return <-done }
}

// arrive lets clients connect, with the reconciler at work beside the hooks as on a server, and gives the time until the
// last hook has ended.
func (u *updown) arrive(ctx context.Context, all []client) (took time.Duration, err error) {
	hook, stop := u.hook(), u.pathUnit(ctx)
	took, err = each(all, func(who client, i int) error {
		u.charon.connect(who)
		_, err := hook.call(ctx, "up-client", who, i)
		return err
	})
	return took, errors.Join(err, stop())
}

// leave lets them disconnect, and gives the time until the last sync has ended. charon keeps who asks it waiting for a
// client that is just leaving, and then says that it is not there; so it is told first.
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

// callAll is the same for a hook without a reconciler.
func (h hook) callAll(ctx context.Context, verb string, all []client) (time.Duration, error) {
	return each(all, func(who client, i int) error {
		_, err := h.call(ctx, verb, who, i)
		return err
	})
}
