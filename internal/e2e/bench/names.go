package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"tunnelcast/internal/ddns"
	"tunnelcast/internal/e2e/box"
	"tunnelcast/internal/lease"
)

// A gateway is a charon, by its stand-in, with our updown.
type gateway struct {
	*world
	charon *standIn
	runDir string
	flags  []string
}

// startGateway starts one whose first sync has run, which tells its hook the pools.
func (w *world) startGateway(ctx context.Context, socket, runDir string, flags ...string) (*gateway, error) {
	charon, err := startStandIn(socket)
	if err != nil {
		return nil, err
	}
	// What it remembers is on the disk, as on a server, and nobody else's.
	state := filepath.Join(w.scratch(), "state-"+filepath.Base(runDir))
	if err := os.MkdirAll(state, 0o755); err != nil {
		return nil, err
	}
	g := &gateway{world: w, charon: charon, runDir: runDir, flags: append(slices.Clone(flags), "--state-dir", state)}
	_, err = g.sync(ctx)
	return g, err
}

// startGuide starts the guide's name server, and a gateway that uses it as the package is installed.
func (w *world) startGuide(ctx context.Context) (*named, *gateway, error) {
	server, err := w.startNamed(ctx)
	if err != nil {
		return nil, nil, err
	}
	g, err := w.startGateway(ctx, "/run/charon.vici", "/run/tunnelcast")
	return server, g, err
}

// sync is one run of the reconciler.
func (g *gateway) sync(ctx context.Context, flags ...string) (usage, error) {
	return run(ctx, process{args: g.ours("updown", slices.Concat(g.flags, []string{"sync"}, flags)...), memory: true})
}

// hook is what the gateway's swanctl.conf has behind updown.
func (g *gateway) hook() hook {
	return hook(strings.Join(g.ours("updown", append(slices.Clone(g.flags), "iptables")...), " "))
}

