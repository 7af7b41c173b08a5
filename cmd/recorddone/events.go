//go:build cgo

package main

import "tunnelcast/internal/hook"

// The kinds of entries in the journal; packaging/catalog explains each.
var (
	runFailed = hook.Event("be1a1365646142a0aad8e27b8b6422ec")
)

// failures are the causes that the catalogue tells apart.
var failures = hook.Failures{
	{Event: runFailed},
}
