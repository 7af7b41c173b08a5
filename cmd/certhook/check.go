package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"tunnelcast/internal/charon"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/lineage"
	"tunnelcast/internal/swanctl"
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

// problem is an error with a shorter text.
type problem struct {
	error
	text string
}

func (p problem) Error() string { return p.text }
func (p problem) Unwrap() error { return p.error }

// checks are hook.Checks that know what helps somebody who may not look.
type checks struct{ *hook.Checks }

func (c checks) Say(what string, err error, remedy string) {
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		remedy = "run it as root"
	}
	c.Checks.Say(what, err, remedy)
}

// check reports; with --heal it does first what a hook has missed, and a host
// without charon or without a lineage is then no failure.
func (h *host) check(ctx context.Context) error {
	table := h.cli.Check.Format == "table"
	lines := io.Discard
	if table {
		lines = h.env.Stdout
	}
	checks := checks{hook.NewChecks(lines)}
	dirs, err := h.lineages()
	if err != nil && h.cli.Check.Heal {
		return err
	}
	if h.cli.Check.Heal {
		h.env.Metrics.Begin(h.cli.Metrics, metrics...)
		h.env.Metrics.Reset(notAfter)
		h.env.Metrics.Reset(agree)
	}
	running := h.checkHost(ctx, checks, dirs, err)
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
			err = problem{err, s.Problem}
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
func (h *host) checkHost(ctx context.Context, checks checks, lineages []string, unread error) (running bool) {
	var loaded []string
	session, err := charon.Dial(ctx, h.cli.Vici)
	if err == nil {
		loaded, err = session.Connections(ctx)
		session.Close()
	}
	remedy := "systemctl start " + h.cli.Unit
	if errors.Is(err, charon.ErrNotRunning) {
		if state, unitErr := units.Get(ctx, h.cli.Unit); unitErr == nil && state.Active == "active" {
			err = fmt.Errorf("%v, although %s is active", err, h.cli.Unit)
			remedy = "the key vici in /etc/tunnelcast/certhook.toml names its socket"
		}
	}
	if !h.cli.Check.Heal || err != nil && !errors.Is(err, charon.ErrNotRunning) {
		checks.Say("charon on "+h.cli.Vici, err, remedy)
	} else if err != nil {
		h.env.Result.Info("nothing to heal: "+err.Error(), charonIdle)
	}
	if err == nil {
		h.checkCopies(ctx, checks, lineages)
	}
	if h.cli.Check.Heal {
		if broken := h.broken(""); broken != nil {
			checks.Say("connections", broken, "")
		}
		return err == nil
	}
	if unread != nil {
		checks.Say("configuration in "+h.cli.SwanctlDir, unread, "")
	}
	h.checkHooks(checks, lineages)
	h.checkConnections(checks, loaded)
	h.checkIssuers(checks, lineages)
	h.checkAppArmor(checks, lineages)
	timerRemedy, timerErr := units.Check(ctx, timer)
	checks.Say("unit "+timer, timerErr, timerRemedy)
	_, missing := os.Stat(h.cli.Swanctl)
	checks.Say("loader "+h.cli.Swanctl, missing, "install strongswan-swanctl")
	if len(lineages) == 0 && unread == nil {
		h.checkNoLineage(checks)
	}
	return err == nil
}

const timer = "tunnelcast-certcheck.timer"

// checkNoLineage says why there is nothing to look after.
func (h *host) checkNoLineage(checks checks) {
	cause := fmt.Errorf("no connection in %s names a certificate of certbot", filepath.Join(h.cli.SwanctlDir, "swanctl.conf"))
	for _, live := range filesIn(filepath.Join(h.root, liveDir), ".") {
		if file := h.inIPsecConf(live); file != "" {
			cause = fmt.Errorf("%s is %w, it is in %s, which strongswan-starter reads", live, errIPsec, file)
		}
	}
	checks.Say("lineages", cause, "certs = /etc/letsencrypt/live/NAME/cert.pem in its local section")
}

// checkCopies looks for lineages that no connection names although charon serves a
// copy of an earlier version, which nobody renews.
func (h *host) checkCopies(ctx context.Context, checks checks, lineages []string) {
	session, err := charon.Dial(ctx, h.cli.Vici)
	if err != nil {
		return // said
	}
	defer session.Close()
	live := h.root + liveDir
	if len(lineages) > 0 {
		live = filepath.Dir(lineages[0])
	}
	for _, dir := range filesIn(live, ".") {
		if slices.Contains(lineages, dir) || !isLineage(dir) {
			continue
		}
		if err := h.unused(ctx, session, dir, false); errors.Is(err, errCopy) {
			checks.Say("lineage "+dir, errors.New(strings.TrimPrefix(err.Error(), "lineage "+dir+": ")), "")
		}
	}
}

// configDirs returns certbot's directories that lineages are in, /etc/letsencrypt
// if there are none. A lineage that is not in a directory live is not certbot's.
func (h *host) configDirs(lineages []string) []string {
	var dirs []string
	for _, lineage := range lineages {
		if live := filepath.Dir(lineage); filepath.Base(live) == "live" && !slices.Contains(dirs, filepath.Dir(live)) {
			dirs = append(dirs, filepath.Dir(live))
		}
	}
	if len(lineages) == 0 {
		dirs = []string{filepath.Join(h.root, "etc/letsencrypt")}
	}
	return dirs
}

// callsLoader matches a line that has strongSwan load its credentials anew: a call of
// swanctl or ipsec, or of what reloads or restarts its unit.
var callsLoader = regexp.MustCompile(`(?m)^[^#\n]*?(?:^|[\s;&|"'` + "`" + `(=]|bin/)` +
	`(?:(?:swanctl|ipsec)(?:["'\s]|$)|(?:systemctl|service|invoke-rc\.d)\s[^#\n]*\b(?:strongswan|ipsec))`)

// checkHooks looks at what connects certbot and this program, and for other programs
// there that load charon's credentials in a way that loses logins.
func (h *host) checkHooks(checks checks, lineages []string) {
	for _, configDir := range h.configDirs(lineages) {
		dir := filepath.Join(configDir, "renewal-hooks/deploy")
		err := error(errors.New("no program there is tunnelcast-certhook"))
		var others []string
		files := filesIn(configDir, "renewal-hooks/deploy", "renewal-hooks/post", "renewal-hooks/pre")
		for _, file := range files {
			real, linkErr := filepath.EvalSymlinks(file)
			if linkErr != nil {
				continue
			}
			if filepath.Base(real) == "tunnelcast-certhook" {
				if filepath.Dir(file) == dir {
					err = nil
				}
				continue
			}
			info, statErr := os.Stat(real)
			runs := statErr == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 && !strings.HasSuffix(file, "~")
			if runs && calls(real) {
				others = append(others, file)
			}
		}
		if _, statErr := os.ReadDir(dir); errors.Is(statErr, fs.ErrPermission) {
			err = statErr
		}
		checks.Say("certbot's hook in "+dir, err, "ln -s /usr/sbin/tunnelcast-certhook "+filepath.Join(dir, "tunnelcast"))
		for _, file := range filesIn(configDir, "renewal") {
			text, _ := os.ReadFile(file)
			for line := range strings.Lines(string(text)) {
				key, command, _ := strings.Cut(line, "=")
				if strings.HasSuffix(strings.TrimSpace(key), "_hook") && callsLoader.MatchString(strings.TrimSpace(command)) {
					others = append(others, file)
				}
			}
		}
		for _, file := range others {
			checks.Say("certbot's hook "+file,
				errors.New("it loads charon's credentials too: logins are lost between its steps at each renewal"), "take it out, tunnelcast-certhook does that")
		}
	}
}

// calls reports whether a script, outside its comments, has swanctl or ipsec load or
// restart something.
func calls(file string) bool {
	const most = 1 << 20 // bytes; a script is shorter
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most))
	return err == nil && !bytes.HasPrefix(text, []byte("\x7fELF")) && callsLoader.Match(text)
}

