package main

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"
	"slices"
)

// scale measures how the cost grows with the number of clients and of packets; prune does so for files.
func (b *bench) scale(ctx context.Context) error {
	return errors.Join(b.scaleClients(ctx), b.scalePackets(ctx))
}

// draw adds a point to a line of the chart. It ignores values that are not positive, because the axes are logarithmic.
func (r *report) draw(panel, name string, u unit, theirs bool, x int, y sample) {
	if y.median() <= 0 || r.cores > 0 { // the chart is of runs with all processors
		return
	}
	i := slices.IndexFunc(r.Lines, func(l line) bool { return l.Panel == panel && l.Name == name })
	if i < 0 {
		i = len(r.Lines)
		r.Lines = append(r.Lines, line{Panel: panel, Name: name, Unit: u, Theirs: theirs})
	}
	points := append(r.Lines[i].Points, point{float64(x), y.median()})
	slices.SortFunc(points, func(a, b point) int { return cmp.Compare(a.X, b.X) })
	r.Lines[i].Points = points
}

// scaleClients measures ten to ten thousand clients.
func (b *bench) scaleClients(ctx context.Context) error {
	const panel = "clients"
	counts := []int{10, 100, 1000, 10_000}
	if b.quick {
		counts = counts[:2]
	}
	guide, err := b.guideHook()
	if err != nil {
		return err
	}
	for _, count := range counts {
		b.progress("%s clients", grouped(count))
		server, gw, err := b.startGuide(ctx)
		if err != nil {
			return err
		}
		all := clients("guest", count)
		if count <= 1000 { // with ten thousand the script takes minutes, which would show nothing new
			took, err := guide.callAll(ctx, "up-client", all)
			if err != nil {
				return err
			}
			b.draw(panel, "all connect, the guide's script", inSeconds, true, count, sample{took.Seconds()})
			if _, err := gw.sync(ctx, "--force"); err != nil { // this gateway has added none of these names
				return err
			}
		}
		took, err := gw.arrive(ctx, all)
		if err == nil {
			err = server.holds(ctx, all)
		}
		if err != nil {
			return err
		}
		b.draw(panel, "all connect, updown", inSeconds, false, count, sample{took.Seconds()})

		gw.charon.set(nil)
		if _, err := gw.sync(ctx); err != nil {
			return err
		}
		gw.charon.set(all)
		fresh := &side{work: func(int) (usage, error) { return gw.sync(ctx) }} // all names are missing
		if err := measure(ctx, 1, fresh); err != nil {
			return err
		}
		if err := server.holds(ctx, all); err != nil {
			return err
		}
		idle := &side{work: fresh.work}
		rounds := b.pick(10, 2)
		late := clients("late", count+rounds)[count:]
		hook := &side{
			work:  func(round int) (usage, error) { return gw.hook().call(ctx, "up-client", late[round], round) },
			after: func(int) error { _, err := gw.sync(ctx); return err }, // removes the name again
		}
		if err := measure(ctx, rounds, idle, hook); err != nil {
			return err
		}
		b.draw(panel, "sync that adds all", inSeconds, false, count, fresh.wall())
		b.draw(panel, "sync, nothing to do", inSeconds, false, count, idle.wall())
		b.draw(panel, "one more connects", inSeconds, false, count, hook.wall())
		b.clean()
	}
	return nil
}

// scalePackets remuxes recordings with a low bitrate, from minutes to days long.
func (b *bench) scalePackets(ctx context.Context) error {
	low, err := b.makeClip(ctx, "low", lowBitrate)
	if err != nil {
		return err
	}
	master := filepath.Join(b.scratch(), "master.flv")
	r, err := b.remuxer(ctx, master)
	if err != nil {
		return err
	}
	for count := 10_000; count <= b.pick(10_000_000, 100_000); count *= 10 {
		b.progress("%s packets", grouped(count))
		if err := low.record(master, count); err != nil {
			return err
		}
		ours, theirs := r.hook(), r.ffmpeg("-movflags", "+faststart")
		if err := measure(ctx, max(1, min(b.pick(5, 1), 2_000_000/count)), ours, theirs); err != nil {
			return err
		}
		b.drawPackets(count, ours, theirs)
	}
	return nil
}

func (r *report) drawPackets(count int, ours, theirs *side) {
	for _, l := range []struct {
		name   string
		side   *side
		theirs bool
	}{{"recorddone", ours, false}, {faststart, theirs, true}} {
		r.draw("packets", l.name, inSeconds, l.theirs, count, l.side.wall())
		r.draw("packets: peak memory", l.name, inBytes, l.theirs, count, l.side.peak())
	}
}
