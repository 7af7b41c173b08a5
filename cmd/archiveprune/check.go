package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"tunnelcast/internal/archive"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/nginx"
	"tunnelcast/internal/retention"
	"tunnelcast/internal/units"
)

const (
	service = "tunnelcast-archiveprune.service"
	timer   = "tunnelcast-archiveprune.timer"

	minFreeTimer = "tunnelcast-minfree.timer"
)

func (h *host) check(ctx context.Context) error {
	checks := hook.NewChecks(h.env.Stdout)
	root := os.DirFS("/")

	for _, a := range h.archives {
		var err error
		if a.policy().Empty() {
			err = errors.New("none is set, so nothing is ever removed")
		}
		limits := "limits "
		if len(h.archives) > 1 {
			limits += "of " + *a.Archive + ": "
		}
		checks.Say(limits+a.limits(), err,
			"`max-age = \"14d\"` in /etc/tunnelcast/archiveprune.toml, or max-size, or min-free")
	}
	for _, a := range h.archives {
		dir := *a.Archive
		what, err := a.survey(ctx, h.env, dir)
		checks.Say("archive "+dir+what, err, archive.Remedy(dir, err))
		remedy, err := units.CheckWrites(ctx, service, dir)
		checks.Say(service+" may write to "+dir, err, remedy)
		lines, blind := cronLines(root, nginx.Names(dir)...)
		what = "no cron line removes from " + dir
		switch {
		case len(lines) > 0:
			checks.Say(what, errors.New(strings.Join(lines, ", ")), "remove the line: it does not know these limits")
		case blind:
			checks.Unknown(what+", as far as this user may see; users' crontabs are root's to read",
				"`tunnelcast-archiveprune check` as root")
		default:
			checks.Say(what, nil, "")
		}
	}
	for _, place := range nginx.RecordPaths(root) {
		var err error
		if !nginx.Within(place.Dir, h.dirs()) {
			err = fmt.Errorf("%s has record_path %s, which is not in an archive", place.From, place.Dir)
		}
		checks.Say("recordings of nginx in "+place.Dir+" are pruned", err,
			"`archive = \""+place.Dir+"\"` in /etc/tunnelcast/archiveprune.toml, or one [[archive]] for each")
	}

	remedy, err := units.Check(ctx, timer)
	checks.Say("unit "+timer, err, remedy)
	if slices.ContainsFunc(h.archives, func(a cli) bool { return a.MinFree != (retention.Free{}) }) {
		remedy, err := units.Check(ctx, minFreeTimer)
		checks.Say("unit "+minFreeTimer, err, remedy)
	}
	checks.CheckMetrics(h.Metrics)
	return checks.Err()
}

// limits lists those that are set, as the configuration file has them.
func (c cli) limits() string {
	var set []string
	if c.MaxAge != 0 {
		set = append(set, "max-age "+c.MaxAge.String())
	}
	if c.MaxSize != 0 {
		set = append(set, "max-size "+c.MaxSize.String())
	}
	if c.MinFree != (retention.Free{}) {
		set = append(set, "min-free "+c.MinFree.String())
	}
	return strings.Join(set, ", ")
}
