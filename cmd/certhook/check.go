package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"tunnelcast/internal/charon"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/lineage"
	"tunnelcast/internal/units"
)

// status is one lineage as check reports it.
type status struct {
	Lineage  string    `json:"lineage"` // directory
	Names    []string  `json:"names"`
	NotAfter time.Time `json:"not_after"`
	DaysLeft int       `json:"days_left"`
	OnDisk   string    `json:"on_disk"` // SHA-256 of the certificate's DER
	Charon   []string  `json:"charon"`  // the same of those that charon can serve
	Agree    bool      `json:"agree"`
	Problem  string    `json:"problem,omitempty"`
}

// check reports; with --heal it does first what a hook has missed, and a host
// without charon or without a lineage is then no failure.
func (h *host) check(ctx context.Context) error {
	table := h.cli.Check.Format == "table"
	lines := io.Discard
	if table {
		lines = h.env.Stdout
	}
	checks := hook.NewChecks(lines)
	dirs, err := h.lineages()
	if err != nil {
		return err
	}
	if h.cli.Check.Heal {
		h.env.Metrics.Begin(h.cli.Metrics, metrics...)
		h.env.Metrics.Reset(notAfter)
		h.env.Metrics.Reset(agree)
	}
	running := h.checkHost(ctx, checks, len(dirs))
	all := []status{} // an empty list is [] in JSON
	for _, dir := range dirs {
		var healing error
		if h.cli.Check.Heal && running {
			_, healing = h.deploy(ctx, dir)
		}
		s, err := h.status(ctx, dir, running)
		if healing != nil {
			err = healing
			h.env.Log.Error(healing.Error(), failures.Event(healing), "lineage", dir)
		}
		if err != nil {
			s.Problem = strings.TrimPrefix(err.Error(), "lineage "+dir+": ")
			err = errors.New(s.Problem)
		}
		checks.Say("lineage "+dir, err, "")
		all = append(all, s)
		if s.OnDisk != "" {
			h.count(s.NotAfter, dir, s.Agree)
		}
	}
	if !h.cli.Check.Heal {
		checks.CheckMetrics(h.cli.Metrics)
	}
	if table {
		printTable(h.env.Stdout, all)
	} else {
		out := json.NewEncoder(h.env.Stdout)
		out.SetIndent("", "  ")
		if err := out.Encode(all); err != nil {
			return err
		}
	}
	return checks.Err()
}

// checkHost says whether the tools are there, and returns whether charon
// answers.
func (h *host) checkHost(ctx context.Context, checks *hook.Checks, lineages int) (running bool) {
	session, err := charon.Dial(ctx, h.cli.Vici)
	if err == nil {
		_, err = session.Connections(ctx)
		session.Close()
	}
	if !h.cli.Check.Heal || err != nil && !errors.Is(err, charon.ErrNotRunning) {
		checks.Say("charon on "+h.cli.Vici, err, "systemctl start "+h.cli.Unit)
	} else if err != nil {
		h.env.Result.Info("nothing to heal: "+err.Error(), charonIdle)
	}
	if h.cli.Check.Heal {
		return err == nil
	}
	h.checkPaths(checks)
	remedy, timerErr := units.Check(ctx, timer)
	checks.Say("unit "+timer, timerErr, remedy)
	_, missing := os.Stat(h.cli.Swanctl)
	checks.Say("loader "+h.cli.Swanctl, missing, "install strongswan-swanctl")
	checks.Say("AppArmor profile of swanctl", appArmor(h.root), "add the line to /etc/apparmor.d/local/usr.sbin.swanctl and reload the profile")
	if lineages == 0 {
		checks.Say("lineages", fmt.Errorf("no connection in %s names a certificate of certbot", filepath.Join(h.swanctl.Dir, "swanctl.conf")),
			"certs = /etc/letsencrypt/live/NAME/cert.pem in its local section")
	}
	return err == nil
}

const timer = "tunnelcast-certcheck.timer"

