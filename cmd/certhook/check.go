package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tunnelcast/internal/charon"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/lineage"
	"tunnelcast/internal/rotation"
	"tunnelcast/internal/units"
)

// report is hook.Checks with the remedy for somebody who lacks a permission.
type report struct{ *hook.Checks }

func (r report) Say(what string, err error, remedy string) {
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		remedy = "run it as root"
	}
	r.Checks.Say(what, err, remedy)
}

// shortened is an error with a shorter text.
type shortened struct {
	error
	text string
}

func (s shortened) Error() string { return s.text }
func (s shortened) Unwrap() error { return s.error }

// withoutLineage returns an error without the name of the lineage at its beginning.
func withoutLineage(err error, dir string) error {
	return shortened{err, strings.TrimPrefix(err.Error(), "lineage "+dir+": ")}
}

// check reports on the host and its lineages. With --heal it does first what a hook has
// missed, and a host without charon or without a lineage is then no failure.
func (h *host) check(ctx context.Context) error {
	heal, table := h.cli.Check.Heal, h.cli.Check.Format == "table"
	lines := io.Discard
	if table {
		lines = h.env.Stdout
	}
	r := report{hook.NewChecks(lines)}
	if heal {
		unlock, err := h.lock(ctx)
		if err != nil {
			return err
		}
		defer unlock()
	}
	s := h.read(ctx)
	defer s.close()
	if heal {
		if s.fault != nil {
			return s.fault
		}
		h.env.Metrics.Begin(h.cli.Metrics, metrics...)
		h.env.Metrics.Reset(metricNotAfter)
		h.env.Metrics.Reset(metricAgree)
		h.checkBeforeHealing(ctx, r, s)
	} else {
		h.checkHost(ctx, r, s)
	}
	all := []status{} // an empty list is [] in JSON
	for _, dir := range s.dirs {
		all = append(all, h.checkLineage(ctx, r, s, dir))
	}
	if !heal {
		r.CheckMetrics(h.cli.Metrics)
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
	return r.Err()
}

// checkLineage reports on one lineage, with --heal after healing it.
func (h *host) checkLineage(ctx context.Context, r report, s *hostSnapshot, dir string) status {
	var healing error
	if h.cli.Check.Heal && s.down == nil {
		_, healing = h.rotate(ctx, s, dir)
	}
	st, err := h.status(s, dir)
	if healing != nil {
		err = healing
		h.env.Log.With(runFailed).With(hook.Attrs(withEvent(healing))...).Error(healing.Error())
	}
	if err != nil {
		err = withoutLineage(err, dir)
		st.Problem = err.Error()
	}
	r.Say("lineage "+dir, err, "")
	if st.OnDisk != "" {
		h.setMetrics(dir, st.NotAfter, st.Agree)
	}
	return st
}

// checkBeforeHealing reports what healing cannot mend.
func (h *host) checkBeforeHealing(ctx context.Context, r report, s *hostSnapshot) {
	remedy, err := h.charonFault(ctx, s)
	switch {
	case errors.Is(err, charon.ErrNotRunning):
		h.env.Result.Info("nothing to heal: "+err.Error(), charonIdle)
	case err != nil:
		r.Say("charon on "+h.cli.Vici, err, remedy)
	default:
		h.checkCopies(r, s)
	}
	var broken []error
	for _, f := range s.Broken(nil) {
		broken = append(broken, f)
	}
	if len(broken) > 0 {
		r.Say("connections", together(broken...), "")
	}
}

// charonFault returns why charon cannot be asked, and the remedy.
func (h *host) charonFault(ctx context.Context, s *hostSnapshot) (remedy string, err error) {
	if errors.Is(s.down, charon.ErrNotRunning) {
		if state, err := units.Get(ctx, h.cli.Unit); err == nil && state.Active == "active" {
			return "the key vici in /etc/tunnelcast/certhook.toml names its socket",
				fmt.Errorf("%v, although %s is active", s.down, h.cli.Unit)
		}
	}
	return "`systemctl start " + h.cli.Unit + "`", s.down
}

// checkHost reports whether the host is ready for a renewal.
func (h *host) checkHost(ctx context.Context, r report, s *hostSnapshot) {
	remedy, err := h.charonFault(ctx, s)
	r.Say("charon on "+h.cli.Vici, err, remedy)
	if err == nil {
		h.checkCopies(r, s)
	}
	if s.fault != nil {
		r.Say("configuration in "+h.cli.SwanctlDir, s.fault, "")
	}
	h.checkHooks(r, s)
	h.checkConnections(r, s)
	h.checkIssuers(r, s)
	h.checkAppArmor(r, s)
	timerRemedy, timerErr := units.Check(ctx, timer)
	r.Say("unit "+timer, timerErr, timerRemedy)
	_, missing := os.Stat(h.cli.Swanctl)
	r.Say("loader "+h.cli.Swanctl, missing, "`apt-get install -y strongswan-swanctl`")
	if len(s.dirs) == 0 && s.fault == nil {
		h.checkNoLineage(r, s)
	}
}

const timer = "tunnelcast-certcheck.timer"

// checkNoLineage reports why there is nothing to look after.
func (h *host) checkNoLineage(r report, s *hostSnapshot) {
	cause := fmt.Errorf("no connection in %s names a certificate of certbot", filepath.Join(s.Dir, "swanctl.conf"))
	remedy := "`certs = /etc/letsencrypt/live/NAME/cert.pem` in its local section"
	for _, dir := range filesIn(filepath.Join(h.root, liveDir), ".") {
		if plan, err := s.decide(dir); err == nil && plan.Reason.Kind == rotation.IPsec {
			cause = fmt.Errorf("%s is not served from swanctl.conf but from %s, which strongswan-starter reads",
				dir, s.IPsecConf)
			remedy = "a deploy hook of your own with `ipsec rereadall` and `ipsec reload`, or charon-systemd"
		}
	}
	r.Say("lineages", cause, remedy)
}

// checkCopies looks for lineages that no connection names although charon serves a copy of
// an earlier version, which nobody renews.
func (h *host) checkCopies(r report, s *hostSnapshot) {
	live := filepath.Join(h.root, liveDir)
	if len(s.dirs) > 0 {
		live = filepath.Dir(s.dirs[0])
	}
	for _, dir := range filesIn(live, ".") {
		if slices.Contains(s.dirs, dir) || !isLineage(dir) {
			continue
		}
		if plan, err := s.decide(dir); err == nil && plan.Reason.Kind == rotation.CopyServed {
			r.Say("lineage "+dir, plan.Reason, "")
		}
	}
}

// checkConnections reports what is wrong with the files that connections name, and what
// may surprise about a connection.
func (h *host) checkConnections(r report, s *hostSnapshot) {
	for _, section := range s.Sections {
		for _, file := range section.Certs {
			_, err := os.Stat(file.Path)
			r.Say(fmt.Sprintf("certs of connection %s, %s", section.Connection, file.Path), err,
				"`certs = /etc/letsencrypt/live/NAME/cert.pem` in its local section; "+
					"`certbot certificates` lists the names")
		}
		if section.Identity != "" || len(section.Certs) == 0 || section.Certs[0].First == nil {
			continue
		}
		leaf := section.Certs[0].First
		if names := lineage.Names(leaf); len(names) > 0 {
			r.Say(fmt.Sprintf("id of connection %s: none, so it offers %q; clients that ask for %s by name are "+
				"refused (`id = %[3]s` in its local section)", section.Connection, leaf.Subject, names[0]), nil, "")
		}
	}
	var starting []string
	for _, section := range s.Sections {
		if section.Starts && len(section.Certs) > 0 && !slices.Contains(starting, section.Connection) {
			starting = append(starting, section.Connection)
			r.Say(fmt.Sprintf("start_action of connection %s: start, so a renewal leaves the connection as it is, "+
				"and `swanctl --load-conns` would close its tunnel", section.Connection), nil, "")
		}
	}
	if s.Charon == nil || s.conf == nil {
		return
	}
	configured := s.conf.Connections()
	for _, name := range s.Charon.Connections {
		if !slices.Contains(configured, name) {
			r.Say(fmt.Sprintf("connection %s: of another VICI client, a renewal does not touch it; "+
				"a reload of %s unloads it", name, h.cli.Unit), nil, "")
		}
	}
}

// checkIssuers looks for issuers' files of lineages that are gone: charon goes on loading
// them.
func (h *host) checkIssuers(r report, s *hostSnapshot) {
	for _, file := range s.X509CA {
		name := rotation.IssuerOf(filepath.Base(file.Path))
		if name == "" || slices.ContainsFunc(s.dirs, func(dir string) bool { return filepath.Base(dir) == name }) {
			continue
		}
		places := []string{filepath.Join(h.root, liveDir)}
		for _, dir := range s.dirs {
			places = append(places, filepath.Dir(dir))
		}
		gone := !slices.ContainsFunc(places, func(place string) bool {
			_, err := os.Lstat(filepath.Join(place, name))
			return !errors.Is(err, fs.ErrNotExist)
		})
		if gone {
			r.Say("issuer "+file.Path, fmt.Errorf("the lineage %s is gone", name), "`rm "+file.Path+"`")
		}
	}
}

// checkAppArmor reports whether swanctl, by which charon's unit loads everything, may read
// what the lineages need.
func (h *host) checkAppArmor(r report, s *hostSnapshot) {
	var denied rotation.Access
	asked := len(s.dirs) == 0
	for _, dir := range s.dirs {
		plan, err := s.decide(dir)
		if err != nil || s.lineage(dir).Pair == nil {
			continue // reported with the lineage
		}
		if denied == (rotation.Access{}) {
			denied = plan.Access()
		}
		asked = true
	}
	switch {
	case !asked:
	case errors.Is(denied, errReadOnly):
		r.Say(fmt.Sprintf("AppArmor profile of swanctl was not checked: %v", denied), nil, "")
	case denied != (rotation.Access{}):
		r.Say("AppArmor profile of swanctl", denied, denied.Remedy())
	default:
		r.Say("AppArmor profile of swanctl", nil, "")
	}
}
