package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// A remuxer makes sides that remux one recording in a directory of their own.
type remuxer struct {
	*testbed
	ctx    context.Context
	master string // the recording; each turn gets a hard link to it
	dir    string
}

func (b *bench) remuxer(ctx context.Context, master string) (*remuxer, error) {
	dir, err := b.makeDir("archive")
	return &remuxer{b.testbed, ctx, master, dir}, err
}

func (r *remuxer) path(name string) string { return filepath.Join(r.dir, name) }

// side returns a side whose rounds begin with only the FLV in the archive and an idle disk, and must end with an MP4.
func (r *remuxer) side(work func(flv, mp4 string) (usage, error)) *side {
	flv, mp4 := r.path("live.flv"), r.path("live.mp4")
	clear := func() error {
		if err := errors.Join(os.RemoveAll(r.dir), os.Mkdir(r.dir, 0o755)); err != nil {
			return err
		}
		syscall.Sync()
		return nil
	}
	return &side{
		before: func(int) error { return errors.Join(clear(), os.Link(r.master, flv)) },
		work:   func(int) (usage, error) { return work(flv, mp4) },
		after: func(int) error {
			info, err := os.Stat(mp4)
			if err == nil && info.Size() == 0 {
				err = fmt.Errorf("%s is empty", mp4)
			}
			return errors.Join(err, clear())
		},
	}
}

// hook runs recorddone as nginx does. recorddone ends when the MP4 is on the disk.
func (r *remuxer) hook() *side {
	return r.side(func(flv, mp4 string) (usage, error) {
		return run(r.ctx, process{args: r.ours("recorddone", flv, "live.flv", "live", r.dir), memory: true})
	})
}

// onDisk runs a program and then syncs its file to the disk, as recorddone does.
func (r *remuxer) onDisk(mp4 string, args ...string) (usage, error) {
	u, err := run(r.ctx, process{args: args, memory: true})
	if err != nil {
		return u, err
	}
	sync, err := run(r.ctx, process{args: []string{"sync", "-d", mp4}})
	return u.plus(sync), err
}

func (r *remuxer) ffmpeg(options ...string) *side {
	return r.side(func(flv, mp4 string) (usage, error) {
		args := append([]string{"ffmpeg", "-nostdin", "-v", "error", "-y", "-i", flv, "-c", "copy"}, options...)
		return r.onDisk(mp4, append(args, mp4)...)
	})
}

func (r *remuxer) cp() *side {
	return r.side(func(flv, mp4 string) (usage, error) { return r.onDisk(mp4, "cp", flv, mp4) })
}

// syncs waits for the disk as often as recorddone does: for the file, for its new name, and for the disk's cache. The
// file is as large as the recording.
func (r *remuxer) syncs() *side {
	hidden := r.path("hidden")
	s := r.side(func(_, mp4 string) (usage, error) {
		f, err := os.Open(hidden)
		if err != nil {
			return usage{}, err
		}
		defer f.Close()
		dir, err := os.Open(r.dir)
		if err != nil {
			return usage{}, err
		}
		defer dir.Close()
		start := time.Now()
		err = errors.Join(f.Sync(), os.Rename(hidden, mp4), f.Chmod(0o644), dir.Sync(), f.Sync())
		return usage{wall: time.Since(start)}, err
	})
	empty := s.before
	s.before = func(round int) error {
		if err := empty(round); err != nil {
			return err
		}
		_, err := run(r.ctx, process{args: []string{"cp", r.master, hidden}})
		return err
	}
	return s
}

const (
	plainCopy = "ffmpeg -c copy"
	faststart = "ffmpeg +faststart"
)

// remux measures three kinds of recordings: short, long, and with very many packets.
func (b *bench) remux(ctx context.Context) error {
	usual, err := b.makeClip(ctx, "usual", usualBitrate)
	if err != nil {
		return err
	}
	low, err := b.makeClip(ctx, "low", lowBitrate)
	if err != nil {
		return err
	}
	master := filepath.Join(b.scratch(), "master.flv")
	fsync := "the page cache is warm; on both sides the MP4 is on the disk at the end"

	if err := usual.record(master, len(usual.media)*6/10); err != nil {
		return err
	}
	r, err := b.remuxer(ctx, master)
	if err != nil {
		return err
	}
	ours, theirs, syncs := r.hook(), r.ffmpeg(), r.syncs()
	if err := measure(ctx, b.rounds(30, 2), ours, theirs, syncs); err != nil {
		return err
	}
	b.add(row{Work: "remux of 6 s", Against: plainCopy, Goal: times(0.15), Note: fsync}.of(ours, theirs))
	b.add(row{Work: "... of it waiting for the disk", Note: "recorddone waits until the disk has the file, until it " +
		"has the new name, and until its cache is empty; `sync -d` after ffmpeg waits once"}.of(syncs, nil))

	size := int64(b.pick(1500e6, 20e6))
	if err := usual.record(master, int(size/(usual.bytes()/int64(len(usual.media))))); err != nil {
		return err
	}
	b.progress("%s, against cp and ffmpeg", describe(size))
	ours, cp, copied, fast := r.hook(), r.cp(), r.ffmpeg(), r.ffmpeg("-movflags", "+faststart")
	if err := measure(ctx, b.rounds(5, 1), ours, cp, copied, fast); err != nil {
		return err
	}
	work := "remux of " + describe(size)
	b.add(row{Work: work, Against: "cp", Goal: times(1.2), Note: fsync}.of(ours, cp))
	b.add(row{Work: work, Against: plainCopy, Goal: times(0.7), Note: "ours has the index at the beginning, like " +
		"-movflags +faststart; theirs has it at the end"}.of(ours, copied))
	b.add(row{Work: work, Against: faststart, Goal: times(0.7)}.of(ours, fast))
	var together sample // in the same round
	for i, u := range cp.used {
		together = append(together, (u.cpu + copied.used[i].cpu).Seconds())
	}
	b.add(row{Work: work + ", CPU", Unit: inSeconds, Ours: ours.cpu(),
		Against: "cp, plus " + plainCopy, Theirs: together, Goal: times(1)})
	memory := func(against string, theirs *side, most float64) {
		b.add(row{Work: work + ", peak memory", Unit: inBytes, Ours: ours.peak(),
			Against: against, Theirs: theirs.peak(), Goal: times(most)})
	}
	memory(plainCopy, copied, 0.4)
	memory(faststart, fast, 0.4)

	packets := b.pick(2_500_000, 100_000)
	if err := low.record(master, packets); err != nil {
		return err
	}
	b.progress("%s packets, against ffmpeg", grouped(packets))
	ours, copied, fast = r.hook(), r.ffmpeg(), r.ffmpeg("-movflags", "+faststart")
	if err := measure(ctx, b.rounds(3, 1), ours, copied, fast); err != nil {
		return err
	}
	b.drawPackets(packets, ours, fast)
	work = fmt.Sprintf("remux of %.1f million packets", float64(packets)/1e6)
	b.add(row{Work: work, Against: plainCopy}.of(ours, copied))
	b.add(row{Work: work, Against: faststart}.of(ours, fast))
	memory(plainCopy, copied, 0.7)
	memory(faststart, fast, 0.7)
	return nil
}

