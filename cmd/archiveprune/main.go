// Command archiveprune removes recordings that are too old, or too many for the
// disk, from the directory that nginx-rtmp records to. It is started by a systemd
// timer, or by a person who wants to know what it would remove.
package main

import (
	"context"
	"errors"
	"os"
	"path"
	"path/filepath"

	"tunnelcast/internal/hook"
	"tunnelcast/internal/retention"
)

func main() { os.Exit(hook.Main("archiveprune", run, failures)) }

type cli struct {
	hook.Common
	Archive         string          `help:"The directory of the recordings." placeholder:"DIR" default:"/var/www/html/archive"`
	MaxAge          retention.Age   `help:"Remove recordings of this age or more: 72h, 3d, off." placeholder:"AGE" default:"72h"`
	MaxSize         retention.Bytes `help:"Remove the oldest until the archive takes no more than this: 20G, 20GiB." placeholder:"SIZE"`
	MinFree         retention.Free  `help:"Remove the oldest until this is free on the disk: 2G, 10%." placeholder:"SIZE"`
	KeepLast        int             `help:"The newest N of each stream are never too old." placeholder:"N"`
	Include         []string        `help:"What is a recording, by its name." placeholder:"GLOB" default:"*.mp4,*.flv"`
	MaxDelete       retention.Share `help:"Remove nothing if a larger share of the recordings is too old: 50%." placeholder:"SHARE"`
	RemoveEmptyDirs bool            `help:"Remove directories in which nothing is left."`
	DryRun          bool            `help:"Print what a run would remove, and remove nothing."`

	Prune struct {
		Dirs   []string `arg:"" optional:"" name:"dir" help:"Directories in place of the configured one."`
		Format string   `help:"Print text or json (${default})." enum:"text,json" default:"text"`
		Force  bool     `help:"Go on where max-delete stops, this once."`
	} `cmd:"" default:"withargs" help:"Remove what the limits do not allow. This is what happens without a command."`
	Check struct{} `cmd:"" help:"Say whether this host is ready."`

	named bool // the directories are not the configured ones
}

func run(ctx context.Context, env hook.Env) error {
	var c cli
	command, err := hook.Parse(env, &c, "Remove recordings that are too old or too many.")
	if err != nil {
		return err
	}
	if c.named = c.Prune.Dirs != nil; !c.named {
		c.Prune.Dirs = []string{c.Archive}
	}
	for i, dir := range c.Prune.Dirs {
		if c.Prune.Dirs[i], err = archivePath(dir); err != nil {
			return err
		}
	}
	if err := c.validate(); err != nil {
		return err
	}
	if command == "check" {
		return check(ctx, env, c)
	}
	return prune(ctx, env, c)
}

func (c cli) policy() retention.Policy {
	return retention.Policy{MaxAge: c.MaxAge, MaxSize: c.MaxSize, MinFree: c.MinFree, KeepLast: c.KeepLast}
}

func (c cli) validate() error {
	if c.KeepLast < 0 {
		return hook.Usagef("keep-last %d: must not be negative", c.KeepLast)
	}
	if len(c.Include) == 0 {
		return hook.Usagef("include is empty: nothing would be a recording")
	}
	for _, glob := range c.Include {
		if _, err := path.Match(glob, ""); err != nil || glob == "" {
			return hook.Usagef("include %q is no pattern of file names", glob)
		}
	}
	return nil
}

// archivePath refuses what is more likely a slip than an archive. What a
// relative path means depends on who starts the program.
func archivePath(dir string) (string, error) {
	clean := filepath.Clean(dir)
	switch {
	case dir == "":
		return "", hook.Usagef("archive is empty: name a directory")
	case !filepath.IsAbs(dir):
		return "", hook.Usagef("archive %q: must be an absolute path", dir)
	case clean == "/":
		return "", hook.Usagef("archive %q: the whole system is no archive", dir)
	}
	return clean, nil
}

func prune(ctx context.Context, env hook.Env, c cli) error {
	r := newReport(env, c)
	beginMetrics(env.Metrics, c)
	defer countMetrics(env.Metrics, r)
	if c.policy().Empty() {
		env.Log.Warn("no limit is set: nothing is removed", noLimit)
		return r.finish()
	}
	var failed []error
	for _, dir := range c.Prune.Dirs {
		if err := pruneArchive(ctx, env, c, dir, r); err != nil {
			failed = append(failed, err)
		}
	}
	if len(failed) == len(c.Prune.Dirs) && r.Removed == 0 {
		return errors.Join(failed...) // a summary would say that all is well
	}
	return errors.Join(append(failed, r.finish())...)
}
