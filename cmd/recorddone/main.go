//go:build cgo

// Recorddone makes MP4 files of finished recordings: nginx-rtmp calls it for each recording, and a
// timer starts `recorddone sweep` for those that it was not called for.
//
//	exec_record_done /etc/nginx/conf.d/record_done.sh $path $filename $basename $dirname;
//
// nginx forks it (ngx_rtmp_exec_module.c) without an environment and with its streams on /dev/null.
// Nobody waits for it or reads its exit status. A publisher chooses the name and the content of a
// recording: no name is taken for a flag, and libav, which is C, reads the content in a sandbox. A
// recording is removed only after a complete copy of it is on the disk; where the copy lacks
// anything, the recording stays and the journal has the numbers.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"tunnelcast/internal/hook"
)

func main() { os.Exit(hook.Main("recorddone", run, runFailed)) }

const description = "Turns finished FLV recordings into MP4, without re-encoding and without losing one."

func run(ctx context.Context, env hook.Env) error {
	args, path, extra := nginxArgs(env.Args)
	if n := len(args); path == "" && n > 0 && strings.HasSuffix(args[n-1], ".flv") {
		path = args[n-1]
	}
	env.Args = args
	var c cli
	command, err := hook.Parse(env, &c, description)
	if err == nil && c.Jobs < 1 {
		err = hook.Usagef("jobs is %d: it must be at least 1", c.Jobs)
	}
	if err == nil {
		err = c.checkEvents()
	}
	switch {
	case err != nil && path != "" && hook.Status(err) == 80:
		return hook.With(hook.Usagef("%w; %s stays until the next sweep", err, path), "path", path)
	case err != nil:
		return err
	case len(extra) > 0:
		env.Log.Warn("arguments after the recording are not used", extraArguments,
			"path", path, "arguments", fmt.Sprintf("%q", extra))
	}
	h := &host{settings: c.settings, env: env}
	switch command {
	case "sweep":
		err = h.sweep(ctx, c.Sweep.Dirs)
	case "check":
		if c.Check.TestEvent {
			return h.testEvent(ctx)
		}
		err = h.check(ctx)
	case "published":
		return h.published(ctx, os.Stdin)
	case "calls":
		return h.makeCalls(ctx)
	default:
		err = h.done(ctx, c.Done.Path, c.Done.Rest)
	}
	h.calls.finish()
	return withEvent(err)
}