// nginxConf has nginx-rtmp record every stream, at the guide's address.
const nginxConf = `daemon off;
user root;
error_log stderr;
pid %[1]s/nginx.pid;
load_module %[2]s/usr/lib/nginx/modules/ngx_rtmp_module.so;
events { }
rtmp { server {
	listen 10.0.0.1:1935;
	access_log off; # the directory of the default, /var/log/nginx, need not exist here
	application live { live on; record all; record_path %[1]s; record_suffix .flv; }
} }
`

// publish starts nginx and a live stream that it records, and returns the recording's path.
func (b *bench) publish(ctx context.Context, stream string) (recording string, err error) {
	dir, err := b.makeDir("nginx")
	if err != nil {
		return "", err
	}
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, dir, b.tree), 0o644); err != nil {
		return "", err
	}
	nginx, err := b.theirs("usr/sbin/nginx", "-e", "stderr", "-p", dir, "-c", conf)
	if err != nil {
		return "", err
	}
	server, err := b.start(nginx, filepath.Join(dir, "nginx.log"))
	if err != nil {
		return "", err
	}
	const address = "10.0.0.1:1935"
	err = server.Wait(ctx, "nginx at "+address, func() (bool, error) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err == nil, err
	})
	if err != nil {
		return "", err
	}
	publisher, err := b.start([]string{"ffmpeg", "-nostdin", "-v", "error", "-re", "-stream_loop", "-1", "-i", stream,
		"-c", "copy", "-f", "flv", "rtmp://" + address + "/live/live"}, filepath.Join(dir, "publisher.log"))
	if err != nil {
		return "", err
	}
	recording = filepath.Join(dir, "live.flv")
	return recording, publisher.Wait(ctx, "the recording to grow", func() (bool, error) {
		info, err := os.Stat(recording)
		return err == nil && info.Size() > 100_000, err
	})
}

// longestStall runs work and returns the longest time in which a file, which something else writes, did not grow.
func longestStall(file string, work func() error) (time.Duration, error) {
	quit, longest := make(chan struct{}), make(chan time.Duration)
	go func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		var most time.Duration
		var size int64
		since := time.Now()
		for {
			info, err := os.Stat(file)
			now := time.Now()
			most = max(most, now.Sub(since))
			if err == nil && info.Size() != size {
				size, since = info.Size(), now
			}
			select {
			case <-tick.C:
			case <-quit:
				longest <- most
				return
			}
		}
	}()
	err := work()
	close(quit)
	return <-longest, err
}

// live measures how a remux disturbs a live recording.
func (b *bench) live(ctx context.Context) error {
	usual, err := b.makeClip(ctx, "usual", usualBitrate)
	if err != nil {
		return err
	}
	master := filepath.Join(b.scratch(), "master.flv")
	size := int64(b.pick(1500e6, 20e6))
	if err := usual.record(master, int(size/(usual.bytes()/int64(len(usual.media))))); err != nil {
		return err
	}
	r, err := b.remuxer(ctx, master)
	if err != nil {
		return err
	}
	recording, err := b.publish(ctx, filepath.Join(b.scratch(), "usual-clip.flv"))
	if err != nil {
		return err
	}
	// The longest stall is reported as the time.
	stalled := func(s *side) *side {
		work := s.work
		s.work = func(round int) (u usage, err error) {
			stall, err := longestStall(recording, func() error { u, err = work(round); return err })
			return usage{wall: stall}, err
		}
		return s
	}
	alone := stalled(&side{work: func(int) (usage, error) {
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(b.pick(3000, 300)) * time.Millisecond):
		}
		return usage{}, ctx.Err()
	}})
	ours, copied, fast := stalled(r.hook()), stalled(r.ffmpeg()), stalled(r.ffmpeg("-movflags", "+faststart"))
	if err := measure(ctx, b.rounds(5, 1), alone, ours, copied, fast); err != nil {
		return err
	}
	work := "longest stall of a live recording beside a remux of " + describe(size)
	note := "nginx-rtmp writes a stream of 8 Mbit/s. Without a remux: " + inSeconds.spread(alone.wall())
	b.add(row{Work: work, Against: plainCopy, Note: note}.of(ours, copied))
	b.add(row{Work: work, Against: faststart}.of(ours, fast))
	return nil
}