// guideHook is the same with the guide's script.
func (w *world) guideHook() (hook, error) {
	script := filepath.Join(w.dir, "updown.sh")
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

// connect is what one client costs that connects and leaves, with nobody else there.
func (b *bench) connect(ctx context.Context) error {
	server, gw, err := b.startGuide(ctx)
	if err != nil {
		return err
	}
	ours := gw.hook()
	guide, err := b.guideHook()
	if err != nil {
		return err
	}
	rounds := b.pick(100, 10)
	who := func(prefix string, round int) client { return clients(prefix, rounds)[round] }
	// Every side has names of its own, fresh in each round, and the ways out find what the ways in have left.
	call := func(h hook, verb, prefix string) func(int) (usage, error) {
		return func(round int) (usage, error) { return h.call(ctx, verb, who(prefix, round), round) }
	}
	untimed := func(work func(int) (usage, error)) func(int) error {
		return func(round int) error { _, err := work(round); return err }
	}
	lines := func(of func([]client) string, prefix string) func(int) (usage, error) {
		return func(round int) (usage, error) {
			return server.nsupdate(ctx, of([]client{who(prefix, round)}))
		}
	}
	replace := func(all []client) string {
		return fmt.Sprintf("update delete %s.example. A\n", all[0].name) + add(all, 3600)
	}

	// What both wait for: a shell, and the server, which brings its journal to the disk before it answers.
	shell := &side{work: func(int) (usage, error) { return run(ctx, process{args: []string{"/bin/sh", "-c", ""}}) }}
	key, err := ddns.ReadKey(sessionKey)
	if err != nil {
		return err
	}
	answer := &side{work: func(round int) (usage, error) {
		to, name := &ddns.Server{Addr: server.addr + ":53", Key: key}, who("answer", round)
		rr := lease.Address(name.name+".example.", netip.MustParseAddr(name.addr))
		start := time.Now()
		err := to.Update(ctx, lease.Change{Zone: "example.", Seen: []lease.Owner{{Name: rr.Owner}}, Add: []lease.RR{rr}}, time.Minute)
		return usage{wall: time.Since(start)}, err
	}}

	up := &side{work: call(ours, "up-client", "up")}
	bare := &side{work: func(round int) (usage, error) {
		return run(ctx, process{args: strings.Fields(string(ours)), env: pluto("up-client", who("bare", round), round)})
	}}
	again := &side{before: untimed(call(ours, "up-client", "again")), work: call(ours, "up-client", "again")}
	down := &side{before: untimed(call(ours, "up-client", "down")), work: call(ours, "down-client", "down"), after: func(int) error {
		_, err := gw.sync(ctx)
		return err
	}}
	scriptUp := &side{work: call(guide, "up-client", "script")}
	scriptDown := &side{before: untimed(call(guide, "up-client", "out")), work: call(guide, "down-client", "out")}
	nsupdateUp := &side{work: lines(replace, "alone")}
	nsupdateDown := &side{before: untimed(lines(replace, "alone-out")), work: lines(remove, "alone-out")}
	if err := measure(ctx, rounds, shell, answer, up, bare, again, down, scriptUp, scriptDown, nsupdateUp, nsupdateDown); err != nil {
		return err
	}
	const script, nsupdate = "the guide's script", "nsupdate -k"
	b.add(row{Work: "one connect", Unit: inSeconds, Ours: up.wall(), Against: script, Theirs: scriptUp.wall(), Goal: times(0.15),
		Note: "both by the /bin/sh that charon calls them with"})
	b.add(row{Work: "one connect, no shell", Unit: inSeconds, Ours: bare.wall(), Against: nsupdate, Theirs: nsupdateUp.wall(), Goal: times(0.2)})
	b.add(row{Work: "one connect, CPU", Unit: inSeconds, Ours: up.cpu(), Against: script, Theirs: scriptUp.cpu()})
	b.add(row{Work: "... of it the shell", Unit: inSeconds, Ours: shell.wall()})
	b.add(row{Work: "... of it bind9's answer", Unit: inSeconds, Ours: answer.wall(), Note: "it brings its journal to the disk first, on both sides"})
	b.add(row{Work: "the connect's next pair of selectors", Unit: inSeconds, Ours: again.wall(), Against: script, Theirs: scriptUp.wall()})
	b.add(row{Work: "one disconnect", Unit: inSeconds, Ours: down.wall(), Against: script, Theirs: scriptDown.wall(),
		Note: "the name goes with the sync that follows, which charon does not wait for"})
	b.add(row{Work: "one disconnect", Unit: inSeconds, Ours: down.wall(), Against: nsupdate, Theirs: nsupdateDown.wall()})
	return nil
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
func (g *gateway) pathUnit(ctx context.Context) (stop func() error) {
	told, done := make(chan struct{}), make(chan error, 1)
	go func() {
		quit := told
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for last := false; ; {
			pokes, err := os.ReadDir(filepath.Join(g.runDir, "poke"))
			if err == nil && len(pokes) > 0 {
				_, err = g.sync(ctx)
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
func (g *gateway) arrive(ctx context.Context, all []client) (took time.Duration, err error) {
	hook, stop := g.hook(), g.pathUnit(ctx)
	took, err = each(all, func(who client, i int) error {
		g.charon.connect(who)
		_, err := hook.call(ctx, "up-client", who, i)
		return err
	})
	return took, errors.Join(err, stop())
}

// leave lets them disconnect, and gives the time until the last sync has ended. charon keeps who asks it waiting for a
// client that is just leaving, and then says that it is not there; so it is told first.
func (g *gateway) leave(ctx context.Context, all []client) (took time.Duration, err error) {
	hook, stop := g.hook(), g.pathUnit(ctx)
	start := time.Now()
	_, err = each(all, func(who client, i int) error {
		g.charon.disconnect(who)
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

// crowd is a thousand clients that come and go.
func (b *bench) crowd(ctx context.Context) error {
	server, gw, err := b.startGuide(ctx)
	if err != nil {
		return err
	}
	guide, err := b.guideHook()
	if err != nil {
		return err
	}
	all, rounds, wrong := clients("guest", b.pick(1000, 40)), b.pick(3, 1), 0
	timed := func(took time.Duration, err error) (usage, error) { return usage{wall: took}, err }
	holds := func(want []client) func(int) error { return func(int) error { return server.holds(ctx, want) } }
	// Nothing but the row says so if a script of theirs has left the zone wrong.
	judge := func(want []client) func(int) error {
		return func(int) error {
			err := server.holds(ctx, want)
			if errors.As(err, new(wrongZone)) {
				wrong, err = wrong+1, nil
			}
			return err
		}
	}
	in := &side{work: func(int) (usage, error) { return timed(gw.arrive(ctx, all)) }, after: holds(all)}
	out := &side{work: func(int) (usage, error) { return timed(gw.leave(ctx, all)) }, after: holds(nil)}
	theirsIn := &side{work: func(int) (usage, error) { return timed(guide.callAll(ctx, "up-client", all)) }, after: judge(all)}
	theirsOut := &side{work: func(int) (usage, error) { return timed(guide.callAll(ctx, "down-client", all)) }, after: judge(nil)}
	for round := range rounds {
		turns := [][]*side{{in, out}, {theirsIn, theirsOut}}
		if round%2 == 1 {
			slices.Reverse(turns)
		}
		for _, turn := range turns {
			for _, s := range turn {
				if err := s.turn(round); err != nil {
					return err
				}
			}
			if _, err := gw.sync(ctx, "--force"); err != nil { // after theirs, there may be something to clean
				return err
			}
		}
	}
	many := func(what string) string { return fmt.Sprintf("%s %s, %d at a time", grouped(len(all)), what, atOnce) }
	right := fmt.Sprintf("the zone was right at the end of each round of ours, and wrong %d times in %d of the script's", wrong, 2*rounds)
	const script = "the guide's script"
	b.add(row{Work: many("connects"), Unit: inSeconds, Ours: in.wall(), Against: script, Theirs: theirsIn.wall(), Goal: times(0.10),
		Note: "processes and bind9 are real, charon's answers those of a stand-in; beside our hooks sync runs again and again; " + right})
	b.add(row{Work: many("disconnects") + ", sync included", Unit: inSeconds, Ours: out.wall(), Against: script, Theirs: theirsOut.wall(), Note: right})
	return nil
}

// hung is how long charon is held while named does not answer.
func (b *bench) hung(ctx context.Context) error {
	server, gw, err := b.startGuide(ctx)
	if err != nil {
		return err
	}
	guide, err := b.guideHook()
	if err != nil {
		return err
	}
	who := clients("held", 1)[0]
	held := func(h hook) *side {
		return &side{work: func(round int) (usage, error) { return h.call(ctx, "up-client", who, round+1) }}
	}
	ours, theirs := held(gw.hook()), held(guide)
	if err := server.daemon.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	if err := measure(ctx, b.pick(3, 1), ours, theirs); err != nil {
		return err
	}
	const script = "the guide's script"
	b.add(row{Work: "named hung: charon held for", Unit: inSeconds, Ours: ours.wall(), Against: script, Theirs: theirs.wall(), Goal: most(1.0)})

	server.daemon.Stop()
	ours, theirs = held(gw.hook()), held(guide)
	if err := measure(ctx, b.pick(50, 3), ours, theirs); err != nil {
		return err
	}
	b.add(row{Work: "named not there: charon held for", Unit: inSeconds, Ours: ours.wall(), Against: script, Theirs: theirs.wall(), Goal: most(0.050)})
	return nil
}

// sync is the reconciler among a thousand clients.
func (b *bench) sync(ctx context.Context) error {
	server, gw, err := b.startGuide(ctx)
	if err != nil {
		return err
	}
	count := b.pick(1000, 50)
	live := clients("live", count)
	gone := clients("gone", 2*count)[count:] // of other addresses
	gw.charon.set(live)
	// From what the zone holds to what it should, by sync and by one batch of nsupdate with the key. nsupdate makes the
	// zone wrong, so the names that must go are none that this gateway remembers.
	const flag = "--force"
	compare := func(rounds int, wrong, lines string) (ours, theirs *side, err error) {
		spoil := func(int) error {
			if _, err := gw.sync(ctx, flag); err != nil || wrong == "" {
				return err
			}
			_, err := server.nsupdate(ctx, wrong)
			return err
		}
		right := func(int) error { return server.holds(ctx, live) }
		ours = &side{before: spoil, after: right, work: func(int) (usage, error) { return gw.sync(ctx, flag) }}
		theirs = &side{before: spoil, after: right, work: func(int) (usage, error) { return server.nsupdate(ctx, lines) }}
		if lines == "" {
			return ours, theirs, measure(ctx, rounds, ours)
		}
		return ours, theirs, measure(ctx, rounds, ours, theirs)
	}
	if _, err := gw.sync(ctx); err != nil {
		return err
	}
	before, err := server.serial(ctx)
	if err != nil {
		return err
	}
	idle, _, err := compare(b.pick(50, 3), "", "")
	if err != nil {
		return err
	}
	after, err := server.serial(ctx)
	if err != nil {
		return err
	}
	tenth := count / 20
	some, someTheirs, err := compare(b.pick(30, 3), remove(live[:tenth])+add(gone[:tenth], 60), add(live[:tenth], 60)+remove(gone[:tenth]))
	if err != nil {
		return err
	}
	all, allTheirs, err := compare(b.pick(10, 1), remove(live)+add(gone, 60), add(live, 60)+remove(gone))
	if err != nil {
		return err
	}
	of := func(what string) string { return fmt.Sprintf("sync, %s clients, %s", grouped(count), what) }
	b.add(row{Work: of("nothing to do"), Unit: inSeconds, Ours: idle.wall()})
	b.add(row{Work: of("nothing to do: changes of the zone"), Unit: counted, Ours: sample{float64(after - before)}, Goal: most(0)})
	b.add(row{Work: of("nothing to do: peak memory"), Unit: inBytes, Ours: idle.peak()})
	const batch = "one nsupdate batch"
	b.add(row{Work: of(fmt.Sprint(2*tenth, " differences")), Unit: inSeconds, Ours: some.wall(), Against: batch, Theirs: someTheirs.wall(), Goal: times(1),
		Note: "nsupdate is told the differences, sync finds them"})
	b.add(row{Work: of("all wrong"), Unit: inSeconds, Ours: all.wall(), Against: batch, Theirs: allTheirs.wall()})
	return nil
}
