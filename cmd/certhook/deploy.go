package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tunnelcast/internal/charon"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/units"
)

// deploy moves charon to a lineage's certificate if it uses the lineage. It
// returns what came of it in one line. After an error charon serves the
// old pair, or the new one where the error says so.
func (h *host) deploy(ctx context.Context, dir string) (outcome string, err error) {
	if dir, err = named(dir); err != nil {
		return "", err
	}
	lock, err := h.lock(ctx)
	switch {
	case errors.Is(err, fs.ErrNotExist): // no strongSwan: prepare goes on to say so
	case err != nil:
		return "", err
	default:
		defer lock.Close()
	}

	start := time.Now()
	p, session, err := h.prepare(ctx, dir)
	defer func() { err = hook.With(err, "lineage", dir) }()
	switch {
	case errors.Is(err, errUnused):
		return err.Error(), nil
	case errors.Is(err, errCopied), errors.Is(err, errIPsec): // a notice: certbot may pass it on
		h.env.Log.Info(err.Error(), otherWay, "lineage", dir)
		return err.Error(), nil
	case errors.Is(err, charon.ErrNotRunning):
		return h.charonDown(ctx, p, err)
	case err != nil:
		return "", err
	}
	defer session.Close()
	if err := newIssuerDir(h.cli.SwanctlDir).clean(); err != nil {
		return "", err
	}
	if p.lacks == "" {
		h.count(p.lineage.Leaf.NotAfter, dir, true)
		return fmt.Sprintf("charon serves %s already: nothing to do", describe(p.lineage.Leaf)), h.survives(p)
	}
	after, err := h.switchTo(ctx, session, p)
	if err != nil {
		return "", fmt.Errorf("lineage %s: %w", dir, err)
	}
	if after != nil {
		after = fmt.Errorf("lineage %s: %w", dir, after)
	}
	proven := !errors.Is(after, errNotProven)
	if proven {
		h.env.Result.Info("charon serves the new certificate", switched, "lineage", dir,
			"serial", p.lineage.Leaf.SerialNumber.Text(16), "until", p.lineage.Leaf.NotAfter.UTC().Format(time.RFC3339),
			"took", time.Since(start).Round(time.Millisecond))
	}
	h.env.Metrics.Add(switches, 1)
	h.count(p.lineage.Leaf.NotAfter, dir, proven)
	return "charon serves " + describe(p.lineage.Leaf), together(after, h.reloadUnits(ctx), h.survives(p))
}

// notRoot adds what helps to an error of somebody who may not do it.
func notRoot(err error) error {
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		return fmt.Errorf("%w (run it as root)", err)
	}
	return err
}

// named returns the directory of a lineage that may be given by certbot's name.
func named(lineage string) (dir string, err error) {
	if !strings.Contains(lineage, "/") {
		if _, err := os.Stat(lineage); errors.Is(err, fs.ErrNotExist) {
			lineage = filepath.Join(liveDir, lineage)
		}
	}
	if dir, err = filepath.Abs(lineage); err != nil {
		return "", fmt.Errorf("read lineage: %w", err)
	}
	return dir, nil
}

// liveDir is where certbot keeps lineages by name.
const liveDir = "/etc/letsencrypt/live"

var (
	errKeyNotKept  = errors.New("charon serves it now, but the next reload")
	errDenied      = errors.New("charon serves it now, but AppArmor's profile of swanctl is in the way of the next reload")
	errRivalIssuer = errors.New("charon sends its issuers now, but the next reload")
)

