//go:build cgo

// Recorddone turns a recording that nginx-rtmp has finished into an MP4 file:
//
//	exec_record_done /etc/nginx/conf.d/record_done.sh $path $filename $basename $dirname;
//
// nginx forks it (ngx_rtmp_exec_module.c) without an environment, with its
// streams on /dev/null and nobody who waits for it or reads its exit status.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tunnelcast/internal/file"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/inuse"
	"tunnelcast/internal/publish"
	"tunnelcast/internal/recording"
	"tunnelcast/internal/remux"
	"tunnelcast/internal/sandbox"
)

func main() { os.Exit(hook.Main("recorddone", run, failures)) }

type cli struct {
	hook.Common
	Archive   *string `help:"Where sweep looks for recordings, and check whether one can be made (default: the archive of archiveprune.toml)." placeholder:"DIR"`
	Jobs      int     `help:"How many recordings may be worked on at a time on this host; the others wait." default:"1" placeholder:"N"`
	Faststart bool    `help:"Put the index before the media: it plays in a browser before it is loaded." default:"true" negatable:""`
	Sandbox   bool    `help:"Read recordings in a sandbox, without network and other files." default:"true" negatable:""`

	Done struct {
		Path string   `arg:"" help:"A finished FLV recording; becomes an MP4 beside it." placeholder:"PATH"`
		Rest []string `arg:"" optional:"" hidden:"" placeholder:"FILENAME BASENAME DIRNAME"`
	} `cmd:"" default:"withargs" hidden:""`
	Sweep struct {
		Dirs []string `arg:"" optional:"" help:"In these directories and below, instead of the archive." placeholder:"DIR"`
	} `cmd:"" help:"Do what a crash or a restart of nginx left: every recording that nobody has open."`
	Check struct{} `cmd:"" help:"Say whether this host is ready."`
}

func run(ctx context.Context, env hook.Env) error {
	args, path, extra := nginxArgs(env.Args)
	if n := len(args); path == "" && n > 0 && strings.HasSuffix(args[n-1], ".flv") {
		path = args[n-1]
	}
	env.Args = args
	var c cli
	command, err := hook.Parse(env, &c, "Turns finished FLV recordings into MP4, without re-encoding and without losing one.")
	if err == nil && c.Jobs < 1 {
		err = hook.Usagef("jobs is %d: it must be at least 1", c.Jobs)
	}
	switch {
	case err != nil && path != "" && hook.Status(err) == 80:
		return hook.With(hook.Usagef("%w; %s stays until the next sweep", err, path), "path", path)
	case err != nil:
		return err
	case len(extra) > 0:
		env.Log.Warn("arguments behind the recording are not used", extraArguments, "path", path, "arguments", fmt.Sprintf("%q", extra))
	}
	switch command {
	case "sweep":
		return c.sweep(ctx, env)
	case "check":
		return c.check(ctx, env)
	default:
		return c.done(ctx, env)
	}
}

// nginxArgs finds nginx's $path in the arguments: the first that one of $filename,
// $basename and $dirname follows (ngx_rtmp_exec_module.c). It returns the arguments up to
// that, and those behind it that are none of the three. All of them are chosen by whoever
// publishes, and "--help" is a fine name for a stream, so none is taken for a flag.
// record_path may be relative to the directory that nginx was started in, and so is $path.
func nginxArgs(args []string) (own []string, path string, extra []string) {
	for i := range len(args) - 1 {
		if args[i] == "sweep" || args[i] == "check" {
			break
		}
		slash := strings.LastIndexByte(args[i], '/')
		if slash < 0 {
			continue
		}
		file := args[i][slash+1:]
		names := []string{file, strings.TrimSuffix(file, filepath.Ext(file)), args[i][:slash]}
		if file == "" || !slices.Contains(names, args[i+1]) {
			continue
		}
		extra = slices.DeleteFunc(slices.Clone(args[i+1:]), func(arg string) bool { return slices.Contains(names, arg) })
		return args[:i+1], args[i], extra
	}
	return args, "", nil
}

func (c *cli) done(ctx context.Context, env hook.Env) error {
	path, err := filepath.Abs(c.Done.Path)
	if err != nil {
		return err
	}
	if len(c.Done.Rest) > 0 {
		return hook.With(hook.Usagef("unexpected argument %q behind %s, which stays; one recording at a time, or sweep DIR",
			c.Done.Rest[0], path), "path", path)
	}
	source, err := publish.Open(path)
	if err != nil {
		return hook.With(err, "path", path)
	}
	defer source.Close()
	w, err := c.start(env, source.Dir)
	if err != nil {
		return hook.With(fmt.Errorf("%s: %w; the FLV stays", path, err), "path", path)
	}
	defer w.slots.Close()
	// nginx calls again when it has recorded to the same path again: that run
	// waits for this one, and then looks at what is there.
	if err := source.Lock(ctx); err != nil {
		return hook.With(fmt.Errorf("%s: wait for another run: %w; the FLV stays", path, err), "path", path)
	}
	return w.remux(ctx, source)
}

