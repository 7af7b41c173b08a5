package main

import (
	"context"
	"fmt"
	"strings"

	"tunnelcast/internal/hook"
	"tunnelcast/internal/units"
)

// reloadUnits reloads the other units that serve the certificate.
func (h *host) reloadUnits(ctx context.Context) error {
	var failed []string
	for _, unit := range h.cli.ReloadUnits {
		switch runs, err := reload(ctx, unit); {
		case err != nil:
			failed = append(failed, err.Error())
		case runs:
			h.env.Result.Info("reloaded", unitReloaded, "unit", unit)
		default:
			h.env.Result.Info("not reloaded, because it is not running", unitIdle, "unit", unit)
		}
	}
	if len(failed) == 0 {
		return nil
	}
	err := fmt.Errorf("%w: the certificate is in place, but %s", hook.ErrSome, strings.Join(failed, "; "))
	return hook.With(err, leftUndone)
}

// reload reloads a unit that runs. One that does not run reads its files when it starts.
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
