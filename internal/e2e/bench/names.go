package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"tunnelcast/internal/ddns"
	"tunnelcast/internal/lease"
)

// connect measures one client that connects and disconnects while no other does.
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
	rounds := b.rounds(60, 10)
	who := func(prefix string, round int) client { return clients(prefix, rounds)[round] }
	// Each side uses its own names, new in every round; disconnects remove what the connects added.
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

	// Both sides wait for a shell, and for the server, which syncs its journal to the disk before it answers.
	shell := &side{work: func(int) (usage, error) { return run(ctx, process{args: []string{"/bin/sh", "-c", ""}}) }}
	key, err := ddns.ReadKey(sessionKey)
	if err != nil {
		return err
	}
	answer := &side{work: func(round int) (usage, error) {
		to, name := &ddns.Server{Addr: server.addr + ":53", Key: key}, who("answer", round)
		rr := lease.Address(name.name+".example.", netip.MustParseAddr(name.addr))
		start := time.Now()
		change := lease.Change{Zone: "example.", Seen: []lease.Owner{{Name: rr.Owner}}, Add: []lease.RR{rr}}
		err := to.Update(ctx, change, time.Minute)
		return usage{wall: time.Since(start)}, err
	}}

	// A program that does nothing, and a hook with nothing to do, which reads its settings.
	program := func(words []string, verb, prefix string) *side {
		return &side{work: func(round int) (usage, error) {
			return run(ctx, process{args: words, env: pluto(verb, who(prefix, round), round)})
		}}
	}
	empty := program([]string{filepath.Join(b.dir, "empty")}, "none", "none")
	idle := program(strings.Fields(string(ours)), "none", "none")

	up := &side{work: call(ours, "up-client", "up")}
	bare := program(strings.Fields(string(ours)), "up-client", "bare")
	again := &side{before: untimed(call(ours, "up-client", "again")), work: call(ours, "up-client", "again")}
	down := &side{
		before: untimed(call(ours, "up-client", "down")),
		work:   call(ours, "down-client", "down"),
		after:  func(int) error { _, err := gw.sync(ctx); return err },
	}
	scriptUp := &side{work: call(guide, "up-client", "script")}
	scriptDown := &side{before: untimed(call(guide, "up-client", "out")), work: call(guide, "down-client", "out")}
	nsupdateUp := &side{work: lines(replace, "alone")}
	nsupdateDown := &side{before: untimed(lines(replace, "alone-out")), work: lines(remove, "alone-out")}
	err = measure(ctx, rounds,
		shell, answer, empty, idle, up, bare, again, down, scriptUp, scriptDown, nsupdateUp, nsupdateDown)
	if err != nil {
		return err
	}
	const script, nsupdate = "the guide's script", "nsupdate -k"
	b.add(row{Work: "one connect", Against: script, Goal: times(0.15),
		Note: "both run by /bin/sh, as charon does"}.of(up, scriptUp))
	b.add(row{Work: "one connect, no shell", Against: nsupdate, Goal: times(0.2)}.of(bare, nsupdateUp))
	b.add(row{Work: "... of it the shell"}.of(shell, nil))
	b.add(row{Work: "... of it bind9's answer",
		Note: "bind9 syncs its journal to the disk first, on both sides"}.of(answer, nil))
	const nothing = "an empty Go program"
	b.add(row{Work: "start of the hook", Against: nothing, Goal: times(2),
		Note: "a call for which the hook has nothing to do"}.of(idle, empty))
	b.add(row{Work: "start of the hook, page faults", Unit: counted, Ours: idle.faults(),
		Against: nothing, Theirs: empty.faults(), Goal: times(2)})
	waits := answer.wall().median()
	own := bare.each(func(u usage) float64 { return u.wall.Seconds() - waits })
	b.add(row{Work: "one connect, no shell and no waiting for bind9", Unit: inSeconds, Ours: own, OursCPU: bare.cpu(),
		Against: nothing, Theirs: empty.wall(), TheirsCPU: empty.cpu(), Goal: times(2)})
	b.add(row{Work: "one connect, page faults", Unit: counted, Ours: bare.faults(),
		Against: nothing, Theirs: empty.faults(), Goal: times(2)})
	b.add(row{Work: "the connect's next pair of selectors", Against: script}.of(again, scriptUp))
	b.add(row{Work: "one disconnect", Against: script,
		Note: "the sync that follows removes the name; charon does not wait for it"}.of(down, scriptDown))
	b.add(row{Work: "one disconnect", Against: nsupdate}.of(down, nsupdateDown))
	return nil
}