const (
	lockDir  = "/run/lock"
	lockName = "tunnelcast-recorddone"
)

// worker is a run that has its place on the host: a low priority, a share in the
// job locks, a sandbox around it.
type worker struct {
	env       hook.Env
	slots     *publish.Slots
	faststart bool
	sweeping  bool
	progress  *progress // of a sweep; else of the one recording, once its size is known
	told      map[lacking]bool
}

// lacking is what a file system lacks, by its device number.
type lacking struct {
	device uint64
	what   publish.Lack
}

func (c *cli) start(env hook.Env, dirs ...string) (*worker, error) {
	slots, err := publish.OpenSlots(lockDir, lockName, c.Jobs)
	if err != nil {
		env.Log.Warn("working without job locks", noJobLocks, "error", err)
	}
	env.Metrics.Begin(c.Metrics, metrics...)
	if _, err := os.Stat(c.Metrics); err == nil {
		dirs = append(dirs, c.Metrics)
	}
	if err := sandbox.LowerPriority(); err != nil {
		env.Log.Warn("working at ordinary priority", ordinaryPriority, "error", err)
	}
	if c.Sandbox {
		if err := sandbox.Restrict(dirs...); errors.Is(err, sandbox.ErrNoLandlock) {
			env.Log.Info("working without a sandbox", noSandbox, "error", err)
		} else if err != nil {
			slots.Close()
			return nil, err
		}
	}
	return &worker{env: env, slots: slots, faststart: c.Faststart, told: map[lacking]bool{}}, nil
}

// remux publishes the recording, which the caller has locked, as MP4, and then
// removes it. At every moment a complete copy exists: the recording, until the
// MP4 is on the disk under its final name, and that from then on.
func (w *worker) remux(ctx context.Context, source *publish.Source) (err error) {
	defer func() { err = hook.With(err, "path", source.Path()) }()
	defer w.tell(source)
	release, err := w.slots.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("%s: wait for a job slot: %w", source.Path(), err)
	}
	defer release()
	began := w.env.Now()
	defer func() { w.env.Metrics.Add(workSeconds, w.env.Now().Sub(began).Seconds()) }()

	if err := w.identify(ctx, source); err != nil {
		return w.leave(source, err)
	}
	if w.progress == nil {
		w.progress = newProgress(w.env, source.Size())
	}
	defer w.progress.pause()
	survey, err := recording.Walk(source, source.Size())
	if err == nil {
		err = survey.Err()
	}
	if err != nil {
		return w.keep(source, err)
	}
	losses := survey.Losses()
	if name, ok := source.Published(recording.MP4Names(source.Name, 1)); ok && w.sweeping && len(losses) > 0 {
		w.env.Log.Debug("recording was published before, not all of it", "path", source.Path(), "mp4", name)
		return nil
	}
	var published []string
	for first := 0; first < len(survey.Parts); first += atOnce {
		names, err := w.publish(ctx, source, survey, first)
		if err != nil {
			return w.keep(source, err)
		}
		published = append(published, names...)
	}
	for i, name := range published {
		path, length := filepath.Join(source.Dir, name), survey.Parts[i].Duration
		w.countPublished(path, time.Duration(length)*time.Millisecond)
		w.env.Log.Info("recording published", recordingPublished, "path", path,
			"seconds", length/1000, "took", w.env.Now().Sub(began).Round(time.Millisecond))
	}
	if len(losses) > 0 {
		w.countLosses(survey)
		cause := errIncomplete
		if len(survey.Damage) > 0 {
			cause = errDamaged
		}
		return fmt.Errorf("%s: %s; what can be read is %s, the FLV stays: %w",
			source.Path(), strings.Join(losses, "; "), strings.Join(published, ", "), cause)
	}
	if survey.Cut > 0 {
		w.env.Log.Info("recording ended in the middle of a packet", endedInPacket, "path", source.Path(), "bytes", survey.Cut)
	}
	if err := source.Remove(recording.HiddenSource(source.Name)); err != nil {
		return w.leave(source, err)
	}
	return nil
}

