// Package units asks systemd, over D-Bus, whether a unit is running and what it may
// reach, and reloads units.
package units

import (
	"context"
	"errors"
	"fmt"

	"github.com/coreos/go-systemd/v22/dbus"
)

// State is the state of a unit, in the words of systemctl show.
type State struct {
	Load   string // LoadState: loaded, not-found, masked, ...
	Active string // ActiveState: active, activating, deactivating, inactive, failed, ...
	File   string // UnitFileState: enabled, disabled, static, ...; empty without a file
}

// Stopped reports whether systemd is sure that no process of the unit is running.
func (s State) Stopped() bool { return s.Active == "inactive" || s.Active == "failed" }

// Fault returns what keeps a timer or a path unit of our package from working, now or
// after the next boot, and the remedy.
func (s State) Fault(unit string) (remedy string, err error) {
	remedy = "`systemctl enable --now " + unit + "`"
	switch {
	case s.Load == "not-found":
		return "`apt-get install --reinstall tunnelcast`", errors.New("it is not installed")
	case s.Load == "masked":
		return "`systemctl unmask " + unit + " && systemctl enable --now " + unit + "`", errors.New("it is masked")
	case s.Active != "active":
		return remedy, fmt.Errorf("it is %s", s.Active)
	case s.File == "disabled":
		return remedy, errors.New("it is disabled and will be off after the next boot")
	}
	return "", nil
}

// Check returns the Fault of a unit.
func Check(ctx context.Context, unit string) (remedy string, err error) {
	state, err := Get(ctx, unit)
	if err != nil {
		return "", err
	}
	return state.Fault(unit)
}

// Get returns the state of a unit. If the unit does not exist, that is not an error: its
// Load state is "not-found".
func Get(ctx context.Context, unit string) (State, error) {
	conn, err := dbus.NewWithContext(ctx)
	if err != nil {
		return State{}, fmt.Errorf("ask systemd for %s: %w", unit, err)
	}
	defer conn.Close()
	properties, err := conn.GetUnitPropertiesContext(ctx, unit)
	if err != nil {
		return State{}, fmt.Errorf("ask systemd for %s: %w", unit, err)
	}
	text := func(name string) string { s, _ := properties[name].(string); return s }
	return State{Load: text("LoadState"), Active: text("ActiveState"), File: text("UnitFileState")}, nil
}

// Reload reloads a running unit and waits for the result of the job. Any result other
// than "done" is an error; the unit then runs as before.
func Reload(ctx context.Context, unit string) error {
	conn, err := dbus.NewWithContext(ctx)
	if err != nil {
		return fmt.Errorf("reload %s: %w", unit, err)
	}
	defer conn.Close()
	// Buffered, because go-systemd sends the result from its signal loop.
	result := make(chan string, 1)
	if _, err := conn.ReloadUnitContext(ctx, unit, "replace", result); err != nil {
		return fmt.Errorf("reload %s: %w", unit, err)
	}
	select {
	case r := <-result:
		if r != "done" {
			return fmt.Errorf("reload %s: job result is %q", unit, r)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("reload %s: no job result: %w", unit, context.Cause(ctx))
	}
}

// Start has systemd start a unit and does not wait for it.
func Start(ctx context.Context, unit string) error {
	return job(ctx, "start", unit, (*dbus.Conn).StartUnitContext)
}

// Stop has systemd stop a unit and does not wait for it.
func Stop(ctx context.Context, unit string) error {
	return job(ctx, "stop", unit, (*dbus.Conn).StopUnitContext)
}

func job(ctx context.Context, verb, unit string,
	call func(conn *dbus.Conn, ctx context.Context, unit, mode string, result chan<- string) (int, error)) error {
	conn, err := dbus.NewWithContext(ctx)
	if err == nil {
		defer conn.Close()
		_, err = call(conn, ctx, unit, "replace", nil)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", verb, unit, err)
	}
	return nil
}