// checkConnections looks at the files that connections name, and says what may
// surprise about a connection.
func (h *host) checkConnections(checks checks, loaded []string) {
	conf, err := swanctl.Read(h.cli.SwanctlDir)
	if err != nil {
		return // said
	}
	configured, all := conf.LocalAuths(), conf.Connections()
	for _, c := range configured {
		for _, file := range c.Certs {
			_, err := os.Stat(file)
			checks.Say(fmt.Sprintf("certs of connection %s, %s", c.Connection, file), err,
				"certs = /etc/letsencrypt/live/NAME/cert.pem in its local section; certbot certificates tells the names")
		}
		if leaf := firstCertificate(append(c.Certs, "")[0]); c.Identity == "" && len(lineage.Names(leaf)) > 0 {
			checks.Say(fmt.Sprintf("id of connection %s: none, so it offers %q; clients that ask for %s by name are refused "+
				"(id = %[3]s in its local section)", c.Connection, leaf.Subject, lineage.Names(leaf)[0]), nil, "")
		}
	}
	var starting []string
	for _, c := range configured {
		if c.Starts && len(c.Certs) > 0 && !slices.Contains(starting, c.Connection) {
			starting = append(starting, c.Connection)
			checks.Say(fmt.Sprintf("start_action of connection %s: start, so a renewal leaves the connection as it is, "+
				"and swanctl --load-conns would close its tunnel", c.Connection), nil, "")
		}
	}
	for _, name := range loaded {
		if !slices.Contains(all, name) {
			checks.Say(fmt.Sprintf("connection %s: of another VICI client, a renewal does not touch it; a reload of %s unloads it",
				name, h.cli.Unit), nil, "")
		}
	}
}