// survives says why the next reload or restart of charon's unit, which loads
// everything from files, would lose what was switched.
func (h *host) survives(p plan) error {
	var lost []error
	if keys := h.keysOnDisk(); keys.files[p.lineage.Key.ID()] == "" {
		private := filepath.Join(h.cli.SwanctlDir, "private")
		why := fmt.Sprintf("no file in %s holds it (ln -s %s/privkey.pem %s/%s.pem)", private, p.dir, private, filepath.Base(p.dir))
		if file := keys.refused[p.lineage.Key.ID()]; file != "" {
			kind := filepath.Base(filepath.Dir(file))
			why = fmt.Sprintf("%s holds it, and from %s swanctl loads %s keys only, which this %s is not (mv %s %s/)",
				file, kind, strings.ToUpper(kind), p.lineage.Key, file, private)
		}
		lost = append(lost, hook.Critical(fmt.Errorf("lineage %s: %w of %s loses the key: %s", p.dir, errKeyNotKept, h.cli.Unit, why)))
	}
	if err := h.denied(p); errors.As(err, new(denial)) { // check says if it cannot be asked
		lost = append(lost, hook.Critical(fmt.Errorf("lineage %s: %w of %s: %w (%s)", p.dir, errDenied, h.cli.Unit, err, appArmorRemedy)))
	}
	for file, cert := range h.rivals(p) {
		lost = append(lost, hook.Critical(fmt.Errorf("lineage %s: %w or restart of %s may send another certificate of %s, signed by %s: "+
			"it is in %s, left by something else (rm %s)",
			p.dir, errRivalIssuer, h.cli.Unit, cert.Subject.CommonName, cert.Issuer.CommonName, file, file)))
	}
	return together(lost...)
}

// denied says why swanctl itself, which reloads and restarts of charon's unit rely
// on, may not read the files that lead to the lineage. A copy of the key in private/
// may be read where the lineage's own may not.
func (h *host) denied(p plan) error {
	files := []string{h.keysOnDisk().files[p.lineage.Key.ID()]}
	for _, c := range p.use.connections {
		files = append(files, c.file)
	}
	for _, file := range files {
		if file == "" {
			continue
		}
		if err := mayRead(h.root, file); err != nil {
			return err
		}
	}
	return nil
}

// charonDown leaves charon's next start to find the issuers; its unit loads the
// rest itself.
func (h *host) charonDown(ctx context.Context, p plan, down error) (string, error) {
	if state, err := units.Get(ctx, h.cli.Unit); err == nil && state.Active == "active" {
		return "", fmt.Errorf("%w, although %s is active (vici names another socket?)", down, h.cli.Unit)
	}
	log := h.env.Log.With("lineage", p.dir) // a notice: certbot may pass it on
	files := newIssuerDir(h.cli.SwanctlDir)
	if err := files.clean(); err != nil {
		return "", err
	}
	for _, f := range p.files {
		if _, err := files.put(filepath.Base(f.path), f.pem); err != nil {
			return "", err
		}
	}
	if err := files.commit(); err != nil {
		return "", err
	}
	if err := removeStale(files, p); err != nil {
		return "", err
	}
	log.Info(down.Error()+": it loads the certificate when it starts", charonIdle)
	return down.Error() + ": it loads the certificate when it starts", h.reloadUnits(ctx)
}

// reloadUnits reloads the others that serve the certificate.
func (h *host) reloadUnits(ctx context.Context) error {
	var failed []string
	for _, unit := range h.cli.ReloadUnits {
		switch runs, err := reload(ctx, unit); {
		case err != nil:
			failed = append(failed, err.Error())
		case runs:
			h.env.Result.Info("reloaded", unitReloaded, "unit", unit)
		default:
			h.env.Result.Info("not reloaded, because it does not run", unitIdle, "unit", unit)
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("%w: the certificate is in place, but %s", hook.ErrSome, strings.Join(failed, "; "))
	}
	return nil
}

// reload reloads a unit that runs; one that does not will read its files when it
// starts.
func reload(ctx context.Context, unit string) (runs bool, err error) {
	state, err := units.Get(ctx, unit)
	switch {
	case err != nil:
		return false, err
	case state.Load == "not-found":
		return false, fmt.Errorf("reload %s: no such unit", unit)
	case state.Stopped():
		return false, nil
	}
	return true, units.Reload(ctx, unit)
}
