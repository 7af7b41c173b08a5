//go:build cgo

package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"tunnelcast/internal/archive"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/nginx"
	"tunnelcast/internal/publish"
	"tunnelcast/internal/sandbox"
	"tunnelcast/internal/units"
)

const (
	sweepService = "tunnelcast-sweep.service"
	sweepTimer   = "tunnelcast-sweep.timer"
)

// check prints, in a line per thing, whether this host is ready.
func (h *host) check(ctx context.Context) error {
	checks := hook.NewChecks(h.env.Stdout)
	dirs, _, err := h.archives()
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		lacks, err := publish.Try(ctx, dir, leastRoom)
		what := fmt.Sprintf("recordings in %s, as user %d", dir, os.Getuid())
		for _, lack := range lacks {
			what += fmt.Sprintf("; no %s: %s", lack, lack.Effect())
		}
		if err == nil {
			var found leftovers
			err = errors.Join(found.look(dir), found.unreadable())
			if len(found.lostAndFound) > 0 {
				what += "; lost+found is skipped, because only root may read it"
			}
		}
		checks.Say(what, err, archive.Remedy(dir, err))
		remedy, err := units.CheckWrites(ctx, sweepService, dir)
		checks.Say(sweepService+" may write to "+dir, err, remedy)
	}
	for _, place := range nginx.RecordPaths(os.DirFS("/")) {
		var err error
		if !nginx.Within(place.Dir, dirs) {
			err = fmt.Errorf("%s has record_path %s, which is not in an archive", place.From, place.Dir)
		}
		checks.Say("recordings of nginx in "+place.Dir+" are swept", err,
			"`archive = \""+place.Dir+"\"` in /etc/tunnelcast/archiveprune.toml, or one [[archive]] for each")
	}
	if h.Archive != nil {
		checks.Say("archive "+*h.Archive+" is archiveprune's too", h.sameArchives(),
			"name it in archiveprune.toml alone, which serves both")
	}
	slots, err := publish.OpenSlots(lockDir, lockName, h.Jobs)
	slots.Close()
	checks.Say("job locks in "+lockDir, err,
		"`install -d -m 1777 "+lockDir+"`; without them, all recordings are worked on at once")
	what := "exec_record_done in /etc/nginx"
	file, err := nginx.RecordDone("/etc/nginx", "tunnelcast-recorddone")
	if err == nil {
		what += ", " + file
	}
	checks.Say(what, err,
		"`exec_record_done /etc/nginx/conf.d/record_done.sh $path $filename $basename $dirname;` "+
			"in the application's section; `nginx -s reload`")
	remedy, err := units.Check(ctx, sweepTimer)
	checks.Say("unit "+sweepTimer, err, remedy)
	h.checkCalls(ctx, checks)
	checks.CheckMetrics(h.Metrics)
	if h.Sandbox { // last, because it restricts this process too
		checks.Say("sandbox", sandbox.Restrict(),
			"a kernel with CONFIG_SECURITY_LANDLOCK, or `sandbox = false` in /etc/tunnelcast/recorddone.toml")
	}
	return checks.Err()
}

// leastRoom is the room that a recording needs, in bytes: some seconds.
const leastRoom = 1 << 20
