package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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
	dir, err = filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("read lineage: %w", err)
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
	case errors.Is(err, charon.ErrNotRunning):
		return h.charonDown(ctx, p, err)
	case err != nil:
		return "", err
	}
	defer session.Close()
	if p.lacks == "" {
		h.count(p.lineage.Leaf.NotAfter, dir, true)
		return fmt.Sprintf("charon serves %s already: nothing to do", describe(p.lineage.Leaf)), h.survives(p)
	}
	if err := h.switchTo(ctx, session, p); err != nil {
		return "", fmt.Errorf("lineage %s: %w", dir, err)
	}
	h.env.Result.Info("charon serves the new certificate", switched, "lineage", dir, "serial", p.lineage.Leaf.SerialNumber.Text(16),
		"until", p.lineage.Leaf.NotAfter.UTC().Format(time.RFC3339), "took", time.Since(start).Round(time.Millisecond))
	h.env.Metrics.Add(switches, 1)
	h.count(p.lineage.Leaf.NotAfter, dir, true)
	if err := h.denied(p); err != nil {
		h.env.Log.Warn("the next reload of "+h.cli.Unit+" loses the key: AppArmor's profile of swanctl: "+err.Error(), reloadLosesKey, "lineage", dir)
	}
	return "charon serves " + describe(p.lineage.Leaf), errors.Join(h.reloadUnits(ctx), h.survives(p))
}

var errKeyNotKept = errors.New("charon serves it now, but the next reload")

// survives says why the next reload or restart of charon's unit, which loads
// everything from files, would lose what was switched.
func (h *host) survives(p plan) error {
	if h.keysOnDisk()[p.lineage.Key.ID()] != "" {
		return nil
	}
	private := filepath.Join(h.swanctl.Dir, "private")
	return hook.Critical(fmt.Errorf("lineage %s: %w of %s loses the key: no file in %s holds it (ln -s %s/privkey.pem %s/%s.pem)",
		p.dir, errKeyNotKept, h.cli.Unit, private, p.dir, private, filepath.Base(p.dir)))
}

// denied says why swanctl itself, which reloads and restarts of charon's unit rely
// on, may not read the key. A copy of it in private/ may be read.
func (h *host) denied(p plan) error {
	if !within(h.keysOnDisk()[p.lineage.Key.ID()], p.dir) {
		return nil
	}
	return appArmor(h.root)
}

// charonDown leaves charon's next start to find the issuers; its unit loads the
// rest itself.
func (h *host) charonDown(ctx context.Context, p plan, down error) (string, error) {
	if state, err := units.Get(ctx, h.cli.Unit); err == nil && state.Active == "active" {
		return "", fmt.Errorf("%w, although %s is active (vici names another socket?)", down, h.cli.Unit)
	}
	log := h.env.Log.With("lineage", p.dir) // a notice: certbot may pass it on
	if !p.use.any() {
		log.Info("nothing to do: "+down.Error(), charonIdle)
		return down.Error() + ": nothing to do", nil
	}
	for _, f := range p.files {
		if _, err := replace(f.path, f.pem); err != nil {
			return "", err
		}
	}
	if err := p.removeStale(); err != nil {
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
