package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"tunnelcast/internal/archive"
	"tunnelcast/internal/file"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/inuse"
	"tunnelcast/internal/recording"
	"tunnelcast/internal/retention"
)

// leftoverAge is the age at which an unfinished file of recorddone belongs to a run that was killed: no
// remux takes a day, and the hourly sweep removes such files, too.
const leftoverAge = retention.Age(24 * time.Hour)

// pruner holds one archive to a policy.
type pruner struct {
	cli
	dir      string
	policy   retention.Policy
	now      time.Time
	tree     *archive.Tree
	report   *report
	include  patterns
	exclude  patterns
	links    links
	streams  retention.Streams
	hopeless bool // min-free could not be met without any recording either

	mu   sync.Mutex
	gain retention.Gain
	vain error // what stopped the run, for the other worker too
}

// pruneArchive holds one archive to its limits.
func pruneArchive(ctx context.Context, env hook.Env, c cli, dir string, r *report) error {
	tree, err := archive.OpenTree(dir)
	if err != nil {
		return hook.With(err, archiveNotOpen, "archive", dir)
	}
	defer tree.Close()
	p := newPruner(c, dir)
	p.now, p.tree, p.report = env.Now(), tree, r
	run := p.byPlan
	if p.policy.AgeAlone() {
		run = p.byAge
	}
	stays, err := run(ctx)
	stays.count(env.Metrics, dir)
	r.sawStreams(p.streams.Len())
	if tree.NoLeases() {
		env.Log.Info("leases do not work here: "+
			"a recording counts as in use until nobody has written to it for some time",
			noLeases, "archive", dir, "time", quiet)
	}
	if errors.Is(err, context.Canceled) {
		err = hook.With(err, interrupted)
	}
	return hook.With(err, "archive", dir)
}

// quiet is archive.Quiet as text.
var quiet = retention.Age(archive.Quiet).String()

func newPruner(c cli, dir string) *pruner {
	return &pruner{
		cli: c, dir: dir, policy: c.policy(),
		include: newPatterns(c.Include), exclude: newPatterns(c.Exclude),
	}
}