// checkIssuers looks for issuers' files of lineages that are gone: charon goes on
// loading them.
func (h *host) checkIssuers(checks checks, lineages []string) {
	ours := regexp.MustCompile(`^tunnelcast-(.+)-[0-9]+\.pem$`)
	for _, file := range filesIn(h.cli.SwanctlDir, "x509ca") {
		match := ours.FindStringSubmatch(filepath.Base(file))
		if match == nil || slices.ContainsFunc(lineages, func(dir string) bool { return filepath.Base(dir) == match[1] }) {
			continue
		}
		places := []string{filepath.Join(h.root, liveDir)}
		for _, dir := range lineages {
			places = append(places, filepath.Dir(dir))
		}
		gone := !slices.ContainsFunc(places, func(place string) bool {
			_, err := os.Lstat(filepath.Join(place, match[1]))
			return !errors.Is(err, fs.ErrNotExist)
		})
		if gone {
			checks.Say("issuer "+file, fmt.Errorf("the lineage %s is gone", match[1]), "rm "+file)
		}
	}
}

// checkAppArmor asks whether swanctl, by which charon's unit loads everything, may
// read what the lineages need.
func (h *host) checkAppArmor(checks checks, lineages []string) {
	var denied error
	asked := len(lineages) == 0
	for _, dir := range lineages {
		u, err := h.uses(dir)
		if err != nil {
			continue // said
		}
		p := plan{dir: dir, use: u}
		if p.lineage, _ = h.read(dir, u); p.lineage == nil {
			continue
		}
		denied = cmp.Or(denied, h.denied(p))
		asked = true
	}
	if !asked {
		return
	}
	if errors.Is(denied, errNotAsked) {
		checks.Say(fmt.Sprintf("AppArmor profile of swanctl was not looked at: %v", denied), nil, "")
		return
	}
	checks.Say("AppArmor profile of swanctl", denied, appArmorRemedy)
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
	leaf := firstCertificate(leafFile(dir))
	if l != nil {
		leaf = l.Leaf
	}
	if leaf.Raw == nil {
		return s, invalid
	}
	s.Names = lineage.Names(leaf)
	s.NotAfter = leaf.NotAfter.UTC()
	s.DaysLeft = int(leaf.NotAfter.Sub(h.env.Now()).Hours() / 24)
	s.OnDisk = lineage.Fingerprint(leaf)
	if running {
		if err := h.served(ctx, &s, u, leaf); err != nil {
			return s, cmp.Or(invalid, err)
		}
	}
	if invalid != nil {
		return s, invalid
	}
	if running {
		p, session, err := h.prepare(ctx, dir)
		if err != nil {
			return s, err
		}
		defer session.Close()
		if p.lacks != "" {
			return s, fmt.Errorf("%s (tunnelcast-certhook deploy --lineage %s)", p.lacks, dir)
		}
		if err := h.notLoaded(ctx, session, p); err != nil {
			return s, err
		}
		if err := h.survives(p); err != nil {
			return s, err
		}
	}
	if warn := h.warnDays(leaf); s.DaysLeft < warn {
		return s, fmt.Errorf("%d days left, fewer than %d: does certbot.timer run?", s.DaysLeft, warn)
	}
	return s, nil
}