// checkPaths looks at what connects certbot, this program and charon: the hook,
// and the files that connections name.
func (h *host) checkPaths(checks *hook.Checks) {
	dir := filepath.Join(h.root, "etc/letsencrypt/renewal-hooks/deploy")
	err := errors.New("no program there is tunnelcast-certhook")
	for _, file := range filesIn(dir, ".") {
		real, linkErr := filepath.EvalSymlinks(file)
		if linkErr == nil && filepath.Base(real) == "tunnelcast-certhook" {
			err = nil
		}
	}
	checks.Say("certbot's hook in "+dir, err, "ln -s /usr/sbin/tunnelcast-certhook "+filepath.Join(dir, "tunnelcast"))

	configured, err := charon.ReadConfigured(h.swanctl.Dir)
	if err != nil {
		checks.Say("configuration in "+h.swanctl.Dir, err, "")
	}
	for _, c := range configured {
		for _, file := range c.Certs {
			_, err := os.Stat(file)
			checks.Say(fmt.Sprintf("certs of connection %s, %s", c.Name, file), err,
				"certs = /etc/letsencrypt/live/NAME/cert.pem in its local section; certbot certificates tells the names")
		}
	}
}

// appArmorRule is what swanctl's profile on Debian and Ubuntu lacks.
const appArmorRule = "/etc/letsencrypt/archive/*/privkey*.pem r,"

// appArmor says whether an enforced profile keeps swanctl from reading keys of
// certbot, so that the next reload of charon would lose them.
func appArmor(root string) error {
	loaded, err := os.ReadFile(filepath.Join(root, "sys/kernel/security/apparmor/profiles"))
	if err != nil || !strings.Contains(string(loaded), "/usr/sbin/swanctl (enforce)") {
		return nil
	}
	for _, file := range []string{"etc/apparmor.d/local/usr.sbin.swanctl", "etc/apparmor.d/usr.sbin.swanctl"} {
		rules, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(rules)) {
			rule, _, _ := strings.Cut(line, "#")
			if strings.Contains(rule, "/etc/letsencrypt/") {
				return nil
			}
		}
	}
	return fmt.Errorf("it lacks %q", appArmorRule)
}

// status compares the disk with charon. The error is the first thing that is
// not as it should be.
func (h *host) status(ctx context.Context, dir string, running bool) (status, error) {
	s := status{Lineage: dir, Names: []string{}, Charon: []string{}}
	if err := isDirectory(dir); err != nil {
		return s, err
	}
	u, err := h.uses(dir)
	if err != nil {
		return s, err
	}
	l, invalid := h.read(dir, u)
	if l == nil {
		return s, invalid
	}
	s.Names = lineage.Names(l.Leaf)
	s.NotAfter = l.Leaf.NotAfter.UTC()
	s.DaysLeft = int(l.Leaf.NotAfter.Sub(h.env.Now()).Hours() / 24)
	s.OnDisk = lineage.Fingerprint(l.Leaf)
	if invalid != nil {
		return s, invalid
	}
	if running {
		p, session, err := h.prepare(ctx, dir)
		if err != nil {
			return s, err
		}
		defer session.Close()
		certs, err := session.Certificates(ctx)
		if err != nil {
			return s, err
		}
		if _, s.Agree = holds(certs, l.Leaf); s.Agree {
			s.Charon = append(s.Charon, s.OnDisk)
		}
		for _, old := range earlier(certs, dir, l.Leaf) {
			s.Charon = append(s.Charon, lineage.Fingerprint(old))
		}
		if p.lacks != "" {
			return s, fmt.Errorf("%s (tunnelcast-certhook deploy --lineage %s)", p.lacks, dir)
		}
		if err := h.survives(p); err != nil {
			return s, err
		}
	}
	if s.DaysLeft < h.cli.WarnDays {
		return s, fmt.Errorf("%d days left, fewer than %d: does certbot.timer run?", s.DaysLeft, h.cli.WarnDays)
	}
	return s, nil
}

func printTable(w io.Writer, all []status) {
	if len(all) == 0 {
		return
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "LINEAGE\tNAMES\tDAYS LEFT\tON DISK\tCHARON SERVES\tAGREE")
	for _, s := range all {
		days, agree := "-", "no"
		if !s.NotAfter.IsZero() {
			days = strconv.Itoa(s.DaysLeft)
		}
		if s.Agree {
			agree = "yes"
		}
		var served []string
		for _, f := range s.Charon {
			served = append(served, short(f))
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", filepath.Base(s.Lineage), strings.Join(s.Names, ","), days,
			short(s.OnDisk), short(strings.Join(served, ",")), agree)
	}
	t.Flush()
}

// short is enough of a fingerprint to compare two at a glance.
func short(fingerprint string) string {
	if fingerprint == "" {
		return "-"
	}
	if len(fingerprint) == 64 {
		return fingerprint[:16]
	}
	return fingerprint
}
