package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"tunnelcast/internal/charon"
	"tunnelcast/internal/hook"
	"tunnelcast/internal/lineage"
	"tunnelcast/internal/rotation"
	"tunnelcast/internal/units"
)

// deploy moves charon to a lineage's certificate if it uses the lineage, and returns the
// outcome in one line. After an error charon serves the old pair, or the new one where the
// error says so.
func (h *host) deploy(ctx context.Context, name string) (outcome string, err error) {
	dir, err := lineageDir(name)
	if err != nil {
		return "", err
	}
	if !h.looksAfter(dir) {
		return "charon does not use this lineage", nil
	}
	unlock, err := h.lock(ctx)
	if err != nil {
		return "", hook.With(err, "lineage", dir)
	}
	defer unlock()
	s := h.read(ctx, dir)
	defer s.close()
	return h.rotate(ctx, s, dir)
}

// rotate is deploy for one lineage of a snapshot. It needs the lock.
func (h *host) rotate(ctx context.Context, s *hostSnapshot, dir string) (outcome string, err error) {
	defer func() { err = hook.With(err, "lineage", dir) }()
	start := time.Now()
	plan, err := s.decide(dir)
	if err != nil {
		return "", err
	}
	switch kind := plan.Reason.Kind; {
	case kind == rotation.Invalid, kind == rotation.CopyServed, kind == rotation.NotNamed:
		return "", fmt.Errorf("lineage %s: %w", dir, failure(plan.Reason))
	case s.down != nil && !errors.Is(s.down, charon.ErrNotRunning):
		return "", s.down
	case kind == rotation.Unused:
		return plan.Reason.Error(), nil
	case kind == rotation.Copied, kind == rotation.IPsec: // a notice: certbot may pass it on
		notice := fmt.Sprintf("lineage %s: %v", dir, plan.Reason)
		h.env.Log.Info(notice, otherWay, "lineage", dir)
		return notice, nil
	}
	m := &move{host: h, snapshot: s, plan: plan, issuers: newIssuerDir(s.Dir)}
	if err := m.issuers.clean(); err != nil {
		return "", err
	}
	leaf := plan.Leaf()
	switch plan.Reason.Kind {
	case rotation.Stopped:
		return h.charonDown(ctx, m, s.down)
	case rotation.Current:
		h.setMetrics(dir, leaf.NotAfter, true)
		return fmt.Sprintf("charon serves %s already: nothing to do", lineage.Describe(leaf)), h.survives(dir, plan)
	}
	after, err := m.run(ctx)
	// Also after a failure: the next lineage is decided on what charon holds now.
	s.down = s.update(ctx)
	if err == nil && s.down != nil {
		err = fmt.Errorf("charon serves the new certificate, but %w", s.down)
	}
	if err != nil {
		return "", fmt.Errorf("lineage %s: %w", dir, err)
	}
	if after != nil {
		after = fmt.Errorf("lineage %s: %w", dir, after)
	}
	proven := !isFinding(after, rotation.NotProven) && !isFinding(after, rotation.OtherSent)
	if proven {
		h.env.Result.Info("charon serves the new certificate", switched, "lineage", dir,
			"serial", leaf.SerialNumber.Text(16), "until", leaf.NotAfter.UTC().Format(time.RFC3339),
			"took", time.Since(start).Round(time.Millisecond))
	}
	h.env.Metrics.Add(metricSwitches, 1)
	h.setMetrics(dir, leaf.NotAfter, proven)
	return "charon serves " + lineage.Describe(leaf), together(after, h.reloadUnits(ctx), h.survives(dir, plan))
}

func isFinding(err error, kind rotation.Kind) bool {
	return errors.Is(err, rotation.Finding{Kind: kind})
}

// dryRun prints what deploy would do.
func (h *host) dryRun(ctx context.Context, name string) error {
	dir, err := lineageDir(name)
	if err != nil {
		return err
	}
	nothing := func(why any) error {
		_, err := fmt.Fprintf(h.env.Stdout, "nothing to do: %v\n", why)
		return err
	}
	if !h.looksAfter(dir) {
		return nothing("charon does not use this lineage")
	}
	s := h.read(ctx, dir)
	defer s.close()
	plan, err := s.decide(dir)
	if err != nil {
		return err
	}
	switch kind := plan.Reason.Kind; {
	case kind == rotation.Invalid, kind == rotation.CopyServed, kind == rotation.NotNamed:
		return fmt.Errorf("lineage %s: %w", dir, failure(plan.Reason))
	case s.down != nil && !errors.Is(s.down, charon.ErrNotRunning):
		return s.down
	case kind == rotation.Unused, kind == rotation.Copied, kind == rotation.IPsec:
		return nothing(plan.Reason)
	case kind == rotation.Stopped:
		return nothing(s.down)
	case kind == rotation.Current:
		return nothing(fmt.Sprintf("charon serves %s already", lineage.Describe(plan.Leaf())))
	}
	for _, step := range plan.Steps {
		fmt.Fprintln(h.env.Stdout, step)
	}
	for _, unit := range h.cli.ReloadUnits {
		fmt.Fprintln(h.env.Stdout, rotation.Step{Action: "reload", Name: unit})
	}
	return nil
}

// notRoot adds a hint to the error of somebody who lacks a permission.
func notRoot(err error) error {
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		return fmt.Errorf("%w (run it as root)", err)
	}
	return err
}

// survives returns why the next reload or restart of charon's unit, which loads everything
// from files, would lose what was switched.
func (h *host) survives(dir string, plan *rotation.Plan) error {
	var lost []error
	for _, f := range plan.Survives() {
		lost = append(lost, fmt.Errorf("lineage %s: %w", dir, failure(f)))
	}
	return together(lost...)
}

// charonDown makes sure that charon's next start finds the issuers; its unit loads the
// rest itself.
func (h *host) charonDown(ctx context.Context, m *move, down error) (string, error) {
	if state, err := units.Get(ctx, h.cli.Unit); err == nil && state.Active == "active" {
		return "", hook.With(fmt.Errorf("%w, although %s is active (vici names another socket?)", down, h.cli.Unit),
			charonSilent)
	}
	if err := m.takeAll(ctx); err != nil {
		return "", err
	}
	outcome := down.Error() + ": it loads the certificate when it starts"
	h.env.Log.Info(outcome, charonIdle, "lineage", m.plan.Lineage.Dir) // a notice: certbot may pass it on
	return outcome, h.reloadUnits(ctx)
}