// notLoaded says which connection that uses the lineage charon does not have: it has
// refused it, or swanctl.conf has changed since.
func (h *host) notLoaded(ctx context.Context, session *charon.Session, p plan) error {
	loaded, err := session.Connections(ctx)
	if err != nil {
		return err
	}
	for _, name := range p.connections() {
		if !slices.Contains(loaded, name) {
			return fmt.Errorf("charon has not loaded connection %s (swanctl --load-conns says why)", name)
		}
	}
	return nil
}

// warnDays returns how many days must be left. certbot renews when a third of the
// lifetime is left, of long ones 30 days before the end, and has a day for it.
func (h *host) warnDays(leaf *x509.Certificate) int {
	if h.cli.WarnDays != 0 {
		return h.cli.WarnDays
	}
	const longest = 30
	lifetime := int(leaf.NotAfter.Sub(leaf.NotBefore).Hours()/24 + 0.5)
	return max(min(lifetime/3, longest)-1, 1)
}

// served fills in what charon presents for the connections that use a lineage.
func (h *host) served(ctx context.Context, s *status, u use, leaf *x509.Certificate) error {
	session, err := charon.Dial(ctx, h.cli.Vici)
	if err != nil {
		return err
	}
	defer session.Close()
	certs, err := h.credentials(ctx, session)
	if err != nil {
		return err
	}
	current, archived := h.elsewhere(s.Lineage), archive(s.Lineage)
	s.Agree = true
	add := func(cert *x509.Certificate) {
		// One of another lineage for the same names is as good.
		s.Agree = s.Agree && cert != nil && (cert.Equal(leaf) || current[string(cert.Raw)] && !archived[string(cert.Raw)] && h.env.Now().Before(cert.NotAfter))
		if cert != nil && !slices.Contains(s.Charon, lineage.Fingerprint(cert)) {
			s.Charon = append(s.Charon, lineage.Fingerprint(cert))
		}
	}
	_, key := certs.holds(leaf)
	switch {
	case len(u.connections) > 0 && key:
		add(leaf)
	case len(u.connections) > 0:
		if old := certs.earlier(archived, leaf); len(old) > 0 {
			add(old[0])
		} else { // the names may be what changed
			add(certs.shows(u.connections[0].identity))
		}
	}
	if u.inX509 {
		for _, c := range u.byIdentity {
			if lineage.Holds(leaf, c.identity) == nil {
				add(certs.shows(c.identity))
			}
		}
	}
	if len(s.Charon) == 0 && key {
		add(leaf)
	}
	s.Agree = s.Agree && key
	return nil
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