// crowd measures a thousand clients that connect and disconnect.
func (b *bench) crowd(ctx context.Context) error {
	server, gw, err := b.startGuide(ctx)
	if err != nil {
		return err
	}
	guide, err := b.guideHook()
	if err != nil {
		return err
	}
	all, rounds, wrong := clients("guest", b.pick(1000, 40)), b.rounds(2, 1), 0
	holds := func(want []client) func(int) error { return func(int) error { return server.holds(ctx, want) } }
	// If their script leaves a wrong zone, that is counted in the row, and is no error.
	judge := func(want []client) func(int) error {
		return func(int) error {
			err := server.holds(ctx, want)
			if errors.As(err, new(wrongZone)) {
				wrong, err = wrong+1, nil
			}
			return err
		}
	}
	timed := func(work func() (time.Duration, error)) func(int) (usage, error) {
		return func(int) (usage, error) { return summed(work) }
	}
	in := &side{work: timed(func() (time.Duration, error) { return gw.arrive(ctx, all) }), after: holds(all)}
	out := &side{work: timed(func() (time.Duration, error) { return gw.leave(ctx, all) }), after: holds(nil)}
	theirs := func(verb string) func(int) (usage, error) {
		return timed(func() (time.Duration, error) { return guide.callAll(ctx, verb, all) })
	}
	theirsIn := &side{work: theirs("up-client"), after: judge(all)}
	theirsOut := &side{work: theirs("down-client"), after: judge(nil)}
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
			if _, err := gw.sync(ctx, "--force"); err != nil { // removes what their script may have left
				return err
			}
		}
	}
	many := func(what string) string { return fmt.Sprintf("%s %s, %d at a time", grouped(len(all)), what, atOnce) }
	right := fmt.Sprintf("the zone was right after each round of ours, and wrong after %d of %d rounds of the script",
		wrong, 2*rounds)
	const script = "the guide's script"
	b.add(row{Work: many("connects"), Against: script, Goal: times(0.20),
		Note: "processes and bind9 are real, charon is a fake; sync runs repeatedly beside our hooks; " + right,
	}.of(in, theirsIn))
	b.add(row{Work: many("disconnects") + ", sync included", Against: script, Note: right}.of(out, theirsOut))
	return nil
}

// hung measures how long a hook holds charon while named does not answer.
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
	if err := measure(ctx, b.rounds(2, 1), ours, theirs); err != nil {
		return err
	}
	const script = "the guide's script"
	b.add(row{Work: "named hung: charon held for", Against: script, Goal: most(1.0)}.of(ours, theirs))

	server.daemon.Stop()
	ours, theirs = held(gw.hook()), held(guide)
	if err := measure(ctx, b.rounds(50, 3), ours, theirs); err != nil {
		return err
	}
	b.add(row{Work: "named not there: charon held for", Against: script, Goal: most(0.050)}.of(ours, theirs))
	return nil
}

// sync measures the reconciler with a thousand clients.
func (b *bench) sync(ctx context.Context) error {
	server, gw, err := b.startGuide(ctx)
	if err != nil {
		return err
	}
	count := b.pick(1000, 50)
	live := clients("live", count)
	others := clients("other", 2*count)[count:] // of other addresses
	gw.charon.set(live)
	// Instead of the live clients, charon then has others, and no hook was called. sync finds the differences, and one
	// signed batch of nsupdate is given them as lines.
	compare := func(rounds int, then []client, lines string) (ours, theirs *side, err error) {
		change := func(int) error {
			gw.charon.set(live)
			if _, err := gw.sync(ctx, "--force"); err != nil { // removes names that nsupdate has added
				return err
			}
			gw.charon.set(then)
			return nil
		}
		right := func(int) error { return server.holds(ctx, then) }
		ours = &side{before: change, after: right, work: func(int) (usage, error) { return gw.sync(ctx) }}
		batch := func(int) (usage, error) { return server.nsupdate(ctx, lines) }
		theirs = &side{before: change, after: right, work: batch}
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
	idle, _, err := compare(b.rounds(50, 3), live, "")
	if err != nil {
		return err
	}
	after, err := server.serial(ctx)
	if err != nil {
		return err
	}
	tenth := count / 20
	some, someTheirs, err := compare(b.rounds(30, 3), slices.Concat(live[tenth:], others[:tenth]),
		remove(live[:tenth])+add(others[:tenth], 60))
	if err != nil {
		return err
	}
	all, allTheirs, err := compare(b.rounds(10, 1), others, remove(live)+add(others, 60))
	if err != nil {
		return err
	}
	of := func(what string) string { return fmt.Sprintf("sync, %s clients, %s", grouped(count), what) }
	b.add(row{Work: of("nothing to do")}.of(idle, nil))
	b.add(row{Work: of("nothing to do: changes of the zone"), Unit: counted,
		Ours: sample{float64(after - before)}, Goal: most(0)})
	b.add(row{Work: of("nothing to do: peak memory"), Unit: inBytes, Ours: idle.peak()})
	const batch = "one nsupdate batch"
	b.add(row{Work: of(fmt.Sprint(2*tenth, " differences")), Against: batch, Goal: times(0.8),
		Note: "nsupdate is given the differences, sync finds them"}.of(some, someTheirs))
	b.add(row{Work: of("all wrong"), Against: batch}.of(all, allTheirs))
	return nil
}
