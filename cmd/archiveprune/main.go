// Command archiveprune removes recordings that are too old, or too many for the
// disk, from the directory that nginx-rtmp records to. It is started by a systemd
// timer, or by a person who wants to know what it would remove.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"tunnelcast/internal/archive"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/nginx"
	"tunnelcast/internal/retention"
	"tunnelcast/internal/sandbox"
)

const description = "Remove recordings that are too old or too many."

func main() { os.Exit(hook.UnitStatus(hook.Main("archiveprune", run, failures))) }

type cli struct {
	hook.Common
	Archive         *string         `help:"The directory of the recordings (default: /var/www/html/archive)." placeholder:"DIR"`
	MaxAge          retention.Age   `help:"Remove recordings of this age or more: 72h, 3d, off." placeholder:"AGE" default:"72h"`
	MaxSize         retention.Bytes `help:"Remove the oldest until the archive takes no more than this: 20G, 20GiB." placeholder:"SIZE"`
	MinFree         retention.Free  `help:"Remove the oldest until this is free on the disk: 2G, 10%." placeholder:"SIZE"`
	KeepLast        int             `help:"The newest N of each stream are never too old." placeholder:"N"`
	MinAge          retention.Age   `help:"Remove nothing that is younger, whatever the limits: 1h, 1d." placeholder:"AGE"`
	Include         []string        `help:"What is a recording, by its name." placeholder:"GLOB" default:"*.mp4,*.flv"`
	Exclude         []string        `help:"What is never removed, by the name of a file or directory." placeholder:"GLOB"`
	MaxDelete       retention.Share `help:"Remove nothing if a larger share of the recordings is too old: 50%." placeholder:"SHARE"`
	RemoveEmptyDirs bool            `help:"Remove directories in which nothing is left."`
	DryRun          bool            `help:"Print what a run would remove, and remove nothing."`

	Prune struct {
		Dirs   []string `arg:"" optional:"" name:"dir" help:"Directories in place of the configured one."`
		Format string   `help:"Print text or json (${default})." enum:"text,json" default:"text"`
		Force  bool     `help:"Go on where max-delete stops, this once."`

		OnlyMinFree bool `help:"Hold the archives to min-free alone; those without it are not looked at."`
	} `cmd:"" default:"withargs" help:"Remove what the limits do not allow. This is what happens without a command."`
	Check    struct{} `cmd:"" help:"Say whether this host is ready."`
	Crontabs struct{} `cmd:"" hidden:""` // for the package's installation

	Tables tables `kong:"-" toml:"archive"`

	named    bool  // the directories are not the configured ones
	archives []cli // one for each directory, with its own limits
}

func run(ctx context.Context, env hook.Env) error {
	var c cli
	command, err := hook.Parse(env, &c, description)
	if err != nil {
		return err
	}
	if c.archives, err = c.split(env); err != nil {
		return err
	}
	for _, a := range c.archives {
		if err := a.validate(); err != nil {
			return err
		}
	}
	if c.Prune.OnlyMinFree {
		c.onlyMinFree()
	}
	c.Prune.Dirs = c.dirs()
	if command == "crontabs" {
		lines, _ := cronLines(os.DirFS("/"), c.dirs()...)
		for _, line := range lines {
			fmt.Fprintln(env.Stdout, line)
		}
		return nil
	}
	if command == "check" {
		return check(ctx, env, c)
	}
	if c.Prune.OnlyMinFree && len(c.archives) == 0 {
		return nil
	}
	return prune(ctx, env, c)
}

// onlyMinFree leaves the archives on whose disks less than min-free is free, and of their limits that one: a disk fills
// within hours, and the other limits have a day. One that cannot be opened is left too, so that the run says so.
func (c *cli) onlyMinFree() {
	c.archives = slices.DeleteFunc(c.archives, func(a cli) bool {
		return a.MinFree == (retention.Free{}) || !c.DryRun && a.minFreeIsMet(*a.Archive)
	})
	for i := range c.archives {
		c.archives[i].MaxAge, c.archives[i].MaxSize, c.archives[i].MaxDelete = 0, 0, 0
	}
}