func (w *worker) identify(ctx context.Context, source *publish.Source) error {
	if w.sweeping {
		return source.Identify()
	}
	return source.IdentifyClosed(ctx)
}

// tell says what the file system lacks, once in a run.
func (w *worker) tell(source *publish.Source) {
	for _, what := range source.Lacks() {
		if key := (lacking{source.Device(), what}); !w.told[key] {
			w.told[key] = true
			w.env.Log.Info("the file system has no "+string(what)+": "+what.Effect(), fileSystemLacks, "path", source.Dir, "lacks", string(what))
		}
	}
}

// writeOut is how many bytes wait before the disk begins with them.
const writeOut = 4 << 20

// atOnce is how many parts are published together, for each is an open file until then.
const atOnce = 64

// publish publishes the parts from number first, from 0, at most atOnce of them. All of
// these or none is there when it returns, unless it is the publishing that failed.
func (w *worker) publish(ctx context.Context, source *publish.Source, survey recording.Survey, first int) (names []string, err error) {
	works, err := w.write(ctx, source, survey, first) // hidden
	defer discard(works)
	if err != nil {
		return nil, err
	}
	for i, work := range works {
		name, err := work.Publish(recording.MP4Names(source.Name, first+i+1)) // sync, rename, sync directory
		if err != nil {
			return names, err
		}
		names = append(names, name)
	}
	return names, nil
}

// write makes a hidden MP4 file of each of these parts and checks it. The caller
// discards what is returned, also beside an error.
func (w *worker) write(ctx context.Context, source *publish.Source, survey recording.Survey, first int) (works []*publish.Work, err error) {
	defer w.progress.pause()
	var before int64 // bytes of packets in the parts before
	for i, part := range survey.Parts[:min(first+atOnce, len(survey.Parts))] {
		if i >= first {
			work, err := w.writePart(ctx, source, survey, i, before)
			if work != nil {
				works = append(works, work)
			}
			if err != nil {
				return works, err
			}
		}
		before += part.Video.Bytes + part.Audio.Bytes
	}
	return works, nil
}

func (w *worker) writePart(ctx context.Context, source *publish.Source, survey recording.Survey, n int, before int64) (*publish.Work, error) {
	work, err := source.NewWork(recording.HiddenName(source.Name, n+1))
	if err != nil {
		return nil, err
	}
	var out int64
	reached := func(bytes int64) {
		w.progress.reached(before + bytes)
		if bytes-out >= writeOut {
			work.WriteOut()
			out = bytes
		}
	}
	part := survey.Parts[n]
	in := remux.Input{Path: source.Path(), File: source, Part: part, Plain: survey.Plain, Reached: reached}
	wrote, err := remux.Run(ctx, in, work.Path(), w.faststart)
	if err == nil {
		work.WriteOut() // it works while we look
		err = remux.Verify(work.Path(), wrote)
	}
	if err != nil && len(survey.Parts) > 1 {
		err = fmt.Errorf("part %d of %d, %s: %w", n+1, len(survey.Parts), codecs(part), err)
	} else if err != nil {
		err = fmt.Errorf("%s: %w", codecs(part), err)
	}
	return work, err
}

// codecs names the streams of a part.
func codecs(p recording.Part) string {
	var names []string
	for _, stream := range []recording.Stream{p.Video, p.Audio} {
		if stream.Codec != "" {
			names = append(names, string(stream.Codec))
		}
	}
	return strings.Join(names, " and ")
}

func discard(works []*publish.Work) {
	for _, work := range works {
		work.Discard()
	}
}

// keep says why there is no MP4. If the recording has changed meanwhile, that is
// why, and whoever changes it calls again.
func (w *worker) keep(source *publish.Source, err error) error {
	if same := source.Same(); errors.Is(same, inuse.ErrInUse) || errors.Is(same, file.ErrChanged) {
		return w.leave(source, same)
	}
	if !w.sweeping || !errors.Is(err, recording.ErrNoMedia) {
		w.env.Metrics.Add(keptRecordings, 1)
	}
	return fmt.Errorf("%s: %w; the FLV stays", source.Path(), err)
}

// leave leaves a recording alone that is being written, or was done by another
// run. nginx calls again at its end.
func (w *worker) leave(source *publish.Source, err error) error {
	if errors.Is(err, inuse.ErrInUse) || errors.Is(err, file.ErrChanged) {
		w.env.Log.Info("recording is left alone", leftAlone, "path", source.Path(), "reason", err)
		return nil
	}
	return fmt.Errorf("%w; the FLV stays", err)
}
