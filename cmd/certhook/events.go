package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"tunnelcast/internal/hook"
	"tunnelcast/internal/rotation"
)

// The kinds of entries in the journal; packaging/catalog explains each.
var (
	switched        = hook.Event("df16c0cfa9d0460981e78deaa992452f")
	charonIdle      = hook.Event("b2c39f58b97247989c739b491594b7df")
	unitReloaded    = hook.Event("dc6c9604ac3541f088243a9be6c01fbe")
	unitIdle        = hook.Event("2797d3df0b344ffd8fc5f6df09fb8d3c")
	tunnelRestarted = hook.Event("627cda38ac16438b9e065427240f9961")
	otherWay        = hook.Event("2c6bb1855f51453b8a08ef9cd9b6f9b3")

	lineageInvalid = hook.Event("7bec677c87ef43ec8f38149c4bad1092")
	lineageMissing = hook.Event("00798bdb9dcf4429ac9a9114da4a076b")
	notProven      = hook.Event("b287a45348cb4a958e8b82bafd0ab00f")
	keyNotKept     = hook.Event("f7855adeff774992a1593bbc32ccc966")
	reloadLosesKey = hook.Event("f967e73b42d14ff88030293f87157aea")
	charonSilent   = hook.Event("bfb53ddb20564c84b59b500ae2bfa1f2")
	copyServed     = hook.Event("269aadcf2120457da2f8c562c32791cd")
	notNamed       = hook.Event("f305fffb709c4a0e819bec500f20da1b")
	tooLong        = hook.Event("9f1728e27f6641dd92b8ee4ca4cd5360")
	leftUndone     = hook.Event("09af5e60c96e49c1bbd52213cdf23512")
	otherBroken    = hook.Event("8b30fe39787d432693dfe6584fe9ca16")
	otherIssuer    = hook.Event("cd0fa611718b4d51a0b8ac9f29572a33")
	rivalIssuer    = hook.Event("b3f4982cf70d46b0b49491b8f209c683")
	runFailed      = hook.Event("fd704ba6d28d4897ba7527bc8c945ad9")
)

// withEvent attaches an event to an error that another package makes.
func withEvent(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return hook.With(err, tooLong)
	}
	return err
}

// findings has the events of the findings that are failures.
var findings = map[rotation.Kind]struct {
	event    slog.Attr
	critical bool // before the next client, or the next reload, somebody has to act
	some     bool // the lineage itself is served
}{
	rotation.Invalid:     {event: lineageInvalid},
	rotation.CopyServed:  {event: copyServed},
	rotation.NotNamed:    {event: notNamed},
	rotation.OtherSent:   {event: otherIssuer, critical: true},
	rotation.NotProven:   {event: notProven, critical: true},
	rotation.KeyNotKept:  {event: keyNotKept, critical: true},
	rotation.KeyDenied:   {event: reloadLosesKey, critical: true},
	rotation.RivalIssuer: {event: rivalIssuer, critical: true},
	rotation.OtherBroken: {event: otherBroken, some: true},
	rotation.Stays:       {event: leftUndone, some: true},
}

// failure returns a finding as an error with its event and status.
func failure(f rotation.Finding) error {
	kind := findings[f.Kind]
	err := error(f)
	if kind.some {
		err = fmt.Errorf("%w: %w", hook.ErrSome, err)
	}
	if kind.critical {
		err = hook.Critical(err)
	}
	return hook.With(err, kind.event)
}