// byAge removes what is too old, which needs no list. It returns what stays, or nil if it has not seen
// all.
func (p *pruner) byAge(ctx context.Context) (*stock, error) {
	if p.MaxDelete > 0 && !p.Prune.Force {
		if err := p.countExpired(ctx); err != nil {
			return nil, err
		}
	}
	var mu sync.Mutex
	var stays stock
	failures := 0
	walk := p.walk(func(f *archive.File) (err error) {
		outcome := kept
		if p.policy.Expired(f.ModTime, p.now) {
			outcome, err = p.remove(f, retention.TooOld)
		} else if retention.Future(f.ModTime, p.now) {
			p.report.future(f)
		}
		if outcome == removed || outcome == vanished {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		stays.add(retention.Recording{ModTime: f.ModTime, Bytes: p.links.kept(f)})
		if outcome == failed {
			failures++
		}
		return err
	})
	p.addOthers(&walk)
	err := p.tree.Walk(ctx, walk)
	p.report.keep(stays.files-failures, stays.bytes)
	if err != nil {
		return nil, err
	}
	return &stays, nil
}

// walk calls do for every recording, and removes the leftovers of killed runs.
func (p *pruner) walk(do func(*archive.File) error) archive.Walk {
	leftovers := retention.Policy{MaxAge: leftoverAge}
	return archive.Walk{
		Want: func(name string) bool { return isLeftover(name) || p.isRecording(name) },
		File: func(f *archive.File) error {
			if !isLeftover(f.Name) {
				return do(f)
			}
			if !leftovers.Expired(f.ModTime, p.now) {
				return nil
			}
			_, err := p.remove(f, retention.Leftover)
			return err
		},
		Enter:  p.enters,
		Unread: p.report.fail,
	}
}

// addOthers has a walk report what is not a recording, and remove empty directories. Only one walk of a
// run does the former.
func (p *pruner) addOthers(walk *archive.Walk) {
	walk.Other = func(f *archive.File) {
		why := leftOther
		switch {
		case p.exclude.match(f.Name):
			why = leftExcluded
		case recording.KindOf(f.Name) == recording.Hidden:
			return // a file that recorddone is writing
		}
		p.report.leave(why, f.Path)
	}
	walk.Skipped = func(path string, err error) {
		p.report.leave(skippedAs(err), func() string { return path })
	}
	walk.Emptied = p.emptied()
}

func skippedAs(why error) leftKind {
	switch why {
	case archive.ErrMount:
		return leftMount
	case archive.ErrLostAndFound:
		return leftLostAndFound
	}
	return leftExcluded
}

func (p *pruner) enters(directory string) bool { return !p.exclude.match(directory) }

// isLeftover reports whether a name is that of an unfinished file of recorddone. The recording that
// recorddone was about to remove has a hidden name too, but the sweep gives it its own name back.
func isLeftover(name string) bool {
	return recording.KindOf(name) == recording.Hidden && !recording.IsHiddenSource(name)
}

func (p *pruner) isRecording(name string) bool {
	return p.include.match(name) && !p.exclude.match(name)
}

// emptied returns what a walk does with directories in which nothing is left, if they are to be removed.
func (p *pruner) emptied() func(*archive.Dir) {
	if !p.RemoveEmptyDirs {
		return nil
	}
	day := retention.Policy{MaxAge: leftoverAge}
	remove := (*archive.Dir).Remove
	if p.DryRun {
		remove = (*archive.Dir).Removable
	}
	return func(d *archive.Dir) {
		// A new one may be meant for a recording that is about to begin.
		if !d.Removed && !day.Expired(d.ModTime, p.now) {
			return
		}
		switch err := remove(d); {
		case err == nil:
			p.report.removeDir(d, p.now)
		case !errors.Is(err, inuse.ErrInUse):
			p.report.fail(d.Path, err)
		}
	}
}

// outcome is what happened to a recording of a plan.
type outcome uint8

const (
	unseen   outcome = iota // the walk has not reached it
	vanished                // somebody else has removed it
	removed
	kept   // as planned
	inUse  // or changed since the walk looked at it
	failed // as the report says
)

// remove removes the file, or on a dry run finds out whether it could. It returns an error only if every
// further removal would fail, too.
func (p *pruner) remove(f *archive.File, reason retention.Reason) (outcome, error) {
	try := (*archive.File).Remove
	if p.DryRun {
		try = (*archive.File).Removable
	}
	err := try(f)
	switch {
	case err == nil:
		bytes := p.links.removed(f)
		p.report.remove(f, reason, bytes, p.policy, p.now)
		if reason == retention.TooLittleFree && !p.DryRun {
			err = p.gained(bytes)
		}
		return removed, err
	case errors.Is(err, fs.ErrNotExist):
		return vanished, nil
	case errors.Is(err, inuse.ErrInUse), errors.Is(err, file.ErrChanged):
		p.report.leave(leftInUse, f.Path)
		return inUse, nil
	case errors.Is(err, syscall.EROFS):
		err = fmt.Errorf("%w (the disk is, or ProtectSystem= of the unit: see `tunnelcast-archiveprune check`)", err)
		return failed, hook.With(err, archiveReadOnly)
	default:
		p.report.fail(f.Path(), err)
		return failed, nil
	}
}

// gained returns an error if the removals for min-free so far have freed nothing.
func (p *pruner) gained(bytes int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.vain != nil || !p.gain.Removed(bytes) {
		return p.vain
	}
	space, err := p.tree.Space()
	if err != nil || !p.gain.Vain(space.Free) {
		return err
	}
	if space, err = p.tree.Settled(); err != nil || !p.gain.Vain(space.Free) {
		return err
	}
	p.vain = hook.With(fmt.Errorf("%d recordings of %s were removed for min-free = %s and "+
		"no space came free, so the others stay: snapshots, reflinks or readers hold it, or somebody writes as fast",
		p.gain.Files, retention.Bytes(p.gain.Bytes), p.MinFree), nothingFreed)
	return p.vain
}

// disk returns the state of the disk. If less than min-free is free, what the file system has deferred is
// done first.
func (p *pruner) disk() (retention.Disk, error) {
	space, err := p.tree.Space()
	if err == nil && p.policy.Short(retention.Disk(space)) {
		space, err = p.tree.Settled()
	}
	return retention.Disk(space), err
}

// countExpired returns an error if more recordings are too old than max-delete allows.
func (p *pruner) countExpired(ctx context.Context) error {
	var mu sync.Mutex
	var all, expired int
	err := p.tree.Walk(ctx, archive.Walk{
		Want:  p.isRecording,
		Enter: p.enters,
		File: func(f *archive.File) error {
			mu.Lock()
			defer mu.Unlock()
			all++
			if p.policy.Expired(f.ModTime, p.now) {
				expired++
			}
			return nil
		},
		Unread: func(string, error) {}, // the next walk reports it
	})
	if err != nil {
		return err
	}
	return p.tooMany(expired, all)
}

func (p *pruner) tooMany(expired, all int) error {
	if p.MaxDelete == 0 || p.Prune.Force || float64(expired)*100 <= float64(p.MaxDelete)*float64(all) {
		return nil
	}
	return hook.With(fmt.Errorf("%d of %d recordings are %s old or more, a larger share than max-delete = %s: "+
		"nothing is removed; look at the clock, then run once with --force",
		expired, all, p.MaxAge, p.MaxDelete), tooManyOld)
}

// byPlan lists the recordings, plans, and removes what the plan says if it has not changed since. It
// plans again if files turn out to be in use or if removals free less space than expected. It returns
// what stays, or nil if that is not known.
func (p *pruner) byPlan(ctx context.Context) (*stock, error) {
	// The list is most of the memory and has no pointers. Collecting garbage often costs little
	// therefore, and by default there could be as much garbage as the list has.
	defer debug.SetGCPercent(debug.SetGCPercent(10))
	recordings, err := p.list(ctx)
	if err != nil {
		return nil, err
	}
	disk, err := p.disk()
	if err != nil {
		return nil, err
	}
	p.gain = retention.NewGain(disk.Free)
	failures := 0
	// Each round takes files out of the plan of the next. A round is a walk, so that the rounds are
	// limited, for an archive full of files that cannot be removed.
	const rounds = 10
	for round := range rounds {
		plan := p.policy.Plan(recordings, disk, p.now)
		p.hopeless = plan.Hopeless
		if round == 0 {
			if err := p.tooMany(count(plan, retention.TooOld), len(plan.Reasons)); err != nil {
				return nil, err
			}
		} else if !slices.ContainsFunc(plan.Reasons, retention.Reason.Removes) {
			break
		}
		var done carriedOut
		done, err = p.carryOut(ctx, plan, round == 0)
		recordings = done.left
		failures += done.failed
		if err != nil {
			break
		}
		if p.DryRun {
			disk.Free += done.freed
			disk.FreeInodes += done.inodes
		} else if disk, err = p.disk(); err != nil { // others write and remove, too
			break
		}
		if !done.held && !p.policy.Short(disk) {
			break
		}
	}
	var stays stock
	for _, r := range recordings {
		stays.add(r)
	}
	size := stays.bytes
	names, bytes := p.links.rest()
	stays.files, stays.bytes = stays.files+names, stays.bytes+bytes
	p.report.keep(stays.files-failures, stays.bytes)
	if err == nil {
		err = p.unmet(size, disk)
	}
	return &stays, err
}

// unmet returns an error if a limit is not met although everything that may be removed has been.
func (p *pruner) unmet(size int64, disk retention.Disk) error {
	if p.MaxSize > 0 && size > int64(p.MaxSize) {
		return hook.With(fmt.Errorf("the archive takes %s although max-size is %s: what is left may not be removed",
			retention.Bytes(size), p.MaxSize), limitNotMet)
	}
	if !p.policy.Short(disk) {
		return nil
	}
	what := fmt.Sprintf("%s are free although min-free is %s (%s)",
		retention.Bytes(disk.Free), p.MinFree, retention.Bytes(p.MinFree.Of(disk.Size)))
	if limit := p.MinFree.Inodes(disk); disk.Free >= p.MinFree.Of(disk.Size) {
		what = fmt.Sprintf("%d inodes are free although min-free is %s (%d of %d)",
			disk.FreeInodes, p.MinFree, limit, disk.Inodes)
	}
	if p.hopeless {
		return hook.With(fmt.Errorf("%s, and would be without any recording: "+
			"something else fills it, so no recording was removed for that", what), limitHopeless)
	}
	return hook.With(fmt.Errorf("%s: what is left may not be removed, or somebody writes as fast", what), limitNotMet)
}

func count(plan retention.Plan, reason retention.Reason) (n int) {
	for _, r := range plan.Reasons {
		if r == reason {
			n++
		}
	}
	return n
}

// list returns the recordings of the archive.
func (p *pruner) list(ctx context.Context) ([]retention.Recording, error) {
	var mu sync.Mutex
	// Room for all of them: growing the slice would take memory, and room that is not used takes none.
	const most = 1 << 20
	space, err := p.tree.Space()
	if err != nil {
		return nil, err
	}
	recordings := make([]retention.Recording, 0, min(space.Inodes-space.FreeInodes, most))
	err = p.tree.Walk(ctx, archive.Walk{
		Want:  p.isRecording,
		Enter: p.enters,
		File: func(f *archive.File) error {
			r := inPlan(f)
			mu.Lock()
			defer mu.Unlock()
			// A file with several names is one Recording.
			if p.links.may(f) {
				if file := p.links.of(f); file != nil {
					file.names++
					file.id = min(file.id, r.ID)
					if file.index >= 0 {
						return nil
					}
					file.index = len(recordings)
				}
			}
			if p.KeepLast > 0 {
				r.Stream = p.streams.Number(strings.TrimPrefix(f.Path(), p.dir))
			}
			recordings = append(recordings, r)
			return nil
		},
		Unread: func(string, error) {}, // carryOut reports it
	})
	p.links.listed(recordings)
	return recordings, err
}

func inPlan(f *archive.File) retention.Recording {
	return retention.Recording{ModTime: f.ModTime, Bytes: f.Bytes, ID: f.Place()}
}

// find returns the index of f in a plan.
func (p *pruner) find(plan retention.Plan, f *archive.File) (index int, ok bool) {
	r := inPlan(f)
	if p.links.may(f) {
		p.links.mu.Lock()
		if file := p.links.of(f); file != nil && file.index >= 0 {
			r.ID = file.id
		}
		p.links.mu.Unlock()
	}
	return plan.Find(r)
}

// carriedOut is the result of a plan.
type carriedOut struct {
	left   []retention.Recording
	freed  int64 // bytes
	inodes int64 // that came free
	failed int   // of those left, how many could not be removed
	held   bool  // the plan was to remove some of those left
}

// carryOut does what the plan says. It reuses the plan's slices. After an error, everything that was not
// removed is left.
func (p *pruner) carryOut(ctx context.Context, plan retention.Plan, first bool) (carriedOut, error) {
	outcomes := make([]outcome, len(plan.Reasons))
	var mu sync.Mutex
	var renewed []retention.Recording // new, or changed since they were listed
	walk := p.walk(func(f *archive.File) error {
		i, ok := p.find(plan, f)
		if !ok {
			mu.Lock()
			defer mu.Unlock()
			renewed = append(renewed, inPlan(f))
			return nil
		}
		reason := plan.Reasons[i]
		become := kept
		var err error
		if reason.Removes() {
			become, err = p.remove(f, reason)
		} else if first && reason == retention.FromTheFuture {
			p.report.future(f)
		}
		if p.links.may(f) { // a name that stays decides for all names of the file
			mu.Lock()
			defer mu.Unlock()
			become = max(become, outcomes[i])
		}
		outcomes[i] = become
		return err
	})
	if first {
		p.addOthers(&walk)
	} else { // everything else was done by the first walk
		walk.Want = p.isRecording
		walk.Unread = func(string, error) {}
		walk.Emptied = p.emptied()
	}
	err := p.tree.Walk(ctx, walk)
	done := carriedOut{left: plan.Recordings[:0]}
	for i, r := range plan.Recordings {
		switch outcomes[i] {
		case unseen:
			if err == nil {
				continue
			}
		case vanished:
			continue
		case removed:
			done.freed += r.Bytes
			if !r.Linked {
				done.inodes++
			}
			continue
		case failed:
			done.failed++
			fallthrough
		case inUse:
			r.Held, done.held = true, true
		}
		done.left = append(done.left, r)
	}
	done.left = append(done.left, renewed...)
	return done, err
}
