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

// host is this server as one run sees it: its settings, and its archives, each with limits of its own.
type host struct {
	cli
	env      hook.Env
	named    bool  // by arguments: these are not the configured archives
	archives []cli // one for each directory
}

// dirs returns the directories of the archives.
func (h *host) dirs() []string {
	var dirs []string
	for _, a := range h.archives {
		dirs = append(dirs, *a.Archive)
	}
	return dirs
}

// crontabs prints the lines of cron that remove from the archives.
func (h *host) crontabs() {
	lines, _ := cronLines(os.DirFS("/"), h.dirs()...)
	for _, line := range lines {
		fmt.Fprintln(h.env.Stdout, line)
	}
}

// journalMemory is where entries that are too long for a datagram are handed to the journal.
const journalMemory = "/dev/shm"

// reportFirst is a file that the installation makes on a server where recordings are older than the
// default allows and no cron line has removed them. The unit's first run then only reports, so that a
// person can object, and the unit removes the file.
const reportFirst = "/var/lib/tunnelcast/archiveprune-report-first"

// prune holds the archives to their limits.
func (h *host) prune(ctx context.Context) error {
	if h.Prune.OnlyMinFree {
		if h.onlyMinFree(); len(h.archives) == 0 {
			return nil
		}
	}
	log := h.env.Log
	if _, err := os.Lstat(reportFirst); err == nil && h.env.IsUnit() && !h.DryRun {
		h.DryRun = true
		for i := range h.archives {
			h.archives[i].DryRun = true
		}
		defer log.Warn("the first run removes nothing and reports; the next one removes", firstRun)
	}
	r := newReport(h.env, h.cli, h.dirs())
	h.beginMetrics()
	defer countRun(h.env.Metrics, r)
	if !slices.ContainsFunc(h.archives, func(a cli) bool { return !a.policy().Empty() }) {
		log.Warn("no limit is set: nothing is removed", noLimit)
		return r.finish()
	}
	if h.recordsNothing() {
		log.Info("nothing to do: no archive is configured, and the default one does not exist",
			nothingHere, "archive", defaultArchive)
		return nil
	}
	if h.env.IsUnit() {
		err := sandbox.Writes(append(h.dirs(), h.Metrics, journalMemory)...)
		if errors.Is(err, sandbox.ErrNoLandlock) {
			log.Info("working without a sandbox", noSandbox, "error", err)
		} else if err != nil {
			return err
		}
	}
	var failed []error
	for _, a := range h.archives {
		if a.policy().Empty() {
			log.Warn("no limit is set for this archive: nothing is removed from it", noLimit, "archive", *a.Archive)
			continue
		}
		if err := pruneArchive(ctx, h.env, a, *a.Archive, r); err != nil {
			failed = append(failed, err)
			r.archiveFailed(*a.Archive, err)
		}
	}
	if len(failed) == len(h.archives) && r.Removed == 0 && !r.json {
		return errors.Join(failed...) // a summary would look as if all was well
	}
	return errors.Join(append(failed, r.finish())...)
}

// onlyMinFree leaves those archives on whose disks less than min-free is free, with that limit alone: a
// disk fills within hours, and the other limits can wait for the daily run. An archive that cannot be
// opened is left too, so that the run reports it.
func (h *host) onlyMinFree() {
	h.archives = slices.DeleteFunc(h.archives, func(a cli) bool {
		return a.MinFree == (retention.Free{}) || !h.DryRun && a.minFreeIsMet(*a.Archive)
	})
	for i := range h.archives {
		h.archives[i].MaxAge, h.archives[i].MaxSize, h.archives[i].MaxDelete = 0, 0, 0
	}
}

// minFreeIsMet reports whether min-free is met, without looking into the archive.
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

// recordsNothing reports whether this server has no recordings: no archive is named, here or to nginx,
// and the default one does not exist. Any other archive that is missing is a failure.
func (h *host) recordsNothing() bool {
	if h.named || h.Archive != nil || h.Tables != nil {
		return false
	}
	_, err := os.Lstat(defaultArchive)
	return errors.Is(err, fs.ErrNotExist) && len(nginx.RecordPaths(os.DirFS("/"))) == 0
}
