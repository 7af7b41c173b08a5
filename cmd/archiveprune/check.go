package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"tunnelcast/internal/archive"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/retention"
	"tunnelcast/internal/units"
)

const (
	service = "tunnelcast-archiveprune.service"
	timer   = "tunnelcast-archiveprune.timer"
)

func check(ctx context.Context, env hook.Env, c cli) error {
	checks := hook.NewChecks(env.Stdout)
	host := os.DirFS("/")

	var err error
	if c.policy().Empty() {
		err = errors.New("none is set, so nothing is ever removed")
	}
	checks.Say("limits "+c.limits(), err, "set max-age, max-size or min-free")

	for _, dir := range c.Prune.Dirs {
		what, err := c.survey(ctx, env, dir)
		checks.Say("archive "+dir+what, err, archive.Remedy(dir, err))
		checks.Say(service+" may write to "+dir, units.Writable(host, service, dir), fmt.Sprintf("systemctl edit %s: [Service] ReadWritePaths=%s", service, dir))
		checks.Say("no cron line removes from "+dir+seen(), cron(host, dir), "remove the line: it knows nothing of these limits")
	}

	remedy, err := units.Check(ctx, timer)
	checks.Say("unit "+timer, err, remedy)
	checks.CheckMetrics(c.Metrics)
	return checks.Err()
}

// limits names those that are set, as they stand in the configuration.
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

// seen says whose crontabs cron cannot look into.
func seen() string {
	if os.Geteuid() == 0 {
		return ""
	}
	return " (users' crontabs are for root to see)"
}

// cron returns an error naming the place of a cron line such as the guide's,
// which removes by itself. Only root can see all of them.
func cron(host fs.FS, dir string) error {
	var files []string
	for _, glob := range []string{"etc/crontab", "etc/cron.d/*", "var/spool/cron/crontabs/*"} {
		found, err := fs.Glob(host, glob)
		if err != nil {
			return err
		}
		files = append(files, found...)
	}
	for _, file := range files {
		if place := cronLine(host, file, dir); place != "" {
			return errors.New(place)
		}
	}
	return nil
}

func cronLine(host fs.FS, file, dir string) string {
	f, err := host.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if !strings.HasPrefix(line, "#") && strings.Contains(line, "find ") && strings.Contains(line, dir) && strings.Contains(line, "-delete") {
			return fmt.Sprintf("%s:%d: %s", filepath.Join("/", file), n, line)
		}
	}
	return ""
}