// minFreeIsMet tells whether min-free is met, without looking into the archive.
func (c cli) minFreeIsMet(dir string) bool {
	p := newPruner(c, dir)
	var err error
	if p.tree, err = archive.OpenTree(dir); err != nil {
		return false
	}
	defer p.tree.Close()
	disk, err := p.disk()
	return err == nil && !p.policy.Short(disk)
}

func (c cli) policy() retention.Policy {
	return retention.Policy{MaxAge: c.MaxAge, MaxSize: c.MaxSize, MinFree: c.MinFree, KeepLast: c.KeepLast, MinAge: c.MinAge}
}

func (c cli) validate() error {
	if c.KeepLast < 0 {
		return hook.Usagef("keep-last %d: must not be negative", c.KeepLast)
	}
	if len(c.Include) == 0 {
		return hook.Usagef("include is empty: nothing would be a recording")
	}
	if err := checkPatterns("include", c.Include); err != nil {
		return err
	}
	if c.MinAge > c.MaxAge && c.MaxAge > 0 {
		return hook.Usagef("min-age %s is more than max-age %s", c.MinAge, c.MaxAge)
	}
	return checkExcluded(c.Exclude)
}

// journalMemory is where entries that are too long for a datagram are handed to the journal.
const journalMemory = "/dev/shm"

// recordsNothing tells whether this server has no recordings: nobody has named an archive, here or to nginx, and the guide's
// is not there. Any other archive that is missing is a failure.
func recordsNothing(c cli) bool {
	if c.named || c.Archive != nil || c.Tables != nil {
		return false
	}
	_, err := os.Lstat(defaultArchive)
	return errors.Is(err, fs.ErrNotExist) && len(nginx.RecordPaths(os.DirFS("/"))) == 0
}

// reportFirst is made by the installation on a server where recordings are older than the default allows and no cron line
// has removed them, and removed by the unit after its first run. That run reports, so that a person can object.
const reportFirst = "/var/lib/tunnelcast/archiveprune-report-first"

func prune(ctx context.Context, env hook.Env, c cli) error {
	if _, err := os.Lstat(reportFirst); err == nil && env.IsUnit() && !c.DryRun {
		c.DryRun = true
		for i := range c.archives {
			c.archives[i].DryRun = true
		}
		defer env.Log.Warn("the first run removes nothing and reports; the next one removes", firstRun)
	}
	r := newReport(env, c)
	beginMetrics(env.Metrics, c)
	defer countMetrics(env.Metrics, r)
	if !slices.ContainsFunc(c.archives, func(a cli) bool { return !a.policy().Empty() }) {
		env.Log.Warn("no limit is set: nothing is removed", noLimit)
		return r.finish()
	}
	if recordsNothing(c) {
		env.Log.Info("nothing to do: no archive is configured, and the default one does not exist", nothingHere, "archive", defaultArchive)
		return nil
	}
	if env.IsUnit() {
		err := sandbox.Writes(append(c.dirs(), c.Metrics, journalMemory)...)
		if errors.Is(err, sandbox.ErrNoLandlock) {
			env.Log.Info("working without a sandbox", noSandbox, "error", err)
		} else if err != nil {
			return err
		}
	}
	var failed []error
	for _, a := range c.archives {
		if a.policy().Empty() {
			env.Log.Warn("no limit is set for this archive: nothing is removed from it", noLimit, "archive", *a.Archive)
			continue
		}
		if err := pruneArchive(ctx, env, a, *a.Archive, r); err != nil {
			failed = append(failed, err)
			r.archiveFailed(*a.Archive, err)
		}
	}
	if len(failed) == len(c.archives) && r.Removed == 0 && !r.json {
		return errors.Join(failed...) // a summary would say that all is well
	}
	return errors.Join(append(failed, r.finish())...)
}
